"""Meshes at full scale, run by hand: `python -m tests.sim --scale NAME`. Each states its cost as a table."""

import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.sim.checkers import agree, assert_converges, assert_same_history
from tests.sim.network import AirConditions, Link
from tests.sim.radio import Radio, RadioModel
from tests.sim.tally import Arrivals, Tally, quantile, table
from tests.sim.topology import cell, geometric, line
from tests.sim.world import DAY, World

TEXT = "x" * 100
"""As a message its datagram has about 250 bytes."""

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Scale:
    """One scenario: what it shows, and its rows, each a table line of its own."""

    name: str
    about: str
    rows: Callable[[], Iterator[Row]]


def radio_world(seed: int, links: list[Link], count: int, loss: float = 0.0) -> World:
    """A mesh on radios, all booted and settled for two minutes, so that they know their neighbours."""
    world = World(seed, links, count, AirConditions(loss, delay=0.0), RadioModel())
    world.boot()
    world.run(120)
    return world


def octets(world: World) -> int:
    """Bytes that all have put on the air."""
    return world.air.octets.total()


def idle_rate(world: World, settle: float = 300.0, watch: float = 3600.0) -> float:
    """Bytes a second and router over `watch` seconds of quiet, after `settle`."""
    world.run(settle)
    before = octets(world)
    world.run(watch)
    return (octets(world) - before) / watch / len(world.routers)


def chat(world: World, messages: int, every: float) -> Row:
    """Random routers say something each `every` seconds; what that took, a minute after the last one."""
    count = len(world.routers)
    tally, arrivals, before = Tally(world), Arrivals(world), octets(world)
    for _ in range(messages):
        arrivals.say(world.rng.randrange(count), str(world.rng.randint(1, 4)), TEXT)
        world.run(every)
    world.run(60)
    tally.stop()
    waits, for_all = arrivals.waits(), arrivals.waits_for_all()
    air = world.air
    return {
        "messages": messages,
        "reach": arrivals.reach(),
        "reach_1s": arrivals.reach(1.0),
        "p50_s": quantile(waits, 0.5),
        "p99_s": quantile(waits, 0.99),
        "all_p50_s": quantile(for_all, 0.5),
        "all_p99_s": quantile(for_all, 0.99),
        "data_tx": tally.news / count / messages,
        "bytes_a_message": (octets(world) - before) // messages,
        "collisions": air.collisions.total() if isinstance(air, Radio) else 0,
        "datagrams": table(tally.datagrams.most_common()),
    }


def spread(
    links: list[Link], count: int, losses: Iterable[float], *, messages: int, every: float = 1.0
) -> Iterator[Row]:
    """How messages spread over a mesh at several losses, and what it costs at rest."""
    for loss in losses:
        world = radio_world(1, links, count, loss)
        row: Row = {"routers": count, "loss": loss, **chat(world, messages, every)}
        row["idle_B_s"] = idle_rate(world)
        assert agree(world.routers), "not all hold the same after an hour"
        yield row


def _mesh_of_200() -> Iterator[Row]:
    links = geometric(200, 7, random.Random(1)).links()
    yield from spread(links, 200, (0.0, 0.2, 0.5), messages=200)


def _cell_of_50() -> Iterator[Row]:
    yield from spread(cell(50), 50, (0.0, 0.2, 0.5), messages=200)


def _day_of_1000() -> Iterator[Row]:
    count, messages = 1000, 1000
    world = radio_world(1, geometric(count, 7, random.Random(1)).links(), count)
    rate = idle_rate(world)
    before, arrivals, tally = octets(world), Arrivals(world), Tally(world)
    began = world.now
    moments = sorted(world.rng.uniform(0, DAY - 600) for _ in range(messages))
    for moment in moments:
        world.run(began + moment - world.now)
        arrivals.say(world.rng.randrange(count), str(world.rng.randint(1, 4)), TEXT)
    world.run(began + DAY - world.now)
    a_day = (octets(world) - before) / count
    assert_same_history(world.routers)
    for_all = arrivals.waits_for_all()
    yield {
        "routers": count,
        "hours": DAY / 3600,
        "messages": messages,
        "reach": arrivals.reach(),
        "all_p50_s": quantile(for_all, 0.5),
        "all_p99_s": quantile(for_all, 0.99),
        "data_tx": tally.news / count / messages,
        "bytes_a_router_a_day": a_day,
        "idle_B_s": rate,
        "idle_share": rate * DAY / a_day,
        "idle_after_B_s": idle_rate(world, watch=600.0),
        "datagrams": table(tally.datagrams.most_common()),
    }


def _many_messages() -> Iterator[Row]:
    count, messages, rate = 50, 20_000, 2.0
    world = radio_world(1, geometric(count, 7, random.Random(1)).links(), count)
    before, arrivals, tally = octets(world), Arrivals(world), Tally(world)
    for _ in range(messages):
        arrivals.say(world.rng.randrange(count), str(world.rng.randint(1, 4)), TEXT)
        world.run(world.rng.expovariate(rate))
    took = assert_converges(world, 3600)
    for_all = arrivals.waits_for_all()
    yield {
        "routers": count,
        "messages": messages,
        "a_second": rate,
        "reach": arrivals.reach(),
        "agreed_after_s": took,
        "all_p50_s": quantile(for_all, 0.5),
        "all_p99_s": quantile(for_all, 0.99),
        "data_tx": tally.news / count / messages,
        "bytes_a_message": (octets(world) - before) // messages,
        "datagrams": table(tally.datagrams.most_common()),
        "idle_after_B_s": idle_rate(world),
    }


def _at_rest() -> Iterator[Row]:
    for name, links in (("line of 10", line(10)), ("cell of 10", cell(10))):
        world = World(1, links, 10, AirConditions(delay=0.0), RadioModel())
        held = preload(world, 10_000)
        world.boot()
        yield {"mesh": name, "records": held, "idle_B_s": idle_rate(world)}


def preload(world: World, messages: int) -> int:
    """Puts the same history onto every router's disk, all routers off: one writes it, the others copy."""
    first = world.routers[0]
    first.boot()
    for number in range(messages):
        first.user = world.routers[number % len(world.routers)].user
        first.say(str(number % 4 + 1), f"{number} {TEXT}")
        world.now += 1.0
    held = first.up.engine.store.held
    first.stop()
    for router in world.routers[1:]:
        router.logs = first.logs.copy(router.logs.name)
    return held


SCALES = (
    Scale("mesh", "200 routers of degree 7, three losses: reach, seconds, transmissions, idle", _mesh_of_200),
    Scale("cell", "50 routers that all hear each other, at three losses", _cell_of_50),
    Scale("day", "1,000 routers of degree 7, 24 hours, 1,000 messages", _day_of_1000),
    Scale("history", "50 routers of degree 7, 20,000 messages, two a second", _many_messages),
    Scale("rest", "a line and a cell of 10 that hold 10,000 messages: bytes a second and router", _at_rest),
)


def run(scale: Scale) -> Iterator[Row]:
    """The scenario's rows, each with the CPU seconds that it took here, and the most memory by then."""
    began = time.process_time()
    for row in scale.rows():
        row["cpu_s"] = round(time.process_time() - began)
        row["peak_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        yield row
        began = time.process_time()


def as_line(row: Row) -> str:
    """ "routers 200, loss 0.2, ..."."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )
