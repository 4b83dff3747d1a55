"""The records that a router holds, for whoever asks: by room, by space, by position.

Nothing is read from disk here: positions come out, and the logs have the bodies. What lies too far in the
future to be shown is in nothing that people see.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from meshchat.protocol.context import Context
from meshchat.protocol.instant import Instant
from meshchat.protocol.retention import Retention
from meshchat.state.receipts import Receipts
from meshchat.state.store import HISTORY_START
from meshchat.state.tally import RoomSum
from meshchat.wire.ids import START, Bound, Position, PublicKey, RecordId, Span
from meshchat.wire.records import MAX_STAMP, make_position


class Holdings:
    """A view of one router's records: it changes nothing."""

    def __init__(self, context: Context, retention: Retention, receipts: Receipts) -> None:
        self._store, self._extent = context.store, context.extent
        self._retention, self._receipts = retention, receipts

    @property
    def count(self) -> int:
        """How many records are held."""
        return self._store.held

    def holds(self, position: Position) -> bool:
        """Whether the record at this position is held."""
        return self._store.holds(position)

    def age(self, position: Position, now: Instant) -> int:
        """Seconds that the record has been held, here and before it came here."""
        return self._store.age(position, self._retention.run(now))

    def holders(self, record_id: RecordId, author: PublicKey) -> int | None:
        """How many neighbours are known to hold a message of this author (his public key); None where this
        is not watched here.
        """
        receipt = self._receipts.get(record_id)
        return receipt.by if receipt is not None and receipt.author == author else None

    # --- Rooms ------------------------------------------------------------------------------------------

    def rooms(self, now: Instant) -> Iterator[tuple[str, RoomSum]]:
        """The rooms that hold messages, in any order."""
        return self._store.room_sums(self._extent.ceiling(now))

    def room_names(self) -> Iterable[str]:
        """The rooms in which anything is held, in any order."""
        return self._store.room_numbers()

    def has_room(self, room: str) -> bool:
        """Whether anything in this room is held."""
        return self._store.has_room(room)

    def has_author(self, key: PublicKey) -> bool:
        """Whether history written with this public key is held."""
        return self._store.has_author(key)

    def messages(
        self,
        room: str,
        now: Instant,
        *,
        since: int = 0,
        until: int = MAX_STAMP,
        limit: int | None = None,
        before: Position | None = None,
    ) -> list[Position]:
        """The records of a room with since <= stamp < until in the order that people see; of many, the newest
        `limit`. With `before`, a position, only what people see above it.
        """
        high = min(until, self._extent.ceiling(now))
        shown: list[Span] = [
            (make_position(stratum, since), make_position(stratum, high)) for stratum in (0, 1)
        ]
        if before is not None:
            # People see both strata by (stamp, id).
            shown = [(low, min(top, Bound(top[:1] + before[1:]))) for low, top in shown]
        entries = self._store.room_entries
        strata = [entries(room, low, top, newest_first=True) for low, top in shown if low < top]
        newest = merge(*strata, key=lambda entry: entry.position[1:], reverse=True)
        return [entry.position for entry in islice(newest, limit)][::-1]

    def message(self, room: str, record_id: RecordId) -> Position | None:
        """The position of a record of this room; None where it is not held."""
        entries = self._store.room_entries(room, newest_first=True)
        positions = (entry.position for entry in entries if entry.position.endswith(record_id))
        return next(positions, None)

    # --- All of it --------------------------------------------------------------------------------------

    def all(self, room: str | None) -> list[Position]:
        """All that is held of a room, or (None) at all, what is not shown yet included."""
        entries = self._store.held_entries() if room is None else self._store.room_entries(room)
        return [entry.position for entry in entries]

    def permanent(self) -> list[Position]:
        """What no horizon wipes: accounts, rooms and kinds like them."""
        return [entry.position for entry in self._store.held_entries(START, HISTORY_START) if not entry.room]

    def let_go(self) -> list[Position]:
        """What was removed and shall not be fetched again."""
        return list(self._store.remembered_positions())
