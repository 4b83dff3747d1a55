"""Clocks that are wrong, missing, months apart, or lying: everybody chats, nobody's history suffers."""

import pytest

from meshchat.constants import RELEASED_MS
from meshchat.wire.datagram import PLAIN_OVERHEAD
from meshchat.wire.packets import Carried, Digest, Records, decode_packets
from meshchat.wire.records import Grade, Record, make_stamp, stamp_ms
from tests.sim.checkers import assert_converges, assert_idle, assert_kept, assert_same_history, disk_holds
from tests.sim.topology import cell, line
from tests.sim.world import DAY, EPOCH_MS, ClockModel, SimRouter, Stranger, World

HOUR = 3600.0
DAY_MS = 86_400_000
YEAR_2030_MS = 1_893_456_000_000
YEAR_2431_MS = 14_547_945_600_000
AT_1970 = -EPOCH_MS
AT_2431 = YEAR_2431_MS - EPOCH_MS
AT_2030 = YEAR_2030_MS - EPOCH_MS
NO_CLOCK = ClockModel(AT_1970, good=False)


def talk(world: World, routers: list[SimRouter], lines: int = 3, pause: float = 2.0) -> list[Record]:
    """A conversation in room 1: each line is said after the one before was read by its author."""
    said = []
    for number in range(lines * len(routers)):
        router = routers[number % len(routers)]
        record = router.say("1", f"line {len(router.acknowledged)} of router {router.number}")
        assert record is not None
        said.append(record)
        world.run(pause)
    return said


def assert_in_order(router: SimRouter, said: list[Record]) -> None:
    """The router shows all these, each after what it answered."""
    wanted = [record.id for record in said]
    shown = [record_id for record_id in router.ids() if record_id in set(wanted)]
    assert shown == wanted


def error_s(router: SimRouter) -> float:
    """How far mesh time is off the truth here, seconds."""
    return (router.mesh.now_ms() - router.world.true_ms) / 1000


# --- Clocks that NTP sets right while the router runs -----------------------------------------------------

MONTHS_MS = 120 * DAY_MS
BEFORE_THE_WIPE_S = 16.25 * HOUR
"""From the start of a run, 11:30 in Tehran, to a quarter of an hour before the wipe there."""


@pytest.mark.parametrize(
    ("kernel", "zone"),
    [(-MONTHS_MS, "<+0330>-3:30"), (MONTHS_MS, "UTC")],
    ids=["months behind", "months ahead"],
)
def test_a_clock_that_jumps_when_ntp_comes_back_disturbs_no_order_and_wipes_nothing_early(
    kernel: int, zone: str
) -> None:
    world = World(21, line(3), 3)
    for router in world.routers:
        router.model.clock, router.model.zone = ClockModel(kernel, good=False), zone
    world.boot()
    world.run(BEFORE_THE_WIPE_S)
    said = talk(world, world.routers)
    for router in world.routers:
        router.model.clock = ClockModel()
        world.run(60)  # until the others have heard of it, its messages wait there
        said += talk(world, world.routers)
    assert_converges(world, 30)
    said += talk(world, world.routers)
    world.run(HOUR)  # 04:00 has passed
    assert_converges(world, 30)
    for router in world.routers:
        assert_in_order(router, said)
        assert abs(error_s(router)) < 1
    world.run(2 * DAY)
    assert all(router.ids() == [] for router in world.routers)


@pytest.mark.parametrize("kernel", [-MONTHS_MS, MONTHS_MS], ids=["months behind", "months ahead"])
def test_a_clock_lost_by_a_reboot_and_found_again_after_the_wipe_takes_nothing_with_it(kernel: int) -> None:
    world = World(22, line(2), 2)
    lost, other = world.routers
    other.model.clock = ClockModel(kernel, good=False)
    world.boot()
    world.run(19 * HOUR)
    said = talk(world, world.routers)
    lost.power_cut()
    lost.model.clock = ClockModel(kernel, good=False)
    world.run(10)
    lost.boot()
    world.run(60)
    said += talk(world, world.routers)
    world.run(4 * HOUR)  # over 04:00
    lost.model.clock = ClockModel()
    world.run(60)
    said += talk(world, world.routers)
    world.run(HOUR)
    assert_converges(world, 30)
    for router in world.routers:
        assert_in_order(router, said)


