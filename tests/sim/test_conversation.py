"""Everyday life of a mesh: talking, losing, rebooting, parting and meeting again."""

from random import Random

import pytest

from tests.sim.checkers import agree, assert_converges, assert_idle, assert_kept
from tests.sim.mobility import Wanderers
from tests.sim.network import AirConditions
from tests.sim.radio import RadioModel
from tests.sim.topology import cell, geometric, grid, line
from tests.sim.world import World

SHAPES = {"line": (line(5), 5), "cell": (cell(10), 10), "grid": (grid(4, 3), 12)}


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_everybody_reads_what_everybody_says(shape: str, loss: float) -> None:
    links, count = SHAPES[shape]
    world = World(1, links, count, AirConditions(loss=loss, duplication=0.05))
    world.boot()
    world.run(5)
    for number in range(60):
        world.routers[number % count].say(str(number % 4 + 1), f"message {number}")
        world.run(world.rng.uniform(0, 0.5))
    took = assert_converges(world, 120)
    for router in world.routers:
        for other in world.routers:
            assert_kept(router, other.acknowledged)
    rate = assert_idle(world)
    print(f"{shape} at {loss:.0%}: agreed {took:.1f} s after the last message, idle at {rate:.1f} B/s")


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
def test_a_router_that_lost_its_logs_gets_everything_back(loss: float) -> None:
    world = World(2, line(5), 5, AirConditions(loss=loss))
    world.boot()
    world.run(5)
    middle = world.routers[2]
    middle.kill()
    middle.lose_logs()
    for number in range(300):
        world.routers[(0, 1, 3, 4)[number % 4]].say("1", f"message {number}")
        world.run(0.05)
    world.run(30)
    assert not agree(world.alive())
    middle.boot()
    took = assert_converges(world, 240)
    for other in world.routers:
        assert_kept(middle, other.acknowledged)
    rate = assert_idle(world)
    print(f"loss {loss:.0%}: whole again after {took:.1f} s, idle at {rate:.1f} B/s")


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
def test_two_halves_that_talked_apart_become_one(loss: float) -> None:
    world = World(3, line(6), 6, AirConditions(loss=loss))
    world.boot()
    for number in range(30):
        world.routers[number % 6].say("1", f"together {number}")
        world.run(0.2)
    assert_converges(world, 120)
    world.air.separate([0, 1, 2], [3, 4, 5])
    for number in range(200):
        world.routers[number % 6].say("1", f"apart {number}")
        world.run(0.3)
    world.run(3600)
    world.air.heal()
    took = assert_converges(world, 240)
    assert len(world.routers[0].ids()) == 230
    rate = assert_idle(world)
    print(f"loss {loss:.0%}: one again after {took:.1f} s, idle at {rate:.1f} B/s")


def test_routers_that_are_carried_about_lose_nothing_that_was_said() -> None:
    """They come and go out of reach of each other; at last all stand where they began, and hold all of it."""
    field = geometric(20, 7, Random(3))
    home = field.links()
    world = World(3, home, 20, AirConditions(loss=0.1), RadioModel())
    world.boot()
    walk = Wanderers(world, field, list(range(0, 20, 2)), speed=0.01, pause=20)
    for number in range(60):
        assert world.routers[number % 20].say("1", f"from on the way {number}")
        world.run(10)
    walk.stop()
    world.run(10)
    world.air.replace(home)
    assert_converges(world, 240)
    assert len(world.routers[0].ids()) == 60
    assert_idle(world)


@pytest.mark.parametrize("radio", [None, RadioModel()])
def test_a_seed_decides_everything(radio: RadioModel | None) -> None:
    def frames() -> list[tuple[float, int, bytes]]:
        world = World(6, cell(4), 4, AirConditions(loss=0.3), radio)
        heard: list[tuple[float, int, bytes]] = []
        world.taps.append(lambda sender, data: heard.append((world.now, sender, data)))
        world.boot()
        for number in range(10):
            world.routers[number % 4].say("1", f"message {number}")
            world.run(1)
        world.routers[2].power_cut()
        world.routers[2].lose_state()
        world.boot()
        world.run(30)
        return heard

    assert frames() == frames()


def test_a_long_message_crosses_the_mesh_in_pieces() -> None:
    world = World(4, line(4), 4, AirConditions(loss=0.2))
    world.boot()
    text = "\N{GRINNING FACE}" * 2048
    world.routers[0].say("1", text)
    world.routers[3].say("1", "short")
    assert_converges(world, 120)
    assert sorted(world.routers[3].texts()) == sorted([text, "short"])
