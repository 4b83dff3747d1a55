"""What it costs to find out what two routers lack and to mend it: real nodes on simulated air."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from meshchat.adapters.storage.logline import encode_line
from meshchat.errors import Malformed
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.packets import Digest, Dump, Fragment, Packet, Records, decode_packets, encode_packet
from meshchat.wire.records import Record
from tests.bench import load
from tests.bench.figures import Effort, Figure, median
from tests.sim.checkers import agree
from tests.sim.network import FRAME_HEADERS
from tests.sim.sharing import shared_work
from tests.sim.world import EPOCH_MS, MESH, World

SEEDS = 3
"""Runs of each difference, with other dice: the median counts. The halves, which take long, run once."""

ALONE_S = 300.0
"""Both routers are up and do not hear each other: long enough to come to rest."""

LONGEST_S = 3600.0
STEP_S = 0.02
"""How often it is looked whether both hold the same."""

HALVES_GOAL = 1.2
CARRIERS = (Records, Dump, Fragment)
"""The packets that bring records."""


def packets_of(data: bytes) -> list[Packet]:
    """The packets of a plain datagram that this version knows. Raises `Malformed`."""
    datagram = decode_datagram(data)
    if not isinstance(datagram, PlainDatagram):
        raise Malformed("form")
    return [packet for packet in decode_packets(datagram.packets) if not isinstance(packet, int)]


@dataclass
class Cost:
    """Bytes put on the air, with all headers: in all, those that bring no record, and these by packet."""

    total: int = 0
    search: int = 0
    packets: Counter[str] = field(default_factory=Counter)

    def add(self, data: bytes) -> None:
        """Counts a frame. Where it brings records its headers are theirs; other packets in it are search."""
        self.total += len(data) + FRAME_HEADERS
        packets = packets_of(data)
        others = [packet for packet in packets if not isinstance(packet, CARRIERS)]
        sizes = {type(packet).__name__.upper(): len(encode_packet(packet)) for packet in others}
        if len(others) == len(packets):
            self.search += len(data) + FRAME_HEADERS
        else:
            self.search += sum(sizes.values())
        self.packets.update(sizes.keys())


def rows(effort: Effort) -> Iterator[Figure]:
    """Router 0 holds all, router 1 lacks some; then the two hold one half each."""
    count = effort.pick(10_000, 1_000)
    records = load.messages(count, mesh=MESH, until_ms=EPOCH_MS - 60_000)
    for name, goal, missing in _cases(count):
        costs = _runs(SEEDS, records, _without(records, missing))
        search = median([cost.search for cost in costs])
        yield Figure(
            f"{name} missing of {count}",
            search,
            "B before the records",
            goal=effort.goal(goal),
            note=f"median of {SEEDS}; {_note(next(cost for cost in costs if cost.search == search))}",
        )
    whole = load.signed_bytes(records)
    (halves,) = _runs(1, records[::2], records[1::2])
    yield Figure(
        f"two halves of {count // 2} over one link",
        halves.total / whole,
        "x the records that crossed",
        goal=effort.goal(HALVES_GOAL),
        note=_note(halves),
    )


def _cases(count: int) -> list[tuple[str, float, Sequence[int]]]:
    """Name, goal in bytes, and which of the records are missing."""
    random = Random(2)
    return [
        ("1", 300, random.sample(range(count), 1)),
        ("10 scattered", 700, random.sample(range(count), 10)),
        ("100 scattered", 4096, random.sample(range(count), 100)),
        ("the last 100", 2048, range(count - 100, count)),
    ]


def _without(records: Sequence[Record], missing: Sequence[int]) -> list[Record]:
    gone = set(missing)
    return [record for number, record in enumerate(records) if number not in gone]


def _note(cost: Cost) -> str:
    packets = ", ".join(f"{count} {name}" for name, count in sorted(cost.packets.items()))
    return (
        f"{cost.total:,} B in all, records included; beside those {packets}, "
        "from after the first digest heard"
    )


def _runs(seeds: int, one: Sequence[Record], other: Sequence[Record]) -> list[Cost]:
    # Every run begins with two routers that verify what is on their disks.
    with shared_work():
        return [_meet(seed, one, other) for seed in range(seeds)]


def _meet(seed: int, one: Sequence[Record], other: Sequence[Record]) -> Cost:
    """What two routers at rest that begin to hear each other send until they hold the same.

    Their very first frame is not counted where it is a digest: they would have sent that anyway.
    """
    world = World(seed, [(0, 1)], 2)
    for router, held in zip(world.routers, (one, other), strict=True):
        router.logs.append(f"rooms/{load.ROOM}.log", b"".join(map(encode_line, held)))
        router.logs.sync(f"rooms/{load.ROOM}.log")
    world.air.separate([0], [1])
    world.boot()
    world.run(ALONE_S)
    assert [len(router.ids(load.ROOM)) for router in world.routers] == [len(one), len(other)]
    frames: list[bytes] = []
    world.taps.append(lambda _, data: frames.append(data))
    world.air.heal()
    deadline = world.now + LONGEST_S
    while not agree(world.routers):
        assert world.now < deadline, f"no agreement within {LONGEST_S:.0f} s"
        world.run(STEP_S)
    cost = Cost()
    for data in frames[1:] if _is_digest(frames[0]) else frames:
        cost.add(data)
    return cost


def _is_digest(data: bytes) -> bool:
    return all(isinstance(packet, Digest) for packet in packets_of(data))
