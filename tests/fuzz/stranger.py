"""What a stranger can say who hears everything: strategies that build on what was overheard.

Random bytes hardly get past the first check. So packets are put together from true ones: a field of one in
the place of another's, tokens and nonces that are valid now, ranges that overlap or mean everything. What is
known of packets comes from their dataclasses, so a new type of packet is fuzzed as soon as it is sent.
"""

import struct
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from meshchat.errors import Malformed
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import END, POSITION_SIZE, AskNonce, Bound, Fingerprint, Position
from meshchat.wire.packets import (
    MAX_AGE,
    Ask,
    Block,
    Carried,
    Digest,
    Dump,
    Fingerprinted,
    Fragment,
    Having,
    Listed,
    Offer,
    Packet,
    Ranges,
    Records,
    Skip,
    Summary,
    Want,
    decode_packets,
    encode_packet,
)
from meshchat.wire.records import Grade, Kind, Record, Space, decode_record, make_stamp
from tests.sim.people import statement
from tests.sim.world import MESH, Stranger

LOWEST = bytes(POSITION_SIZE)
MINUTE_MS = 60_000
LONGEST = 2048
"""Bytes of the longest datagram that the socket hands on."""
_KEPT = 60
"""Of each kind of thing, so many of the latest overheard ones are used."""


class Overheard:
    """What went over the air, sorted into things that a stranger may say again elsewhere."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.packets: list[Packet] = []
        self.records: list[Carried] = []
        self.routers: list[bytes] = []
        self._values: dict[str, list[Any]] = {}

    def hear(self, data: bytes) -> None:
        """One datagram."""
        self._keep(self.datagrams, data)
        try:
            datagram = decode_datagram(data)
            if not isinstance(datagram, PlainDatagram):
                return
            self._keep(self.routers, datagram.sender)
            for packet in decode_packets(datagram.packets):
                if not isinstance(packet, int):
                    self._take_apart(packet)
        except Malformed:
            return

    def _take_apart(self, packet: Packet) -> None:
        self._keep(self.packets, packet)
        for name, value in _fields(packet):
            self._keep(self._values.setdefault(name, []), value)
        for item in getattr(packet, "items", ()):
            self._keep(self.records, item)

    @staticmethod
    def _keep(things: list[Any], thing: Any) -> None:
        if thing in things:
            things.remove(thing)
        things.append(thing)
        del things[:-_KEPT]

    def values(self, name: str) -> list[Any]:
        """What stood in fields of this name: tokens, nonces, salts, bounds, ..."""
        return self._values.get(name, [])

    @property
    def positions(self) -> list[Position]:
        """Where records were heard to lie."""
        found = []
        for carried in self.records:
            try:
                found.append(decode_record(MESH, carried.data).position)
            except Malformed:
                continue
        return found


def _fields(packet: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(packet, field.name)) for field in fields(packet)]


def _known(things: Iterable[Any], otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of these things, or now and then something else."""
    things = list(things)
    return st.sampled_from(things) | otherwise if things else otherwise


def _extremes(value: Any) -> list[Any]:
    """The ends of what may stand in the place of `value`, as far as it can be told from it."""
    match value:
        case bytes():
            return [bytes(len(value)), b"\xff" * len(value)]
        case bool():
            return [not value]
        case int():
            return [type(value)(0)]
        case tuple():
            return [(), value[:1], value[::-1], value[1:] + value[:1], (value + value)[:60]]
        case _:
            return []


@st.composite
def bent(draw: st.DrawFn, overheard: Overheard) -> Any:
    """A true packet in which some fields are those of others, or at the ends of what they may be."""
    packet: Any = draw(st.sampled_from(overheard.packets))
    for name, value in draw(st.lists(st.sampled_from(_fields(packet)), min_size=1, max_size=3)):
        others = overheard.routers if name == "to" else overheard.values(name)
        others = [other for other in others if type(other) is type(value)]
        packet = replace(packet, **{name: draw(st.sampled_from([*others, *_extremes(value), value]))})
    inner = [name for name, value in _fields(packet) if is_dataclass(value)]
    for name in draw(st.lists(st.sampled_from(inner), max_size=1)) if inner else []:
        packet = replace(packet, **{name: draw(st.sampled_from(overheard.values(name)))})
    return packet


