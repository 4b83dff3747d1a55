"""The dumps being sent on a link: paced streams of whole records, cut to the MTU.

Records go in the one order, accounts first, so that people can log in before history is complete. What one
asker wants goes by unicast (acknowledged and fast on 802.11); what several wait for, once, by multicast.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from meshchat.constants import MAX_STREAMS, STREAM_KEEP
from meshchat.protocol.instant import Instant
from meshchat.protocol.pieces import fragments
from meshchat.protocol.repair.pace import Pace
from meshchat.protocol.repair.reconcile import find, short_id
from meshchat.protocol.repair.spans import Spans, after, between
from meshchat.state.origin import Origin
from meshchat.state.store import RecordStore
from meshchat.wire.ids import (
    END,
    NO_SALT,
    ROUTER_ID_SIZE,
    START,
    Bound,
    Position,
    RouterId,
    Salt,
    ShortId,
    record_id_of,
)
from meshchat.wire.packets import (
    PACKET_HEADER,
    Block,
    Carried,
    Dump,
    Fragment,
    Packet,
    Wanted,
    bound_size,
)

MAX_PACES = 64
"""Askers whose pace is remembered."""

_Packet = tuple[Packet, Origin | None]
_DUMP_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 1
_LOOK_AHEAD = 64
"""Listed records looked at for one datagram."""


@dataclass
class _Stream:
    """What one asker is still to get, and until when without another word from it."""

    asker: RouterId
    origin: Origin | None
    pace: Pace
    until: float = math.inf
    spans: Spans = field(default_factory=Spans)
    ceiling: Bound = END
    salt: Salt = NO_SALT
    but: frozenset[ShortId] = frozenset()
    listed: dict[Position, None] = field(default_factory=dict)
    pieces: deque[Fragment] = field(default_factory=deque)
    said_last: bool = False

    @property
    def empty(self) -> bool:
        return not (self.spans or self.listed or self.pieces)

    def has(self, position: Position) -> bool:
        """Whether the asker named the record as its own, be it here by then or only since."""
        return bool(self.but) and short_id(self.salt, record_id_of(position)) in self.but

    def dump(self, low: Bound, high: Bound, items: Sequence[Carried]) -> Dump:
        """The next datagram; the last one says so."""
        self.said_last = self.empty
        return Dump(self.asker, self.empty, low, high, tuple(items))


@dataclass(frozen=True)
class Outgoing:
    """A packet of a dump, where it goes (to an origin, or None for all), and whose pace it takes."""

    packet: Packet
    origin: Origin | None
    pace: Pace


class Dumps:
    """The dumps being sent on one link. Times are seconds, monotonic."""

    def __init__(
        self, store: RecordStore, carried: Callable[[Position, Instant], Carried | None], rate: float
    ) -> None:
        """`carried` gives a held record, with its age, by position; None where the disk no longer has it.
        It takes the time. `rate` is bytes a second of all dumps together.
        """
        self._store = store
        self._carried = carried
        self._rate = rate
        self._streams: OrderedDict[RouterId, _Stream] = OrderedDict()
        self._paces: OrderedDict[RouterId, Pace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def serves(self, asker: RouterId) -> bool:
        """Whether something is being sent to this asker."""
        return asker in self._streams

    def request(
        self,
        asker: RouterId,
        origin: Origin,
        blocks: Sequence[Wanted],
        salt: Salt,
        ceiling: Bound,
        now: float,
    ) -> bool:
        """Begins or replaces the dump for `asker`; False where too many are being sent already.

        Of dated history, nothing from position `ceiling` on is sent: it lies in the future.
        """
        if not self._make_room(asker, origin):
            return False
        pace = self._pace(asker)
        stream = _Stream(asker, origin, pace, now + STREAM_KEEP, ceiling=ceiling)
        ranged = [block for block in blocks if isinstance(block, Block) and block.ids is None]
        stream.spans = Spans((block.low, block.high) for block in ranged)
        stream.salt, stream.but = salt, frozenset(short for block in ranged for short in block.but)
        listed = [block for block in blocks if block not in ranged]
        found = find(self._store.records, listed, salt)
        stream.listed = dict.fromkeys(position for position in found if position < ceiling)
        pace.told(stream.spans, self._store.records.count, now)
        self._streams[asker] = stream
        return True

    def _pace(self, asker: RouterId) -> Pace:
        pace = self._paces.pop(asker, None) or Pace(self._rate)
        self._paces[asker] = pace
        if len(self._paces) > MAX_PACES:
            self._paces.popitem(last=False)
        return pace

    def _make_room(self, asker: RouterId, origin: Origin | None) -> bool:
        """One stream an origin: whoever invents askers takes his own stream away, not another's."""
        for other, stream in self._streams.items():
            if other == asker or (origin is not None and stream.origin == origin):
                del self._streams[other]
                return True
        return len(self._streams) < MAX_STREAMS

    def cancel(self, asker: RouterId) -> None:
        """The asker wants nothing more."""
        self._streams.pop(asker, None)

    def has_something_for(self, asker: RouterId) -> bool:
        """Whether any record that the asker wants is here."""
        stream = self._streams.get(asker)
        if stream is None:
            return False
        if any(self._store.holds(position) for position in stream.listed):
            return True
        return any(next(self._store.held_entries(low, high), None) for low, high in stream.spans)

    def push(self, asker: RouterId, origin: Origin | None, positions: Iterable[Position]) -> None:
        """Sends a few records to a neighbour that was seen to lack them; `NOBODY` stands for several."""
        stream = self._streams.get(asker)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                return
            stream = self._streams[asker] = _Stream(asker, origin, self._pace(asker))
        stream.listed.update(dict.fromkeys(positions))

    def ready_in(self, now: float) -> float:
        """Seconds until one of the askers may be sent to; 0 where nothing is left to send."""
        return min((stream.pace.ready_in(now) for stream in self._streams.values()), default=0.0)

    def next(self, capacity: int, now: Instant) -> Outgoing | None:
        """The next packet to send, at most `capacity` bytes; None where nothing may go now."""
        for asker, stream in list(self._streams.items()):
            if now.mono > stream.until:
                del self._streams[asker]
                continue
            if stream.pace.ready_in(now.mono):
                continue
            self._streams.move_to_end(asker)
            outgoing = self._from(stream, capacity, now)
            if outgoing is None and stream.empty and not stream.said_last:
                outgoing = stream.dump(START, START, ()), stream.origin
            if stream.said_last:
                del self._streams[asker]
            if outgoing is not None:
                return Outgoing(*outgoing, stream.pace)
        return None

    def _from(self, stream: _Stream, capacity: int, now: Instant) -> _Packet | None:
        if stream.pieces:
            return stream.pieces.popleft(), stream.origin
        if stream.listed:
            return self._listed(stream, capacity, now)
        if stream.spans:
            return self._ranged(stream, capacity, now)
        return None

    def _listed(self, stream: _Stream, capacity: int, now: Instant) -> _Packet | None:
        """As many of the listed records as fit, in whatever order."""
        items: list[Carried] = []
        room = capacity - _DUMP_FIELDS - 2 * bound_size(START)
        shared = False
        for position in list(islice(stream.listed, _LOOK_AHEAD)):
            entry = self._store.records.get(position)
            if items and entry is not None and entry.size > room:
                continue
            carried = self._carried(position, now)
            if carried is not None and carried.size > room:
                if not items:
                    del stream.listed[position]
                    return self._in_pieces(stream, position, carried, capacity)
                continue
            del stream.listed[position]
            if carried is not None:
                shared = self._also_wanted(stream, position) or shared
                items.append(carried)
                room -= carried.size
        if not (items or stream.empty):
            return None
        return stream.dump(START, START, items), None if shared else stream.origin

    def _also_wanted(self, stream: _Stream, position: Position) -> bool:
        """Whether others wait for this record; they are served by the same datagram."""
        wanted = False
        for other in self._streams.values():
            if other is not stream and position in other.listed:
                del other.listed[position]
                wanted = True
        return wanted

    def _ranged(self, stream: _Stream, capacity: int, now: Instant) -> _Packet:
        """The next records of the lowest span, cut where the bound between two of them fits as well."""
        low, high = stream.spans.lowest
        room = capacity - _DUMP_FIELDS - bound_size(low)
        items: list[Carried] = []
        first: tuple[Position, Carried] | None = None
        last, fitting, reached = low, 0, low
        for entry in self._store.held_entries(low, min(high, stream.ceiling)):
            carried = None if stream.has(entry.position) else self._carried(entry.position, now)
            if carried is None:
                continue
            first = first or (entry.position, carried)
            bound = between(last, entry.position)
            if items and bound_size(bound) <= room:
                fitting, reached = len(items), bound
            room -= carried.size
            if room < 0:
                break
            items.append(carried)
            last = entry.position
        else:
            if bound_size(high) <= room:
                fitting, reached = len(items), high
        if reached == low and first is not None:
            return self._large(stream, *first, capacity)
        stream.spans.remove(low, reached)
        shared = self._shared(stream, low, reached)
        return stream.dump(low, reached, items[:fitting]), shared

    def _large(self, stream: _Stream, position: Position, carried: Carried, capacity: int) -> _Packet:
        """The record at the front is larger than a datagram: it goes in pieces, below it nothing is left."""
        low, _ = stream.spans.lowest
        if low < position:
            stream.spans.remove(low, position)
            return stream.dump(low, position, ()), self._shared(stream, low, position)
        stream.spans.remove(position, after(position))
        return self._in_pieces(stream, position, carried, capacity)

    def _in_pieces(self, stream: _Stream, position: Position, carried: Carried, capacity: int) -> _Packet:
        stream.pieces.extend(fragments(record_id_of(position), carried, capacity, repair=True))
        return stream.pieces.popleft(), stream.origin

    def _shared(self, stream: _Stream, low: Bound, high: Bound) -> Origin | None:
        """None (multicast) where other streams still want this span, which they then have; else unicast.

        What leaves out an asker's own records serves nobody else.
        """
        stream.pace.sent(low, high)
        if stream.but:
            return stream.origin
        shared = False
        for other in self._streams.values():
            if other is not stream and other.spans.remove(low, high):
                shared = True
                other.pace.sent(low, high)
        return None if shared else stream.origin
