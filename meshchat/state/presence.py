"""Who is present on which router, as the people themselves said last: soft state that expires.

An entry is the latest statement of one key on one router. That somebody has gone is an entry too, until the
statements before it are too old to be believed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshchat.constants import ACTIVE_FOR, ACTIVE_GRACE, AHEAD_MS, MAX_PRESENT, PRESENCE_LIFETIME
from meshchat.wire.ids import Place, PublicKey, RecordId, RouterId, record_id_of
from meshchat.wire.presence import LONGEST_IDLE, Statement
from meshchat.wire.records import Record

MAX_PLACES = 8
"""Routers on which one key is present: a router's id in a statement is only its author's word."""


@dataclass(frozen=True)
class Present:
    """A person on a router. `rooms` are open there, the first one shown; with none the person has gone.

    `idle_s` is seconds since the person typed, None where that is not known.
    """

    key: PublicKey
    name: str
    router: RouterId
    rooms: tuple[str, ...]
    active: bool
    idle_s: int | None


def place(key: PublicKey, router: RouterId) -> Place:
    """What an entry is known by."""
    return Place(key + router)


class Entry:
    """One statement. Times are seconds, monotonic; `stated_at` is when it was made, by the age it came with.

    `typed_at` is what it says of typing, `wrote_at` what messages say.
    """

    __slots__ = (
        "carried",
        "key",
        "name",
        "position",
        "rooms",
        "router",
        "stamp",
        "stated_at",
        "typed_at",
        "wrote_at",
    )

    def __init__(self, record: Record, statement: Statement, stated_at: float) -> None:
        self.key, self.router, self.name = record.key, record.router, record.author
        self.stamp, self.position, self.carried = record.stamp, record.position, record.carried
        self.rooms, self.stated_at = statement.rooms, stated_at
        self.typed_at = -math.inf if statement.idle == LONGEST_IDLE else stated_at - statement.idle
        self.wrote_at = -math.inf

    @property
    def place(self) -> Place:
        """What it is known by."""
        return place(self.key, self.router)

    @property
    def id(self) -> RecordId:
        """That of the record."""
        return record_id_of(self.position)

    @property
    def order(self) -> tuple[int, RecordId]:
        """The greater one counts."""
        return self.stamp, self.id

    @property
    def expires_at(self) -> float:
        """From then on it is not believed any more; that somebody has gone, when nothing older is either."""
        return self.stated_at + PRESENCE_LIFETIME + (0.0 if self.rooms else AHEAD_MS / 1000)

    @property
    def _active_until(self) -> float:
        last = max(self.typed_at, self.wrote_at)
        return last + ACTIVE_FOR + ACTIVE_GRACE if self.rooms else -math.inf

    def active(self, now: float) -> bool:
        """Whether the person types, as far as one can know from afar."""
        return now < self._active_until

    def deadline(self, now: float) -> float:
        """When it changes by itself."""
        return min(self._active_until, self.expires_at) if self.active(now) else self.expires_at

    def present(self, now: float) -> Present:
        """As it is shown."""
        last = max(self.typed_at, self.wrote_at)
        idle_s = None if last == -math.inf else max(0, int(now - last))
        return Present(self.key, self.name, self.router, self.rooms, self.active(now), idle_s)


class PresenceTable:
    """At most `MAX_PRESENT` entries, and `MAX_PLACES` of one key.

    `known` tells the keys of people who have an account or wrote something here: others go before them.
    """

    def __init__(self, known: Callable[[PublicKey], bool]) -> None:
        self._known = known
        self._entries: dict[Place, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, place: Place) -> Entry | None:
        """The entry, or None."""
        return self._entries.get(place)

    def put(self, entry: Entry) -> list[Entry]:
        """Takes an entry in, over the one before; returns those that had to go, itself among them perhaps."""
        before = self._entries.get(entry.place)
        self._entries[entry.place] = entry
        if before is not None:
            entry.wrote_at = before.wrote_at
            return []
        gone = []
        mine = [each for each in self if each.key == entry.key]
        if len(mine) > MAX_PLACES:
            gone.append(min(mine, key=_age_order))
        elif len(self) > MAX_PRESENT:
            gone.append(min(self, key=lambda each: (self._known(each.key), *_age_order(each))))
        for each in gone:
            self.remove(each.place)
        return gone

    def remove(self, place: Place) -> None:
        """The entry is believed no more, or there is no room for it."""
        del self._entries[place]


def _age_order(entry: Entry) -> tuple[bool, float]:
    """What goes first: who has gone, then whose statement is the oldest."""
    return bool(entry.rooms), entry.stated_at
