"""Which rooms there are: the default ones, those with a record, and those that hold messages."""

from collections.abc import Iterable

from meshchat.chat.names import fold
from meshchat.chat.ports import Mesh
from meshchat.constants import DEFAULT_ROOMS
from meshchat.wire.ids import RecordId
from meshchat.wire.records import Record, Space


class Rooms:
    """The rooms known here. The store's byte budgets bound how many others can make."""

    def __init__(self, mesh: Mesh) -> None:
        """Reads the records of rooms from the store; from then on it has to be told of each change."""
        self._mesh = mesh
        self._spellings: dict[str, list[str]] = {}
        self._founded: dict[str, set[RecordId]] = {}
        for name in DEFAULT_ROOMS:
            self.add(name)
        for record in mesh.permanent(Space.ROOMS):
            self.feed(record)
        for name in mesh.room_names():
            self.add(name)

    def feed(self, record: Record) -> bool:
        """Takes in a record of the room log; says whether the room is new."""
        if record.log:
            self._founded.setdefault(record.log, set()).add(record.id)
        return self.add(record.log)

    def drop(self, record: Record) -> None:
        """A record of the room log has gone: the room too, unless another record or a message names it."""
        ids = self._founded.get(record.log, set())
        ids.discard(record.id)
        if not ids:
            self._founded.pop(record.log, None)
            self._close_empty((record.log,))

    def history_gone(self) -> None:
        """After a wipe: rooms that only their messages made have gone."""
        self._close_empty(self.names())

    def _close_empty(self, names: Iterable[str]) -> None:
        for name in names:
            if name in DEFAULT_ROOMS or name in self._founded or self._mesh.has_room(name):
                continue
            spellings = self._spellings.get(fold(name), [])
            if name in spellings:
                spellings.remove(name)
            if not spellings:
                self._spellings.pop(fold(name), None)

    def add(self, name: str) -> bool:
        """Takes in a room; says whether it is new. An empty name, which a record may carry, is no room."""
        if not name:
            return False
        spellings = self._spellings.setdefault(fold(name), [])
        if name in spellings:
            return False
        spellings.append(name)
        spellings.sort()
        return True

    def find(self, typed: str) -> str | None:
        """The room meant: this spelling, else the first that differs only in case or width, else None."""
        spellings = self._spellings.get(fold(typed), [])
        if typed in spellings:
            return typed
        return spellings[0] if spellings else None

    def names(self) -> list[str]:
        """All rooms: the default ones first, then the others by name."""
        others = sorted(
            (folded, name)
            for folded, spellings in self._spellings.items()
            for name in spellings
            if name not in DEFAULT_ROOMS
        )
        return [*DEFAULT_ROOMS, *(name for _, name in others)]
