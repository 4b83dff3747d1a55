"""The packets that a datagram carries: who sends each to whom, when, and its fields on the wire.

Frozen dataclasses, and named tuples in them; each encodes and decodes its own body. A packet is a type byte,
a length of two bytes, and the body, so that a reader skips types it does not know. PROTOCOL.md gives the
same as a grammar.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple, Protocol, Self

from meshchat.constants import MAX_RECORD
from meshchat.errors import Malformed
from meshchat.wire.codec import Reader, uint
from meshchat.wire.ids import (
    ASK_NONCE_SIZE,
    BOOT_ID_SIZE,
    CELL_SIZE,
    CONFIRM_KEY_SIZE,
    END,
    FINGERPRINT_SIZE,
    HEARS_NOBODY,
    HEARS_SIZE,
    POSITION_SIZE,
    RECORD_ID_SIZE,
    ROUTER_ID_SIZE,
    SALT_SIZE,
    SHORT_ID_SIZE,
    SKETCH_KEY_SIZE,
    START,
    TOKEN_SIZE,
    VIEW_SIZE,
    AskNonce,
    BootId,
    Bound,
    Cell,
    ConfirmKey,
    Fingerprint,
    HearsFilter,
    RecordId,
    RouterId,
    Salt,
    ShortId,
    SketchKey,
    Token,
    View,
)
from meshchat.wire.records import EPHEMERAL, MAX_STAMP, UNKNOWN_GRADE, Grade, is_ephemeral

_HEADER = Struct(">BH")
PACKET_HEADER = _HEADER.size
RECORDS_FIELDS = PACKET_HEADER + 1
NO_NUMBER, MAX_NUMBER = 0, 255
_ITEM = Struct(">H")
ITEM_HEADER = _ITEM.size
AGE_SIZE = 4
MAX_AGE = 2**32 - 1
MIN_PIECE = 256
"""No piece of a record but its last is shorter, at the smallest MTU served too: so whoever puts one together
keeps 64 pieces at most, not 16,384 of one byte."""
FRAGMENT_FIELDS = 1 + RECORD_ID_SIZE + 2 + 2 + AGE_SIZE

_END_MARK = 255


class PacketType(IntEnum):
    """The type byte of a packet. 33 to 47 are reserved for further sketches."""

    RECORDS = 1
    DIGEST = 2
    ASK = 3
    OFFER = 4
    RANGES = 5
    WANT = 6
    DUMP = 7
    FRAGMENT = 8
    CONFIRM = 9
    SKETCH = 32


class Scope(IntFlag):
    """The strata that a digest speaks for; FETCHING marks one that is out of date by the next second."""

    UNDATED = 1
    HISTORY = 2
    ALL = 3
    FETCHING = 128


_SCOPES = tuple(Scope(byte & (Scope.ALL | Scope.FETCHING)) for byte in range(256))
"""What each value of the byte means: bits not known here are ignored."""
_GRADES = tuple(Grade)


class Packet(Protocol):
    """What every packet offers."""

    type: PacketType

    def encode(self) -> bytes:
        """The body's bytes."""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """The packet in a body; raises `Malformed`."""


def encode_packet(packet: Packet) -> bytes:
    """type u8, length u16, body."""
    body = packet.encode()
    return _HEADER.pack(packet.type, len(body)) + body


def decode_packets(data: bytes) -> Iterator[Packet | int]:
    """The packets of a datagram in order; for a type not known here, its number.

    Raises `Malformed` at the first packet that breaks the grammar; those before it stand.
    """
    reader = Reader(data)
    while reader.remaining():
        number, length = reader.fields(_HEADER)
        body = Reader(reader.take(length))
        packet_class = _PACKETS.get(number)
        if packet_class is None:
            yield number
            continue
        packet = packet_class.decode(body)
        body.end()
        yield packet


# --- Parts of packets -----------------------------------------------------------------------------------


