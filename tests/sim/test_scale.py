"""What flooding costs, on radios that collide: counts that a seed decides, no timing."""

import random

import pytest

from tests.sim.checkers import agree, assert_same_history
from tests.sim.network import AirConditions
from tests.sim.radio import RadioModel
from tests.sim.scale import chat, octets, preload, radio_world
from tests.sim.tally import Tally
from tests.sim.topology import cell, geometric
from tests.sim.world import World

TRANSMISSIONS_OF_A_MESH = {0.0: 1.0, 0.2: 1.5}
"""By loss: data transmissions a router and message on a mesh of degree 7. Without loss no router says
anything twice; with it one repeats what a neighbour seems to lack."""

TRANSMISSIONS_OF_A_CELL = 0.25
"""In a dense cell a quarter of the routers repeating a message is plenty."""


@pytest.mark.parametrize("loss", sorted(TRANSMISSIONS_OF_A_MESH))
def test_a_mesh_of_forty_is_reached_with_few_transmissions(loss: float) -> None:
    world = radio_world(1, geometric(40, 7, random.Random(2)).links(), 40, loss)
    spread = chat(world, 40, every=1.0)
    assert spread["reach"] == 1.0
    assert float(spread["data_tx"]) <= TRANSMISSIONS_OF_A_MESH[loss]
    assert_same_history(world.routers)


def test_a_cell_of_fifty_is_reached_by_a_quarter_of_a_transmission_each() -> None:
    world = radio_world(1, cell(50), 50)
    spread = chat(world, 20, every=1.0)
    assert spread["reach"] == 1.0
    assert float(spread["data_tx"]) <= TRANSMISSIONS_OF_A_CELL
    assert_same_history(world.routers)


def test_routers_that_start_on_the_same_history_have_nothing_to_say() -> None:
    world = World(1, cell(5), 5, AirConditions(delay=0.0), RadioModel())
    assert preload(world, 200) == 200
    tally = Tally(world)
    world.boot()
    world.run(60)
    assert agree(world.routers)
    assert set(tally.datagrams) <= {"ASK", "DIGEST", "OFFER"}
    before = octets(world)
    world.run(600)
    assert octets(world) - before < 5 * 600 * 6.6
