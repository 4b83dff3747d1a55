"""Where each record's line is: position -> (file, offset, length, checksum, arrival), in 45 bytes a record.

A dictionary of 100,000 such entries takes 30 MB, a quarter of a router's memory; packed into sorted chunks of
bytes they take 5. Each chunk knows its newest arrival, so that who asks what came since looks into few.
"""

import heapq
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from typing import NamedTuple

from meshchat.wire.ids import POSITION_SIZE, Bound, Position
from meshchat.wire.records import position_stamp

CHUNK_ENTRIES = 512
"""Entries in a chunk before it is split: an insertion moves at most 23 KB."""

_PLACE = struct.Struct(">HIIIHI")
_ARRIVAL_SIZE = 6
ENTRY_SIZE = POSITION_SIZE + _PLACE.size
_HEAD = 8
_REST = ENTRY_SIZE - _HEAD
_FILE_AT = POSITION_SIZE - _HEAD
_ROW = struct.Struct(f">{_FILE_AT}xH12xHI")
"""File and arrival of an entry behind its first 8 bytes."""
MAX_FILES = 2**16
MAX_OFFSET = 2**32 - 1


class Place(NamedTuple):
    """A line: the number of its file, its first byte, its bytes without the newline, their CRC-32.

    `arrival` is its record's, packed by `pack_arrival`; 0: it has none.
    """

    file: int
    offset: int
    length: int
    crc: int
    arrival: int = 0

    @property
    def number(self) -> int | None:
        """The arrival number."""
        return self.arrival >> 1 or None

    @property
    def late(self) -> bool:
        """Whether the record came late."""
        return bool(self.arrival & 1)


def pack_arrival(number: int | None, *, late: bool) -> int:
    """An arrival number and whether the record came late, as one number that sorts as the first does."""
    return 0 if number is None else number << 1 | late


class Arrived(NamedTuple):
    """An arrival number, and the position of the record that has it."""

    number: int
    position: Position


class Entry(NamedTuple):
    """A record's position and its line."""

    position: Position
    place: Place


def pack(entry: Entry) -> bytes:
    """An entry in `ENTRY_SIZE` bytes that sort as positions do."""
    file, offset, length, crc, arrival = entry.place
    return entry.position + _PLACE.pack(file, offset, length, crc, arrival >> 32, arrival & 0xFFFFFFFF)


def unpack(packed: bytes | bytearray) -> Entry:
    """The entry that `pack` packed."""
    file, offset, length, crc, high, low = _PLACE.unpack_from(packed, POSITION_SIZE)
    return Entry(
        Position(Bound(bytes(packed[:POSITION_SIZE]))), Place(file, offset, length, crc, high << 32 | low)
    )


class _Chunk:
    """Up to `CHUNK_ENTRIES` packed entries in order, their first 8 bytes apart, where bisecting is quick.

    `newest` is the highest arrival that was put in and may have gone again.
    """

    __slots__ = ("heads", "newest", "rests")

    def __init__(self, heads: "array[int] | None" = None, rests: bytearray | None = None) -> None:
        self.heads = array("Q") if heads is None else heads
        self.rests = bytearray() if rests is None else rests
        self.newest = max((arrival for _, _, arrival in self.arrivals()), default=0)

    def __len__(self) -> int:
        return len(self.heads)

    def entry(self, row: int) -> bytes:
        return self.heads[row].to_bytes(_HEAD, "big") + self.rests[row * _REST : (row + 1) * _REST]

    def find(self, position: Position) -> tuple[int, bool]:
        """The row where `position` is or would be, and whether it is there."""
        heads, rests = self.heads, self.rests
        head, rest = int.from_bytes(position[:_HEAD], "big"), position[_HEAD:]
        row = bisect_left(heads, head)
        if row == len(heads) or heads[row] != head:
            return row, False
        same = range(row, bisect_right(heads, head, row))
        row += bisect_left(same, rest, key=lambda at: bytes(rests[at * _REST : at * _REST + len(rest)]))
        return row, row < same.stop and rests.startswith(rest, row * _REST)

    def arrivals(self) -> Iterator[tuple[int, int, int]]:
        """Row, file and arrival of each entry."""
        for row, (file, high, low) in enumerate(_ROW.iter_unpack(self.rests)):
            yield row, file, high << 32 | low

    def insert(self, row: int, entry: bytes) -> None:
        self.heads.insert(row, int.from_bytes(entry[:_HEAD], "big"))
        self.rests[row * _REST : row * _REST] = entry[_HEAD:]
        self._met(entry)

    def replace(self, row: int, entry: bytes) -> None:
        self.rests[row * _REST : (row + 1) * _REST] = entry[_HEAD:]
        self._met(entry)

    def _met(self, entry: bytes) -> None:
        arrival = int.from_bytes(entry[-_ARRIVAL_SIZE:], "big")
        if arrival > self.newest:
            self.newest = arrival

    def remove(self, row: int) -> None:
        del self.heads[row], self.rests[row * _REST : (row + 1) * _REST]

    def split(self, row: int) -> "_Chunk":
        """Moves the entries from `row` on into a new chunk."""
        at = row * _REST
        upper = _Chunk(self.heads[row:], self.rests[at:])
        self.heads, self.rests = self.heads[:row], self.rests[:at]
        return upper


