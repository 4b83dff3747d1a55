"""An empty router comes back: what its dump costs the air, and what becomes of it when things go wrong."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from meshchat.adapters.storage.logline import StoredRecord
from meshchat.adapters.storage.logstore import LogStore
from meshchat.constants import MIN_MTU, REPAIR_SHARE, STREAM_KEEP
from meshchat.identity.keys import MarkKey, verify_record
from meshchat.protocol.repair.reconcile import short_id
from meshchat.state.limits import TokenBucket
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import END, START, Salt, Token, View
from meshchat.wire.packets import Block, Carried, Dump, Having, Ranges, Want, decode_packets
from meshchat.wire.records import make_stamp
from tests.sim.disk import SimFiles
from tests.sim.network import UNICAST_TRIES, AirConditions
from tests.sim.test_ladder import history
from tests.sim.topology import cell
from tests.sim.world import AIR_RATE, MESH, WLAN0, SimRouter, Stranger, World

RATE = AIR_RATE * REPAIR_SHARE / 8
"""Bytes a second that dumps may take."""
COUNT = 1200
ONCE = 1


class Returning:
    """A cell in which the last routers come back empty to others that hold the whole history."""

    def __init__(
        self,
        *,
        loss: float = 0.0,
        tries: int = ONCE,
        count: int = COUNT,
        routers: int = 10,
        empty: int = 1,
        seed: int = 1,
    ) -> None:
        self.world = World(seed, cell(routers), routers, AirConditions(loss, tries=tries))
        self.full, self.back = self.world.routers[:-empty], self.world.routers[-empty:]
        records = history(count, 1)
        self.count, self.signed = count, sum(len(record.carried) for record in records)
        disk = SimFiles("/full")
        logs = LogStore(disk, SimFiles("/state"), MESH)
        logs.open()
        assert not list(logs.load(MarkKey(bytes(32)), verify_record))
        logs.append([StoredRecord(record) for record in records])
        logs.close()
        for router in self.full:
            router.logs = copy.deepcopy(disk)
        self.world.boot([router.number for router in self.full])
        self.world.run(60)
        self.start, self.before = self.world.now, self.world.air.octets.total()

    def held(self, router: SimRouter) -> int:
        """Records that the router holds."""
        return router.up.engine.store.held

    def fetch(self, until: float = 1.0, longest: float = 300.0) -> None:
        """Lets time pass until those that came back hold this share of the history."""
        world, wanted = self.world, until * self.count
        assert world.run(longest, until=lambda: all(self.held(one) >= wanted for one in self.back)), [
            self.held(one) for one in self.back
        ]

    @property
    def ratio(self) -> float:
        """Bytes of everything on the air since the return, to those of the records as signed."""
        return (self.world.air.octets.total() - self.before) / self.signed

    @property
    def took(self) -> float:
        """Seconds since the return."""
        return self.world.now - self.start


@pytest.mark.parametrize(
    ("loss", "tries", "most"),
    [(0.0, ONCE, 1.15), (0.2, ONCE, 1.45), (0.2, UNICAST_TRIES, 1.45), (0.5, ONCE, 2.5)],
)
def test_an_empty_router_costs_little_more_than_what_it_gets(
    loss: float, tries: int, most: float, measured: Callable[[str], None]
) -> None:
    # Where half is lost, so many that the first seconds, in which no ASK gets through, do not decide.
    case = Returning(loss=loss, tries=tries, count=3 * COUNT if loss > 0.2 else COUNT)
    case.back[0].boot()
    case.fetch()
    took = case.took
    case.world.run(10)
    paced = case.signed / RATE / (1 - loss if tries == ONCE else 1)
    measured(
        f"{loss:.0%} loss, {tries} tries: {case.ratio:.2f} times the records, {took / paced:.2f} of the time"
    )
    assert case.ratio <= most
    assert took <= 1.5 * paced


def test_a_source_that_dies_midway_is_replaced_and_nothing_is_fetched_twice() -> None:
    case = Returning(routers=4)
    back = case.back[0]
    back.boot()
    case.fetch(until=0.5)
    source = back.up.engine.asking.fetch.source
    next(router for router in case.full if router.up.router == source).kill()
    case.fetch()
    case.world.run(10)
    assert case.ratio <= 1.2


@pytest.mark.parametrize("seconds", [0.1, 2.0, 15.0])
def test_an_interface_that_goes_and_comes_costs_no_second_dump(seconds: float) -> None:
    case = Returning(routers=4)
    back = case.back[0]
    back.boot()
    case.fetch(until=0.4)
    back.up.link_down("wlan0")
    case.world.run(seconds)
    back.up.link_up(WLAN0)
    case.fetch()
    case.world.run(10)
    unheard = min(0.65, seconds * RATE / case.signed)
    assert case.ratio <= 1.25 + unheard


def test_a_source_stops_when_its_asker_has_gone() -> None:
    case = Returning(routers=3)
    case.back[0].boot()
    case.fetch(until=0.05)
    case.back[0].kill()
    case.world.run(120)
    assert case.ratio * case.signed <= 1.1 * RATE * (STREAM_KEEP + 5)


@pytest.mark.parametrize(
    ("empty", "loss", "seed", "most"),
    [(2, 0.0, 3, 1.3), (2, 0.2, 2, 2.0), (2, 0.2, 3, 2.0), (3, 0.0, 6, 1.3), (3, 0.2, 5, 2.2)],
)
def test_empty_routers_that_start_at_once_cost_about_one_dump(
    empty: int, loss: float, seed: int, most: float, measured: Callable[[str], None]
) -> None:
    """Each of these seeds has them begin with two sources; what one of n misses is sent again to all."""
    case = Returning(loss=loss, tries=UNICAST_TRIES, routers=3 + empty, empty=empty, seed=seed)
    for router in case.back:
        router.boot()
    case.fetch()
    case.world.run(10)
    measured(f"{empty} empty routers, {loss:.0%} loss: {case.ratio:.2f} times the records")
    assert case.ratio <= most


def test_what_a_neighbour_lists_beyond_one_request_is_asked_for_in_two() -> None:
    """Its frames are larger than those of the router that lacks the records."""
    world = World(2, cell(2), 2, AirConditions())
    world.boot([0])
    router, other = world.routers[0].up, Stranger(world, 1)
    router.link_up(replace(WLAN0, mtu=MIN_MTU))
    salt = bytes(8)
    records = [other.record(f"listed {number}", make_stamp(world.true_ms, number)) for number in range(180)]
    listed = {short_id(Salt(salt), record.id): record for record in records}

    def answer(sender: int, data: bytes) -> None:
        datagram = decode_datagram(data)
        assert isinstance(datagram, PlainDatagram)
        for packet in decode_packets(datagram.packets) if sender == 0 else ():
            for block in packet.blocks if isinstance(packet, Want) else ():
                assert isinstance(block, Block)
                assert block.ids
                items = tuple(Carried(listed[one].carried) for one in block.ids)
                for at in range(0, len(items), 4):
                    last = at + 4 >= len(items)
                    other.send(Dump(router.router, last, START, START, items[at : at + 4]))

    world.taps.append(answer)
    other.send(
        Ranges(
            router.router,
            Token(bytes(8)),
            Salt(salt),
            View(bytes(8)),
            START,
            (Having(START, END, tuple(listed)),),
        )
    )
    world.run(20)
    assert router.engine.store.held == len(records)


def throttle(world: World, router: SimRouter, rate: float) -> None:
    """The router's buffer takes only so many bytes a second."""
    bucket, receive = TokenBucket(rate, 3000.0), router.receive

    def limited(data: bytes, sender: int) -> None:
        if bucket.take(world.now, len(data)):
            receive(data, sender)

    router.receive = limited  # type: ignore[method-assign]


def test_a_receiver_with_a_small_buffer_is_not_flooded(measured: Callable[[str], None]) -> None:
    """It takes a quarter of the rate: three of four datagrams would go for nothing."""
    case = Returning(routers=3)
    throttle(case.world, case.back[0], RATE / 4)
    case.back[0].boot()
    case.fetch()
    paced = 4 * case.signed / RATE
    measured(
        f"a buffer for a quarter of the pace: {case.ratio:.2f} times the records, {case.took / paced:.2f}"
    )
    assert case.ratio <= 2.0
    assert case.took <= 2 * paced