# --- Clocks that say nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [AT_1970, AT_2431], ids=["1970", "2431"])
def test_a_clock_that_is_not_synchronised_is_never_used(kernel: int) -> None:
    world = World(1, line(4), 4)
    for router in world.routers[1:]:
        router.model.clock = ClockModel(kernel, good=False)
    world.boot()
    world.run(60)
    said = talk(world, world.routers)
    assert_converges(world, 30)
    for router in world.routers:
        assert_in_order(router, said)
        assert abs(error_s(router)) < 3
        assert router.up.engine.retention.quarantined == 0
    for record in said:
        assert abs(stamp_ms(record.stamp) - EPOCH_MS) < 600_000
    assert_idle(world)


@pytest.mark.parametrize("kernel", [AT_1970, AT_2431], ids=["1970", "2431"])
def test_a_mesh_without_any_clock_chats_and_nothing_vanishes_when_one_comes_back(kernel: int) -> None:
    world = World(2, line(4), 4)
    for router in world.routers:
        router.model.clock = ClockModel(kernel, good=False)
        router.model.retention_s = 7 * 86_400
    world.boot()
    world.run(60)
    early = talk(world, world.routers)
    assert {record.grade for record in early} == {Grade.UNKNOWN}
    assert all(stamp_ms(record.stamp) >= RELEASED_MS for record in early)
    assert_converges(world, 30)
    world.run(DAY)
    world.routers[0].model.clock = ClockModel()
    world.run(300)
    for router in world.routers:
        assert abs(error_s(router)) < 3
        assert_in_order(router, early)
    late = talk(world, world.routers)
    assert Grade.UNKNOWN not in {record.grade for record in late}
    assert_converges(world, 30)
    for router in world.routers:
        assert_in_order(router, early + late)
    assert_idle(world)


def test_a_lone_router_chats_and_brings_it_to_the_others_after_a_week() -> None:
    world = World(3, line(3), 3)
    lone = world.routers[2]
    lone.model.clock = NO_CLOCK
    for router in world.routers:
        router.model.retention_s = None
    world.boot()
    talk(world, world.routers)
    world.run(60)
    lone.stop()
    world.run(7 * DAY)
    world.air.separate([0, 1], [2])
    lone.boot()
    world.run(60)
    alone = [lone.say("1", f"alone {number}") for number in range(5)]
    together = talk(world, world.routers[:2])
    world.air.heal()
    assert_converges(world, 120)
    for router in world.routers:
        assert_kept(router, [record for record in alone if record])
        assert_in_order(router, [record for record in alone if record])
        assert_in_order(router, together)
    answer = lone.say("1", "I am back")
    assert answer is not None
    world.run(30)
    for router in world.routers:
        assert router.ids()[-1] == answer.id
    assert_idle(world)


def test_boot_clocks_months_apart_meet_at_the_latest() -> None:
    # Some flash kept a later floor than others: each is a lower bound, so the latest is the best.
    world = World(4, cell(4), 4)
    for number, router in enumerate(world.routers):
        router.model.clock = ClockModel(-number * 60 * DAY_MS, good=True)
    for router in world.routers:
        router.boot()
        world.run(1)
        router.stop()
        router.model.clock = NO_CLOCK
    world.boot()
    world.run(120)
    said = talk(world, world.routers)
    assert_converges(world, 30)
    times = [router.mesh.now_ms() for router in world.routers]
    assert max(times) - min(times) < 3000
    for router in world.routers:
        assert_in_order(router, said)
    assert_idle(world)


def test_clocks_that_drift_stay_together_and_replies_stay_behind() -> None:
    world = World(5, line(4), 4)
    for number, router in enumerate(world.routers):
        router.model.clock = ClockModel(AT_1970, good=number == 0, drift=(number - 1.5) * 400e-6)
        router.model.retention_s = 7 * 86_400
    world.routers[0].model.clock.offset_ms = 0
    world.boot()
    said = []
    for _ in range(3):
        world.run(DAY)
        said += talk(world, world.routers, 1)
    assert_converges(world, 30)
    for router in world.routers:
        assert abs(error_s(router)) < 10
        assert_in_order(router, said)
    assert_idle(world)


