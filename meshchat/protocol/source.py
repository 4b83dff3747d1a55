"""The source's side of a dump: paced streams of whole records, cut to the MTU.

Records go in the one order, accounts first, so that people can log in before history is complete. What one
asker wants goes by unicast (acknowledged and fast on 802.11); what several wait for, once, by multicast.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from meshchat.constants import MAX_STREAMS
from meshchat.protocol.reconcile import Span, after, coalesce, find, short_id, subtract
from meshchat.state.store import RecordStore
from meshchat.wire.packets import (
    END,
    FRAGMENT_FIELDS,
    PACKET_HEADER,
    START,
    Block,
    Carried,
    Dump,
    Fragment,
    Packet,
    Wanted,
)
from meshchat.wire.records import RECORD_ID_SIZE, ROUTER_ID_SIZE

_DUMP_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 1 + 2 * 26
NOBODY = bytes(ROUTER_ID_SIZE)


def fragments(record_id: bytes, carried: Carried, capacity: int, *, repair: bool) -> list[Fragment]:
    """The pieces of a record that does not fit into `capacity` bytes of packets."""
    room = capacity - PACKET_HEADER - FRAGMENT_FIELDS
    total = len(carried.data)
    return [
        Fragment(repair, record_id, total, at, carried.age, carried.data[at : at + room])
        for at in range(0, total, room)
    ]


@dataclass
class _Stream:
    asker: bytes
    address: tuple[str, int] | None
    spans: list[Span]
    ceiling: bytes
    salt: bytes = b""
    but: frozenset[bytes] = frozenset()
    listed: deque[bytes] = field(default_factory=deque)
    pieces: deque[Fragment] = field(default_factory=deque)
    said_last: bool = False

    @property
    def empty(self) -> bool:
        return not (self.spans or self.listed or self.pieces)

    def has(self, place: bytes) -> bool:
        """Whether the asker named the record as its own, be it here by then or only since."""
        return bool(self.but) and short_id(self.salt, place[-RECORD_ID_SIZE:]) in self.but

    def dump(self, low: bytes, high: bytes, items: Sequence[Carried]) -> Dump:
        """The next datagram; the last one says so."""
        self.said_last = self.empty
        return Dump(self.asker, self.empty, low, high, tuple(items))


@dataclass(frozen=True)
class Outgoing:
    """A packet of a dump and where it goes: an address, or None for multicast."""

    packet: Packet
    address: tuple[str, int] | None


class Source:
    """The dumps being sent on one interface."""

    def __init__(self, store: RecordStore, carried: Callable[[bytes], Carried | None]) -> None:
        """`carried` gives a held record, with its age, by position; None where the disk no longer has it."""
        self._store = store
        self._carried = carried
        self._streams: OrderedDict[bytes, _Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def request(
        self, asker: bytes, address: tuple[str, int], blocks: Sequence[Wanted], salt: bytes, ceiling: bytes
    ) -> bool:
        """Begins or replaces the dump for `asker`; False where too many are being sent already.

        Of dated history, nothing from position `ceiling` on is sent: it lies in the future.
        """
        if not self._make_room(asker, address):
            return False
        stream = _Stream(asker, address, [], ceiling)
        ranged = [block for block in blocks if isinstance(block, Block) and block.ids is None]
        stream.spans = coalesce((block.low, block.high) for block in ranged)
        stream.salt, stream.but = salt, frozenset(short for block in ranged for short in block.but)
        listed = [block for block in blocks if block not in ranged]
        stream.listed.extend(place for place in find(self._store.records, listed, salt) if place < ceiling)
        self._streams[asker] = stream
        return True

    def _make_room(self, asker: bytes, address: tuple[str, int] | None) -> bool:
        """One stream an address: whoever invents askers takes his own stream away, not another's."""
        for other, stream in self._streams.items():
            if other == asker or (stream.address and address and stream.address[0] == address[0]):
                del self._streams[other]
                return True
        return len(self._streams) < MAX_STREAMS

    def serves(self, asker: bytes) -> bool:
        """Whether something is being sent to this asker."""
        return asker in self._streams

    def has_something_for(self, asker: bytes) -> bool:
        """Whether any record that the asker wants is here."""
        stream = self._streams.get(asker)
        if stream is None:
            return False
        if any(self._store.holds(place) for place in stream.listed):
            return True
        return any(next(self._store.held_entries(low, high), None) for low, high in stream.spans)

    def push(self, asker: bytes, address: tuple[str, int] | None, places: Iterable[bytes]) -> None:
        """Sends a few records to a neighbour that was seen to lack them; `NOBODY` stands for several."""
        stream = self._streams.get(asker)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                return
            stream = self._streams[asker] = _Stream(asker, address, [], END)
        stream.listed.extend(place for place in places if place not in stream.listed)

    def next(self, capacity: int) -> Outgoing | None:
        """The next packet to send, at most `capacity` bytes; None where nothing is left to send."""
        while self._streams:
            asker, stream = next(iter(self._streams.items()))
            self._streams.move_to_end(asker)
            outgoing = self._from(stream, capacity)
            if outgoing is None and stream.empty and not stream.said_last:
                outgoing = Outgoing(stream.dump(START, START, ()), stream.address)
            if stream.said_last:
                del self._streams[asker]
            if outgoing is not None:
                return outgoing
        return None

    def _from(self, stream: _Stream, capacity: int) -> Outgoing | None:
        if stream.pieces:
            return Outgoing(stream.pieces.popleft(), stream.address)
        if stream.listed:
            return self._listed(stream, capacity)
        if stream.spans:
            return self._ranged(stream, capacity)
        return None

    def _listed(self, stream: _Stream, capacity: int) -> Outgoing | None:
        items: list[Carried] = []
        room = capacity - _DUMP_FIELDS
        shared = False
        while stream.listed:
            carried = self._carried(stream.listed[0])
            if carried is not None and carried.size > room and items:
                break
            place = stream.listed.popleft()
            if carried is None:
                continue
            if carried.size > room:
                stream.pieces.extend(fragments(place[-RECORD_ID_SIZE:], carried, capacity, repair=True))
                return Outgoing(stream.pieces.popleft(), stream.address)
            shared = self._also_wanted(stream, place) or shared
            items.append(carried)
            room -= carried.size
        return Outgoing(stream.dump(START, START, items), None if shared else stream.address)

    def _also_wanted(self, stream: _Stream, place: bytes) -> bool:
        """Whether others wait for this record; they are served by the same datagram."""
        wanted = False
        for other in self._streams.values():
            if other is not stream and place in other.listed:
                other.listed.remove(place)
                wanted = True
        return wanted

    def _ranged(self, stream: _Stream, capacity: int) -> Outgoing | None:
        low, high = stream.spans[0]
        items: list[Carried] = []
        room = capacity - _DUMP_FIELDS
        reached = high
        for entry in self._store.held_entries(low, min(high, stream.ceiling)):
            carried = None if stream.has(entry.position) else self._carried(entry.position)
            if carried is None:
                continue
            if carried.size > room:
                reached = entry.position
                break
            items.append(carried)
            room -= carried.size
        if reached == low:
            return self._large(stream, low, capacity)
        stream.spans = subtract(stream.spans, low, reached)
        shared = self._shared(stream, low, reached)
        return Outgoing(stream.dump(low, reached, items), shared)

    def _large(self, stream: _Stream, place: bytes, capacity: int) -> Outgoing | None:
        """The record at the front is larger than a datagram: it goes in pieces."""
        carried = self._carried(place)
        stream.spans = subtract(stream.spans, place, after(place))
        if carried is None:
            return None
        stream.pieces.extend(fragments(place[-RECORD_ID_SIZE:], carried, capacity, repair=True))
        return Outgoing(stream.pieces.popleft(), stream.address)

    def _shared(self, stream: _Stream, low: bytes, high: bytes) -> tuple[str, int] | None:
        """None (multicast) where other streams still want this span, which they then have; else unicast.

        What leaves out an asker's own records serves nobody else.
        """
        if stream.but:
            return stream.address
        shared = False
        for other in self._streams.values():
            if other is stream:
                continue
            left = subtract(other.spans, low, high)
            if left != other.spans:
                other.spans, shared = left, True
        return None if shared else stream.address
