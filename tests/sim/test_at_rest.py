"""Differences that cannot be mended: they may cost the air next to nothing, also while people chat."""

from functools import partial

import pytest

from meshchat.constants import CAP_ACCOUNTS
from meshchat.errors import StoreError
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from tests.sim.checkers import assert_converges, assert_idle, assert_kept, disk_holds
from tests.sim.disk import PowerCut
from tests.sim.network import AirConditions
from tests.sim.topology import line
from tests.sim.world import ClockModel, SimRouter, World

FLOOD_BYTES = 3_000
"""Bytes that a new message costs three routers, digests included: measured 1,400 where nothing differs."""


def keep_for_ever(world: World) -> list[SimRouter]:
    for router in world.routers:
        router.model.retention_s = None
    return world.routers


def bytes_a_message(world: World, author: SimRouter, room: str = "2") -> float:
    """What 20 new messages cost, one a minute, each."""
    before = world.air.octets.total()
    for number in range(20):
        assert author.say(room, f"new {number}")
        world.run(60)
    return (world.air.octets.total() - before) / 20


def all_show(world: World, text: str) -> bool:
    return all(text in router.texts("2") for router in world.routers)


def test_chat_beside_ids_that_one_router_wiped_and_another_never_had_costs_little() -> None:
    world = World(1, line(3), 3)
    wiper, _, _ = keep_for_ever(world)
    world.boot([0])
    for number in range(200):
        wiper.say("1", f"secret {number}")
        world.run(0.2)
    wiper.up.wipe("1")
    world.boot()
    world.run(1200)
    assert bytes_a_message(world, wiper) < FLOOD_BYTES
    assert_idle(world)


def test_what_is_lost_beside_such_a_difference_is_repaired_all_the_same() -> None:
    world = World(1, line(3), 3, AirConditions(loss=0.3))
    wiper, _, last = keep_for_ever(world)
    world.boot([0])
    for number in range(200):
        wiper.say("1", f"secret {number}")
        world.run(0.2)
    wiper.up.wipe("1")
    world.boot()
    world.run(3600)
    for number in range(30):
        text = f"new {number}"
        (wiper, last)[number % 2].say("2", text)
        everywhere = world.run(150, until=partial(all_show, world, text))
        assert everywhere, f"{text} is not everywhere after 150 s"
        world.run(60)


def test_routers_at_their_limits_rest_also_after_a_restart() -> None:
    world = World(2, line(2), 2)
    first, second = keep_for_ever(world)
    for router in world.routers:
        router.model.limits = StoreLimits(CapLimits(40_000, 80_000, 10_000), CAP_ACCOUNTS)
    world.boot()
    for number in range(200):
        second.say("1", f"message {number} " + "x" * 80)
        world.run(0.2)
    assert_converges(world, 60)
    first.stop()
    first.boot()
    world.run(600)
    assert bytes_a_message(world, second) < FLOOD_BYTES
    first.kill()
    first.boot()
    world.run(600)
    assert bytes_a_message(world, second) < FLOOD_BYTES
    assert_idle(world)


def test_a_small_router_beside_a_large_one_forgets_what_it_let_go_and_rests() -> None:
    world = World(3, line(2), 2)
    small, large = keep_for_ever(world)
    small.model.limits = StoreLimits(CapLimits(4_000, 8_000, 10_000), CAP_ACCOUNTS, remembered=50)
    world.boot()
    for number in range(200):
        large.say("1", f"message {number} " + "x" * 80)
        world.run(0.2)
    assert_idle(world)
    assert bytes_a_message(world, large) < FLOOD_BYTES
    assert_kept(large, large.acknowledged)
    assert small.up.engine.store.remembered <= 50


@pytest.mark.parametrize("where", ["first write", "second write", "third write"])
def test_a_power_cut_while_wiping_by_hand_undoes_nothing_that_was_noted(where: str) -> None:
    world = World(4, line(2), 2)
    wiper, _ = keep_for_ever(world)
    world.boot()
    for number in range(5):
        wiper.say("1", f"secret {number}")
    assert_converges(world, 30)
    writes = ("first write", "second write", "third write").index(where) + 1
    wiper.logs.crash_at = wiper.logs.operations + writes
    try:
        wiper.up.wipe("1")
    except PowerCut:
        wiper.power_cut()
        wiper.boot()
    world.run(600)
    assert wiper.texts() == []
    assert not disk_holds(wiper.logs, "secret")


def test_a_disk_that_lets_go_of_nothing_is_said_and_tried_again() -> None:
    world = World(5, line(2), 2)
    wiper, other = keep_for_ever(world)
    world.boot()
    for number in range(5):
        wiper.say("1", f"secret {number}")
    assert_converges(world, 30)
    wiper.logs.read_only = True
    with pytest.raises(StoreError, match="Not all of it could be deleted"):
        wiper.up.wipe("1")
    assert wiper.texts() == []
    wiper.logs.read_only = False
    world.run(3600)
    assert not disk_holds(wiper.logs, "secret")
    assert len(other.texts()) == 5


def test_an_age_survives_a_repair_of_a_single_message() -> None:
    world = World(6, line(2), 2)
    for router in world.routers:
        router.model.clock = ClockModel(good=False)
    world.boot()
    first, second = world.routers
    world.air.separate([0], [1])
    missed = first.say("1", "said while the other did not hear")
    assert missed
    world.run(20 * 3600)
    world.air.heal()
    assert_converges(world, 120)
    ages = [
        router.up.engine.store.age(missed.position, router.up.engine.retention.run(router.instant()))
        for router in (first, second)
    ]
    assert abs(ages[0] - ages[1]) < 120, ages
