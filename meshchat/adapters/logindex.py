"""Where each record's line is: position -> (file, offset, length, checksum), in 39 bytes a record.

A dictionary of 100,000 such entries takes 30 MB, a quarter of a router's memory; packed into sorted chunks of
bytes they take 4.
"""

import struct
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from meshchat.wire.records import POSITION_SIZE

CHUNK_ENTRIES = 512
"""Entries in a chunk before it is split: an insertion moves at most 20 KB."""

_PLACE = struct.Struct(">HIII")
ENTRY_SIZE = POSITION_SIZE + _PLACE.size
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


class LogIndex:
    """A sorted map from position to `Place`; look-up and insertion take a few microseconds."""

    def __init__(self) -> None:
        self._chunks: list[bytearray] = [bytearray()]
        self._firsts: list[bytes] = [b""]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, position: bytes) -> bool:
        return self.get(position) is not None

    def get(self, position: bytes) -> Place | None:
        """Where the record is, or None."""
        chunk, at = self._find(position)
        entry = self._chunks[chunk][at : at + ENTRY_SIZE]
        return unpack(entry).place if entry.startswith(position) else None

    def put(self, position: bytes, place: Place) -> None:
        """Adds or replaces an entry."""
        number, at = self._find(position)
        chunk = self._chunks[number]
        entry = pack(Entry(position, place))
        if chunk.startswith(position, at):
            chunk[at : at + ENTRY_SIZE] = entry
            return
        chunk[at:at] = entry
        self._count += 1
        if len(chunk) > CHUNK_ENTRIES * ENTRY_SIZE:
            # Records mostly arrive in order: a chunk that grew at its end is left full.
            middle = len(chunk) // (2 * ENTRY_SIZE) * ENTRY_SIZE if at + ENTRY_SIZE < len(chunk) else at
            self._chunks[number : number + 1] = [chunk[:middle], chunk[middle:]]
            self._firsts.insert(number + 1, bytes(chunk[middle : middle + POSITION_SIZE]))

    def discard(self, position: bytes) -> None:
        """Forgets an entry; one that is not there is no error."""
        number, at = self._find(position)
        chunk = self._chunks[number]
        if not chunk.startswith(position, at):
            return
        del chunk[at : at + ENTRY_SIZE]
        self._count -= 1
        if not chunk and len(self._chunks) > 1:
            del self._chunks[number], self._firsts[number]
            self._firsts[0] = b""

    def in_file(self, file: int) -> list[bytes]:
        """The packed entries of one file, by position."""
        upper, lower = divmod(file, 256)
        found = []
        for chunk in self._chunks:
            numbers = zip(
                chunk[POSITION_SIZE::ENTRY_SIZE], chunk[POSITION_SIZE + 1 :: ENTRY_SIZE], strict=True
            )
            for row, number in enumerate(numbers):
                if number == (upper, lower):
                    found.append(bytes(chunk[row * ENTRY_SIZE : (row + 1) * ENTRY_SIZE]))
        return found

    def _find(self, position: bytes) -> tuple[int, int]:
        """The chunk and the byte in it where `position` is or would be."""
        number = bisect_right(self._firsts, position) - 1
        chunk = self._chunks[number]
        rows = range(0, len(chunk), ENTRY_SIZE)
        row = bisect_left(rows, position, key=lambda at: bytes(chunk[at : at + POSITION_SIZE]))
        return number, row * ENTRY_SIZE
