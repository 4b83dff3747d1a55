"""How many messages each room holds, and a digest of them: what people are shown of the record set.

On a router a pass over 100,000 records takes seconds, and people ask after every message. So the sums are
kept by spans of 17 minutes of stamps, and only the spans in which something changed are looked through again.
"""

import hashlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from meshchat.state.recordset import RecordSet
from meshchat.wire.ids import FINGERPRINT_SIZE, POSITION_SIZE, Bound, Position
from meshchat.wire.records import make_position, position_stamp

_HEAD = 6
"""Bytes of a position that say its span: the stratum, and the stamp's milliseconds less the last 8 bits."""

_SHIFT = 12
"""Bits of those below a span: with the 8 others 2**20 ms."""

_ROW = Struct(f">IIQ{FINGERPRINT_SIZE}s")
"""Of one room in one span: its number, messages, the newest stamp, the hash of the positions in order.
Packed, for whoever opens a room with each message makes as many rows as records."""


class RoomSum(NamedTuple):
    """A room by its number: messages, the newest one's stamp, the hex digest of those there are."""

    room: int
    messages: int
    newest: int
    digest: str


_MAX_STALE = 1024
"""Spans to be counted anew: where nobody asks for rooms, strangers' odd stamps must not pile them up."""


def _span(position: Position) -> int:
    return int.from_bytes(position[:_HEAD], "big") >> _SHIFT


def _bound(span: int) -> Bound:
    return Bound((span << _SHIFT).to_bytes(_HEAD, "big").ljust(POSITION_SIZE, b"\x00"))


class RoomTally:
    """The sums of the rooms in `records`; whoever changes those says so to `changed`."""

    def __init__(self, records: RecordSet) -> None:
        self._records = records
        self._rows: dict[int, bytes] = {}
        self._stale: set[int] = set()

    def changed(self, position: Position) -> None:
        """A record of history at this position came, went, or is only remembered from now on."""
        if len(self._stale) >= _MAX_STALE:
            self._recount()
        self._stale.add(_span(position))

    def _recount(self) -> None:
        for span in self._stale:
            self._rows.pop(span, None)
            if rows := self._counted(_bound(span), _bound(span + 1)):
                self._rows[span] = rows
        self._stale.clear()

    def sums(self, ceiling: int) -> list[RoomSum]:
        """The rooms that hold messages stamped below `ceiling`."""
        self._recount()
        messages: dict[int, int] = {}
        newest: dict[int, int] = {}
        hashes: dict[int, hashlib.blake2b] = {}
        for rows in self._below(ceiling):
            for room, count, last, digest in _ROW.iter_unpack(rows):
                messages[room] = messages.get(room, 0) + count
                newest[room] = max(newest.get(room, 0), last)
                if room not in hashes:
                    hashes[room] = hashlib.blake2b(digest_size=FINGERPRINT_SIZE)
                hashes[room].update(digest)
        return [RoomSum(room, messages[room], newest[room], hashes[room].hexdigest()) for room in messages]

    def _below(self, ceiling: int) -> Iterator[bytes]:
        """The rows of each span in order, of the one that the ceiling falls into what lies below it."""
        for span in sorted(self._rows):
            low = _bound(span)
            top = make_position(low[0], ceiling)
            if top >= _bound(span + 1):
                yield self._rows[span]
            elif top > low:
                yield self._counted(low, top)

    def _counted(self, low: Bound, high: Bound) -> bytes:
        positions: dict[int, list[Position]] = {}
        for entry in self._records.entries(low, high):
            if entry.room and not entry.absent:
                positions.setdefault(entry.room, []).append(entry.position)
        return b"".join(
            _ROW.pack(
                room,
                len(held),
                position_stamp(held[-1]),
                hashlib.blake2b(b"".join(held), digest_size=FINGERPRINT_SIZE).digest(),
            )
            for room, held in positions.items()
        )