def test_a_router_that_reboots_every_day_without_a_clock_never_goes_back_in_time() -> None:
    world = World(6, line(1), 1)
    router = world.routers[0]
    router.model.clock = NO_CLOCK
    router.model.retention_s = None
    said = []
    for day in range(5):
        router.boot()
        world.run(HOUR)
        record = router.say("1", f"day {day}")
        assert record is not None
        said.append(record)
        world.run(HOUR)
        router.kill() if day % 2 else router.stop()
        world.run(DAY)
    router.boot()
    assert_in_order(router, said)


# --- Clocks that are wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["operator", "kernel"])
@pytest.mark.parametrize("retention_s", [86_400, None], ids=["day", "never"])
def test_a_router_set_to_2431_disturbs_nobody_and_is_told(by: str, retention_s: int | None) -> None:
    world = World(7, line(4), 4)
    wrong, *others = reversed(world.routers)
    others[0].model.clock = NO_CLOCK
    wrong.model.clock = NO_CLOCK
    for router in world.routers:
        router.model.retention_s = retention_s
    world.boot()
    world.run(60)
    before = talk(world, world.routers)
    assert_converges(world, 30)
    if by == "operator":
        wrong.up.set_clock(YEAR_2431_MS)
    else:
        wrong.model.clock = ClockModel(AT_2431)
    world.run(60)
    wrong.notices.clear()
    lost = [wrong.say("1", f"from the future {number}") for number in range(3)]
    assert len(wrong.notices) == 3
    assert all("clock set" in notice for notice in wrong.notices)
    meanwhile = talk(world, others)
    for router in others:
        assert abs(error_s(router)) < 3
        assert_in_order(router, before + meanwhile)
        assert not any("future" in text for text in router.texts())
        assert not router.notices
    assert_idle(world)
    # Told so, the operator sets it right.
    wrong.model.clock = NO_CLOCK
    wrong.up.set_clock(world.true_ms)
    world.run(60)
    wrong.notices.clear()
    after = talk(world, world.routers)
    assert not wrong.notices
    assert_converges(world, 120)
    for router in world.routers:
        assert_in_order(router, before + meanwhile + after)
        assert not any("future" in text for text in router.texts())
    world.run(2 * HOUR)
    wrong.kill()
    wrong.restart()
    world.run(60)
    assert_same_history(world.routers)
    assert not any("future" in text for text in wrong.texts())
    assert all(record is not None for record in lost)
    assert_idle(world)


@pytest.mark.parametrize("by", ["operator", "kernel"])
def test_a_lone_router_set_to_2431_keeps_its_own_history(by: str) -> None:
    world = World(16, [], 1)
    (lone,) = world.routers
    lone.model.clock = ClockModel()
    world.boot()
    said = talk(world, [lone])
    if by == "operator":
        lone.up.set_clock(YEAR_2431_MS)
    else:
        lone.model.clock = ClockModel(AT_2431)
    world.run(2 * HOUR)
    assert_kept(lone, said)
    lone.stop()
    lone.restart()
    world.run(HOUR)
    lone.kill()
    lone.boot()
    world.run(HOUR)
    assert_kept(lone, said)


def test_a_kernel_that_jumps_to_2431_over_a_boot_makes_nothing_too_old() -> None:
    # Messages without a date go by the time they were held, and a good clock tells how long it was off.
    world = World(17, [], 1)
    (lone,) = world.routers
    lone.model.clock = NO_CLOCK
    world.boot()
    said = talk(world, [lone])
    lone.model.clock = ClockModel()
    world.run(60)
    lone.stop()
    lone.model.clock = ClockModel(AT_2431)
    lone.boot()
    world.run(2 * DAY / 24)
    assert_kept(lone, said)


