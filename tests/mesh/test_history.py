"""History wiped by hand and by the day, and carried by hand."""

import time
from datetime import UTC, datetime

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh

LEAD_S = 25.0
RETENTION_S = 8


def test_a_wipe_by_hand_is_neither_undone_nor_spread() -> None:
    with Mesh(3, loss=0.1) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(1, "ann", "1", [f"secret {count}" for count in range(40)])
        mesh.send(1, "ann", "2", ["kept"])
        mesh.await_room("1", 40, 60)
        mesh.await_room("2", 1, 60)
        mesh.meshchat(2, "wipe", "--room", "1", status=2)
        mesh.meshchat(2, "wipe", "--room", "1", "--yes")
        assert mesh.history(2, "1") == []
        assert not [
            path
            for path in mesh.sites[2].logs.rglob("*")
            if path.is_file() and b"secret" in path.read_bytes()
        ]
        mesh.send(1, "ann", "1", ["afterwards"])
        wait(lambda: [each["text"] for each in mesh.history(2, "1")] == ["afterwards"], 60, "the new message")
        mesh.await_idle()
        mesh.stop(2)
        mesh.start(2)
        mesh.send(1, "ann", "1", ["later"])
        wait(lambda: mesh.room(2, "1")["messages"] == 2, 60, "the later message")
        mesh.await_idle()
        assert [each["text"] for each in mesh.history(2, "1")] == ["afterwards", "later"]
        assert mesh.room(1, "1")["messages"] == mesh.room(3, "1")["messages"] == 42
        assert mesh.room(2, "2")["messages"] == 1


def test_a_file_carried_by_hand_is_worth_a_healed_link() -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.register(2, "ben")
        mesh.await_users("ann", "ben")
        mesh.cut(1, 2)
        mesh.send(1, "ann", "1", [f"here {count}" for count in range(20)])
        mesh.send(2, "ben", "1", [f"there {count}" for count in range(20)])
        assert mesh.room(1, "1")["messages"] == mesh.room(2, "1")["messages"] == 20
        there, back = str(mesh.directory / "there.jsonl"), str(mesh.directory / "back.jsonl")
        mesh.meshchat(1, "export", there)
        assert "20 added" in mesh.meshchat(2, "import", there).stdout
        assert "0 added" in mesh.meshchat(2, "import", there).stdout
        mesh.meshchat(2, "export", back, "--room", "1")
        assert "20 added, 20 known" in mesh.meshchat(1, "import", back).stdout
        mesh.await_room("1", 40, 10)
        carried = mesh.room(1, "1")["digest"]
        mesh.heal(1, 2)
        mesh.await_idle()
        mesh.await_room("1", 40, 60)
        assert mesh.room(1, "1")["digest"] == carried


def test_the_daily_wipe_takes_what_is_old_on_all_and_a_late_router_brings_nothing_back() -> None:
    with Mesh(3, daemons=(), options=("--clock-grade", "good")) as mesh:
        # Noon UTC comes in LEAD_S seconds, by every router's clock.
        now = datetime.now(UTC)
        offset = (now.replace(hour=12, minute=0, second=0, microsecond=0) - now).total_seconds()
        started = time.monotonic()
        options: dict[int, tuple[str, ...]] = {}
        for number in mesh.numbers:
            settings = mesh.sites[number].home / "settings.toml"
            settings.parent.mkdir()
            settings.write_text(f'wipe_time = "12:00"\nretention = "{RETENTION_S}s"\ntimezone = "UTC0"\n')
            options[number] = ("--config", str(settings), "--clock-offset", str(offset - LEAD_S))
            mesh.start(number, *options[number])
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(1, "ann", "1", ["old one", "old two"])
        mesh.await_room("1", 2, 60)
        mesh.kill(3)
        assert time.monotonic() - started < LEAD_S - RETENTION_S, "too slow a machine for this test"
        wait(lambda: time.monotonic() - started > LEAD_S - 2, LEAD_S, "almost noon")
        mesh.send(1, "ann", "1", ["new"])
        mesh.await_room("1", 3, 60, [1, 2])
        mesh.await_room("1", 1, LEAD_S + 30, [1, 2])
        mesh.start(3, *options[3])
        mesh.await_room("1", 1, 60)
        mesh.await_idle()
        for number in mesh.numbers:
            assert [each["text"] for each in mesh.history(number, "1")] == ["new"]
            log = (mesh.sites[number].logs / "rooms" / "1.log").read_text()
            assert "old" not in log
