"""Which rooms there are: the default ones, those with a record, and those that hold messages."""

from meshchat.chat.names import fold
from meshchat.chat.ports import Mesh
from meshchat.constants import DEFAULT_ROOMS
from meshchat.wire.records import Space


class Rooms:
    """The rooms known here. The store's byte budgets bound how many others can make."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._spellings: dict[str, list[str]] = {}
        self.reload()

    def reload(self) -> None:
        """Reads the rooms anew, after records have gone."""
        self._spellings.clear()
        for name in DEFAULT_ROOMS:
            self.add(name)
        for record in self._mesh.permanent(Space.ROOMS):
            self.add(record.log)
        for room in self._mesh.rooms():
            self.add(room.name)

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
