"""Who keeps a place where there are not enough: connections to the control sockets, turns at Argon2.

Places are shared out by origin, and within one by holder: the user who is logged in, or else the origin.
Whoever comes when all are taken gets one of the origin that has more than his, or of the holder that has
most; so 64 connections of one origin shut nobody else out, idle or logged in by as many names.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

from meshchat.chat.sessions import Connection

T = TypeVar("T")


class Occupant(NamedTuple):
    """A connection that has a place, and when its front end last said anything, in monotonic seconds."""

    connection: Connection
    heard_at: float

    @property
    def holder(self) -> Hashable:
        """Whose place it is."""
        return next(iter(self.connection.users), None) or self.connection.origin

    @property
    def worth(self) -> int:
        """How much would be lost with it: nobody is on it, somebody listens, somebody is logged in."""
        return 2 if self.connection.users else 1 if self.connection.subscribed else 0


def who_gives_way(newcomer: Connection, occupants: Iterable[Occupant]) -> Connection | None:
    """Whose place a newcomer gets where all are taken; None: nobody's, he is to come back later.

    Where the newcomer's origin has fewer places than another, even with this one, it is the origin with most
    that gives way; else anybody. Of these it is the holder with most places, and of his the one that is
    worth least and has been silent for longest. Where nobody has more than one, nobody who is logged in gives
    way to his own origin, or to one that has as much.
    """
    ordered = list(occupants)
    origins = Counter(each.connection.origin for each in ordered)
    most = max(origins.values(), default=0)
    poorer = origins[newcomer.origin] + 1 < most
    if poorer:
        ordered = [each for each in ordered if origins[each.connection.origin] == most]
    places = Counter(each.holder for each in ordered)
    chosen = min(ordered, key=lambda each: (-places[each.holder], each.worth, each.heard_at), default=None)
    if chosen is None:
        return None
    alone = places[chosen.holder] == 1 and chosen.holder != newcomer.origin
    return None if alone and not poorer and chosen.worth == 2 else chosen.connection


class Turns(Generic[T]):
    """What waits for its turn, at most `limit` in all and `each` of one origin; the origins take turns."""

    def __init__(self, limit: int, each: int) -> None:
        self._limit, self._each = limit, each
        self._waiting: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, origin: Hashable, item: T) -> T | None:
        """Adds an item; returns the one for which there is no place any more: it itself, where its origin has
        enough waiting or nobody has more, else the last one of the origin that has most.
        """
        queue = self._waiting.get(origin, deque())
        if len(queue) >= self._each:
            return item
        displaced = None
        if len(self) >= self._limit:
            largest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            if len(self._waiting[largest]) <= len(queue) + 1:
                return item
            displaced = self._waiting[largest].pop()
        self._waiting.setdefault(origin, queue).append(item)
        return displaced

    def take(self) -> T | None:
        """The next item: of the origin whose turn it is the one that waits longest; None where none waits."""
        if not self._waiting:
            return None
        origin, queue = self._waiting.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._waiting[origin] = queue
        return item
