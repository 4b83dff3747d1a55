"""Disks that fail and come back under a real daemon: nothing is lost, and what cannot be read is said."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.mesh.net import wait
from tests.mesh.test_start import Router, said

pytestmark = pytest.mark.mesh

CAPS = "cap_author = 65536\ncap_room = 131072\ncap_router = 131072\n"


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


def speak(router: Router, user: str, texts: list[str]) -> None:
    """Makes the user where need be; each text is acknowledged."""
    router.meshchat("register", user)
    for text in texts:
        assert router.meshchat("send", "1", text, "--user", user).returncode == 0


def disk_findings(router: Router) -> tuple[int, list[str]]:
    """The status of `check`, and what it says of the disk that is bad."""
    done = router.meshchat("check", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, [one["text"] for one in found if (one["what"], one["level"]) == ("disk", "bad")]


def test_a_log_that_was_away_for_a_moment_loses_nothing(router: Router, tmp_path: Path) -> None:
    """20 messages, the log moved aside during one `history` and put back, another author beyond his cap."""
    (tmp_path / "settings.toml").write_text(CAPS)
    config = ("--config", str(tmp_path / "settings.toml"))
    log, aside = router.logs / "rooms" / "1.log", tmp_path / "aside"
    texts = [f"ada {number}" for number in range(20)]
    with router.daemon(options=config) as process:
        said(process)
        speak(router, "ada", texts)
        log.rename(aside)
        shown = router.meshchat("history", "1", "--json")
        assert (shown.returncode, shown.stdout) == (1, "")
        assert "20 of 20 records could not be read." in shown.stderr
        assert f"{log} is not there: put it back" in shown.stderr
        assert len(shown.stderr.splitlines()) == 1
        exported = router.meshchat("export", str(tmp_path / "export"), "--room", "1")
        assert exported.returncode == 1
        assert "20 of 20 records could not be read." in exported.stderr
        assert not (tmp_path / "export").exists()
        status, findings = disk_findings(router)
        assert status == 1
        assert ["is not there: put it back" in text for text in findings] == [True]
        assert "is not there" in json.loads(router.meshchat("status", "--json").stdout)["disk_trouble"]
        aside.rename(log)
        assert router.history() == texts
        assert disk_findings(router)[1] == []
        speak(router, "bob", [f"{number} " + "x" * 5000 for number in range(16)])
    with router.daemon(options=config) as process:
        said(process)
        kept = router.history()
        assert [text for text in kept if text.startswith("ada")] == texts
        assert 0 < len(kept) - len(texts) < 16, "the cap has pushed some of bob's messages out"


def test_what_is_written_while_a_log_is_away_is_kept_beside_it(router: Router, tmp_path: Path) -> None:
    rooms, aside = router.logs / "rooms", tmp_path / "aside"
    with router.daemon() as process:
        said(process)
        speak(router, "ada", ["one", "two"])
        rooms.rename(aside)
        speak(router, "ada", ["three"])
        shown = router.meshchat("history", "1", "--json")
        assert shown.returncode == 1
        assert [json.loads(line)["text"] for line in shown.stdout.splitlines()] == ["three"]
        assert "2 of 3 records could not be read." in shown.stderr
        aside.rename(rooms)
        speak(router, "ada", ["four"])
        assert router.history() == ["one", "two", "three", "four"]
    with router.daemon() as process:
        said(process)
        assert router.history() == ["one", "two", "three", "four"]


def test_a_stick_that_was_pulled_and_put_back_is_used_again(router: Router, tmp_path: Path) -> None:
    """It takes nothing any more; then what it holds is mounted anew at its place."""
    other = tmp_path / "other"
    other.mkdir()

    def mount(process: "subprocess.Popen[str]", script: str) -> None:
        inside = ["nsenter", "-m", "-t", str(process.pid), "sh", "-ec", script]
        subprocess.run(inside, check=True)

    with router.daemon(f"mount -t tmpfs -o size=1m tmpfs {router.logs}") as process:
        said(process)
        speak(router, "ada", ["before"])
        mount(process, f"cat /dev/zero >{router.logs}/fill 2>/dev/null || true")
        refused = router.meshchat("send", "1", "x" * 8000, "--user", "ada")
        assert refused.returncode == 1
        assert "disk is full" in refused.stderr
        assert disk_findings(router)[0] == 1
        mount(process, f"mount -t tmpfs tmpfs {other}; cp -a {router.logs}/. {other}; rm {other}/fill")
        mount(process, f"mount --bind {other} {router.logs}")
        sent = ("send", "1", "y" * 8000, "--user", "ada")
        wait(lambda: router.meshchat(*sent).returncode == 0, 60, "a message on the disk that is back")
        assert router.history() == ["before", "y" * 8000]
        assert disk_findings(router)[1] == []
        mount(process, f"grep -q yyyy {other}/rooms/1.log")
