"""The daily wipe: everything lives its retention, goes on every router, and never comes back."""

import pytest

from meshchat.wire.ids import NOBODY, Bound
from meshchat.wire.packets import MAX_AGE, Carried, Dump, Records
from meshchat.wire.records import MAX_STAMP, Grade, Kind, Record, Space, make_stamp
from tests.sim.checkers import (
    assert_converges,
    assert_idle,
    assert_kept,
    assert_nowhere,
    assert_same_history,
    disk_holds,
)
from tests.sim.topology import cell, line
from tests.sim.world import DAY, EPOCH_MS, ClockModel, SimRouter, Stranger, World

HOUR = 3600.0
NO_CLOCK = ClockModel(-EPOCH_MS, good=False)
FOUR_UTC = 20 * HOUR
"""The first 04:00 UTC of a run, which starts at 08:00."""
ZONES = {"UTC": 0.0, "CET-1CEST,M3.5.0,M10.5.0/3": 1.0, "<+0330>-3:30": 3.5, "EST5EDT,M3.2.0,M11.1.0": -5.0}


def until(world: World, moment: float) -> None:
    """Lets time pass up to a moment."""
    assert moment >= world.now
    world.run(moment - world.now)


def say(router: SimRouter, text: str, room: str = "1") -> Record:
    record = router.say(room, text)
    assert record is not None
    return record


def undated_mesh(seed: int, count: int) -> World:
    """A line of routers none of which has a clock."""
    world = World(seed, line(count), count)
    for router in world.routers:
        router.model.clock = NO_CLOCK
    return world


# --- By date --------------------------------------------------------------------------------------------


def test_at_the_set_time_of_each_zone_what_is_older_than_the_retention_goes() -> None:
    world = World(1, cell(4), 4)
    for router, zone in zip(world.routers, ZONES, strict=True):
        router.model.zone = zone
    world.boot()
    world.run(2 * HOUR)
    said = [say(router, f"first day {router.number}") for router in world.routers]
    assert_converges(world, 30)
    until(world, FOUR_UTC + 6 * HOUR)
    for router in world.routers:
        assert_kept(router, said)  # the first wipe finds them younger than a day
    # Each router wipes at its own four o'clock, and does not fetch again from those that are later.
    order = sorted(zip(world.routers, ZONES.values(), strict=True), key=lambda pair: -pair[1])
    for router, hours_east in order:
        moment = FOUR_UTC + DAY - hours_east * HOUR
        until(world, moment - 30)
        assert_kept(router, said)
        until(world, moment + 30)
        assert_nowhere([router], "first day")
    world.run(HOUR)
    assert_nowhere(world.routers, "first day")
    again = say(world.routers[0], "second day")
    assert_converges(world, 30)
    for router in world.routers:
        assert_kept(router, [again])
    assert_idle(world)


@pytest.mark.parametrize("borrowed", [False, True], ids=["own-clock", "borrowed-clock"])
def test_a_mesh_that_runs_wipes_every_day(borrowed: bool) -> None:
    world = World(2, line(3), 3)
    if borrowed:
        for router in world.routers[1:]:
            router.model.clock = NO_CLOCK
    world.boot()
    for day in range(3):
        until(world, max(world.now, day * DAY + HOUR))
        for router in world.routers:
            say(router, f"day {day} of {router.number}.")
        until(world, FOUR_UTC + day * DAY + 60)
        for router in world.routers:
            shown = {text.split()[1] for text in router.texts()}
            assert shown == {str(day)}, f"router {router.number} on the morning after day {day}: {shown}"
        if day:
            assert_nowhere(world.routers, f"day {day - 1} of")
    assert_idle(world)


@pytest.mark.parametrize("clock", ["good", "none"])
def test_a_router_that_slept_over_the_wipe_brings_nothing_back(clock: str) -> None:
    world = World(3, line(3), 3)
    sleeper = world.routers[2]
    if clock == "none":
        sleeper.model.clock = NO_CLOCK
    world.boot()
    world.run(60)
    said = [say(router, f"before {router.number}") for router in world.routers]
    assert_converges(world, 30)
    world.run(HOUR)
    sleeper.kill()
    until(world, 3 * DAY)
    assert_nowhere(world.routers[:2], "before")
    late = say(world.routers[0], "while it slept")
    sleeper.boot()
    if clock == "none":
        assert_kept(sleeper, said)
    for _ in range(12):
        world.run(HOUR)
        assert_nowhere(world.routers[:2], "before")
    assert_kept(sleeper, [late])
    world.run(DAY)
    assert_nowhere(world.routers, "before")
    if clock == "good":
        assert_same_history(world.routers)
    else:
        assert_kept(sleeper, [late])  # without a clock it keeps for longer, by the time that it slept
    assert_idle(world)


