"""Wrong clocks on real daemons: nobody's history is disturbed or wiped early."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh

YEAR_S = 365.2425 * 86_400
IN_1970 = str(-time.time() + 86_400)
IN_2431 = str((2431 - 2026) * YEAR_S)
MONTHS_S = 120 * 86_400
GOOD = ("--clock-grade", "good")
UNKNOWN = ("--clock-grade", "unknown")


def age(message: dict[str, str]) -> timedelta:
    """How long ago a message says it was written."""
    return datetime.now(UTC) - datetime.fromisoformat(message["time"])


def test_routers_that_wake_up_in_1970_and_2431_follow_the_one_with_a_good_clock() -> None:
    with Mesh(3, daemons=()) as mesh:
        mesh.start(1, *GOOD)
        mesh.start(2, *UNKNOWN, "--clock-offset", IN_1970)
        mesh.start(3, *UNKNOWN, "--clock-offset", IN_2431)
        wait(lambda: mesh.clock(2)["quality"] == mesh.clock(3)["quality"] == "adopted", 60, "adopted clocks")
        mesh.register(1, "ann")
        mesh.await_users("ann")
        for number in (1, 2, 3):
            mesh.send(number, "ann", "1", [f"from {number}"])
            mesh.await_room("1", number, 60)
        history = mesh.history(2, "1")
        assert [each["text"] for each in history] == ["from 1", "from 2", "from 3"]
        assert all(timedelta(seconds=-5) < age(each) < timedelta(seconds=60) for each in history)


def test_a_mesh_without_any_good_clock_chats_and_keeps_all_when_one_appears() -> None:
    with Mesh(3, options=UNKNOWN) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(1, "ann", "1", ["question"])
        mesh.await_room("1", 1, 60)
        mesh.send(3, "ann", "1", ["answer"])
        mesh.await_room("1", 2, 60)
        shown = mesh.meshchat(2, "history", "1").stdout.splitlines()
        assert all("~" in line.split("ann")[0] for line in shown)
        mesh.stop(1)
        mesh.start(1, *GOOD)  # the later option counts
        wait(lambda: mesh.clock(3)["quality"] == "adopted", 60, "an adopted clock")
        mesh.send(3, "ann", "1", ["with a clock"])
        mesh.await_room("1", 3, 60)
        for number in mesh.numbers:
            assert [each["text"] for each in mesh.history(number, "1")] == [
                "question",
                "answer",
                "with a clock",
            ]
        assert age(mesh.history(1, "1")[-1]) < timedelta(minutes=1)


@pytest.mark.parametrize("zone", ["<+0330>-3:30", None])
def test_boot_clocks_months_off_and_ntp_in_between_lose_nothing_and_keep_the_order(
    zone: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone) if zone else monkeypatch.delenv("TZ", raising=False)
    said = []
    with Mesh(2, daemons=()) as mesh:
        mesh.start(2, *UNKNOWN, "--clock-offset", str(-MONTHS_S))
        for number, boot in enumerate(
            (
                (*UNKNOWN, "--clock-offset", str(-MONTHS_S)),
                GOOD,
                (*UNKNOWN, "--clock-offset", str(MONTHS_S)),
                GOOD,
            )
        ):
            mesh.start(1, *boot)
            if not number:
                mesh.register(1, "ann")
            mesh.await_users("ann")
            for router in (1, 2):
                said.append(f"{number} from {router}")
                mesh.send(router, "ann", "1", said[-1:])
                mesh.await_room("1", len(said), 60)
            for router in (1, 2):
                assert [each["text"] for each in mesh.history(router, "1")] == said
            mesh.stop(1)


def test_a_neighbour_that_lies_about_2431_disturbs_nobody() -> None:
    with Mesh(3, edges=[(1, 2), (2, 3)], daemons=()) as mesh:
        mesh.start(1, *GOOD)
        mesh.start(2, *UNKNOWN)
        mesh.register(1, "ann")
        mesh.send(1, "ann", "1", ["before the liar"])
        mesh.await_users("ann")
        mesh.await_room("1", 1, 60)
        mesh.start(3, *GOOD, "--clock-offset", IN_2431)
        mesh.register(3, "liar")
        wait(lambda: mesh.status(3)["neighbours"], 60, "the liar's neighbour")
        told = mesh.meshchat(3, "send", "1", "from the future", "--user", "liar").stderr
        mesh.send(2, "ann", "1", ["after the liar"])
        mesh.await_room("1", 2, 60, [1, 2])
        mesh.await_idle()
        for number in (1, 2):
            assert [each["text"] for each in mesh.history(number, "1")] == [
                "before the liar",
                "after the liar",
            ]
        assert age(mesh.history(2, "1")[-1]) < timedelta(minutes=2)
        # Nor is the liar's own router disturbed: what the others say is there, and before 2431.
        assert [each["text"] for each in mesh.history(3, "1")] == [
            "before the liar",
            "after the liar",
            "from the future",
        ]
        assert "clock is ahead" in told, "the author is told why nobody sees it"


def test_who_was_in_2431_by_mistake_is_back_once_the_operator_sets_the_time() -> None:
    with Mesh(2, daemons=()) as mesh:
        mesh.start(1, *GOOD)
        mesh.register(1, "ann")
        mesh.send(1, "ann", "1", ["before"])
        mesh.start(2, *GOOD, "--clock-offset", IN_2431)
        mesh.await_users("ann")
        mesh.meshchat(2, "send", "1", "from the future", "--user", "ann")
        mesh.meshchat(2, "clock", "set", datetime.now(UTC).isoformat(timespec="seconds"))
        mesh.send(1, "ann", "1", ["after"])
        wait(lambda: "after" in [each["text"] for each in mesh.history(2, "1")], 60, "the new message on 2")
        mesh.send(2, "ann", "1", ["back"])
        wait(lambda: "back" in [each["text"] for each in mesh.history(1, "1")], 60, "an answer on 1")
        assert [each["text"] for each in mesh.history(1, "1")] == ["before", "after", "back"]
        mesh.await_idle()


def test_a_router_that_is_in_2431_still_learns_the_accounts() -> None:
    with Mesh(2, daemons=()) as mesh:
        mesh.start(1, *GOOD)
        mesh.register(1, "ann")
        mesh.start(2, *GOOD, "--clock-offset", IN_2431)
        mesh.await_users("ann", seconds=20)


def test_an_operator_vouches_for_the_time() -> None:
    with Mesh(2, options=UNKNOWN) as mesh:
        now = datetime.now(UTC) + timedelta(hours=3)
        mesh.meshchat(1, "clock", "set", now.isoformat(timespec="seconds"))
        wait(lambda: mesh.clock(2)["quality"] == "adopted", 60, "an adopted clock")
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(2, "ann", "1", ["later"])
        assert abs(age(mesh.history(2, "1")[0]) + timedelta(hours=3)) < timedelta(minutes=1)