class LogIndex:
    """A sorted map from position to `Place`; look-up and insertion take a few microseconds."""

    def __init__(self) -> None:
        self._chunks = [_Chunk()]
        self._firsts: list[bytes] = [b""]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, position: Position) -> bool:
        return self._chunk(position)[1].find(position)[1]

    def _chunk(self, position: Position) -> tuple[int, _Chunk]:
        """The chunk where `position` is or would be, after its number."""
        number = bisect_right(self._firsts, position) - 1
        return number, self._chunks[number]

    def get(self, position: Position) -> Place | None:
        """Where the record is, or None."""
        _, chunk = self._chunk(position)
        row, found = chunk.find(position)
        return unpack(chunk.entry(row)).place if found else None

    def add(self, position: Position, place: Place) -> bool:
        """Adds an entry, unless there is one at this position; says whether it did."""
        number, chunk = self._chunk(position)
        row, found = chunk.find(position)
        if not found:
            self._insert(number, row, pack(Entry(position, place)))
        return not found

    def put(self, position: Position, place: Place) -> None:
        """Adds or replaces an entry."""
        number, chunk = self._chunk(position)
        row, found = chunk.find(position)
        entry = pack(Entry(position, place))
        if found:
            chunk.replace(row, entry)
        else:
            self._insert(number, row, entry)

    def _insert(self, number: int, row: int, entry: bytes) -> None:
        chunk = self._chunks[number]
        chunk.insert(row, entry)
        self._count += 1
        if len(chunk) > CHUNK_ENTRIES:
            # Records mostly arrive in order: a chunk that grew at its end is left full.
            upper = chunk.split(row if row + 1 == len(chunk) else len(chunk) // 2)
            self._chunks.insert(number + 1, upper)
            self._firsts.insert(number + 1, upper.entry(0)[:POSITION_SIZE])

    def discard(self, position: Position) -> None:
        """Forgets an entry; one that is not there is no error."""
        number, chunk = self._chunk(position)
        row, found = chunk.find(position)
        if not found:
            return
        chunk.remove(row)
        self._count -= 1
        if not chunk and len(self._chunks) > 1:
            del self._chunks[number], self._firsts[number]
            self._firsts[0] = b""

    @property
    def newest(self) -> int:
        """The highest arrival number that was put in and may have gone again; 0: none."""
        return max(chunk.newest for chunk in self._chunks) >> 1

    def arrived(
        self, after: int, files: Collection[int], *, since: int | None = None, limit: int | None = None
    ) -> list[Arrived]:
        """Of what stands in `files`, the first `limit` that arrived after number `after`, in that order.

        With `since`, a stamp, only what came late or is stamped so or later.
        """
        keys = self._arrived(after << 1 | 1, files, since)
        first = sorted(keys) if limit is None else heapq.nsmallest(limit, keys)
        return [
            Arrived(int.from_bytes(key[:_ARRIVAL_SIZE], "big") >> 1, Position(Bound(key[_ARRIVAL_SIZE:])))
            for key in first
        ]

    def _arrived(self, above: int, files: Collection[int], since: int | None) -> Iterator[bytes]:
        """Arrival and position of each, in bytes that sort by arrival: a third of what tuples take."""
        for chunk in self._chunks:
            if chunk.newest <= above:
                continue
            for row, file, arrival in chunk.arrivals():
                if arrival > above and file in files:
                    position = Bound(chunk.entry(row)[:POSITION_SIZE])
                    if since is None or arrival & 1 or position_stamp(position) >= since:
                        yield arrival.to_bytes(_ARRIVAL_SIZE, "big") + position

    def in_file(self, file: int) -> list[bytes]:
        """The packed entries of one file, by position."""
        wanted = divmod(file, 256)
        found = []
        for chunk in self._chunks:
            files = zip(chunk.rests[_FILE_AT::_REST], chunk.rests[_FILE_AT + 1 :: _REST], strict=True)
            found += [chunk.entry(row) for row, number in enumerate(files) if number == wanted]
        return found
