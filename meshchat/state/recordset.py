"""The ordered set of all records that a router accounts for, and fingerprints of any range of it.

Kept in chunks of packed arrays, 37 bytes a record, because a router with 128 MB holds 100,000 of them.

The fingerprint of a set is that of a binary hash tree whose shape follows from the set alone, so that two
routers that hold the same records agree on the fingerprint of every range whatever the order of arrival:

- up to `LEAF` records: BLAKE2b-128 of a zero byte and their ids in order;
- more: BLAKE2b-128 of a one byte and the fingerprints of the two halves, split at the first bit in which the
  first and the last position differ.

Sums and XORs of ids can be forged by someone who may write records (Meyer, "Range-Based Set Reconciliation",
2023, section 5); a hash tree stands as long as the hash does.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from meshchat.wire.packets import END, FINGERPRINT_SIZE, START, Summary
from meshchat.wire.records import POSITION_SIZE

LEAF = 32
CHUNK = 512
POSITION_BITS = POSITION_SIZE * 8
_ID_AT = 9

_SIZE_BITS, _ROOM_BITS = 16, 20
_ABSENT = 1 << 63
LONGEST_HELD = -(2**31)
"""The lowest `Entry.held` that can be kept: 68 years before this router first ran."""
_MAX_VIEWS = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept in memory of one record.

    `room` and `author` are numbers given by the caller, below 2**20 and 2**27; `size` is bytes as carried;
    `held` is seconds, from `LONGEST_HELD` up to 2**31, for the age. An absent entry is remembered, not held.
    """

    position: bytes
    size: int
    room: int
    author: int
    held: int
    absent: bool


class _Chunk:
    """Up to `CHUNK` entries in order."""

    __slots__ = ("held", "keys", "packed")

    def __init__(self) -> None:
        self.keys = bytearray()
        self.packed = array("Q")
        self.held = array("i")

    def __len__(self) -> int:
        return len(self.packed)

    def key(self, index: int) -> bytes:
        return bytes(self.keys[index * POSITION_SIZE : (index + 1) * POSITION_SIZE])

    def lower(self, position: bytes) -> int:
        """The index of the first entry that is not below `position`."""
        low, high = 0, len(self.packed)
        keys = self.keys
        while low < high:
            middle = (low + high) >> 1
            at = middle * POSITION_SIZE
            if keys[at : at + POSITION_SIZE] < position:
                low = middle + 1
            else:
                high = middle
        return low

    def entry(self, index: int) -> Entry:
        packed = self.packed[index]
        return Entry(
            self.key(index),
            packed & ((1 << _SIZE_BITS) - 1),
            packed >> _SIZE_BITS & ((1 << _ROOM_BITS) - 1),
            (packed & ~_ABSENT) >> (_SIZE_BITS + _ROOM_BITS),
            self.held[index],
            bool(packed & _ABSENT),
        )

    def split(self) -> "_Chunk":
        """Moves the upper half into a new chunk."""
        upper, middle = _Chunk(), len(self) // 2
        upper.keys, self.keys = self.keys[middle * POSITION_SIZE :], self.keys[: middle * POSITION_SIZE]
        upper.packed, self.packed = self.packed[middle:], self.packed[:middle]
        upper.held, self.held = self.held[middle:], self.held[:middle]
        return upper


def _pack(entry: Entry) -> int:
    packed = entry.size | entry.room << _SIZE_BITS | entry.author << (_SIZE_BITS + _ROOM_BITS)
    return packed | _ABSENT if entry.absent else packed


