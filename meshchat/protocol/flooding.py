"""Flooding by an adaptive counter: who relays a new record, when, and who has confirmed it.

A router relays what is new to it after a short random wait, and stays silent once it has overheard enough
copies for the number of neighbours it has. Copies and the decision are kept for each interface apart. No
relays are elected: under loss an elected set misses a quarter of the routers, the counter almost none.

Beyond that it listens for its neighbours' copies afterwards: a neighbour that was not heard with the record
may have lost it, and the digests are told to look.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from meshchat.constants import (
    CONFIRM_WAIT,
    MAX_RELAY_QUEUE,
    RELAY_ALWAYS_UP_TO,
    RELAY_COPIES,
    RELAY_JITTER,
)
from meshchat.wire.packets import Carried


def copies_to_hear(neighbours: int) -> int | None:
    """After how many copies heard a router with so many neighbours stays silent; None is never."""
    if neighbours <= RELAY_ALWAYS_UP_TO:
        return None
    return next(copies for up_to, copies in RELAY_COPIES if neighbours <= up_to)


@dataclass
class _Flood:
    """One record on one interface. Times are seconds, monotonic."""

    carried: Carried
    relay_at: float | None
    heard_from: set[bytes] = field(default_factory=set)
    check_at: float = 0.0


class InterfaceFlood:
    """What waits to be relayed on an interface, and what was relayed and is to be confirmed."""

    def __init__(self, random: Random, is_peer: bool) -> None:
        """`is_peer`: the interface is a configured unicast peer, to which nothing is suppressed."""
        self._random = random
        self._is_peer = is_peer
        self._floods: OrderedDict[bytes, _Flood] = OrderedDict()

    def begin(
        self, record_id: bytes, carried: Carried, now: float, *, heard_from: bytes | None, wait: bool
    ) -> None:
        """A record is new here: relay it after a random wait, or at once where it was made here.

        `heard_from` is the neighbour who sent it on this very interface.
        """
        at = now + self._random.uniform(0, RELAY_JITTER) if wait else now
        self._floods[record_id] = _Flood(carried, at, {heard_from} if heard_from else set())
        if len(self._floods) > MAX_RELAY_QUEUE:
            self._floods.popitem(last=False)

    def copy_heard(self, record_id: bytes, sender: bytes) -> None:
        """A neighbour was heard with a record that is already known."""
        flood = self._floods.get(record_id)
        if flood is not None:
            flood.heard_from.add(sender)

    def heard_from(self, record_id: bytes) -> frozenset[bytes]:
        """The neighbours heard with the record lately."""
        flood = self._floods.get(record_id)
        return frozenset(flood.heard_from) if flood else frozenset()

    @property
    def deadline(self) -> float | None:
        """When `due` or `unconfirmed` has something to say next."""
        times = [f.check_at if f.relay_at is None else f.relay_at for f in self._floods.values()]
        return min(times, default=None)

    def relay_due(self, now: float) -> bool:
        """Whether a record is to be relayed now."""
        return any(f.relay_at is not None and f.relay_at <= now for f in self._floods.values())

    def due(self, now: float, neighbours: int, capacity: int) -> list[Carried]:
        """The records to relay now in one datagram of `capacity` bytes; those overheard often are dropped.

        Once one record is due, others that wait share its datagram.
        """
        waiting = [f for f in self._floods.values() if f.relay_at is not None]
        if not self.relay_due(now):
            return []
        waiting.sort(key=lambda flood: flood.relay_at or 0.0)
        enough = None if self._is_peer else copies_to_hear(neighbours)
        chosen: list[Carried] = []
        room = capacity
        for flood in waiting:
            if enough is not None and len(flood.heard_from) >= enough:
                self._done(flood, now)
                continue
            if chosen and flood.carried.size > room:
                break
            chosen.append(flood.carried)
            room -= flood.carried.size
            self._done(flood, now)
        return chosen

    def _done(self, flood: _Flood, now: float) -> None:
        flood.relay_at = None
        flood.check_at = now + CONFIRM_WAIT

    def unconfirmed(self, now: float, expected: Callable[[], Iterable[bytes]], neighbours: int) -> bool:
        """Ends the watch over records whose time is up; whether one of them seems to have been lost.

        In a sparse mesh every expected neighbour should have been heard with it; in a dense one, so many
        that this router itself would have stayed silent.
        """
        over = [(i, f) for i, f in self._floods.items() if f.relay_at is None and f.check_at <= now]
        lost = False
        enough = copies_to_hear(neighbours)
        for record_id, flood in over:
            del self._floods[record_id]
            if enough is None:
                lost = lost or not flood.heard_from.issuperset(expected())
            else:
                lost = lost or len(flood.heard_from) < enough
        return lost
