"""What two routers that differ spend on the air before they agree: counted, with all headers, per difference.

Bytes are no timing: they follow from the seed alone.
"""

import random
from dataclasses import dataclass

import pytest

from meshchat.adapters.storage.logline import StoredRecord
from meshchat.adapters.storage.logstore import LogStore
from meshchat.identity.keys import KeySeed, MarkKey, SigningKey, sign_record, verify_record
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import RouterId
from meshchat.wire.packets import Digest, Dump, Packet, Sketch, decode_packets
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp
from tests.sim.checkers import assert_idle, assert_same_history
from tests.sim.network import FRAME_HEADERS, AirConditions
from tests.sim.topology import cell
from tests.sim.world import EPOCH_MS, MESH, World

_USERS = [SigningKey.from_seed(KeySeed(bytes([number]) * 32)) for number in range(20)]


def history(count: int, seed: int) -> list[Record]:
    """Messages of 100 bytes, of 20 people in four rooms, over eleven hours."""
    rng = random.Random(seed)
    records = []
    for number in range(count):
        author = rng.randrange(len(_USERS))
        ms = EPOCH_MS - 40_000_000 + number * 39_000_000 // count + rng.randrange(1000)
        records.append(
            sign_record(
                _USERS[author],
                mesh=MESH,
                space=Space.ROOM,
                log=str(rng.randrange(4) + 1),
                kind=Kind.MESSAGE,
                author=f"user{author}",
                router=RouterId(bytes(8)),
                stamp=make_stamp(ms),
                grade=Grade.GOOD,
                body=rng.randbytes(50).hex().encode(),
            )
        )
    return records


def parted(holdings: list[list[Record]], seed: int, loss: float = 0.0) -> World:
    """Routers at rest that hold these records and do not hear one another."""
    count = len(holdings)
    world = World(seed, cell(count), count, AirConditions(loss=loss))
    for number, (router, records) in enumerate(zip(world.routers, holdings, strict=True)):
        router.model.fsync, router.model.retention_s = "never", None
        store = LogStore(router.logs, router.state, MESH, fsync="never")
        store.open()
        assert not list(store.load(MarkKey(bytes(32)), verify_record))
        store.append([StoredRecord(record) for record in records])
        store.close()
        world.air.separate([number], range(number))
    world.boot()
    world.run(60)
    return world


@dataclass
class Spent:
    """Bytes on the air, with the headers of each frame.

    `before` is what was said until the first record left, digests not counted; `talk` all that was neither
    digest nor record; `total` everything.
    """

    before: int = 0
    talk: int = 0
    total: int = 0
    records_left: bool = False

    def hear(self, _sender: int, data: bytes) -> None:
        """Takes a frame into account."""
        size, packets = len(data) + FRAME_HEADERS, understood(data)
        self.total += size
        carries = any(isinstance(packet, Dump) for packet in packets)
        self.records_left |= carries
        if not carries and not any(isinstance(packet, Digest) for packet in packets):
            self.talk += size
            self.before += 0 if self.records_left else size


def understood(data: bytes) -> list[Packet]:
    """The packets of an open datagram."""
    datagram = decode_datagram(data)
    assert isinstance(datagram, PlainDatagram)
    return [packet for packet in decode_packets(datagram.packets) if not isinstance(packet, int)]


def healed(world: World, seconds: float = 120.0) -> Spent:
    """Lets the routers hear one another until all hold the same."""
    spent = Spent()
    world.taps.append(spent.hear)
    world.air.heal()

    def agree() -> bool:
        return len({router.up.engine.store.records.summary() for router in world.routers}) == 1

    assert world.run(seconds, until=agree)
    assert_same_history(world.routers)
    world.taps.remove(spent.hear)
    return spent


def without(records: list[Record], count: int, seed: int) -> list[Record]:
    """The records less some scattered ones."""
    gone = set(random.Random(seed).sample(range(len(records)), count))
    return [record for number, record in enumerate(records) if number not in gone]


@pytest.mark.parametrize(
    ("missing", "before", "talk"),
    [(1, 300, 300), (10, 700, 1100), (100, 4096, 4096)],
)
@pytest.mark.parametrize("seed", [1, 3])
def test_scattered_messages_that_are_missing_cost_by_their_number(
    missing: int, before: int, talk: int, seed: int
) -> None:
    records = history(1000, seed)
    world = parted([records, without(records, missing, seed)], seed)
    spent = healed(world)
    assert 0 < spent.before <= before
    assert spent.talk <= talk
    assert_idle(world)


@pytest.mark.parametrize("seed", [1, 3])
def test_the_newest_messages_missing_cost_next_to_nothing(seed: int) -> None:
    records = history(1000, seed)
    spent = healed(parted([records, records[:-100]], seed))
    assert 0 < spent.before <= 500
    assert spent.talk <= 500


def test_a_message_missing_on_either_side_is_told_by_one_sketch() -> None:
    records = history(1000, 5)
    spent = healed(parted([records[1:], records[:-1]], 5))
    assert spent.talk <= 400


def test_one_sketch_serves_all_who_lack_the_same() -> None:
    records = history(1000, 6)
    lacking = without(records, 3, 6)
    world = parted([records, lacking, lacking, lacking], 6)
    sketches: list[Sketch] = []
    world.taps.append(
        lambda _, data: sketches.extend(one for one in understood(data) if isinstance(one, Sketch))
    )
    spent = healed(world)
    assert len(sketches) <= 3
    assert spent.talk <= 1000


@pytest.mark.parametrize("common", [0, 600])
def test_two_halves_heal_at_little_more_than_what_crosses(common: int) -> None:
    records = history(1600 + common, 7)
    random.Random(7).shuffle(records)
    shared, own = records[:common], records[common:]
    halves = [sorted(shared + own[side::2], key=lambda record: record.order) for side in (0, 1)]
    world = parted(halves, 7)
    spent = healed(world)
    crossed = sum(len(record.carried) for record in own)
    assert spent.total <= (1.25 if common else 1.2) * crossed
    assert_idle(world)


@pytest.mark.parametrize("missing", [10, 100, 400])
def test_what_is_missing_comes_through_a_radio_that_loses_a_third(missing: int) -> None:
    records = history(1000, 8)
    random.Random(8).shuffle(records)
    mine, theirs = without(records, missing, 1), without(records, missing, 2)
    world = parted([mine, theirs], 8, loss=0.3)
    healed(world, 300)
    assert_idle(world)


@pytest.mark.parametrize("ahead", [0, 40, 200])
def test_routers_that_keep_for_different_times_agree_on_what_both_keep(ahead: int) -> None:
    """The one has `ahead` records below the other's floor, and each lacks some above it."""
    records = history(1000, 9)
    world = parted([records, without(records, 5, 9)], 9)
    keeper, other = world.routers
    floor = records[ahead].stamp
    other.up.engine.store.floor = floor
    for record in records[:ahead]:
        other.up.engine.store.forget(record.position, remember=False)
    spent = Spent()
    world.taps.append(spent.hear)
    world.air.heal()
    world.run(60)
    kept = {record.position for record in records[ahead:]}
    assert kept <= {entry.position for entry in other.up.engine.store.held_entries()}
    assert len(keeper.up.engine.store.records) == len(records)
    assert spent.talk <= (1000 if ahead <= 64 else 20_000)
    assert_idle(world)