class RecordSet:
    """Entries by position. Bounds are positions, `START` or `END`; a range is low <= position < high.

    `version` is another number after each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._chunks = [_Chunk()]
        self._firsts = [START]
        self._count = 0
        self._nodes: dict[int, dict[int, bytes]] = {}
        self._views: dict[tuple[bytes, bytes], Summary] = {}

    def __len__(self) -> int:
        return self._count

    # --- Entries ----------------------------------------------------------------------------------------

    def _locate(self, position: bytes) -> tuple[int, int]:
        number = bisect_right(self._firsts, position) - 1
        return number, self._chunks[number].lower(position)

    def get(self, position: bytes) -> Entry | None:
        """The entry at `position`, or None."""
        number, index = self._locate(position)
        chunk = self._chunks[number]
        if index < len(chunk) and chunk.key(index) == position:
            return chunk.entry(index)
        return None

    def __contains__(self, position: bytes) -> bool:
        number, index = self._locate(position)
        chunk = self._chunks[number]
        at = index * POSITION_SIZE
        return index < len(chunk) and chunk.keys[at : at + POSITION_SIZE] == position

    def put(self, entry: Entry) -> None:
        """Adds the entry, or replaces the one at its position."""
        number, index = self._locate(entry.position)
        chunk = self._chunks[number]
        self.version += 1
        if index < len(chunk) and chunk.key(index) == entry.position:
            chunk.packed[index], chunk.held[index] = _pack(entry), entry.held
            return
        chunk.keys[index * POSITION_SIZE : index * POSITION_SIZE] = entry.position
        chunk.packed.insert(index, _pack(entry))
        chunk.held.insert(index, entry.held)
        self._count += 1
        if len(chunk) > CHUNK:
            upper = chunk.split()
            self._chunks.insert(number + 1, upper)
            self._firsts.insert(number + 1, upper.key(0))
        self._changed(entry.position)

    def discard(self, position: bytes) -> None:
        """Takes the entry out where there is one."""
        number, index = self._locate(position)
        chunk = self._chunks[number]
        if index >= len(chunk) or chunk.key(index) != position:
            return
        del chunk.keys[index * POSITION_SIZE : (index + 1) * POSITION_SIZE]
        del chunk.packed[index], chunk.held[index]
        self._count -= 1
        if not chunk and number:
            del self._chunks[number], self._firsts[number]
        self._changed(position)

    def _changed(self, position: bytes) -> None:
        self.version += 1
        self._views.clear()
        number = int.from_bytes(position, "big")
        for bits, nodes in self._nodes.items():
            nodes.pop(number >> (POSITION_BITS - bits), None)

    # --- Ranges -----------------------------------------------------------------------------------------

    def rank(self, bound: bytes) -> int:
        """How many entries lie below `bound`."""
        if bound >= END:
            return self._count
        number, index = self._locate(bound)
        return sum(map(len, self._chunks[:number])) + index

    def count(self, low: bytes = START, high: bytes = END) -> int:
        """How many entries lie in the range."""
        return max(0, self.rank(high) - self.rank(low))

    def at_rank(self, rank: int) -> bytes:
        """The position of the entry with `rank` entries below it; raises IndexError beyond the last."""
        for chunk in self._chunks:
            if rank < len(chunk):
                return chunk.key(rank)
            rank -= len(chunk)
        raise IndexError(rank)

    def positions(self, low: bytes = START, high: bytes = END) -> Iterator[bytes]:
        """The positions in the range, in order. The set must not change meanwhile."""
        number, index = self._locate(low)
        while number < len(self._chunks):
            chunk = self._chunks[number]
            for at in range(index, len(chunk)):
                key = chunk.key(at)
                if key >= high:
                    return
                yield key
            number, index = number + 1, 0

    def entries(self, low: bytes = START, high: bytes = END) -> Iterator[Entry]:
        """The entries in the range, in order. The set must not change meanwhile."""
        number, index = self._locate(low)
        while number < len(self._chunks):
            chunk = self._chunks[number]
            for at in range(index, len(chunk)):
                entry = chunk.entry(at)
                if entry.position >= high:
                    return
                yield entry
            number, index = number + 1, 0

    def summary(self, low: bytes = START, high: bytes = END) -> Summary:
        """Count and fingerprint of the range."""
        view = self._views.get((low, high))
        if view is None:
            first, last = self.rank(low), self.rank(high)
            fingerprint = self._fingerprint(first, last)
            view = Summary(max(0, last - first), fingerprint)
            if len(self._views) >= _MAX_VIEWS:
                self._views.clear()
            self._views[low, high] = view
        return view

    def _fingerprint(self, first: int, last: int) -> bytes:
        """The fingerprint of the entries with ranks from `first` up to `last`."""
        if last - first <= LEAF:
            ids = b"".join(self._ids(first, last))
            return hashlib.blake2b(b"\x00" + ids, digest_size=FINGERPRINT_SIZE).digest()
        low = int.from_bytes(self.at_rank(first), "big")
        high = int.from_bytes(self.at_rank(last - 1), "big")
        shared = POSITION_BITS - (low ^ high).bit_length()
        prefix = low >> (POSITION_BITS - shared)
        node = (shared, prefix) if self._is_whole(first, last, shared, prefix) else None
        if node is not None and (known := self._nodes.get(shared, {}).get(prefix)) is not None:
            return known
        split = (prefix << 1 | 1) << (POSITION_BITS - shared - 1)
        middle = self.rank(split.to_bytes(POSITION_SIZE, "big"))
        halves = self._fingerprint(first, middle) + self._fingerprint(middle, last)
        fingerprint = hashlib.blake2b(b"\x01" + halves, digest_size=FINGERPRINT_SIZE).digest()
        if node is not None:
            self._nodes.setdefault(shared, {})[prefix] = fingerprint
        return fingerprint

    def _is_whole(self, first: int, last: int, shared: int, prefix: int) -> bool:
        """Whether no entry outside these ranks has the same leading bits: only then is a node cached."""
        rest = POSITION_BITS - shared
        below = first == 0 or int.from_bytes(self.at_rank(first - 1), "big") >> rest != prefix
        return below and (last == self._count or int.from_bytes(self.at_rank(last), "big") >> rest != prefix)

    def _ids(self, first: int, last: int) -> Iterator[bytes]:
        for chunk in self._chunks:
            if first < len(chunk):
                for index in range(max(first, 0), min(last, len(chunk))):
                    yield bytes(chunk.keys[index * POSITION_SIZE + _ID_AT : (index + 1) * POSITION_SIZE])
            first, last = first - len(chunk), last - len(chunk)
            if last <= 0:
                return