def bounds(overheard: Overheard) -> st.SearchStrategy[bytes]:
    """Ends of ranges: those of all there is, true positions, and any other."""
    stamps = st.builds(
        lambda stratum, rest: bytes((stratum,)) + rest, st.integers(0, 2), st.binary(min_size=24, max_size=24)
    )
    return st.sampled_from([LOWEST, END, b"\x01" + LOWEST[1:]]) | _known(overheard.positions, stamps)


@st.composite
def ranges(draw: st.DrawFn, overheard: Overheard) -> tuple[bytes, tuple[Any, ...]]:
    """A lower bound and parts that follow on each other; what they say is true or not."""
    cuts = sorted(draw(st.sets(bounds(overheard), min_size=2, max_size=12)))
    ids = st.lists(_known(_short_ids(overheard), st.binary(min_size=6, max_size=6)), max_size=40).map(tuple)
    summaries = _known(
        [*overheard.values("undated"), *overheard.values("history"), Summary(0, Fingerprint(bytes(16)))],
        st.builds(Summary, st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16)),
    )
    parts: list[Any] = []
    for low, high in pairwise(cuts):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            parts.append(Skip(Bound(low), Bound(high)))
        elif kind == 1:
            parts.append(Fingerprinted(Bound(low), Bound(high), draw(summaries)))
        elif kind == 2:
            parts.append(Listed(Bound(low), Bound(high), draw(ids), draw(ids)))
        else:
            parts.append(Having(Bound(low), Bound(high), draw(ids)))
    return cuts[0], tuple(parts)


def _short_ids(overheard: Overheard) -> list[bytes]:
    parts = [part for each in overheard.values("parts") for part in each]
    return [short for part in parts for short in getattr(part, "ids", ())]