def test_a_kernel_that_synchronises_ends_what_the_operator_set() -> None:
    world = World(18, line(2), 2)
    wrong, other = world.routers
    wrong.model.clock = other.model.clock = NO_CLOCK
    world.boot()
    wrong.up.set_clock(world.true_ms + int(HOUR) * 1000)
    world.run(60)
    assert abs(error_s(wrong) - HOUR) < 3
    assert abs(error_s(other) - HOUR) < 3
    early = talk(world, world.routers)
    wrong.stop()
    wrong.restart()
    assert abs(error_s(wrong) - HOUR) < 3
    wrong.model.clock = ClockModel()
    world.run(60)
    assert abs(error_s(wrong)) < 3
    assert abs(error_s(other)) < 3
    wrong.notices.clear()
    after = talk(world, world.routers)
    assert not wrong.notices
    world.run(2 * HOUR)  # what was stamped an hour ahead stays so, and is shown when its time comes
    for router in world.routers:
        assert_kept(router, early + after)
    assert_idle(world)


def test_a_router_that_was_set_to_2431_and_lost_power_finds_back_by_itself() -> None:
    world = World(8, line(3), 3)
    wrong = world.routers[2]
    wrong.model.clock = NO_CLOCK
    world.boot()
    world.run(60)
    before = talk(world, world.routers)
    wrong.up.set_clock(YEAR_2431_MS)
    wrong.say("1", "from the future")
    world.run(HOUR)
    wrong.power_cut()
    wrong.boot()
    world.run(120)
    assert abs(error_s(wrong)) < 3
    after = talk(world, world.routers)
    assert_converges(world, 120)
    for router in world.routers:
        assert_in_order(router, before + after)
        assert not any("future" in text for text in router.texts())
    assert_idle(world)


def test_a_message_a_little_ahead_is_shown_when_its_time_comes() -> None:
    world = World(9, line(3), 3)
    fast = world.routers[2]
    fast.model.clock = ClockModel(20 * 60_000)
    world.boot()
    world.run(60)
    record = fast.say("1", "too early")
    assert record is not None
    assert fast.notices
    world.run(60)
    # Who hears it keeps it back, and so nobody behind him has even heard of it.
    assert world.routers[1].up.engine.retention.quarantined == 1
    assert world.routers[0].up.engine.retention.quarantined == 0
    for router in world.routers[:2]:
        assert "too early" not in router.texts()
        assert not disk_holds(router.logs, "too early")
    world.run(6 * 60)
    assert_kept(world.routers[0], [record])
    assert_kept(world.routers[1], [record])
    assert_idle(world)


# --- Clocks that lie ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [AT_2030, AT_2431], ids=["2030", "2431"])
@pytest.mark.parametrize("grade", list(Grade))
def test_a_lying_neighbour_moves_nobody_who_hears_an_honest_clock(grade: Grade, ahead: int) -> None:
    # 0 has a good clock, 1 and 2 have none and both hear it; the liar is heard by all.
    world = World(10, cell(4), 4)
    honest = world.routers[:3]
    liar = Stranger(world, 3)
    for router in honest[1:]:
        router.model.clock = NO_CLOCK
    world.boot(range(3))
    world.run(60)
    before = talk(world, honest)
    liar.lie(grade, ahead)
    liar.send(Records((Carried(liar.record("spam", make_stamp(EPOCH_MS + ahead)).carried),)))
    world.run(300)
    said = talk(world, honest)
    world.run(DAY / 2)
    for router in honest:
        assert abs(error_s(router)) < 3
        assert_in_order(router, before + said)
        assert "spam" not in router.texts()
    liar.quiet()
    assert_idle(world, settle=600)


@pytest.mark.parametrize("grade", list(Grade))
def test_nobody_believes_in_2431_not_even_who_has_no_other_clock(grade: Grade) -> None:
    world = World(14, cell(3), 3)
    for router in world.routers:
        router.model.clock = NO_CLOCK
    liar = Stranger(world, 2)
    world.boot(range(2))
    liar.lie(grade, AT_2431)
    world.run(300)
    said = talk(world, world.routers[:2])
    for router in world.routers[:2]:
        assert abs(router.mesh.now_ms() - RELEASED_MS) < HOUR * 1000
        assert_in_order(router, said)
    liar.quiet()
    assert_idle(world, settle=600)


