"""What a router remembers of each person who uses it: what was read, who is ignored, what was preferred.

It never leaves the router. Everything is bounded, and what was used least lately goes first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, TypeVar

from meshchat.constants import MAX_IGNORED, MAX_MARKS, MAX_OPEN_ROOMS, MAX_PEOPLE
from meshchat.wire.ids import PublicKey

K = TypeVar("K")
V = TypeVar("V")

BELLS = ("off", "mentions", "all")
"""When a front end rings: never, where the person is named, at every message."""


class Mark(NamedTuple):
    """The last message that was read in a room: its stamp and id, which compare as messages are ordered."""

    stamp: int
    id: bytes


@dataclass(frozen=True)
class Person:
    """One user, by public key. `marks` is by room; `ignored` has names by public key, as they were then;
    `rooms` are those left open, in order; `times`: a time is shown before each message.
    """

    key: PublicKey
    marks: Mapping[str, Mark] = field(default_factory=dict)
    ignored: Mapping[PublicKey, str] = field(default_factory=dict)
    bell: str = "mentions"
    rooms: tuple[str, ...] = ()
    times: bool = True

    def marked(self, room: str, mark: Mark) -> "Person":
        """The same, read in a room up to there, or as far as it was read before."""
        before = self.marks.get(room)
        others = {name: each for name, each in self.marks.items() if name != room}
        return replace(self, marks=_newest({**others, room: max(mark, before or mark)}, MAX_MARKS))

    def ignoring(self, key: PublicKey, name: str) -> "Person":
        """The same, and another user ignored."""
        return replace(self, ignored=_newest({**self.ignored, key: name}, MAX_IGNORED))

    def heeding(self, keys: Iterable[PublicKey]) -> "Person":
        """The same, and these users no longer ignored."""
        gone = frozenset(keys)
        return replace(self, ignored={key: name for key, name in self.ignored.items() if key not in gone})

    def opening(self, rooms: Iterable[str]) -> "Person":
        """The same, with these rooms left open, as many as are remembered."""
        return replace(self, rooms=tuple(dict.fromkeys(rooms))[:MAX_OPEN_ROOMS])


def _newest(items: dict[K, V], most: int) -> dict[K, V]:
    """The last `most` of them."""
    return dict(islice(items.items(), max(0, len(items) - most), None))


class Personal:
    """The people known here; `unsaved` are who changed something since it was last written, and one of them
    has left where that `is_due`.
    """

    def __init__(self, people: Iterable[Person] = ()) -> None:
        """`people` were saved before, those used least lately first."""
        self._people = OrderedDict((person.key, person) for person in people)
        self.unsaved: set[PublicKey] = set()
        self.is_due = False
        self._trim()

    def __iter__(self) -> Iterator[Person]:
        """Everybody, those used least lately first."""
        return iter(self._people.values())

    def get(self, key: PublicKey) -> Person:
        """A user, as left or as new, who counts as used now."""
        person = self._people.get(key)
        if person is None:
            return Person(key)
        self._people.move_to_end(key)
        return person

    def put(self, person: Person) -> None:
        """A user as he is from now on."""
        if person != self.get(person.key):
            self._people[person.key] = person
            self.unsaved.add(person.key)
            self._trim()

    def left(self, key: PublicKey) -> None:
        """A session of a user has ended."""
        self.is_due = self.is_due or key in self.unsaved

    def _trim(self) -> None:
        while len(self._people) > MAX_PEOPLE:
            key, _ = self._people.popitem(last=False)
            self.unsaved.discard(key)