def test_different_retentions_live_side_by_side() -> None:
    world = World(4, line(3), 3)
    day, three_days, ever = world.routers
    for router, retention in zip(world.routers, (86_400, 3 * 86_400, None), strict=True):
        router.model.retention_s = retention
    world.boot()
    said = []
    for number in range(6):
        until(world, max(world.now, number * DAY))
        said.append([say(router, f"({number}) by {router.number}") for router in world.routers])
        assert_idle(world)
    until(world, 6 * DAY)

    def assert_retentions() -> None:
        assert_kept(ever, [record for records in said for record in records])
        assert_kept(three_days, [record for records in said[3:] for record in records])
        assert_nowhere([three_days], "(1) by")
        assert_kept(day, said[5])
        assert_nowhere([day], "(3) by")

    assert_retentions()
    # One that lost its logs gets what its own retention allows, whoever it asks.
    for router in (three_days, day):
        router.kill()
        router.lose_logs()
        router.boot()
        world.run(60)
        assert_retentions()
    assert_idle(world)


def test_a_shorter_retention_holds_at_the_next_wipe_and_a_longer_one_from_then_on() -> None:
    world = World(5, line(2), 2)
    first, second = world.routers
    first.model.retention_s = second.model.retention_s = 7 * 86_400
    world.boot()
    record = say(first, "three days old")
    until(world, 3 * DAY)
    first.stop()
    first.model.retention_s = 86_400
    first.boot()
    world.run(60)
    assert_nowhere([first], "three days old")
    assert_kept(second, [record])
    first.stop()
    first.model.retention_s = None
    first.boot()
    world.run(60)
    assert_kept(first, [record])
    assert_idle(world)


def test_what_was_wiped_is_refused_from_whoever_kept_a_recording() -> None:
    world = World(14, cell(3), 3)
    recorder = Stranger(world, 2)
    world.boot(range(2))
    said = [say(router, f"recorded {router.number}") for router in world.routers[:2]]
    assert_converges(world, 30)
    until(world, FOUR_UTC + DAY + 60)
    for record in said:
        recorder.send(Records((Carried(record.carried),)))
        recorder.send(Dump(NOBODY, True, Bound(b""), Bound(b""), (Carried(record.carried),)))
    world.run(60)
    assert_nowhere(world.routers[:2], "recorded")
    assert_idle(world)


# --- By hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dated", [True, False], ids=["dated", "undated"])
@pytest.mark.parametrize("ending", ["stop", "kill", "power_cut"])
def test_a_wipe_by_hand_is_neither_undone_nor_spread(ending: str, dated: bool) -> None:
    world = World(6, line(3), 3) if dated else undated_mesh(6, 3)
    for router in world.routers:
        router.model.retention_s = None
    world.boot()
    world.run(60)
    said = [say(router, f"secret {number}") for number in range(20) for router in world.routers]
    other = say(world.routers[0], "elsewhere", "2")
    assert_converges(world, 30)
    end, middle, far = world.routers
    assert middle.up.wipe("1") == len(said)
    assert_nowhere([middle], "secret")
    world.run(HOUR)
    getattr(middle, ending)()
    world.run(60)
    middle.boot()
    world.run(HOUR)
    assert_nowhere([middle], "secret")
    for router in (end, far):
        assert_kept(router, [*said, other])
    assert_kept(middle, [other])
    after = [say(router, "after the wipe") for router in world.routers]
    world.run(30)
    for router in world.routers:
        assert_kept(router, after)
    assert_nowhere([middle], "secret")
    assert_idle(world)
    assert middle.up.wipe(None) == len(after) + 1
    world.run(60)
    assert middle.mesh.rooms() == []
    assert_kept(end, [*said, *after])


def test_a_wipe_by_hand_on_a_full_disk_makes_room() -> None:
    world = World(7, line(2), 2)
    world.boot()
    first, second = world.routers
    for number in range(50):
        say(first, f"secret {number} " + "x" * 200)
    assert_converges(world, 30)
    first.logs.capacity = first.logs.used()
    assert first.say("1", "no room") is None
    first.up.wipe("1")
    assert_nowhere([first], "secret")
    record = say(first, "room again")
    world.run(60)
    assert_kept(second, [record])
    assert_idle(world)


