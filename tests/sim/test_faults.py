"""Disks that fill and fail, power that goes, limits that bite: what was acknowledged survives."""

from collections.abc import Callable
from random import Random

import pytest

from meshchat.adapters.storage.logstore import FsyncPolicy
from meshchat.constants import CAP_ACCOUNTS
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.packets import Carried, Records
from meshchat.wire.records import Grade, Record, make_stamp
from tests.sim.checkers import assert_converges, assert_idle, assert_kept
from tests.sim.disk import PowerCut
from tests.sim.network import Link
from tests.sim.seeds import mend
from tests.sim.topology import cell, grid, line
from tests.sim.world import EPOCH_MS, SimRouter, Stranger, World

HOUR = 3600.0


def say(router: SimRouter, text: str, room: str = "1") -> Record:
    record = router.say(room, text)
    assert record is not None
    return record


def booted(seed: int, links: list[Link], count: int) -> World:
    world = World(seed, links, count)
    world.boot()
    world.run(60)
    return world


# --- Disks ----------------------------------------------------------------------------------------------


def break_full(router: SimRouter) -> None:
    router.logs.capacity = router.logs.used() + 100


def break_read_only(router: SimRouter) -> None:
    router.logs.read_only = router.state.read_only = True


def break_failing(router: SimRouter) -> None:
    now = router.logs.operations
    router.logs.failing = set(range(now, now + 100_000))


@pytest.mark.parametrize("fault", [break_full, break_read_only, break_failing])
def test_a_disk_that_takes_nothing_stops_one_router_only_until_it_is_mended(
    fault: Callable[[SimRouter], None],
) -> None:
    world = booted(1, line(3), 3)
    before = [say(router, "before") for router in world.routers]
    assert_converges(world, 30)
    broken = world.routers[1]
    fault(broken)
    assert broken.say("1", "nowhere to put this") is None
    meanwhile = [say(world.routers[0], f"first {number} " + "x" * 100) for number in range(10)]
    meanwhile += [say(world.routers[2], f"last {number} " + "x" * 100) for number in range(10)]
    world.run(HOUR)
    assert_kept(broken, before)
    assert all("nowhere" not in text for router in world.routers for text in router.texts())
    assert_idle(world)
    mend(broken)
    assert_converges(world, 3 * HOUR)
    for router in world.routers:
        assert_kept(router, before + meanwhile)
    assert_kept(broken, [say(broken, "mended")])
    assert_idle(world)


def test_writes_that_fail_now_and_then_lose_nothing_that_was_acknowledged() -> None:
    world = booted(2, line(3), 3)
    rng = Random(2)
    for router in world.routers:
        router.logs.failing = {router.logs.operations + number for number in range(400) if rng.random() < 0.2}
    for number in range(60):
        world.routers[number % 3].say("1", f"message {number}")
        world.run(1)
    for router in world.routers:
        mend(router)
    assert_converges(world, 2 * HOUR)
    acknowledged = [record for router in world.routers for record in router.acknowledged]
    assert len(acknowledged) < 60
    for router in world.routers:
        assert_kept(router, acknowledged)
    assert_idle(world)


@pytest.mark.parametrize("fsync", ["always", "interval"])
@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_any_write_keeps_what_was_promised(seed: int, fsync: FsyncPolicy) -> None:
    """A lone router, so that nobody can bring back what its disk lost."""
    world = World(seed, line(1), 1)
    router = world.routers[0]
    router.model.fsync = fsync
    promised: list[Record] = []
    for life in range(12):
        router.boot()
        assert_kept(router, promised)
        router.logs.crash_at = router.logs.operations + world.rng.randint(1, 25)
        try:
            for number in range(40):
                record = say(router, f"life {life} message {number}", str(number % 2))
                if fsync == "always":
                    promised.append(record)
                if number % 5 == 4:
                    router.up.sync()
                    if fsync == "interval":
                        promised = list(router.acknowledged)
                world.run(1)
                if router.node is None:
                    break
        except PowerCut:
            pass
        if router.node is not None:
            router.power_cut()
        if fsync == "interval":
            router.acknowledged = list(promised)
        world.run(30)
    router.boot()
    assert_kept(router, promised)
    assert promised


def test_a_mesh_that_loses_power_as_one_keeps_what_it_acknowledged() -> None:
    world = booted(3, grid(2, 2), 4)
    for number in range(40):
        say(world.routers[number % 4], f"message {number}")
        world.run(0.05)
    for router in world.routers:
        router.power_cut()
    world.boot()
    assert_converges(world, 60)
    for router in world.routers:
        assert_kept(router, [record for other in world.routers for record in other.acknowledged])
    assert_idle(world)


# --- Limits ---------------------------------------------------------------------------------------------


def limited(author: int, room: int, router: int) -> StoreLimits:
    return StoreLimits(CapLimits(author, room, router), CAP_ACCOUNTS)