@pytest.mark.parametrize("new", [False, True], ids=["held-history", "new-router"])
def test_a_lie_is_forgotten_once_an_honest_clock_is_heard(new: bool) -> None:
    # Router 1 has no clock and for a day hears but the liar's "good, 2030".
    world = World(11, [(0, 1), (1, 2)], 3)
    good, fooled = world.routers[:2]
    liar = Stranger(world, 2)
    fooled.model.clock = NO_CLOCK
    world.boot([0] if new else [0, 1])
    world.run(60)
    before = talk(world, [good] if new else [good, fooled])
    world.air.separate([0], [1])
    if new:
        fooled.boot()
    liar.lie(Grade.GOOD, AT_2030)
    for number in range(3):
        spam = liar.record(f"spam {number}", make_stamp(world.true_ms + AT_2030 - number * 1000))
        liar.send(Records((Carried(spam.carried),)))
    world.run(HOUR / 2)
    if not new:
        assert_in_order(fooled, before)  # nothing is wiped faster than the router runs
    own = fooled.say("1", "said while fooled")
    assert own is not None
    world.run(HOUR / 2)
    world.air.heal()
    world.run(600)
    assert abs(error_s(fooled)) < 3
    after = talk(world, [good, fooled])
    for router in (good, fooled):
        assert_in_order(router, before + after)
    liar.quiet()
    world.run(600)
    fooled.kill()
    fooled.boot()
    world.run(300)
    assert abs(error_s(fooled)) < 3
    for router in (good, fooled):
        assert_in_order(router, before + after)
    assert_idle(world)


def test_more_honest_clocks_outvote_a_liar_who_is_nearer() -> None:
    world = World(12, cell(4), 4)
    liar = Stranger(world, 3)
    fooled = world.routers[2]
    fooled.model.clock = NO_CLOCK
    world.boot(range(3))
    liar.lie(Grade.GOOD, -20 * DAY_MS)  # a smaller jump from the release date than the truth
    world.run(300)
    assert abs(error_s(fooled)) < 3
    liar.quiet()
    assert_idle(world)


def test_a_neighbourhood_that_reboots_without_its_good_clock_still_shows_its_history() -> None:
    world = World(13, line(3), 3)
    for router in world.routers[1:]:
        router.model.clock = NO_CLOCK
    world.boot()
    world.run(300)
    before = talk(world, world.routers)
    world.run(1200)
    for router in world.routers:
        router.power_cut()
    world.routers[0].model.clock = NO_CLOCK
    world.run(HOUR)
    world.boot([1])
    assert_in_order(world.routers[1], before)  # also alone, before it heard anybody
    world.boot()
    world.run(60)
    after = talk(world, world.routers)
    assert {record.grade for record in after} == {Grade.UNKNOWN}
    for router in world.routers:
        assert_in_order(router, before + after)
    world.routers[2].model.clock = ClockModel()
    world.run(120)
    late = talk(world, world.routers)
    for router in world.routers:
        assert abs(error_s(router)) < 3
        assert_in_order(router, before + after + late)
    assert_idle(world)


def test_what_was_said_right_after_a_good_clock_came_by_outlasts_a_power_cut() -> None:
    """Found by a random history: routers lost power before they had noted the time that they followed."""
    world = World(15, line(3), 3)
    visitor, *homely = world.routers
    for router in homely:
        router.model.clock = NO_CLOCK
    world.boot(range(1, 3))
    world.run(30)
    world.boot([0])
    world.run(60)
    visitor.stop()
    said = talk(world, homely)
    assert {record.grade for record in said} == {Grade.ADOPTED}
    for router in homely:
        router.power_cut()
    world.boot([1])
    assert_in_order(homely[0], said)
    world.boot([2])
    world.run(60)
    said += talk(world, homely)
    for router in homely:
        assert_in_order(router, said)
    assert_idle(world)


def test_a_digest_leaves_out_what_lies_ahead_of_a_clock_that_was_set_back() -> None:
    world = World(1, [], 1)
    heard: list[Digest] = []

    def note(_sender: int, data: bytes) -> None:
        packets = decode_packets(data[PLAIN_OVERHEAD:])
        heard.extend(packet for packet in packets if isinstance(packet, Digest))

    world.taps.append(note)
    world.boot()
    router = world.routers[0]
    router.say("1", "at noon")
    counts = []
    for offset_ms in (0, -int(HOUR * 1000), 0):
        router.model.clock.offset_ms = offset_ms
        world.run(600)
        counts.append(heard[-1].history.count)
    assert counts == [1, 0, 1]