# --- By age ---------------------------------------------------------------------------------------------


def test_what_has_no_date_is_wiped_by_how_long_it_was_held() -> None:
    world = undated_mesh(8, 3)
    world.boot()
    world.run(60)
    old = [say(router, f"old {router.number}") for router in world.routers]
    world.run(20 * HOUR)
    young = [say(router, f"young {router.number}") for router in world.routers]
    world.run(30)
    for router in world.routers:
        assert_kept(router, old + young)
    world.run(2 * DAY - 20 * HOUR)
    assert_nowhere(world.routers, "old")
    world.run(DAY)
    assert_nowhere(world.routers, "young")
    assert_idle(world)


def test_a_good_clock_tells_how_long_a_router_was_off_even_right_after_its_first_start() -> None:
    """Found by seed 70260: killed in its first seconds, it had noted no time, and kept all a day longer."""
    world = World(1, line(2), 2)
    first, second = world.routers
    second.model.clock = NO_CLOCK
    world.boot([1])
    said = say(second, "nobody knows when")
    assert said.grade is Grade.UNKNOWN
    world.boot([0])
    assert world.run(8, until=lambda: "nobody knows when" in first.texts())
    first.kill()
    second.power_cut()
    world.run(1.5 * DAY)
    first.boot()
    until(world, DAY + FOUR_UTC + 60)
    assert_nowhere([first], "nobody knows when")


def test_an_age_travels_with_its_record_and_survives_restarts() -> None:
    world = undated_mesh(9, 2)
    holder, late = world.routers
    holder.boot()
    world.run(60)
    say(holder, "an old story")
    # The holder is switched off half of the time; it runs 36 hours in all before the other appears.
    for hour in range(12):
        world.run(3 * HOUR)
        (holder.stop, holder.kill, holder.power_cut)[hour % 3]()
        world.run(3 * HOUR)
        holder.boot()
        if hour == 5:
            assert "an old story" in holder.texts()  # 18 hours by now
    late.boot()
    world.run(60)
    place = next(holder.mesh.messages("1"), None)
    if place is not None:
        for router in world.routers:
            retention = router.up.engine.retention
            age = router.up.engine.store.age(place.position, retention.run(router.instant()))
            assert age >= 35 * HOUR
    world.run(DAY)
    assert_nowhere(world.routers, "an old story")
    assert_idle(world)


def test_what_was_wiped_by_age_does_not_come_back_from_one_who_keeps_for_ever() -> None:
    world = undated_mesh(10, 3)
    keeper_of_all = world.routers[2]
    keeper_of_all.model.retention_s = None
    world.boot()
    world.run(60)
    said = [say(router, f"yesterday {router.number}") for router in world.routers]
    world.run(3 * DAY)
    assert_nowhere(world.routers[:2], "yesterday")
    assert_kept(keeper_of_all, said)
    world.routers[1].kill()
    world.routers[1].boot()
    world.run(HOUR)
    assert_nowhere(world.routers[:2], "yesterday")
    # Not even to one that knows nothing of it.
    world.routers[1].kill()
    world.routers[1].lose_logs()
    world.routers[1].lose_state()
    world.routers[1].boot()
    world.run(HOUR)
    assert_nowhere(world.routers[:2], "yesterday")
    assert_idle(world)


# --- By nobody else -------------------------------------------------------------------------------------


