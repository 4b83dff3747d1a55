"""The router page of the README, from the stick to the chat, with the package's own daemon and commands."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openwrt.build.source import as_it_stands
from tests.openwrt.simulated import MANAGERS, TOP, Router, fill_feed, make_bundle, running_below
from tests.openwrt.ssh import uncover
from tests.openwrt.wheelhouse import make_wheels

pytestmark = pytest.mark.mesh


class RealRouter:
    """A simulated router with the real daemon, in a network of its own."""

    def __init__(self, folder: Path, manager: str) -> None:
        self.router = Router(folder / "root", manager=manager, real=True)
        self.bundle = make_bundle(
            running_below(as_it_stands(TOP), self.router.root), make_wheels(folder), folder
        )
        series, suffix = {"opkg": ("24.10", "ipk"), "apk": ("25.12", "apk")}[manager]
        listed = (self.bundle / f"releases/{series}.list").read_text()
        needs = re.findall(r"^needs(?:-terminal)? (\S+)$", listed, re.MULTILINE)
        fill_feed(self.bundle / "feed" / series / "mips_24kc", needs, suffix)
        self._within = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                SETUP,
            ],
            env={**os.environ, "UNCOVER": " && ".join(self._reachable()), "ROOT": str(self.router.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._within.stdout is not None
        assert self._within.stdout.readline() == "ready\n"

    def _reachable(self) -> list[str]:
        """The daemon's user has to get to the code, through folders that are root's alone."""
        return uncover(TOP, self.router.root, Path(sys.prefix), Path(sys.base_prefix), self.bundle.parent)

    def run(self, *words: str, given: str = "", **more: str) -> str:
        """What somebody at its shell is shown."""
        self.router.calls.touch()
        assert self._within.pid
        first = Path(f"/proc/{self._within.pid}/task/{self._within.pid}/children").read_text().split()[0]
        done = subprocess.run(
            ["nsenter", "-t", first, "-m", "-n", "-p", *words],
            env=self.router.environment(self.bundle) | {"MESHCHAT_PASSWORD": "correct horse"} | more,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *words: str, given: str = "") -> str:
        return self.run(*self.router.installer, *words, given=given)

    def shell(self, text: str) -> str:
        """Runs commands where the installer's are."""
        return self.run(*self.router.installer, INSTEAD=text)

    def meshchat(self, *words: str, given: str = "") -> str:
        return self.run(f"{self.router.root}/usr/bin/meshchat", *words, given=given)

    def end(self) -> None:
        self._within.send_signal(signal.SIGKILL)
        self._within.wait()
        for stream in (self._within.stdin, self._within.stdout):
            if stream is not None:
                stream.close()


SETUP = """
ip link set lo up && ip link add mesh type veth peer name far && ip link set far up
ip addr add 10.9.0.1/24 dev mesh && ip link set mesh up && eval "$UNCOVER"
echo ready
exec cat
"""


@pytest.fixture(params=MANAGERS)
def router(request: pytest.FixtureRequest) -> Iterator[RealRouter]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has to be short
        real = RealRouter(Path(folder), request.param)
        yield real
        real.end()


def test_from_the_stick_to_the_chat(router: RealRouter) -> None:
    said = router.install("--mesh", "valley", "--new-key")
    assert "runs in the mesh valley" in said
    status = json.loads(router.meshchat("status", "--json"))
    assert (status["mesh"], status["sealed"]) == ("valley", True)
    key = said.splitlines()[-1]
    assert router.meshchat("key", "show").split()[0] == key
    assert "warn  neighbours: No other router has been heard." in router.meshchat("check")
    router.meshchat("register", "bea")
    router.meshchat("send", "2", "hello from the router", "--user", "bea")
    # Another place for the socket: the daemon is started anew, and the commands find it there.
    with (router.router.root / "etc/config/meshchat").open("a") as config:
        config.write("\toption socket '/var/run/meshchat/other.sock'\n")
    router.shell(
        "router /etc/init.d/meshchat reload; until router /usr/bin/meshchat; do :; done >/dev/null 2>&1"
    )
    assert (router.router.root / "var/run/meshchat/other.sock").exists()
    assert "bea: hello from the router" in router.meshchat("history", "2")
    router.install("--purge")
    assert not (router.router.root / "etc/meshchat").exists()
