"""Floods in large meshes: real nodes on simulated radio: airtime, carrier sense, collisions, loss."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from random import Random

from meshchat.errors import Malformed
from meshchat.wire.packets import Dump, Records
from tests.bench import load
from tests.bench.differences import packets_of
from tests.bench.figures import Effort, Figure, percentile
from tests.sim.network import AirConditions, Link
from tests.sim.radio import RadioModel
from tests.sim.topology import cell, geometric
from tests.sim.world import World

DEGREE = 7
EVERY_S = 2.0
"""Virtual seconds between two messages."""

LONGEST_S = 120.0
"""What has not reached all so long after the last message counts as lost."""

LOOK_S = 0.05
ALIKE_S, SETTLE_S, WATCH_S = 60.0, 180.0, 600.0
"""Virtual seconds: routers find each other; all comes to rest; traffic at rest is counted."""

WORKERS = 2
SEED = 1


@dataclass(frozen=True)
class Mesh:
    """A shape to flood, and its goals: data transmissions a router, seconds for p99, B/s a router at rest."""

    name: str
    routers: int
    degree: int | None
    """None: one cell."""
    loss: float
    sent_goal: float | None = None
    p99_goal: float | None = None
    idle_goal: float | None = None


@dataclass(frozen=True)
class Flood:
    """What came of it: how many messages reached all, after how long, at what cost."""

    messages: int
    seconds: tuple[float, ...]
    sent: float
    idle: float


def rows(effort: Effort) -> Iterator[Figure]:
    """Each mesh in a process of its own."""
    messages, many, few = effort.pick(100, 10), effort.pick(200, 30), effort.pick(50, 20)
    meshes = [
        Mesh(f"{many} routers of degree {DEGREE}, 0% loss", many, DEGREE, 0.0, 1.0, None, 9.0),
        Mesh(f"{many} routers of degree {DEGREE}, 20% loss", many, DEGREE, 0.2, None, 5.0),
        Mesh(f"{many} routers of degree {DEGREE}, 50% loss", many, DEGREE, 0.5, None, 15.0),
        Mesh(f"one cell of {few}, 0% loss", few, None, 0.0, 0.25),
    ]
    with ProcessPoolExecutor(WORKERS) as workers:
        floods = workers.map(flood, meshes, [messages] * len(meshes))
        for mesh, found in zip(meshes, floods, strict=True):
            yield from _figures(mesh, found, effort)


def _figures(mesh: Mesh, found: Flood, effort: Effort) -> Iterator[Figure]:
    def goal(value: float | None) -> float | None:
        return None if value is None else effort.goal(value)

    reached = len(found.seconds)
    yield Figure(
        f"reach, {mesh.name}",
        100 * reached / found.messages,
        "% of the messages shown on all",
        goal=goal(100),
        at_least=True,
        note=f"{found.messages} messages, one in {EVERY_S:g} s; 1 Mb/s, collisions beside loss",
    )
    yield Figure(
        f"p99 until all have it, {mesh.name}",
        percentile(found.seconds, 0.99) if found.seconds else None,
        "s",
        goal=goal(mesh.p99_goal),
        note=f"p50 {percentile(found.seconds, 0.5):.2f} s" if found.seconds else "",
    )
    yield Figure(
        f"data transmissions, {mesh.name}", found.sent, "a router and message", goal=goal(mesh.sent_goal)
    )
    yield Figure(f"at rest, {mesh.name}", found.idle, "B/s a router", goal=goal(mesh.idle_goal))


def flood(mesh: Mesh, messages: int) -> Flood:
    """Has random routers of a mesh at rest write, one after the other."""
    random = Random(SEED)
    links: Sequence[Link] = cell(mesh.routers)
    if mesh.degree is not None:
        links = geometric(mesh.routers, mesh.degree, random).links()
    world = World(SEED, links, mesh.routers, AirConditions(loss=mesh.loss), RadioModel())
    world.boot()
    world.run(ALIKE_S)
    sent = _Sent(world)
    written: dict[bytes, float] = {}
    seconds: list[float] = []
    turn = 0
    next_at = world.now
    while turn < messages or (written and world.now < next_at + LONGEST_S):
        if turn < messages and world.now >= next_at:
            record = random.choice(world.routers).say(load.ROOM, load.text(turn))
            assert record is not None
            written[record.id] = world.now
            turn, next_at = turn + 1, next_at + EVERY_S
        world.run(LOOK_S)
        everywhere = [one for one in written if all(one in router.shown for router in world.routers)]
        seconds += [world.now - written.pop(one) for one in everywhere]
    data = sent.records
    return Flood(messages, tuple(seconds), data / messages / mesh.routers, _at_rest(world))


def _at_rest(world: World) -> float:
    """Bytes a second a router, with all headers."""
    world.run(SETTLE_S)
    before = world.air.octets.total()
    world.run(WATCH_S)
    return (world.air.octets.total() - before) / WATCH_S / len(world.routers)


class _Sent:
    """Counts records that go on the air: one that shares a datagram counts like one alone."""

    def __init__(self, world: World) -> None:
        self.records = 0
        world.taps.append(self._see)

    def _see(self, _: int, data: bytes) -> None:
        try:
            packets = packets_of(data)
        except Malformed:
            return
        self.records += sum(len(packet.items) for packet in packets if isinstance(packet, Records | Dump))