class Carried(NamedTuple):
    """A record as it travels: its bytes, and the seconds it was held so far.

    The age is on the wire only where the record's grade is unknown: nothing else is wiped by it, or expires.
    """

    data: bytes
    age: int = 0

    @property
    def aged(self) -> bool:
        """Whether the age travels with it."""
        return self.data[3] == UNKNOWN_GRADE

    @property
    def wiped_by_age(self) -> bool:
        """Whether it is undated history: of what is permanent the age says nothing."""
        return self.aged and self.data[2] < EPHEMERAL

    @property
    def ephemeral(self) -> bool:
        """Whether it is passed on and never kept."""
        return is_ephemeral(self.data[2])

    @property
    def size(self) -> int:
        """Bytes it takes inside a packet."""
        return ITEM_HEADER + len(self.data) + (AGE_SIZE if self.aged else 0)

    def encode(self) -> bytes:
        """length u16, record, and age u32 where the record's grade is unknown."""
        age = uint(min(self.age, MAX_AGE), AGE_SIZE) if self.aged else b""
        return uint(len(self.data), ITEM_HEADER) + self.data + age


def _encode_items(items: Iterable[Carried]) -> bytes:
    return b"".join(item.encode() for item in items)


def _decode_items(reader: Reader) -> tuple[Carried, ...]:
    items = []
    while reader.remaining():
        (length,) = reader.fields(_ITEM)
        if not 4 <= length <= MAX_RECORD:
            raise Malformed("size")
        data = reader.take(length)
        items.append(Carried(data, reader.uint(AGE_SIZE) if data[3] == UNKNOWN_GRADE else 0))
    return tuple(items)


def _encode_bound(bound: Bound) -> bytes:
    """A position less its trailing zero bytes, behind a length byte; 255 alone is the end."""
    if bound >= END:
        return uint(_END_MARK, 1)
    short = bound.rstrip(b"\x00")
    return uint(len(short), 1) + short


def bound_size(bound: Bound) -> int:
    """Bytes that a bound takes in a packet."""
    return len(_encode_bound(bound))


def _decode_bound(reader: Reader) -> Bound:
    length = reader.uint(1)
    if length == _END_MARK:
        return END
    if length > POSITION_SIZE:
        raise Malformed("bound")
    return Bound(reader.take(length).ljust(POSITION_SIZE, b"\x00"))


def _router_id(reader: Reader) -> RouterId:
    return RouterId(reader.take(ROUTER_ID_SIZE))


def _token(reader: Reader) -> Token:
    return Token(reader.take(TOKEN_SIZE))


def _salt(reader: Reader) -> Salt:
    return Salt(reader.take(SALT_SIZE))


def _view(reader: Reader) -> View:
    return View(reader.take(VIEW_SIZE))


def _encode_short_ids(ids: tuple[ShortId, ...]) -> bytes:
    return uint(len(ids), 2) + b"".join(ids)


def _decode_short_ids(reader: Reader) -> tuple[ShortId, ...]:
    return tuple(map(ShortId, _split(reader.take(reader.uint(2) * SHORT_ID_SIZE), SHORT_ID_SIZE)))


