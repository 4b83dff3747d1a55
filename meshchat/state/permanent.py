"""The budget of what no wipe touches: accounts and rooms. Those never used go first."""

import heapq
from dataclasses import dataclass

from meshchat.wire.ids import Position, PublicKey
from meshchat.wire.records import Record, Space


def _subject(record: Record) -> bytes:
    """What a permanent record is about: the account's key, or the room's name."""
    return record.key if record.space == Space.ACCOUNTS else record.log.encode("utf-8")


@dataclass
class _Item:
    subject: bytes
    size: int
    used: bool


class PermanentBudget:
    """Keeps the sum of permanent records, in bytes as carried, and which of them were ever used.

    A stranger who registers accounts or opens rooms without end evicts his own: an account whose key was
    seen to write, and a room in which somebody did, go after all the others.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._items: dict[Position, _Item] = {}
        self._about: dict[bytes, set[Position]] = {}
        self._oldest: list[tuple[bool, Position]] = []

    def add(self, record: Record, *, used: bool) -> list[Position]:
        """A permanent record came; returns the positions that have to go for it, the oldest unused first."""
        subject, position = _subject(record), record.position
        self._items[position] = _Item(subject, len(record.carried), used)
        self._about.setdefault(subject, set()).add(position)
        self.total += len(record.carried)
        heapq.heappush(self._oldest, (used, position))
        gone: list[Position] = []
        excess = self.total - self._limit
        while excess > 0 and self._oldest:
            was_used, oldest = heapq.heappop(self._oldest)
            item = self._items.get(oldest)
            if item is None:
                continue
            if item.used and not was_used:
                heapq.heappush(self._oldest, (True, oldest))
                continue
            excess -= item.size
            gone.append(oldest)
        return gone

    def is_about(self, subject: bytes) -> bool:
        """Whether there is a record about it: an account's key, or a room's name in UTF-8."""
        return subject in self._about

    def remove(self, position: Position) -> None:
        """The record at this position left."""
        item = self._items.pop(position)
        self.total -= item.size
        about = self._about[item.subject]
        about.discard(position)
        if not about:
            del self._about[item.subject]

    def written(self, key: PublicKey, log: str) -> None:
        """History came: the account with this public key and the room of this name are in use."""
        for subject in (key, log.encode("utf-8")):
            for position in self._about.get(subject, ()):
                self._items[position].used = True
