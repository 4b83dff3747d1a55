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
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from meshchat.state.sketch import SetSketch
from meshchat.wire.ids import (
    END,
    FINGERPRINT_SIZE,
    POSITION_SIZE,
    RECORD_ID_SIZE,
    START,
    Bound,
    Fingerprint,
    Position,
    SketchKey,
    Span,
)
from meshchat.wire.packets import Summary

SKETCH_OUTSIDE = 64
"""Records outside of what two routers compare that are taken out of a sketch for it, 4 microseconds each."""

LEAF = 32
CHUNK = 512
POSITION_BITS = POSITION_SIZE * 8
_FILLED = 3 * CHUNK // 4
"""Entries in each chunk after many came at once: the next ones go between them."""
_REBUILD = 8
"""Fewer than an eighth of what is in a chunk are put in, or looked for, one by one."""
_HEAD, _ID_AT = 8, 9
_Row = tuple[Position, int, int]
"""An entry as it is kept: position, packed fields, `held`."""

_SIZE_BITS, _ROOM_BITS = 16, 20
_ROOM_MASK = (1 << _ROOM_BITS) - 1
_ABSENT = 1 << 63
LONGEST_HELD = -(2**31)
"""The lowest `Entry.held` that can be kept: 68 years before this router first ran."""
_MAX_VIEWS = 64


class Entry(NamedTuple):
    """What is kept in memory of one record.

    `room` and `author` are numbers given by the caller, below 2**20 and 2**27; `size` is bytes as carried;
    `held` is seconds, from `LONGEST_HELD` up to 2**31, for the age. An absent entry is remembered, not held.
    """

    position: Position
    size: int
    room: int
    author: int
    held: int
    absent: bool


class _Chunk:
    """Up to `CHUNK` entries in order: a position's first 8 bytes, its ninth, and the id, each in an array."""

    __slots__ = ("heads", "held", "ids", "packed", "tails")

    def __init__(self, rows: Sequence[_Row] = ()) -> None:
        self.heads, self.tails, self.ids = array("Q"), bytearray(), bytearray()
        self.packed, self.held = array("Q"), array("i")
        self.extend(rows)

    def extend(self, rows: Sequence[_Row]) -> None:
        """Puts rows behind the last entry."""
        self.heads.extend([int.from_bytes(row[0][:_HEAD], "big") for row in rows])
        self.tails.extend([row[0][_HEAD] for row in rows])
        self.ids.extend(b"".join([row[0][_ID_AT:] for row in rows]))
        self.packed.extend([row[1] for row in rows])
        self.held.extend([row[2] for row in rows])

    def __len__(self) -> int:
        return len(self.packed)

    def key(self, index: int) -> Position:
        # Not Position(Bound(...)): in a walk over many records, these calls would be a fifth of the work.
        octets: Any = self.heads[index].to_bytes(_HEAD, "big") + self._rest(index)
        position: Position = octets
        return position

    def _rest(self, index: int) -> bytearray:
        """The position behind its first 8 bytes."""
        at = index * RECORD_ID_SIZE
        return self.tails[index : index + 1] + self.ids[at : at + RECORD_ID_SIZE]

    def lower(self, position: Bound) -> int:
        """The index of the first entry that is not below `position`, which may be any bound."""
        heads = self.heads
        head = int.from_bytes(position[:_HEAD].ljust(_HEAD, b"\x00"), "big")
        low = bisect_left(heads, head)
        if low == len(heads) or heads[low] != head:
            return low
        high, rest = low + 1, position[_HEAD:]
        if high < len(heads) and heads[high] == head:
            high = bisect_right(heads, head, high)
        while low < high:
            middle = (low + high) >> 1
            if self._rest(middle) < rest:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, position: Position) -> int | None:
        """The index of the entry at `position`, or None."""
        index = self.lower(position)
        return index if index < len(self.packed) and self.key(index) == position else None

    def insert(self, index: int, row: _Row) -> None:
        """Puts a row before the entry at `index`."""
        position, packed, held = row
        at = index * RECORD_ID_SIZE
        self.heads.insert(index, int.from_bytes(position[:_HEAD], "big"))
        self.tails.insert(index, position[_HEAD])
        self.ids[at:at] = position[_ID_AT:]
        self.packed.insert(index, packed)
        self.held.insert(index, held)

    def remove(self, index: int) -> None:
        """Takes the entry at `index` out."""
        at = index * RECORD_ID_SIZE
        del self.ids[at : at + RECORD_ID_SIZE]
        del self.heads[index], self.tails[index], self.packed[index], self.held[index]

    def entry(self, index: int) -> Entry:
        packed = self.packed[index]
        return Entry(
            self.key(index),
            packed & ((1 << _SIZE_BITS) - 1),
            packed >> _SIZE_BITS & _ROOM_MASK,
            (packed & ~_ABSENT) >> (_SIZE_BITS + _ROOM_BITS),
            self.held[index],
            bool(packed & _ABSENT),
        )

    def keys(self) -> list[Position]:
        """All positions."""
        return [self.key(index) for index in range(len(self))]

    def rows(self) -> list[_Row]:
        """All entries."""
        return list(zip(self.keys(), self.packed, self.held, strict=True))

    def split(self) -> "_Chunk":
        """Moves the upper half into a new chunk."""
        upper, middle = _Chunk(), len(self) // 2
        at = middle * RECORD_ID_SIZE
        upper.heads, self.heads = self.heads[middle:], self.heads[:middle]
        upper.tails, self.tails = self.tails[middle:], self.tails[:middle]
        upper.ids, self.ids = self.ids[at:], self.ids[:at]
        upper.packed, self.packed = self.packed[middle:], self.packed[:middle]
        upper.held, self.held = self.held[middle:], self.held[:middle]
        return upper


