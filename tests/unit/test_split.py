"""The program runs with what its OpenWrt package depends on; the rest of Python is out of its reach."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import split

NETIFACES = (*split.BROUGHT, "python3-netifaces")


class Router:
    """A daemon and its commands on a router with these packages."""

    def __init__(self, folder: Path, packages: tuple[str, ...], zone: str) -> None:
        self._packages, self._folder = packages, folder
        self._environment = {**split.ENVIRONMENT, "MESHCHAT_PASSWORD": "a long one", "TZ": zone}
        self._environment["MESHCHAT_SOCKET"] = str(folder / "s")

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """Runs it until the end."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            port = str(probe.getsockname()[1])
        where = ("--logs", str(self._folder), "--socket", str(self._folder / "s"), "--port", port)
        command = split.command("daemon", "--interface", "lo", *where, packages=self._packages)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self._environment) as process:
            assert process.stderr is not None
            try:
                said = []
                for line in process.stderr:
                    said.append(line)
                    if "serves the mesh" in line:
                        break
                assert "serves the mesh" in "".join(said), "".join(said)
                yield
            finally:
                process.terminate()
                rest = process.stderr.read()
        assert "Traceback" not in rest, rest
        assert process.returncode == 0

    def meshchat(self, *arguments: str, given: str | None = None, status: int = 0) -> str:
        """What a command prints; it has to end with `status`."""
        done = subprocess.run(
            split.command(*arguments, packages=self._packages),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env=self._environment,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout


@pytest.mark.parametrize(
    ("packages", "zone"),
    [(split.BROUGHT, "<+0330>-3:30"), (NETIFACES, "CET-1CEST,M3.5.0,M10.5.0/3")],
    ids=["without netifaces", "with netifaces"],
)
def test_daemon_commands_and_plain_terminal_need_only_their_packages(
    tmp_path: Path, packages: tuple[str, ...], zone: str
) -> None:
    router = Router(tmp_path, packages, zone)
    with router.daemon():
        router.meshchat("register", "ada")
        router.meshchat("send", "1", "ñandú ☃", "--user", "ada")
        typed = "Yes\nada\na long one\n1\nby hand\n/quit\n"
        assert "Logged in as: ada" in router.meshchat(given=typed)
        for since in ("1h", "2020-01-02 03:04", "yesterday"):
            shown = router.meshchat("history", "1", "--since", since)
            assert re.findall("ñandú ☃|by hand", shown) == ["ñandú ☃", "by hand"]
        router.meshchat("export", str(tmp_path / "carried"))
        router.meshchat("import", str(tmp_path / "carried"))
        router.meshchat("clock", "set", "2026-11-21 18:30")
        router.meshchat("key", "new")
        for command in ("rooms", "users", "peers", "status", "clock show"):
            router.meshchat(*command.split())
        assert "lo cannot multicast" in router.meshchat("check", status=1)  # for it cannot multicast
        router.meshchat("wipe", "--yes")


def test_the_package_depends_on_what_it_needs() -> None:
    makefile = Path(split.TOP, "openwrt", "meshchat", "Makefile").read_text()
    assert set(re.findall(r"\+(python3-\S+)", makefile)) == set(split.NEEDED)


def test_a_module_of_another_package_is_out_of_reach(tmp_path: Path) -> None:
    lacking = tuple(name for name in split.BROUGHT if name != "python3-asyncio")
    done = subprocess.run(
        split.command("daemon", "--logs", str(tmp_path), packages=lacking),
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(split.ENVIRONMENT),
        check=False,
    )
    assert done.returncode != 0
    assert "No module named 'asyncio'" in done.stderr