@pytest.mark.parametrize("retention_s", [86_400, None], ids=["day", "never"])
@pytest.mark.parametrize("clocks", ["good", "borrowed", "none"])
def test_no_neighbours_claim_wipes(clocks: str, retention_s: int | None) -> None:
    world = World(11, cell(4), 4)
    routers = world.routers[:3]
    for router in routers:
        router.model.retention_s = retention_s
        if clocks == "none" or (clocks == "borrowed" and router.number):
            router.model.clock = NO_CLOCK
    liar = Stranger(world, 3)
    world.boot(range(3))
    world.run(60)
    said = [say(router, f"ours {number}") for number in range(5) for router in routers]
    assert_converges(world, 30)
    liar.lie(Grade.GOOD, 2 * int(DAY) * 1000, floor_ms=EPOCH_MS + 365 * int(DAY) * 1000)
    mine = liar.record("a stranger's", make_stamp(routers[0].mesh.now_ms()), grade=Grade.UNKNOWN)
    ageless = liar.record("no age fits", make_stamp(routers[0].mesh.now_ms()), grade=Grade.UNKNOWN)
    account = liar.record(
        "x" * 60, make_stamp(1), grade=Grade.UNKNOWN, room="", kind=Kind.ACCOUNT, space=Space.ACCOUNTS
    )
    liar.send(Records(tuple(Carried(record.carried, MAX_AGE) for record in (*said, mine))))
    liar.send(
        Dump(
            NOBODY,
            True,
            Bound(b""),
            Bound(b""),
            (Carried(ageless.carried, MAX_AGE), Carried(account.carried, MAX_AGE)),
        )
    )
    world.run(12 * HOUR)
    for router in routers:
        assert_kept(router, said)
    for router in routers:
        assert router.up.engine.store.holds(account.position)  # no age wipes an account
        assert not router.up.engine.store.holds(ageless.position)  # nobody asked for anything so old
    liar.quiet()
    liar.lie(Grade.GOOD, 2 * int(DAY) * 1000, floor_ms=MAX_STAMP >> 16)
    world.run(7 * HOUR)
    for router in routers:
        assert_kept(router, said)
    liar.quiet()
    world.run(600)
    assert_idle(world)


def test_a_fooled_router_wipes_no_faster_than_it_runs() -> None:
    # Alone with a liar whose clock runs days ahead, it holds what it has for a retention of its own time.
    world = World(12, [(0, 1), (1, 2)], 3)
    good, fooled, _ = world.routers
    fooled.model.clock = NO_CLOCK
    liar = Stranger(world, 2)
    world.boot(range(2))
    world.run(60)
    said = [say(router, f"ours {router.number}") for router in (good, fooled)]
    assert_converges(world, 30)
    world.air.separate([0], [1])
    for days in range(1, 23):
        liar.lie(Grade.GOOD, days * int(DAY) * 1000)
        world.run(HOUR)
        assert_kept(fooled, said)
    liar.quiet()


def test_a_router_that_is_off_half_of_each_day_does_not_fall_behind_for_ever() -> None:
    world = World(14, line(2), 2)
    good, lodger = world.routers
    lodger.model.clock = NO_CLOCK
    world.boot([0])
    said: dict[str, float] = {}
    for half_day in range(24):
        if half_day % 2 == 0:
            world.boot([1])
        else:
            lodger.stop()
        for number in range(3):
            text = f"{half_day}.{number}"
            said[text] = world.now
            say(good, text)
            until(world, (half_day + (number + 1) / 3) * DAY / 2)
            if half_day % 2 == 0:
                kept = set(lodger.texts())
                ages = {text: world.now - moment for text, moment in said.items()}
                assert {text for text, age in ages.items() if age < DAY} <= kept
                assert max(ages[text] for text in kept) < 4 * DAY


@pytest.mark.parametrize("ahead", [2, 400])
def test_a_lying_clock_wipes_nothing_that_was_not_held_for_a_retention(ahead: int) -> None:
    # Router 2 believes its neighbour's "good", days ahead, rather than what router 1 has adopted.
    world = World(15, line(4), 4)
    good, relay, fooled, _ = world.routers
    relay.model.clock = fooled.model.clock = NO_CLOCK
    liar = Stranger(world, 3)
    world.boot(range(3))
    world.run(60)
    said = [(world.now, say(good, "first"))]
    world.run(HOUR)
    liar.lie(Grade.GOOD, ahead * int(DAY) * 1000)
    world.run(60)
    assert fooled.mesh.now_ms() > world.true_ms + int(DAY) * 1000
    for hour in range(0, 60, 2):
        said.append((world.now, say(good, f"hour {hour}")))
        world.run(2 * HOUR)
        assert_kept(fooled, [record for moment, record in said if world.now - moment < DAY])
    liar.quiet()


def test_wiped_text_leaves_the_disk_also_where_lines_were_damaged() -> None:
    world = World(13, line(2), 2)
    world.boot()
    for router in world.routers:
        for number in range(5):
            say(router, f"secret {number} of {router.number}")
    assert_converges(world, 30)
    broken = world.routers[1]
    broken.stop()
    content = broken.logs.read("rooms/1.log")
    broken.logs.overwrite("rooms/1.log", content.index(b'"text"') + 2, b"?")
    broken.boot()
    world.run(60)
    assert disk_holds(broken.logs, "secret")
    assert len(broken.texts()) == 10  # the damaged line was set aside and fetched again
    until(world, FOUR_UTC + DAY + 60)
    assert_nowhere(world.routers, "secret")
    assert_idle(world)