def _pack(entry: Entry) -> int:
    packed = entry.size | entry.room << _SIZE_BITS | entry.author << (_SIZE_BITS + _ROOM_BITS)
    return packed | _ABSENT if entry.absent else packed


def _row(entry: Entry) -> _Row:
    return entry.position, _pack(entry), entry.held


def _hash(data: bytes) -> Fingerprint:
    return Fingerprint(hashlib.blake2b(data, digest_size=FINGERPRINT_SIZE).digest())


class RecordSet:
    """Entries by position. Bounds are positions, `START` or `END`; a range is low <= position < high.

    `version` is another number after each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._chunks = [_Chunk()]
        self._firsts = [START]
        self._ranks = [0]
        """Of the first chunks, the rank of each one's first entry; the others' are found when wanted."""
        self._count = 0
        self._nodes: dict[int, dict[int, Fingerprint]] = {}
        self._views: dict[Span, Summary] = {}
        self._sketch = SetSketch()
        self._sketched = START

    def __len__(self) -> int:
        return self._count

    # --- Entries ----------------------------------------------------------------------------------------

    def _chunk_of(self, position: Bound) -> int:
        """The number of the chunk that `position` lies in."""
        return bisect_right(self._firsts, position) - 1

    def _locate(self, position: Bound) -> tuple[int, int]:
        number = self._chunk_of(position)
        return number, self._chunks[number].lower(position)

    def get(self, position: Position) -> Entry | None:
        """The entry at `position`, or None."""
        chunk = self._chunks[self._chunk_of(position)]
        index = chunk.find(position)
        return None if index is None else chunk.entry(index)

    def __contains__(self, position: Position) -> bool:
        return self._chunks[self._chunk_of(position)].find(position) is not None

    def among(self, positions: Iterable[Position]) -> set[Position]:
        """Which of these positions have an entry: the quick way for many at once."""
        found: set[Position] = set()
        for number, some in self._by_chunk(sorted(positions)):
            chunk = self._chunks[number]
            if chunk and some[0] <= chunk.key(len(chunk) - 1):
                if len(some) * _REBUILD < len(chunk):
                    found.update(position for position in some if chunk.find(position) is not None)
                else:
                    found.update(set(some).intersection(chunk.keys()))
        return found

    def _by_chunk(self, positions: list[Position]) -> Iterator[tuple[int, list[Position]]]:
        """Sorted positions by the chunk they lie in, the last one first: those before keep their number."""
        end = len(positions)
        while end:
            number = self._chunk_of(positions[end - 1])
            start = bisect_left(positions, self._firsts[number], 0, end)
            yield number, positions[start:end]
            end = start

    def put(self, entry: Entry) -> None:
        """Adds the entry, or replaces the one at its position."""
        number, index = self._locate(entry.position)
        chunk = self._chunks[number]
        self.version += 1
        if index < len(chunk) and chunk.key(index) == entry.position:
            chunk.packed[index], chunk.held[index] = _pack(entry), entry.held
            return
        chunk.insert(index, _row(entry))
        self._count += 1
        del self._ranks[number + 1 :]
        if len(chunk) > CHUNK:
            upper = chunk.split()
            self._chunks.insert(number + 1, upper)
            self._firsts.insert(number + 1, upper.key(0))
        self._changed(entry.position)

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Adds the entries, or replaces those at their positions: the quick way for many at once."""
        added = {entry.position: entry for entry in entries}
        if len(added) * _REBUILD >= self._count:
            self._nodes.clear()  # most of them change
        for number, positions in self._by_chunk(sorted(added)):
            chunk = self._chunks[number]
            if len(positions) * _REBUILD < len(chunk):
                for position in positions:
                    self.put(added[position])
            else:
                self._merge(number, [_row(added[position]) for position in positions])

    def _merge(self, number: int, rows: list[_Row]) -> None:
        """Puts sorted rows, which all lie in this chunk, into it."""
        chunk = self._chunks[number]
        fresh = [row[0] for row in rows]
        if not chunk or rows[0][0] > chunk.key(len(chunk) - 1):
            chunk.extend(rows)
        else:
            merged = {row[0]: row for row in chunk.rows()}
            fresh = [position for position in fresh if position not in merged]
            merged.update((row[0], row) for row in rows)
            chunk = self._chunks[number] = _Chunk([merged[position] for position in sorted(merged)])
        if len(chunk) > CHUNK:
            rows = chunk.rows()
            pieces = [_Chunk(rows[at : at + _FILLED]) for at in range(0, len(rows), _FILLED)]
            self._chunks[number : number + 1] = pieces
            self._firsts[number + 1 : number + 1] = [piece.key(0) for piece in pieces[1:]]
        self.version += 1
        self._count += len(fresh)
        del self._ranks[number + 1 :]
        for position in fresh:
            self._changed(position)

    def discard(self, position: Position) -> None:
        """Takes the entry out where there is one."""
        number = self._chunk_of(position)
        chunk = self._chunks[number]
        index = chunk.find(position)
        if index is None:
            return
        chunk.remove(index)
        self._count -= 1
        del self._ranks[number + 1 :]
        if not chunk and number:
            del self._chunks[number], self._firsts[number], self._ranks[number:]
        self._changed(position)

    def _changed(self, position: Position) -> None:
        self.version += 1
        if position < self._sketched:
            self._sketch.toggle(position)
        self._views.clear()
        number = int.from_bytes(position, "big")
        for bits, nodes in self._nodes.items():
            nodes.pop(number >> (POSITION_BITS - bits), None)

    # --- Ranges -----------------------------------------------------------------------------------------

    def _ranked(self, number: int) -> int:
        """How many entries lie below the chunk with this number."""
        ranks, chunks = self._ranks, self._chunks
        while len(ranks) <= number:
            ranks.append(ranks[-1] + len(chunks[len(ranks) - 1]))
        return ranks[number]

    def rank(self, bound: Bound) -> int:
        """How many entries lie below `bound`."""
        if bound >= END:
            return self._count
        number, index = self._locate(bound)
        return self._ranked(number) + index

    def count(self, low: Bound = START, high: Bound = END) -> int:
        """How many entries lie in the range."""
        return max(0, self.rank(high) - self.rank(low))

    def _find(self, rank: int) -> tuple[int, int]:
        """The chunk and the index in it of the entry with `rank` entries below it."""
        self._ranked(len(self._chunks) - 1)
        number = bisect_right(self._ranks, rank) - 1
        return number, rank - self._ranks[number]

    def at_rank(self, rank: int) -> Position:
        """The position of the entry with `rank` entries below it; raises IndexError beyond the last."""
        if not 0 <= rank < self._count:
            raise IndexError(rank)
        number, index = self._find(rank)
        return self._chunks[number].key(index)

    def positions(self, low: Bound = START, high: Bound = END) -> Iterator[Position]:
        """The positions in the range, in order. The set must not change meanwhile."""
        for chunk, first, last in self._pieces(low, high):
            for index in range(first, last):
                yield chunk.key(index)

    def entries(self, low: Bound = START, high: Bound = END) -> Iterator[Entry]:
        """The entries in the range, in order. The set must not change meanwhile."""
        for chunk, first, last in self._pieces(low, high):
            for index in range(first, last):
                yield chunk.entry(index)

    def in_room(
        self, room: int, low: Bound = START, high: Bound = END, *, newest_first: bool = False
    ) -> Iterator[Entry]:
        """The entries in the range that carry this room number, in order or the other way round."""
        step = -1 if newest_first else 1
        for chunk, first, last in list(self._pieces(low, high))[::step]:
            packed = chunk.packed
            for index in range(first, last)[::step]:
                if packed[index] >> _SIZE_BITS & _ROOM_MASK == room:
                    yield chunk.entry(index)

    def _pieces(self, low: Bound, high: Bound) -> Iterator[tuple[_Chunk, int, int]]:
        """The chunks that hold the range, with the indices of the first entry in it and of the one behind."""
        number, index = self._locate(low)
        while number < len(self._chunks):
            chunk = self._chunks[number]
            ends_here = number + 1 == len(self._chunks) or self._firsts[number + 1] >= high
            yield chunk, index, chunk.lower(high) if ends_here else len(chunk)
            if ends_here:
                return
            number, index = number + 1, 0

    def summary(self, low: Bound = START, high: Bound = END) -> Summary:
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

    # --- The sketch -------------------------------------------------------------------------------------

    def sketch_on(self, steps: int) -> bool:
        """Mixes the next `steps` entries into the sketch; False once all are, and it follows each change.

        So the load at a start costs nothing for it, and the first router that differs does not wait.
        """
        for position in self.positions(self._sketched):
            if not steps:
                self._sketched = position
                return True
            self._sketch.toggle(position)
            steps -= 1
        self._sketched = END
        return False

    def sketch(self, ranges: Sequence[Span]) -> SetSketch | None:
        """The sketch of the ranges, given in order; not to be changed.

        None while it is not complete, and where more than `SKETCH_OUTSIDE` entries lie outside.
        """
        edges = [START, *(bound for each in ranges for bound in each), END]
        gaps = list(zip(edges[::2], edges[1::2], strict=True))
        outside = sum(self.count(low, high) for low, high in gaps)
        if self._sketched != END or outside > SKETCH_OUTSIDE:
            return None
        if not outside:
            return self._sketch
        sketch = self._sketch.copy()
        for low, high in gaps:
            for position in self.positions(low, high):
                sketch.toggle(position)
        return sketch

    def find_sketched(self, key: SketchKey) -> Position | None:
        """The position of the entry that a sketch knows by this key, or None."""
        for stratum in (b"\x00", b"\x01"):
            start = stratum + key
            position = next(self.positions(Bound(start.ljust(POSITION_SIZE, b"\x00"))), None)
            if position is not None and position.startswith(start):
                return position
        return None

    # --- Fingerprints -----------------------------------------------------------------------------------

    def _fingerprint(self, first: int, last: int, slot: tuple[int, int] | None = None) -> Fingerprint:
        """The fingerprint of the entries with ranks from `first` up to `last`.

        `slot` is how many leading bits these entries share, and which, where no others do: only then is the
        fingerprint remembered, until an entry with these bits comes or goes.
        """
        if last - first <= LEAF:
            return _hash(b"\x00" + self._ids(first, last))
        known = self._nodes.get(slot[0], {}).get(slot[1]) if slot else None
        if known is not None:
            return known
        low = int.from_bytes(self.at_rank(first), "big")
        high = int.from_bytes(self.at_rank(last - 1), "big")
        shared = POSITION_BITS - (low ^ high).bit_length()
        prefix = low >> (POSITION_BITS - shared)
        whole = slot is not None or self._is_whole(first, last, shared, prefix)
        lower, upper = prefix << 1, prefix << 1 | 1
        split = upper << (POSITION_BITS - shared - 1)
        middle = self.rank(Bound(split.to_bytes(POSITION_SIZE, "big")))
        left = self._fingerprint(first, middle, (shared + 1, lower) if whole else None)
        right = self._fingerprint(middle, last, (shared + 1, upper) if whole else None)
        fingerprint = _hash(b"\x01" + left + right)
        if slot is not None:
            self._nodes.setdefault(slot[0], {})[slot[1]] = fingerprint
        return fingerprint

    def _is_whole(self, first: int, last: int, shared: int, prefix: int) -> bool:
        """Whether no entry outside these ranks has the same leading bits."""
        rest = POSITION_BITS - shared
        below = first == 0 or int.from_bytes(self.at_rank(first - 1), "big") >> rest != prefix
        return below and (last == self._count or int.from_bytes(self.at_rank(last), "big") >> rest != prefix)

    def _ids(self, first: int, last: int) -> bytes:
        """The ids of the entries with ranks from `first` up to `last`, in order."""
        ids = bytearray()
        if first < last:
            number, index = self._find(first)
            wanted = (last - first) * RECORD_ID_SIZE
            while len(ids) < wanted:
                at = index * RECORD_ID_SIZE
                ids += self._chunks[number].ids[at : at + wanted - len(ids)]
                number, index = number + 1, 0
        return bytes(ids)
