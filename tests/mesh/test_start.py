"""A daemon as a router starts it: the disk is read-only, full, or mounted later; nothing stops the chat."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_daemon import ENVIRONMENT, free_port

pytestmark = pytest.mark.mesh


class Router:
    """A daemon with mounts of its own, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.logs, self.state, self.socket = folder / "logs", folder / "state", folder / "run" / "new" / "s"
        for place in (self.logs, self.state):
            place.mkdir()

    @contextlib.contextmanager
    def daemon(
        self, first: str = "true", *, options: tuple[str, ...] = ()
    ) -> Iterator["subprocess.Popen[str]"]:
        """Runs the commands of `first` and then the daemon, where only they see what they mount."""
        places = ["--interface", "lo", "--port", str(free_port()), "--socket", str(self.socket)]
        places += ["--logs", str(self.logs), "--state", str(self.state)]
        run = [sys.executable, "-m", "meshchat", "daemon", *places, *options]
        script = ["unshare", "-m", "sh", "-ec", f'{first}\nexec "$@"', "sh", *run]
        with subprocess.Popen(script, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=30)

    def meshchat(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "meshchat", "--socket", str(self.socket), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False
        )

    def history(self) -> list[str]:
        printed = self.meshchat("history", "1", "--json").stdout
        return [json.loads(line)["text"] for line in printed.splitlines()]


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


def said(process: "subprocess.Popen[str]") -> str:
    """What it logs until it serves, or ends."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "serves the mesh" in line:
            break
    return "".join(lines)


FULL = "mount -t tmpfs -o size=64k tmpfs {0}; cp -a {1}/. {0}; cat /dev/zero >{0}/fill 2>/dev/null || true"


@pytest.mark.parametrize(
    ("mount", "told"),
    [("mount -t tmpfs -o ro tmpfs {0}", "read-only"), (FULL, "disk is full")],
    ids=["read-only", "full"],
)
def test_a_router_that_was_never_set_up_and_cannot_write_still_relays(
    router: Router, tmp_path: Path, mount: str, told: str
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with router.daemon(mount.format(router.state, nothing)) as process:
        lines = said(process).splitlines()
        (key,) = [line for line in lines if "router.key" in line]
        assert told in key
        assert "a new one at each start" in key
        assert "serves the mesh" in lines[-1]
        refused = router.meshchat("register", "ada")
        assert refused.returncode == 1
        assert len(refused.stderr.splitlines()) == 1
        assert told in refused.stderr


@pytest.mark.parametrize("which", ["logs", "state"])
def test_a_full_disk_at_the_start_keeps_nobody_from_reading(
    router: Router, tmp_path: Path, which: str
) -> None:
    with router.daemon() as process:
        said(process)
        assert router.meshchat("register", "ada").returncode == 0
        assert router.meshchat("send", "1", "before", "--user", "ada").returncode == 0
    place, kept = getattr(router, which), tmp_path / "kept"
    os.rename(place, kept)
    place.mkdir()
    with router.daemon(FULL.format(place, kept)) as process:
        assert "serves the mesh" in said(process)
        assert router.history() == ["before"]
        sent = router.meshchat("send", "1", "x" * 5000, "--user", "ada")
        assert sent.returncode == (1 if which == "logs" else 0)
        assert ("disk is full" in sent.stderr) == (which == "logs")


def test_a_stick_that_is_mounted_over_the_logs_hides_nothing_until_the_next_start(router: Router) -> None:
    with router.daemon() as process:
        said(process)
        assert router.meshchat("register", "ada").returncode == 0
        assert router.meshchat("send", "1", "before", "--user", "ada").returncode == 0
        late = ["nsenter", "-m", "-t", str(process.pid), "mount", "-t", "tmpfs", "tmpfs", str(router.logs)]
        subprocess.run(late, check=True)
        for room in ("1", "2"):
            assert router.meshchat("send", room, "after", "--user", "ada").returncode == 0
        assert router.history() == ["before", "after"]
        assert f"Another directory is at {router.logs}" in router.meshchat("check").stdout
    with router.daemon() as process:
        said(process)
        assert router.history() == ["before", "after"]
