"""Nested limits on bytes: an author in a room, a room, the router. The oldest go first.

A record is kept exactly when less than the limit lies above it (is newer than it), at each level; what an
author has beyond his own limit does not count against the room, nor a room's excess against the router.
Written so, the outcome depends on the set alone: f(S | T) = f(f(S) | T), whatever order records arrive in.

Proof sketch: going down from the newest record, as long as no level is full nothing was evicted, so all three
sums over the kept set equal those over the full set; where a level is full, the records that fill it are
themselves kept, so it is full over the kept set too. The property test checks it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from meshchat.state.recordset import Entry, RecordSet
from meshchat.wire.ids import START, Position

G = TypeVar("G")
_Group = tuple[int, int | None] | None
"""An author in a room, a room, or the router."""


def _groups(entry: Entry) -> tuple[_Group, ...]:
    return (entry.room, entry.author), (entry.room, None), None


@dataclass(frozen=True)
class CapLimits:
    """Bytes of records, as carried."""

    author: int
    room: int
    router: int


class Caps:
    """Keeps the sums of what `records` holds of history, and says what has to go.

    Absent entries and permanent records (room number 0) do not count.
    """

    def __init__(self, limits: CapLimits, records: RecordSet) -> None:
        self._limits = limits
        self._records = records
        self._authors: dict[tuple[int, int], int] = {}
        self._rooms: dict[int, int] = {}
        self._router = 0
        self._oldest: dict[_Group, Entry] = {}
        self._above: dict[_Group, Position] = {}

    @property
    def total(self) -> int:
        """Bytes that count against the router's limit."""
        return self._router

    def add_all(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries were put into the set; returns one for each author in a room, to ask `excess` with."""
        sizes: dict[tuple[int, int], int] = {}
        lowest: dict[tuple[int, int], Entry] = {}
        for entry in entries:
            author = (entry.room, entry.author)
            sizes[author] = sizes.get(author, 0) + entry.size
            if author not in lowest or entry.position < lowest[author].position:
                lowest[author] = entry
        for author, entry in lowest.items():
            self._add(entry, sizes[author])
        return list(lowest.values())

    def _add(self, entry: Entry, size: int) -> None:
        """`size` bytes more of this author in this room, of which `entry` is the lowest."""
        self._move(entry, size)
        for group in _groups(entry):
            oldest = self._oldest.get(group)
            if oldest is not None and entry.position < oldest.position:
                self._oldest[group] = entry
            if entry.position < self._above.get(group, START):
                del self._above[group]

    def remove(self, entry: Entry) -> None:
        """The entry left the set, or is only remembered from now on."""
        self._move(entry, -entry.size)
        for group in _groups(entry):
            oldest = self._oldest.get(group)
            if oldest is not None and oldest.position == entry.position:
                del self._oldest[group]
                self._above[group] = entry.position

    def _move(self, entry: Entry, size: int) -> None:
        author, room = (entry.room, entry.author), entry.room
        before = self._authors.get(author, 0)
        after = before + size
        room_before = self._rooms.get(room, 0)
        room_after = room_before + self._author_share(after) - self._author_share(before)
        self._router += self._room_share(room_after) - self._room_share(room_before)
        _store(self._authors, author, after)
        if not after:
            self._above.pop(author, None)
        _store(self._rooms, room, room_after)

    def _author_share(self, size: int) -> int:
        return min(self._limits.author, size)

    def _room_share(self, size: int) -> int:
        return min(self._limits.room, size)

    def excess(self, entry: Entry) -> Entry | None:
        """A record that has to go now that `entry` is in, or None. Ask again after it is removed."""
        author = (entry.room, entry.author)
        if self._authors.get(author, 0) > self._limits.author:
            oldest = self._oldest_of(author)
            if self._above_in_author(oldest) >= self._limits.author:
                return oldest
        if self._rooms.get(entry.room, 0) > self._limits.room:
            oldest = self._oldest_of((entry.room, None))
            if self._above_in_room(oldest) >= self._limits.room:
                return oldest
        if self._router > self._limits.router:
            oldest = self._oldest_of(None)
            if self._above_in_router(oldest) >= self._limits.router:
                return oldest
        return None

    def is_beneath(self, position: Position, room: int | None, author: int | None) -> bool:
        """Whether a record that is not here would be the first to go: so old that a full level lies above it.

        `room` and `author` are their numbers, None where nothing of them is held.
        """
        limits = self._limits
        levels: list[tuple[int, int, _Group]] = [(self._router, limits.router, None)]
        if room is not None:
            levels.append((self._rooms.get(room, 0), limits.room, (room, None)))
            if author is not None:
                levels.append((self._authors.get((room, author), 0), limits.author, (room, author)))
        return any(
            total >= most and position < self._oldest_of(group).position for total, most, group in levels
        )

    def _above_in_author(self, oldest: Entry) -> int:
        return self._authors[oldest.room, oldest.author] - oldest.size

    def _above_in_room(self, oldest: Entry) -> int:
        mine = self._authors[oldest.room, oldest.author]
        return self._rooms[oldest.room] - self._author_share(mine) + self._author_share(mine - oldest.size)

    def _above_in_router(self, oldest: Entry) -> int:
        mine = self._rooms[oldest.room]
        return self._router - self._room_share(mine) + self._room_share(self._above_in_room(oldest))

    def _oldest_of(self, group: _Group) -> Entry:
        """The lowest entry of an author in a room, of a room, or of the router.

        The search goes on above the last one that left, so that a flood at its limit walks the set once.
        """
        oldest = self._oldest.get(group)
        if oldest is None:
            oldest = self._oldest[group] = next(self._members(group))
        return oldest

    def _members(self, group: _Group) -> Iterator[Entry]:
        for entry in self._records.entries(self._above.get(group, START)):
            if entry.absent or entry.room == 0:
                continue
            if group is None or (entry.room == group[0] and group[1] in (None, entry.author)):
                yield entry


def _store(sums: dict[G, int], group: G, value: int) -> None:
    """Keeps no entry for zero, so that the tables shrink with the set."""
    if value:
        sums[group] = value
    else:
        sums.pop(group, None)
