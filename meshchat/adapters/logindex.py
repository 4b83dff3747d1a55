"""Where each record's line is: position -> (file, offset, length, checksum), in 39 bytes a record.

A dictionary of 100,000 such entries takes 30 MB, a quarter of a router's memory; packed into sorted chunks of
bytes they take 4.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from meshchat.wire.records import POSITION_SIZE

CHUNK_ENTRIES = 512
"""Entries in a chunk before it is split: an insertion moves at most 20 KB."""

_PLACE = struct.Struct(">HIII")
ENTRY_SIZE = POSITION_SIZE + _PLACE.size
_HEAD = 8
_REST = ENTRY_SIZE - _HEAD
_FILE_AT = POSITION_SIZE - _HEAD
MAX_FILES = 2**16
MAX_OFFSET = 2**32 - 1


class Place(NamedTuple):
    """A line: the number of its file, its first byte, its bytes without the newline, their CRC-32."""

    file: int
    offset: int
    length: int
    crc: int


class Entry(NamedTuple):
    """A record's position and its line."""

    position: bytes
    place: Place


def pack(entry: Entry) -> bytes:
    """An entry in `ENTRY_SIZE` bytes that sort as positions do."""
    return entry.position + _PLACE.pack(*entry.place)


def unpack(packed: bytes | bytearray) -> Entry:
    """The entry that `pack` packed."""
    return Entry(bytes(packed[:POSITION_SIZE]), Place._make(_PLACE.unpack_from(packed, POSITION_SIZE)))


class _Chunk:
    """Up to `CHUNK_ENTRIES` packed entries in order, their first 8 bytes apart, where bisecting is quick."""

    __slots__ = ("heads", "rests")

    def __init__(self, heads: "array[int] | None" = None, rests: bytearray | None = None) -> None:
        self.heads = array("Q") if heads is None else heads
        self.rests = bytearray() if rests is None else rests

    def __len__(self) -> int:
        return len(self.heads)

    def entry(self, row: int) -> bytes:
        return self.heads[row].to_bytes(_HEAD, "big") + self.rests[row * _REST : (row + 1) * _REST]

    def find(self, position: bytes) -> tuple[int, bool]:
        """The row where `position` is or would be, and whether it is there."""
        heads, rests = self.heads, self.rests
        head, rest = int.from_bytes(position[:_HEAD], "big"), position[_HEAD:]
        row = bisect_left(heads, head)
        if row == len(heads) or heads[row] != head:
            return row, False
        same = range(row, bisect_right(heads, head, row))
        row += bisect_left(same, rest, key=lambda at: bytes(rests[at * _REST : at * _REST + len(rest)]))
        return row, row < same.stop and rests.startswith(rest, row * _REST)

    def insert(self, row: int, entry: bytes) -> None:
        self.heads.insert(row, int.from_bytes(entry[:_HEAD], "big"))
        self.rests[row * _REST : row * _REST] = entry[_HEAD:]

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

    def __contains__(self, position: bytes) -> bool:
        return self._chunk(position)[1].find(position)[1]

    def _chunk(self, position: bytes) -> tuple[int, _Chunk]:
        """The chunk where `position` is or would be, after its number."""
        number = bisect_right(self._firsts, position) - 1
        return number, self._chunks[number]

    def get(self, position: bytes) -> Place | None:
        """Where the record is, or None."""
        _, chunk = self._chunk(position)
        row, found = chunk.find(position)
        return unpack(chunk.entry(row)).place if found else None

    def add(self, position: bytes, place: Place) -> bool:
        """Adds an entry, unless there is one at this position; says whether it did."""
        number, chunk = self._chunk(position)
        row, found = chunk.find(position)
        if not found:
            self._insert(number, row, pack(Entry(position, place)))
        return not found

    def put(self, position: bytes, place: Place) -> None:
        """Adds or replaces an entry."""
        number, chunk = self._chunk(position)
        row, found = chunk.find(position)
        entry = pack(Entry(position, place))
        if found:
            chunk.rests[row * _REST : (row + 1) * _REST] = entry[_HEAD:]
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

    def discard(self, position: bytes) -> None:
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

    def in_file(self, file: int) -> list[bytes]:
        """The packed entries of one file, by position."""
        wanted = divmod(file, 256)
        found = []
        for chunk in self._chunks:
            files = zip(chunk.rests[_FILE_AT::_REST], chunk.rests[_FILE_AT + 1 :: _REST], strict=True)
            found += [chunk.entry(row) for row, number in enumerate(files) if number == wanted]
        return found
