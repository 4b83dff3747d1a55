"""Flooding on one link: who relays a new record, when, and who has confirmed it.

A router relays what is new to it after a short random wait, unless by then every neighbour was heard with it
or can be taken to have it (`coverage`). No relays are elected: under loss an elected set misses a quarter of
the routers. Whoever stays silent although its neighbours cannot be sure of it confirms in a few bytes.
Whoever sent a record looks a moment later for neighbours that may have missed it.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from meshchat.constants import CONFIRM_WAIT, MISS
from meshchat.protocol.flood.coverage import is_doubtful, may_have_missed
from meshchat.state.limits import TokenBucket
from meshchat.state.neighbour import Neighbour
from meshchat.wire.ids import ConfirmKey, Position, RouterId, confirm_key_of
from meshchat.wire.packets import Carried

RELAY_JITTER = 0.050
"""Longest random wait before a relay; neighbours that heard the same frame must not answer as one."""

RELAY_COPIES = ((6, 10**9), (11, 4), (10**9, 3))
"""(up to so many neighbours, so many transmissions in a neighbour's reach are enough) whatever links lose: a
sparse mesh has no copies to spare, and in a dense cell more would only fill the air (simulated optimum)."""

RESIDUE = 2e-5
"""A smaller chance, above which a digest follows when the news has come to rest: so a last message that was
lost against the odds is missed within seconds, for a fraction of what certainty about each would cost."""

CONFIRM_JITTER = 0.1
"""Longest random wait before a confirmation, in which others join it."""

LATE_CONFIRM_RATE = 2.0
LATE_CONFIRM_BURST = 8.0
"""Records that are news no more and are confirmed once again, a second and in a burst: who repeats what all
know, under invented names, draws 142 bytes a second from a router, not a share of the air."""

RESEND_CHANCE = 0.1
"""Below this chance of a miss a neighbour not heard with a record most likely has it, and was not heard: a
digest, which costs half of a record's frame and serves all, looks first."""

MAX_CONFIRMS_WAITING = 1024
"""Keys waiting to be confirmed on an interface while its share of the air is used up: 16 CONFIRMs.
Beyond, the oldest is dropped; who doubts this router then asks by a digest."""

MAX_RELAY_QUEUE = 4096
"""Records that wait to be relayed or are watched on one interface: a second of the fastest honest flood."""


@dataclass(eq=False)
class Flood:
    """One record on one link: who sent it, who is known to have it, what this router did."""

    key: ConfirmKey
    carried: Carried
    is_own: bool
    waiting: bool = True
    sent: int = 0
    senders: dict[RouterId, Neighbour] = field(default_factory=dict)
    having: set[RouterId] = field(default_factory=set)

    def underserved(self, around: Sequence[Neighbour]) -> list[Neighbour]:
        """The neighbours that may have missed it, less those who had their share of copies."""
        enough = next(copies for up_to, copies in RELAY_COPIES if len(around) <= up_to)
        return [neighbour for neighbour, copies in self._doubt(around, MISS) if copies < enough]

    def likely_missed(self, neighbours: Sequence[Neighbour]) -> bool:
        """Whether sending it again is worth more than asking: where each missed it with a fair chance."""
        return sum(1 for _ in self._doubt(neighbours, RESEND_CHANCE)) == len(neighbours)

    def residue(self, around: Iterable[Neighbour]) -> list[RouterId]:
        """The neighbours, by id, that against the odds may have missed it all the same."""
        return [neighbour.router for neighbour, _ in self._doubt(around, RESIDUE)]

    def _doubt(self, around: Iterable[Neighbour], chance: float) -> Iterator[tuple[Neighbour, int]]:
        return may_have_missed(around, self.senders.values(), self.having, sent=self.sent > 0, chance=chance)


class LinkFlood:
    """What waits to be relayed, what is to be confirmed, and what was sent and should be confirmed.

    Records are told apart by their `ConfirmKey`. Times are seconds, monotonic.
    """

    def __init__(self, random: Random, holds: Callable[[Position], bool], *, is_broadcast: bool) -> None:
        """`holds` says whether a position is held here. Where the link is no broadcast, nobody overhears
        copies, and nothing is suppressed.
        """
        self._random, self._holds = random, holds
        self._is_broadcast = is_broadcast
        self._floods: OrderedDict[ConfirmKey, Flood] = OrderedDict()
        self._order = count()
        self._queue: list[tuple[float, int, Flood]] = []
        self._watched: deque[tuple[float, Flood]] = deque()
        self._confirms: dict[ConfirmKey, None] = {}
        self._confirm_at = 0.0
        self._late = TokenBucket(LATE_CONFIRM_RATE, LATE_CONFIRM_BURST)

    # --- What comes in ----------------------------------------------------------------------------------

    def begin(self, position: Position, carried: Carried, now: float, *, is_own: bool) -> None:
        """A record is new here: relay it after a random wait, or at once where it was made here."""
        flood = Flood(confirm_key_of(position), carried, is_own)
        self._floods[flood.key] = flood
        at = now if is_own else now + self._random.uniform(0, RELAY_JITTER)
        heapq.heappush(self._queue, (at, next(self._order), flood))
        if len(self._floods) > MAX_RELAY_QUEUE:
            _, oldest = self._floods.popitem(last=False)
            oldest.waiting = False

    def copy_heard(self, position: Position, sender: Neighbour, now: float) -> bool:
        """A neighbour was heard sending a record that is known. Returns whether that moved the `deadline`.

        Long after it was flooded that is somebody who does not know that this router has it, if it has.
        """
        key = confirm_key_of(position)
        flood = self._floods.get(key)
        if flood is None:
            doubts = is_doubtful([sender]) and self._late.take(now) and self._holds(position)
        else:
            doubts = sender.router in flood.senders and not flood.waiting
            flood.senders[sender.router] = sender
            flood.having.add(sender.router)
        is_first = not self._confirms
        if doubts:
            self._confirm(key, now)
        return doubts and is_first

    def confirmed(self, keys: Iterable[ConfirmKey], neighbour: Neighbour) -> None:
        """A neighbour says that it has these records."""
        for key in keys:
            flood = self._floods.get(key)
            if flood is not None:
                flood.having.add(neighbour.router)

    def has(self, position: Position, neighbour: Neighbour) -> None:
        """A neighbour was heard with the record in a repair."""
        self.confirmed((confirm_key_of(position),), neighbour)

    # --- What is due ------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When there is something to do next."""
        times = []
        if self._first():
            times.append(self._queue[0][0])
        if self._watched:
            times.append(self._watched[0][0])
        if self._confirms:
            times.append(self._confirm_at)
        return min(times, default=None)

    def _first(self) -> Flood | None:
        while self._queue and not self._queue[0][2].waiting:
            heapq.heappop(self._queue)
        return self._queue[0][2] if self._queue else None

    def relay_due(self, now: float) -> bool:
        """Whether a record is to be relayed now."""
        return self._first() is not None and self._queue[0][0] <= now

    def fills(self, capacity: int) -> bool:
        """Whether more records wait than `capacity` bytes hold."""
        room = capacity
        for _, _, flood in self._queue:
            room -= flood.carried.size if flood.waiting else 0
            if room < 0:
                return True
        return False

    def take(self, now: float, around: Sequence[Neighbour], capacity: int) -> list[Carried]:
        """The records to send now, at most `capacity` bytes of them; those that nobody lacks are dropped.

        Once one record is due, others that wait share its datagram. A record larger than `capacity` is alone.
        """
        chosen: list[Carried] = []
        room = capacity
        while (flood := self._first()) is not None:
            if not (flood.is_own or not self._is_broadcast or flood.underserved(around)):
                heapq.heappop(self._queue)
                flood.waiting = False
                self._watched.append((now + CONFIRM_WAIT, flood))
                if is_doubtful(flood.senders.values()):
                    self._confirm(flood.key, now)
                continue
            if chosen and flood.carried.size > room:
                break
            heapq.heappop(self._queue)
            flood.waiting = False
            flood.sent += 1
            self._confirms.pop(flood.key, None)
            self._watched.append((now + CONFIRM_WAIT, flood))
            chosen.append(flood.carried)
            room -= flood.carried.size
        return chosen

    def _confirm(self, key: ConfirmKey, now: float) -> None:
        if not self._confirms:
            self._confirm_at = now + self._random.uniform(CONFIRM_JITTER / 2, CONFIRM_JITTER)
        self._confirms[key] = None
        if len(self._confirms) > MAX_CONFIRMS_WAITING:
            del self._confirms[next(iter(self._confirms))]

    def take_confirms(self, now: float, most: int) -> tuple[ConfirmKey, ...]:
        """At most `most` of what is to be confirmed, where it is time."""
        if not self._confirms or now < self._confirm_at:
            return ()
        keys = tuple(self._confirms)[:most]
        for key in keys:
            del self._confirms[key]
        return keys

    def watched(self, now: float) -> Iterator[Flood]:
        """Ends the watch over records whose time is up; those that this router sent and did not forget."""
        while self._watched and self._watched[0][0] <= now:
            _, flood = self._watched.popleft()
            if flood.sent and self._floods.get(flood.key) is flood:
                yield flood
            else:
                self.forget(flood)

    def watch_again(self, flood: Flood, now: float) -> None:
        """It was sent once more to those in doubt."""
        flood.sent += 1
        self._watched.append((now + CONFIRM_WAIT, flood))

    def forget(self, flood: Flood) -> None:
        """Nothing more is to be done about it here."""
        if self._floods.get(flood.key) is flood:
            del self._floods[flood.key]
