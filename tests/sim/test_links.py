"""Links that are no radio: a stream between two, and a hub behind which many routers stand."""

import pytest

from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin
from tests.sim.checkers import assert_converges, assert_idle, assert_kept
from tests.sim.network import AirConditions
from tests.sim.topology import cell
from tests.sim.world import World

HUB = LinkProfile("hub", 1500, is_broadcast=True, air=None)
STREAM = LinkProfile("stream", 1500, is_broadcast=False, air=None)


def joined_by(link: LinkProfile, count: int) -> World:
    """Routers that all hear each other over one link, which loses what exceeds its queue."""
    world = World(1, cell(count), count, AirConditions(loss=0.02))
    for router in world.routers:
        router.model.link = link
    return world


def assert_it_serves(world: World) -> float:
    """All read what all write; one that lost its history has it back. Returns how many seconds that took."""
    world.boot()
    world.run(5)
    count = len(world.routers)
    for number in range(2000):
        world.routers[number % count].say(str(number % 4), f"message {number}")
        world.run(0.01)
    assert_converges(world, 60)
    back = world.routers[-1]
    back.kill()
    back.lose_logs()
    world.run(10)
    back.boot()
    took = assert_converges(world, 120)
    for router in world.routers:
        assert_kept(back, router.acknowledged)
    assert_idle(world)
    return took


def test_two_routers_on_a_stream_without_air_are_in_step_at_once() -> None:
    assert assert_it_serves(joined_by(STREAM, 2)) < 20


@pytest.mark.parametrize("vouched", [True, False], ids=["each an origin", "all one origin"])
def test_many_routers_behind_one_link_are_a_mesh(vouched: bool) -> None:
    """A hub that vouches for who sent what names each router; behind another all are one origin."""
    world = joined_by(HUB, 12)

    def origin_of(number: int) -> Origin:
        return ("hub", number) if vouched else "hub"

    def number_of(origin: Origin | None) -> int | None:
        return origin[1] if isinstance(origin, tuple) else None

    world.origin_of, world.number_of = origin_of, number_of
    took = assert_it_serves(world)
    print(f"whole again after {took:.1f} s")
