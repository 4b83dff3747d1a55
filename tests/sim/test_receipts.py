"""What an author is told of who holds his message: never more than is true, and all of it in the end."""

from random import Random

import pytest

from meshchat.wire.records import Record
from tests.sim.checkers import assert_converges
from tests.sim.network import AirConditions, Link
from tests.sim.topology import cell, grid, line
from tests.sim.world import SimRouter, World


def told(router: SimRouter, record: Record) -> int | None:
    """How many neighbours hold a message, as far as its router knows."""
    return router.mesh.held_by(record.id, record.key)


def assert_true(world: World, links: list[Link]) -> int:
    """Nobody says of his messages that more of his neighbours hold them than do; returns the sum of it."""
    holders = {
        router.number: {entry.position for entry in router.up.engine.store.held_entries()}
        for router in world.alive()
    }
    sum_of_all = 0
    for router in world.alive():
        around = {other for link in links if router.number in link for other in link} - {router.number}
        for record in router.acknowledged:
            said = told(router, record) or 0
            true = sum(record.position in holders.get(number, ()) for number in around)
            assert said <= true, f"router {router.number} says {said} hold it, and {true} do"
            sum_of_all += said
    return sum_of_all


@pytest.mark.parametrize("links", [line(2), line(5), cell(4), grid(3, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_said_to_hold_what_he_does_not_hold(links: list[Link], seed: int) -> None:
    """Checked four times a second, while frames are lost and doubled and links come and go."""
    count = max(map(max, links)) + 1
    conditions = AirConditions(loss=0.35, duplication=0.1, delay=0.02)
    world, rng = World(seed, links, count, conditions), Random(seed)
    world.boot()
    said = 0
    for step in range(400):
        router = rng.choice(world.routers)
        if step % 3 == 0:
            assert router.say("1", f"message {step}")
        if step % 40 == 13:
            apart = [number for number in range(count) if rng.random() < 0.5]
            world.air.separate(apart, [number for number in range(count) if number not in apart])
        elif step % 40 == 33:
            world.air.heal()
        world.run(0.25)
        said += assert_true(world, links)
    assert said, "somebody was said to hold something"
    world.air.heal()
    assert_converges(world, 120)
    world.run(300)
    assert_true(world, links)
    for router in world.routers:
        around = sum(router.number in link for link in links)
        assert {told(router, record) for record in router.acknowledged} <= {around}, "in the end all is known"


def test_at_a_fifth_lost_the_relays_and_confirmations_tell_at_once() -> None:
    world = World(3, line(3), 3, AirConditions(loss=0.2, delay=0.004))
    world.boot()
    world.run(120)
    middle = world.routers[1]
    for number in range(50):
        assert middle.say("1", f"message {number}")
        world.run(3)
    at_once = sum(told(middle, record) == 2 for record in middle.acknowledged)
    assert at_once >= 40
    world.run(120)
    assert {told(middle, record) for record in middle.acknowledged} == {2}
    assert (middle.told[-1].by, middle.told[-1].of) == (2, 2)


def test_a_router_that_lost_all_holds_nothing_until_it_has_it_again() -> None:
    world = World(4, line(2), 2)
    author, other = world.routers
    world.boot()
    world.run(30)
    record = author.say("1", "soup at noon")
    assert record
    world.run(10)
    assert told(author, record) == 1
    other.power_cut()
    other.lose_logs()
    world.run(60)
    assert told(author, record) == 1, "nothing is known yet"
    world.air.separate([0], [1])
    other.boot()
    world.run(60)
    author.told.clear()
    lies: list[int | None] = []

    def tap(sender: int, data: bytes) -> None:
        lies.extend([told(author, record)] if sender == 0 and not other.ids("1") else [])

    world.air.heal()
    assert world.run(120, until=lambda: told(author, record) == 0 or bool(other.ids("1")))
    world.taps.append(tap)
    assert world.run(60, until=lambda: told(author, record) == 1)
    assert other.ids("1") == [record.id]
    assert set(lies) <= {0}
    assert [each.by for each in author.told] == [1], "it is told again"


def test_what_waits_in_quarantine_is_not_held() -> None:
    """The other router's clock is half an hour late, and it hears the message more than once."""
    world = World(5, line(2), 2, AirConditions(loss=0.3))
    author, other = world.routers
    other.model.clock.offset_ms = -1_800_000
    world.boot()
    world.run(60)
    record = author.say("1", "from the future")
    assert record
    world.run(600)
    assert other.ids("1") == []
    assert told(author, record) == 0
    world.run(1800)
    assert other.ids("1") == [record.id]
    assert told(author, record) == 1


def test_after_a_restart_nothing_is_claimed() -> None:
    world = World(6, line(2), 2)
    world.boot()
    world.run(30)
    record = world.routers[0].say("1", "before")
    assert record
    world.run(10)
    world.routers[0].stop()
    world.routers[0].restart()
    world.run(60)
    assert told(world.routers[0], record) is None


def test_the_mesh_is_told_to_be_in_step_or_not() -> None:
    world = World(7, cell(3), 3)
    world.boot()
    world.run(60)
    first = world.routers[0]
    assert first.mesh_state == first.mesh.mesh_state()
    assert first.mesh_state.neighbours == 2
    assert first.mesh_state.in_step
    world.air.separate([0], [1, 2])
    for number in range(300):
        assert world.routers[1].say("1", f"meanwhile {number}")
        world.run(1.0)
    world.run(60)
    assert first.mesh_state.neighbours == 0
    states = set()
    world.air.heal()
    for _ in range(240):
        world.run(0.5)
        states.add((first.mesh_state.neighbours, first.mesh_state.in_step))
    assert (2, True) in states
    assert any(not in_step for _, in_step in states)
    assert first.mesh_state.in_step