@st.composite
def made_up(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> Packet:
    """A packet of its own making, with what is valid now where that was overheard."""
    eight = st.binary(min_size=8, max_size=8)
    to = draw(_known(overheard.routers, st.just(bytes(8))))
    token, salt = (draw(_known(overheard.values(name), eight)) for name in ("token", "salt"))
    kind = draw(st.sampled_from([Records, Ask, Offer, Ranges, Want, Dump, Fragment, Digest]))
    if kind is Records:
        return Records(draw(_items(overheard, stranger)))
    if kind is Ask:
        return Ask(AskNonce(draw(eight)), draw(_digests(overheard, stranger)))
    if kind is Offer:
        counts = st.sampled_from([0, 1, 1000, 2**32 - 1])
        return Offer(to, draw(_known(overheard.values("nonce"), eight)), token, draw(counts), draw(counts), 0)
    if kind is Ranges:
        low, parts = draw(ranges(overheard))
        return Ranges(to, token, salt, draw(_known(overheard.values("view"), eight)), Bound(low), parts)
    if kind is Want:
        cuts = st.sets(bounds(overheard), min_size=2, max_size=2).map(sorted)
        ids = st.none() | st.lists(
            _known(_short_ids(overheard), st.binary(min_size=6, max_size=6)), max_size=9
        ).map(tuple)
        blocks = draw(st.lists(st.builds(lambda cut, ids: Block(cut[0], cut[1], ids), cuts, ids), max_size=9))
        return Want(to, token, salt, tuple(blocks))
    if kind is Dump:
        low, high = draw(bounds(overheard)), draw(bounds(overheard))
        return Dump(to, draw(st.booleans()), Bound(low), Bound(high), draw(_items(overheard, stranger)))
    if kind is Fragment:
        return draw(_fragments(overheard, stranger))
    return draw(_digests(overheard, stranger))


@st.composite
def _records(draw: st.DrawFn, stranger: Stranger) -> Record:
    """Signed as it should be, whatever it says: anyone can make a key."""
    ahead = draw(st.sampled_from([0, -5, 10, 14, 16, 60, -600, -3000, 10_000_000]))
    return stranger.record(
        draw(st.sampled_from(["hm", "x" * 900, "y" * 8000, "\x1b[2J"])),
        ((stranger.world.true_ms + ahead * MINUTE_MS) << 16) | draw(st.sampled_from([0, 1, 65_535])),
        grade=draw(st.sampled_from(Grade)),
        room=draw(st.sampled_from(["1", "2", "café"])),
        kind=draw(st.sampled_from([*Kind, 77])),
        space=draw(st.sampled_from([*Space, 9, 200])),
    )


@st.composite
def _statements(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> Record:
    """Who is present: the stranger itself, on any router, at any time."""
    ahead = draw(st.sampled_from([0, 0, -5, 14, 16, -24, -26]))
    return statement(
        stranger.key,
        draw(_known(overheard.routers, st.binary(min_size=8, max_size=8))),
        make_stamp(stranger.world.true_ms + ahead * MINUTE_MS, draw(st.sampled_from([0, 1, 65_535]))),
        draw(st.sampled_from([(), ("1",), ("2", "café"), ("a b",), ("1",) * 200])),
        idle=draw(st.sampled_from([0, 70, 65_535])),
        name="stranger",
        grade=draw(st.sampled_from([Grade.UNKNOWN, Grade.UNKNOWN, Grade.GOOD])),
    )


@st.composite
def _items(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> tuple[Carried, ...]:
    ages = st.sampled_from([0, 59, 61, 90_000, MAX_AGE])
    made = _records(stranger) | _statements(overheard, stranger)
    own = st.builds(lambda record, age: Carried(record.carried, age), made, ages)
    flipped = st.builds(
        lambda carried, at, bit: Carried(
            bytes(b ^ (bit if i == at % len(carried.data) else 0) for i, b in enumerate(carried.data))
        ),
        _known(overheard.records, own),
        st.integers(0, 2000),
        st.integers(1, 255),
    )
    return tuple(draw(st.lists(_known(overheard.records, own) | flipped | own, max_size=6)))


@st.composite
def _digests(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> Digest:
    digest = stranger.digest(
        draw(st.sampled_from(Grade)),
        max(0, stranger.world.true_ms + draw(st.sampled_from([0, 16, -16, 10**9, -(10**9)])) * MINUTE_MS),
        floor_ms=draw(st.sampled_from([0, stranger.world.true_ms, 2**47])),
    )
    eight = st.binary(min_size=8, max_size=8)
    summary = st.builds(Summary, st.sampled_from([0, 1, 40, 2**32 - 1]), st.binary(min_size=16, max_size=16))
    return replace(
        digest,
        boot=draw(_known(overheard.values("boot"), eight)),
        echo=draw(_known(overheard.values("boot"), eight)),
        undated=draw(_known(overheard.values("undated"), summary)),
        history=draw(_known(overheard.values("history"), summary)),
    )


@st.composite
def _fragments(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> Fragment:
    """A piece of something large: at its place, across others, or over the end."""
    text = draw(st.sampled_from(["a" * 2000, "b" * 8000]))
    whole = stranger.record(text, stranger.world.true_ms << 16).carried
    offset = draw(st.sampled_from([0, 256, 1000, 1200, len(whole) - 300, len(whole) - 1]))
    data = whole[offset : offset + draw(st.sampled_from([256, 1000, 1200]))]
    total = draw(st.sampled_from([len(whole), len(whole), len(whole) + 1, 16_384]))
    name = draw(_known(overheard.values("id"), st.sampled_from([bytes(16), whole[:16]])))
    return Fragment(draw(st.booleans()), name, total, offset, draw(st.sampled_from([0, MAX_AGE])), data)


@st.composite
def damaged(draw: st.DrawFn, overheard: Overheard) -> bytes:
    """A true datagram, cut, joined to another or with bytes changed: lengths among them."""
    data = bytearray(draw(st.sampled_from(overheard.datagrams)))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=4)):
        data[at % len(data)] = byte
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))] + draw(st.sampled_from(overheard.datagrams))[19:]
    return bytes(data[: draw(st.sampled_from([1472, 19, 40, len(data)]))])


@st.composite
def datagrams(draw: st.DrawFn, overheard: Overheard, stranger: Stranger) -> bytes:
    """Whatever may come: packets by any name, replays, and what is broken."""
    way = draw(st.integers(0, 9))
    if way == 0 and overheard.datagrams:
        return draw(st.sampled_from(overheard.datagrams))
    if way == 1 and overheard.datagrams:
        return draw(damaged(overheard))
    sender = draw(_known(overheard.routers, st.binary(min_size=8, max_size=8)) | st.just(stranger.id))
    one = made_up(overheard, stranger)
    one = one | bent(overheard) if overheard.packets else one
    packets = draw(st.lists(one, min_size=1, max_size=4))
    try:
        body = b"".join(map(encode_packet, packets))
    except (struct.error, OverflowError):  # bent out of what its fields hold
        reject()
    return PlainDatagram(MESH, sender, body).encode()[:LONGEST]