def _split(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


_CLOCK = Struct(">BBI6s")


@dataclass(frozen=True)
class ClockClaim:
    """What a router says of its clock: grade, hops to the good clock, seconds since that one spoke, time."""

    grade: Grade
    hops: int
    age: int
    time_ms: int

    def encode(self) -> bytes:
        """grade u8, hops u8, age u32, UTC milliseconds u48."""
        hops, age = min(self.hops, 255), min(self.age, MAX_AGE)
        return _CLOCK.pack(self.grade, hops, age, uint(self.time_ms, 6))

    @classmethod
    def decode(cls, data: bytes) -> "ClockClaim":
        """Reads its 12 bytes; raises `Malformed("grade")` for a grade not known."""
        grade, hops, age, time = _CLOCK.unpack(data)
        if grade >= len(_GRADES):
            raise Malformed("grade")
        return cls(_GRADES[grade], hops, age, int.from_bytes(time, "big"))


_SUMMARY = Struct(f">I{FINGERPRINT_SIZE}s")


@dataclass(frozen=True)
class Summary:
    """How many records a router accounts for in a stratum, and their fingerprint."""

    count: int
    fingerprint: Fingerprint

    def encode(self) -> bytes:
        """count u32, fingerprint 16."""
        return _SUMMARY.pack(self.count, self.fingerprint)

    @classmethod
    def decode(cls, data: bytes) -> "Summary":
        """Reads its 20 bytes."""
        return cls(*_SUMMARY.unpack(data))


class Skip(NamedTuple):
    """A range of which nothing is said."""

    low: Bound
    high: Bound


class Fingerprinted(NamedTuple):
    """A range, by count and fingerprint. `open`: where it differs, a sketch may answer it."""

    low: Bound
    high: Bound
    summary: Summary
    open: bool = False


class Listed(NamedTuple):
    """A range, by the salted short ids of all its records: those held, and those only remembered."""

    low: Bound
    high: Bound
    ids: tuple[ShortId, ...]
    gone: tuple[ShortId, ...] = ()


class Having(NamedTuple):
    """A range, by the salted short ids of records in it that the receiver seems to lack."""

    low: Bound
    high: Bound
    ids: tuple[ShortId, ...]


Range = Skip | Fingerprinted | Listed | Having
_SKIP, _FINGERPRINTED, _LISTED, _HAVING, _OPEN = 0, 1, 2, 3, 4


def encoded_range_size(part: Range) -> int:
    """Bytes that the range takes in a RANGES packet, its upper bound included."""
    return len(_encode_range(part))


def _encode_range(part: Range) -> bytes:
    bound = _encode_bound(part.high)
    match part:
        case Skip():
            return bound + uint(_SKIP, 1)
        case Fingerprinted():
            return bound + uint(_OPEN if part.open else _FINGERPRINTED, 1) + part.summary.encode()
        case Listed():
            lists = _encode_short_ids(part.ids) + _encode_short_ids(part.gone)
            return bound + uint(_LISTED, 1) + lists
        case Having():
            return bound + uint(_HAVING, 1) + _encode_short_ids(part.ids)


def _decode_range(low: Bound, reader: Reader) -> Range:
    high, mode = _decode_bound(reader), reader.uint(1)
    if high <= low:
        raise Malformed("bound")
    if mode == _SKIP:
        return Skip(low, high)
    if mode in (_FINGERPRINTED, _OPEN):
        return Fingerprinted(low, high, Summary.decode(reader.take(_SUMMARY.size)), mode == _OPEN)
    if mode == _LISTED:
        return Listed(low, high, _decode_short_ids(reader), _decode_short_ids(reader))
    if mode == _HAVING:
        return Having(low, high, _decode_short_ids(reader))
    raise Malformed("range-mode")


class Block(NamedTuple):
    """Records that are wanted: all of a range, or those in it with these salted short ids.

    With `but`, all of the range but those with these short ids: the sender's own.
    """

    low: Bound
    high: Bound
    ids: tuple[ShortId, ...] | None
    but: tuple[ShortId, ...] = ()

    def encode(self) -> bytes:
        """lower bound, upper bound, mode u8 (1 all, 2 listed, 3 all but listed), short ids where listed."""
        bounds = _encode_bound(self.low) + _encode_bound(self.high)
        if self.ids is not None:
            return bounds + uint(2, 1) + _encode_short_ids(self.ids)
        return bounds + (uint(3, 1) + _encode_short_ids(self.but) if self.but else uint(1, 1))


class BySketchKey(NamedTuple):
    """Records that are wanted, each as a sketch named it."""

    keys: tuple[SketchKey, ...]

    def encode(self) -> bytes:
        """The bounds of everything, mode u8 4, count u16, 10 bytes each."""
        everything = _encode_bound(START) + _encode_bound(END)
        return everything + uint(4, 1) + uint(len(self.keys), 2) + b"".join(self.keys)


Wanted = Block | BySketchKey


def _decode_wanted(reader: Reader) -> Wanted:
    low, high, mode = _decode_bound(reader), _decode_bound(reader), reader.uint(1)
    if high <= low:
        raise Malformed("bound")
    if mode == 1:
        return Block(low, high, None)
    if mode == 2:
        return Block(low, high, _decode_short_ids(reader))
    if mode == 3:
        return Block(low, high, None, _decode_short_ids(reader))
    if mode == 4:
        return BySketchKey(
            tuple(map(SketchKey, _split(reader.take(reader.uint(2) * SKETCH_KEY_SIZE), SKETCH_KEY_SIZE)))
        )
    raise Malformed("block-mode")


# --- Packets --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """New records. Multicast (and to unicast peers) by their author's router, then by relays; by unicast once
    more to a neighbour that may have missed them.

    `number` counts the sender's RECORDS, DIGESTs, ASKs and CONFIRMs by multicast on this interface, from 1 to
    255 and again from 1: a gap is a loss. By unicast it is 0.
    """

    items: tuple[Carried, ...]
    number: int = 0
    type = PacketType.RECORDS

    def encode(self) -> bytes:
        """number u8, then the items, one after the other."""
        return uint(self.number, 1) + _encode_items(self.items)

    @classmethod
    def decode(cls, reader: Reader) -> "Records":
        """Reads it."""
        number = reader.uint(1)
        return cls(_decode_items(reader), number)


@dataclass(frozen=True)
class Confirm:
    """ "I have these", by their ids' first bytes. Multicast by a router that need not relay them, where its
    neighbours could not be sure of it otherwise. `number` as in RECORDS.
    """

    keys: tuple[ConfirmKey, ...]
    number: int = 0
    type = PacketType.CONFIRM

    def encode(self) -> bytes:
        """number u8, then 8 bytes of each id."""
        return uint(self.number, 1) + b"".join(self.keys)

    @classmethod
    def decode(cls, reader: Reader) -> "Confirm":
        """Reads it; raises `Malformed("confirm")` where it does not end with a whole id."""
        number, raw = reader.uint(1), reader.rest()
        if len(raw) % CONFIRM_KEY_SIZE:
            raise Malformed("confirm")
        return cls(tuple(map(ConfirmKey, _split(raw, CONFIRM_KEY_SIZE))), number)


_DIGEST = Struct(
    f">B{BOOT_ID_SIZE}s{BOOT_ID_SIZE}s{HEARS_SIZE}s3s{_CLOCK.size}sBQQ{_SUMMARY.size}s{_SUMMARY.size}s"
)


@dataclass(frozen=True)
class Digest:
    """All that a router holds, in constant size. Multicast, timed by Trickle.

    `boot` is random and new at each start, `echo` the boot id of a neighbour, who sees by it that this is no
    recording from before its start; `release` is the program's version as three bytes. History is spoken for
    from the stamp `floor` on, and of all only what is stamped below `until`: the rest is on its way. `hears`
    is a Bloom filter of the neighbours that the sender hears here, `number` as in RECORDS.
    """

    boot: BootId
    echo: BootId
    release: bytes
    clock: ClockClaim
    scope: Scope
    floor: int
    undated: Summary
    history: Summary
    hears: HearsFilter = HEARS_NOBODY
    until: int = MAX_STAMP
    number: int = 0
    type = PacketType.DIGEST

    def encode(self) -> bytes:
        """number u8, boot 8, echo 8, hears 8, release 3, clock 12, scope u8, floor u64, until u64, undated 20
        and history 20: 97 bytes.
        """
        ids = self.number, self.boot, self.echo, self.hears, self.release
        clock, undated, history = self.clock.encode(), self.undated.encode(), self.history.encode()
        return _DIGEST.pack(*ids, clock, self.scope, self.floor, self.until, undated, history)

    @classmethod
    def decode(cls, reader: Reader) -> "Digest":
        """Reads it; scope bits not known here are ignored."""
        number, boot, echo, hears, release, clock, scope, floor, until, *summaries = reader.fields(_DIGEST)
        undated, history = map(Summary.decode, summaries)
        claim = ClockClaim.decode(clock)
        return cls(boot, echo, release, claim, _SCOPES[scope], floor, undated, history, hears, until, number)


@dataclass(frozen=True)
class Ask:
    """ASK-FILE: "send me what I lack". Multicast by a router that starts or lags; neighbours OFFER."""

    nonce: AskNonce
    digest: Digest
    type = PacketType.ASK

    def encode(self) -> bytes:
        """nonce 8, then a DIGEST body of what the asker holds."""
        return self.nonce + self.digest.encode()

    @classmethod
    def decode(cls, reader: Reader) -> "Ask":
        """Reads it."""
        return cls(AskNonce(reader.take(ASK_NONCE_SIZE)), Digest.decode(reader))


@dataclass(frozen=True)
class Offer:
    """The answer to ASK-FILE. Unicast to the asker: how much could be given, and how busy this source is.

    `token` must come back in a WANT, so that a recorded request cannot be replayed.
    """

    to: RouterId
    nonce: AskNonce
    token: Token
    records: int
    size: int
    streams: int
    type = PacketType.OFFER

    def encode(self) -> bytes:
        """to 8, nonce 8, token 8, records u32, bytes u32, streams being sent u8."""
        sizes = uint(self.records, 4) + uint(min(self.size, 2**32 - 1), 4) + uint(self.streams, 1)
        return self.to + self.nonce + self.token + sizes

    @classmethod
    def decode(cls, reader: Reader) -> "Offer":
        """Reads it."""
        to, nonce = _router_id(reader), AskNonce(reader.take(ASK_NONCE_SIZE))
        token = _token(reader)
        return cls(to, nonce, token, reader.uint(4), reader.uint(4), reader.uint(1))


@dataclass(frozen=True)
class Ranges:
    """One step of narrowing a difference with `to`. The first is multicast, so that others with the same
    difference overhear it and keep quiet; answers are unicast, which a radio repeats until acknowledged. One
    without ranges answers: nothing to add.

    `view` is the sender's whole set in 8 bytes: a neighbour with the same one need not say the same.
    """

    to: RouterId
    token: Token
    salt: Salt
    view: View
    low: Bound
    parts: tuple[Range, ...]
    type = PacketType.RANGES

    def encode(self) -> bytes:
        """to 8, token 8, salt 8, view 8, lower bound, then ranges that follow on one another."""
        head = self.to + self.token + self.salt + self.view + _encode_bound(self.low)
        return head + b"".join(_encode_range(part) for part in self.parts)

    @classmethod
    def decode(cls, reader: Reader) -> "Ranges":
        """Reads it."""
        to, token, salt = _router_id(reader), _token(reader), _salt(reader)
        view, low = _view(reader), _decode_bound(reader)
        parts: list[Range] = []
        at = low
        while reader.remaining():
            parts.append(_decode_range(at, reader))
            at = parts[-1].high
        return cls(to, token, salt, view, low, tuple(parts))


@dataclass(frozen=True)
class Want:
    """The records that the sender lacks, for the named source, which answers with DUMPs."""

    to: RouterId
    token: Token
    salt: Salt
    blocks: tuple[Wanted, ...]
    type = PacketType.WANT

    def encode(self) -> bytes:
        """to 8, token 8, salt 8, blocks."""
        return self.to + self.token + self.salt + b"".join(block.encode() for block in self.blocks)

    @classmethod
    def decode(cls, reader: Reader) -> "Want":
        """Reads it."""
        to, token, salt = _router_id(reader), _token(reader), _salt(reader)
        blocks = []
        while reader.remaining():
            blocks.append(_decode_wanted(reader))
        return cls(to, token, salt, tuple(blocks))


@dataclass(frozen=True)
class Dump:
    """Records that were asked for, cut to the MTU. Unicast to one asker, multicast where several wait.

    Between `low` and `high` the source holds nothing beyond `items`, so whoever hears it knows that range
    settled; where the bounds are equal it says nothing of a range. `last`: no more is coming to `to`.
    """

    to: RouterId
    last: bool
    low: Bound
    high: Bound
    items: tuple[Carried, ...]
    type = PacketType.DUMP

    def encode(self) -> bytes:
        """to 8, flags u8 (bit 0: last), lower bound, upper bound, items."""
        bounds = _encode_bound(self.low) + _encode_bound(self.high)
        return self.to + uint(self.last, 1) + bounds + _encode_items(self.items)

    @classmethod
    def decode(cls, reader: Reader) -> "Dump":
        """Reads it; flag bits not known here are ignored."""
        to, flags = _router_id(reader), reader.uint(1)
        low, high = _decode_bound(reader), _decode_bound(reader)
        return cls(to, bool(flags & 1), low, high, _decode_items(reader))


@dataclass(frozen=True)
class Fragment:
    """A piece of a record that is larger than a datagram, in place of RECORDS or, with `repair`, of DUMP."""

    repair: bool
    id: RecordId
    total: int
    offset: int
    age: int
    data: bytes
    type = PacketType.FRAGMENT

    def encode(self) -> bytes:
        """flags u8 (bit 0: repair), record id 16, total u16, offset u16, age u32, bytes."""
        sizes = uint(self.total, 2) + uint(self.offset, 2) + uint(min(self.age, MAX_AGE), AGE_SIZE)
        return uint(self.repair, 1) + self.id + sizes + self.data

    @classmethod
    def decode(cls, reader: Reader) -> "Fragment":
        """Reads it; raises `Malformed("fragment")` where it lies outside a record, or is a crumb of one."""
        flags, record_id = reader.uint(1), RecordId(reader.take(RECORD_ID_SIZE))
        total, offset, age = reader.uint(2), reader.uint(2), reader.uint(AGE_SIZE)
        data = reader.rest()
        end = offset + len(data)
        if not data or end > total or total > MAX_RECORD or (len(data) < MIN_PIECE and end < total):
            raise Malformed("fragment")
        return cls(bool(flags & 1), record_id, total, offset, age, data)


@dataclass(frozen=True)
class Sketch:
    """Cells of the sketch of the sender's set: from dated history stamped `floor` on, all stamped below
    `ceiling`. The first step towards `to` where the counts tell of a small difference, by multicast; or the
    answer to a step that did not tell what differs, by unicast.

    `proof` is the last token that `to` gave the sender: what the cells show it to lack may then be sent at
    once. `count` is how many records are mixed in. These cells are those from `first` on of `total`.
    """

    to: RouterId
    token: Token
    proof: Token
    view: View
    floor: int
    ceiling: int
    count: int
    total: int
    first: int
    cells: tuple[Cell, ...]
    type = PacketType.SKETCH

    def encode(self) -> bytes:
        """to, token, proof, view 8 each, floor u64, ceiling u64, count u32, total - 1 u8, first u8, cells."""
        head = self.to + self.token + self.proof + self.view + uint(self.floor, 8) + uint(self.ceiling, 8)
        sizes = uint(self.count, 4) + uint(self.total - 1, 1) + uint(self.first, 1)
        return head + sizes + b"".join(self.cells)

    @classmethod
    def decode(cls, reader: Reader) -> "Sketch":
        """Reads it; raises `Malformed("sketch")` where it has no cells, or more than it may."""
        to, token, proof, view = _router_id(reader), _token(reader), _token(reader), _view(reader)
        floor, ceiling = reader.uint(8), reader.uint(8)
        count, total, first = reader.uint(4), reader.uint(1) + 1, reader.uint(1)
        raw = reader.rest()
        if not raw or len(raw) % CELL_SIZE or first + len(raw) // CELL_SIZE > total:
            raise Malformed("sketch")
        cells = tuple(map(Cell, _split(raw, CELL_SIZE)))
        return cls(to, token, proof, view, floor, ceiling, count, total, first, cells)


_PACKETS: dict[int, type[Packet]] = {
    PacketType.RECORDS: Records,
    PacketType.DIGEST: Digest,
    PacketType.ASK: Ask,
    PacketType.OFFER: Offer,
    PacketType.RANGES: Ranges,
    PacketType.WANT: Want,
    PacketType.DUMP: Dump,
    PacketType.FRAGMENT: Fragment,
    PacketType.CONFIRM: Confirm,
    PacketType.SKETCH: Sketch,
}
