"""What a router holds and what it only remembers, in one ordered set, with the limits on it.

The bodies are in the logs; here is the index over them that digests, ranges, limits and views are made from.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from meshchat.constants import MAX_REMEMBERED
from meshchat.state.caps import CapLimits, Caps
from meshchat.state.permanent import PermanentBudget
from meshchat.state.recordset import LONGEST_HELD, Entry, RecordSet
from meshchat.state.tally import RoomSum, RoomTally
from meshchat.wire.ids import END, START, Bound, Position, PublicKey
from meshchat.wire.records import MAX_STAMP, Record, Space, make_position, position_stamp

K = TypeVar("K")
T = TypeVar("T")

HISTORY_START = make_position(1, 0)
"""Below it lies stratum 0, from it on stratum 1."""


class Numbering(Generic[K]):
    """Small numbers from 1 for names or keys, given back when nothing uses them any more.

    `numbers` maps what is in use to its number.
    """

    def __init__(self) -> None:
        self.numbers: dict[K, int] = {}
        self._names: dict[int, K] = {}
        self._uses: dict[int, int] = {}
        self._free: list[int] = []

    def use(self, name: K) -> int:
        """The number of `name`, used once more."""
        number = self.numbers.get(name)
        if number is None:
            number = self._free.pop() if self._free else len(self.numbers) + 1
            self.numbers[name], self._names[number], self._uses[number] = number, name, 0
        self._uses[number] += 1
        return number

    def name(self, number: int) -> K:
        """The name that has this number."""
        return self._names[number]

    def release(self, number: int) -> None:
        """The number is used once less."""
        self._uses[number] -= 1
        if not self._uses[number]:
            del self.numbers[self._names.pop(number)], self._uses[number]
            self._free.append(number)


class HistoryRow(NamedTuple):
    """What the store has to know of a record of history: `size` is bytes as carried, `held` as in `Entry`."""

    position: Position
    size: int
    space: int
    log: str
    key: PublicKey
    held: int


@dataclass(frozen=True)
class StoreLimits:
    """Bytes of records, as carried: history nested, accounts and rooms together, ids remembered."""

    history: CapLimits
    permanent: int
    remembered: int = MAX_REMEMBERED


class RecordStore:
    """The index of all records. Times are cumulative running seconds of this router ("run").

    `floor` is a stamp: below it this router no longer knows which dated records it has had and let go.
    """

    def __init__(self, limits: StoreLimits) -> None:
        self.records = RecordSet()
        self.held = 0
        self.remembered = 0
        self.floor = 0
        self._absent: list[tuple[bool, Position]] = []
        self._limits = limits
        self._caps = Caps(limits.history, self.records)
        self._permanent = PermanentBudget(limits.permanent)
        self._tally = RoomTally(self.records)
        self._rooms: Numbering[tuple[int, str]] = Numbering()
        self._authors: Numbering[PublicKey] = Numbering()

    # --- Looking ----------------------------------------------------------------------------------------

    def holds(self, position: Position) -> bool:
        """Whether the record is here."""
        entry = self.records.get(position)
        return entry is not None and not entry.absent

    def accounts_for(self, position: Position) -> bool:
        """Whether the record is here or remembered as removed."""
        return position in self.records

    def age(self, position: Position, run: int) -> int:
        """Seconds that the record has been held, here and before it came here."""
        entry = self.records.get(position)
        return max(0, run - entry.held) if entry else 0

    @property
    def bytes_held(self) -> int:
        """Bytes of records, as carried, that count against the router's limits."""
        return self._caps.total + self._permanent.total

    def room_numbers(self) -> dict[str, int]:
        """The rooms that have records, with the numbers their entries carry."""
        return {name: number for (space, name), number in self._rooms.numbers.items() if space == Space.ROOM}

    def room_entries(
        self, room: str, low: Bound = START, high: Bound = END, *, newest_first: bool = False
    ) -> Iterator[Entry]:
        """The entries of a room that are held, by position, or the other way round."""
        number = self._rooms.numbers.get((Space.ROOM, room))
        return self.records.in_room(number, low, high, newest_first=newest_first) if number else iter(())

    def room_sums(self, ceiling: int) -> Iterator[tuple[str, RoomSum]]:
        """The rooms that hold messages stamped below `ceiling`, by name."""
        names = {number: name for name, number in self.room_numbers().items()}
        return ((names[each.room], each) for each in self._tally.sums(ceiling) if each.room in names)

    def has_room(self, room: str) -> bool:
        """Whether a record of the room is held."""
        return (Space.ROOM, room) in self._rooms.numbers

    def has_author(self, key: PublicKey) -> bool:
        """Whether history written with this public key is held."""
        return key in self._authors.numbers

    def knows(self, key: PublicKey) -> bool:
        """Whether history or an account of this public key is held."""
        return self.has_author(key) or self._permanent.is_about(key)

    def held_entries(self, low: Bound = START, high: Bound = END) -> Iterator[Entry]:
        """The entries that are held, by position."""
        return (entry for entry in self.records.entries(low, high) if not entry.absent)

    def oldest_history(self) -> int | None:
        """The lowest position's stamp of dated history held, or None."""
        entry = next(self.held_entries(HISTORY_START), None)
        return None if entry is None else int.from_bytes(entry.position[1:9], "big")

    def is_beneath_limits(self, record: Record) -> bool:
        """Whether the record is so old that the limits on size would let it go at once."""
        if record.permanent:
            return False
        room = self._rooms.numbers.get((record.space, record.log))
        return self._caps.is_beneath(record.position, room, self._authors.numbers.get(record.key))

    def remembered_positions(self) -> Iterator[Position]:
        """What is remembered as removed, by position."""
        return (entry.position for entry in self.records.entries() if entry.absent)

    # --- Adding -----------------------------------------------------------------------------------------

    def add_all(self, records: Iterable[tuple[Record, int]], run: int) -> list[Position]:
        """Puts records in, each with the seconds it was held before, in whatever order.

        Returns the positions that had to go for them, their own among them perhaps; these are remembered
        from then on. Those that are accounted for already are passed over.
        """
        fresh = {record.position: (record, age) for record, age in records}
        self._drop_known(fresh)
        rows: list[HistoryRow] = []
        permanent: list[tuple[Record, int]] = []
        for position, (record, age) in fresh.items():
            held = max(run - age, LONGEST_HELD)
            if record.permanent:
                permanent.append((record, held))
            else:
                size = len(record.carried)
                rows.append(HistoryRow(position, size, record.space, record.log, record.key, held))
        gone = self._add_fresh(rows)
        for record, held in permanent:
            self.held += 1
            gone += self._add_permanent(record, held)
        return gone

    def add_history(self, rows: Iterable[HistoryRow]) -> list[Position]:
        """The same for records of history of which no more than this is at hand."""
        fresh = {row.position: row for row in rows}
        self._drop_known(fresh)
        return self._add_fresh(fresh.values())

    def _drop_known(self, fresh: dict[Position, T]) -> None:
        """Takes out, by position, what is accounted for already."""
        for position in self.records.among(fresh):
            del fresh[position]

    def _add_fresh(self, rows: Iterable[HistoryRow]) -> list[Position]:
        entries = [
            Entry(position, size, self._rooms.use((space, log)), self._authors.use(key), held, False)
            for position, size, space, log, key, held in rows
        ]
        self.held += len(entries)
        self.records.put_all(entries)
        for entry in entries:
            self._tally.changed(entry.position)
        some = self._caps.add_all(entries)
        for entry in some:
            self._permanent.written(self._authors.name(entry.author), self._rooms.name(entry.room)[1])
        return [gone for entry in some for gone in self._evict(entry)]

    def _evict(self, entry: Entry) -> list[Position]:
        """Lets go what exceeds the limits on size since `entry` came, and remembers it."""
        gone: list[Position] = []
        while (excess := self._caps.excess(entry)) is not None:
            self.forget(excess.position, remember=True)
            gone.append(excess.position)
        return gone

    def _add_permanent(self, record: Record, held: int) -> list[Position]:
        self.records.put(Entry(record.position, len(record.carried), 0, 0, held, False))
        used = self._authors.numbers.get(record.key) if record.space == Space.ACCOUNTS else None
        used = used or self._rooms.numbers.get((Space.ROOM, record.log))
        gone = self._permanent.add(record, used=used is not None)
        for position in gone:
            self.forget(position, remember=True)
        return gone

    # --- Removing ---------------------------------------------------------------------------------------

    def forget(self, position: Position, *, remember: bool) -> None:
        """Takes the record out; with `remember` its id still counts in digests, so nobody sends it again."""
        entry = self.records.get(position)
        if entry is None or entry.absent:
            return
        self.held -= 1
        if entry.room:
            self._caps.remove(entry)
            self._tally.changed(position)
            self._rooms.release(entry.room)
            self._authors.release(entry.author)
        else:
            self._permanent.remove(position)
        if remember:
            self._put_absent(position)
        else:
            self.records.discard(position)

    def remember(self, position: Position) -> None:
        """Accounts for a record that is not here and shall not be fetched."""
        if position not in self.records:
            self._put_absent(position)

    def _put_absent(self, position: Position) -> None:
        self.records.put(Entry(position, 0, 0, 0, 0, True))
        self.remembered += 1
        heapq.heappush(self._absent, (position < HISTORY_START, position))

    def forget_remembered(self, position: Position) -> None:
        """Does not account for it any more: it may come again."""
        entry = self.records.get(position)
        if entry is not None and entry.absent:
            self.records.discard(position)
            self.remembered -= 1

    @property
    def remembers_too_much(self) -> bool:
        """Whether `trim_remembered` is due."""
        return self.remembered > self._limits.remembered

    def trim_remembered(self) -> list[Position]:
        """Drops the oldest of what is remembered, as far as it exceeds its limit; returns it.

        Dated records go first, and `floor` rises above them: what lies below is not compared any more, or
        the same records would come, go and be forgotten again for ever.
        """
        dropped = []
        while self.remembers_too_much and self._absent:
            _, position = heapq.heappop(self._absent)
            if self._is_absent(position):
                self.forget_remembered(position)
                dropped.append(position)
                if position >= HISTORY_START:
                    self.floor = max(self.floor, position_stamp(position) + 1)
        return dropped

    def drop_remembered_below(self, floor: int) -> list[Position]:
        """Drops what is remembered of dated history below the stamp `floor`, which itself keeps it away."""
        entries = self.records.entries(HISTORY_START, make_position(1, floor))
        dropped = [entry.position for entry in entries if entry.absent]
        for position in dropped:
            self.forget_remembered(position)
        self._absent = [
            (undated, position) for undated, position in self._absent if self._is_absent(position)
        ]
        heapq.heapify(self._absent)
        return dropped

    def _is_absent(self, position: Position) -> bool:
        entry = self.records.get(position)
        return entry is not None and entry.absent

    def below(self, floor: int) -> list[Position]:
        """Dated history stamped below `floor` that is held."""
        high = make_position(1, min(floor, MAX_STAMP))
        return [entry.position for entry in self.held_entries(HISTORY_START, high)]

    def aged(self, seconds: int, run: int) -> list[Position]:
        """Undated history that has been held for longer than `seconds`."""
        entries = self.held_entries(START, HISTORY_START)
        return [entry.position for entry in entries if entry.room and run - entry.held > seconds]