def test_a_flood_evicts_only_the_flooders_own_everywhere() -> None:
    world = World(5, line(3), 3)
    for router in world.routers:
        router.model.limits = limited(6_000, 50_000, 100_000)
    world.boot()
    said = [say(router, f"keep {number}") for number in range(4) for router in world.routers]
    flooder = world.routers[0]
    victim_key, flooder.user = flooder.user, world.routers[1].user
    flooder.user = Stranger(world, 0).key
    for number in range(300):
        flooder.say("1", f"flood {number} " + "x" * 100)
        world.run(0.05)
    flooder.user = victim_key
    assert_converges(world, 300)
    for router in world.routers:
        assert_kept(router, said)
        flood = [text for text in router.texts() if text.startswith("flood")]
        assert 5 <= len(flood) <= 40
        assert flood[-1].startswith("flood 299 ")
    assert_idle(world)


@pytest.mark.parametrize("newcomer", [False, True])
def test_routers_with_different_limits_come_to_rest(newcomer: bool) -> None:
    world = World(6, line(3), 3)
    small, large, third = world.routers
    small.model.limits = limited(4_000, 8_000, 10_000)
    third.model.limits = limited(8_000, 20_000, 30_000)
    world.boot([0, 1] if newcomer else None)
    said = []
    for number in range(200):
        said.append(say((small, large)[number % 2], f"message {number} " + "x" * 80, str(number % 3)))
        world.run(0.2)
    world.run(60)
    assert_kept(large, said)
    assert small.up.engine.store.bytes_held <= 11_000
    assert_idle(world)
    world.boot()
    world.run(300)
    assert third.up.engine.store.bytes_held >= 15_000
    small.kill()
    small.lose_logs()
    small.boot()
    world.run(300)
    assert 5_000 <= small.up.engine.store.bytes_held <= 11_000
    assert_kept(small, said[-3:])
    assert_idle(world)


def test_kinds_and_spaces_of_later_versions_are_kept_and_passed_on() -> None:
    world = World(7, line(4), 4)
    stranger = Stranger(world, 3)
    world.boot(range(2))
    world.run(30)
    world.air.connect([(0, 3)])
    stamp = make_stamp(world.true_ms)
    records = [
        stranger.record("a later kind in a room", stamp, kind=77),
        stranger.record("a later history", stamp, kind=9, space=7, room=""),
        stranger.record("a later history with a name", stamp, kind=9, space=7, room="file-1"),
        stranger.record("a later permanent thing", stamp, kind=9, space=200, room=""),
        stranger.record("undated", stamp, kind=9, space=9, room="", grade=Grade.UNKNOWN),
    ]
    stranger.send(Records(tuple(Carried(record.carried) for record in records)))
    world.run(30)
    for router in world.routers[:2]:
        assert all(router.up.engine.store.holds(record.position) for record in records)
    # One that comes later gets them too, also over restarts of those who have them.
    for router in world.routers[:2]:
        router.power_cut()
        router.boot()
    world.boot([2])
    world.run(60)
    for router in world.routers[:3]:
        assert all(router.up.engine.store.holds(record.position) for record in records)
    # History goes with the wipe, of whatever kind; what is permanent stays.
    world.run(2 * 86_400)
    for router in world.routers[:3]:
        held = [record.body for record in records if router.up.engine.store.holds(record.position)]
        assert held == [b"a later permanent thing"]
    assert_idle(world)


def test_quarantine_is_bounded_and_keeps_what_comes_first() -> None:
    world = World(8, [(0, 1), (1, 2)], 3)
    stranger = Stranger(world, 2)
    world.boot(range(2))
    world.run(30)
    soon = stranger.record("soon", make_stamp(EPOCH_MS + 3600_000))
    stranger.send(Records((Carried(soon.carried),)))
    for number in range(300):
        record = stranger.record("y" * 8000, make_stamp(EPOCH_MS + 86_400_000 * (2 + number)))
        stranger.send(Records((Carried(record.carried),)))
        world.run(0.1)
    near = world.routers[1].up.engine.retention
    assert 1 <= near.quarantined < 200
    assert world.routers[0].up.engine.retention.quarantined == 0
    assert_idle(world)
    world.run(HOUR)
    for router in world.routers[:2]:
        assert router.texts() == ["soon"]


def test_what_waited_for_its_time_while_the_disk_was_full_comes_in_later() -> None:
    """Found by a search (tests/fuzz): heard twice, it counted as known although it was not held."""
    world = World(27, cell(3), 3)
    world.boot(range(2))
    early = Stranger(world, 2)
    record = early.record("early", make_stamp(world.true_ms + 16 * 60_000))
    for _ in range(2):
        early.send(Records((Carried(record.carried),)))
        world.run(1)
    full = world.routers[1].logs
    full.capacity = full.used()
    world.run(3 * 60)
    assert [len(router.ids()) for router in world.routers[:2]] == [1, 0]
    full.capacity = None
    assert_converges(world, 300)
    assert_kept(world.routers[1], [record])


def test_a_room_opened_with_every_message_does_not_stop_the_router() -> None:
    world = booted(9, line(2), 2)
    for number in range(1100):
        world.routers[0].say(f"room{number}", "x")
        world.run(0.02)
    assert_converges(world, 300)
    second = world.routers[1]
    second.kill()
    second.boot()
    assert_converges(world, 300)
    assert len(second.mesh.rooms()) == 1100
    assert_idle(world)
