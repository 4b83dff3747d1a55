"""A link as the engine sees it: what it is, its timers, its queues, its share of the air."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from meshchat.protocol.air import Air, AirShare
from meshchat.protocol.flood.flooding import LinkFlood
from meshchat.protocol.instant import Instant
from meshchat.protocol.repair.dump import Dumps
from meshchat.protocol.trickle import Trickle
from meshchat.state.neighbour import Neighbour
from meshchat.state.store import RecordStore
from meshchat.wire.ids import Position, RouterId
from meshchat.wire.packets import MAX_NUMBER, Carried

NEWS_REST = 2.0
NEWS_REST_MAX = 8.0
"""That digest follows after so many seconds without news, or so many after the first doubt."""

INSIST = 4
"""Digests, in growing intervals, that are not suppressed where a neighbour in doubt hears few others: of
eight frames both ways one gets through even where half are lost."""

ASK_REPEATS = (0.0, 1.0, 3.0, 9.0)
"""When a starting router asks, in seconds after the interface came up: batman-adv drops the first
seconds of a new listener's multicast, and a third of all frames may be lost."""


@dataclass(frozen=True)
class LinkProfile:
    """What the adapter of a link tells of it."""

    name: str
    """Tells it from this router's other links; people are shown it."""

    mtu: int
    """Bytes of an IP packet."""

    is_broadcast: bool
    """What is sent to all is one transmission, which others overhear, so that copies are suppressed. Else it
    goes to one far end, which misses nothing but what is lost."""

    air: AirShare | None
    """Its own share of the air; None where it takes none."""


@dataclass
class Asks:
    """The ASK-FILEs on a link. Owned by what asks."""

    sent: int = 0
    in_step: bool = False
    """Somebody here holds the same: nothing is missing."""

    def take(self) -> bool:
        """Whether one more is to be asked for; it counts as sent."""
        if self.in_step or self.sent >= len(ASK_REPEATS):
            return False
        self.sent += 1
        return True

    @property
    def next_in(self) -> float | None:
        """Seconds from the last one to the next; None where it was the last."""
        if self.sent >= len(ASK_REPEATS):
            return None
        return ASK_REPEATS[self.sent] - ASK_REPEATS[self.sent - 1]


@dataclass
class Doubts:
    """The neighbours that may have missed the last news against the odds. Times are seconds, monotonic."""

    _who: set[RouterId] = field(default_factory=set)
    _since: float | None = None
    _insisted_at: float = -1e9

    def __bool__(self) -> bool:
        return bool(self._who)

    def add(self, routers: Iterable[RouterId], now: float) -> float:
        """These too; returns when a digest has to follow, unless they hear an equal one before."""
        self._who.update(routers)
        if self._since is None:
            self._since = now
        return min(now + NEWS_REST, self._since + NEWS_REST_MAX)

    def agrees(self, neighbour: Neighbour) -> None:
        """It said, to all who hear it, what this router would say."""
        if self._who:
            reach = neighbour.said.reach
            self._who = {one for one in self._who if one != neighbour.router and one not in reach}
        if not self._who:
            self._since = None

    def told(self) -> None:
        """This router said what it holds, to all who hear it."""
        self._since = None
        self._who.clear()

    def insist(self, now: float) -> bool:
        """Whether digests are to follow whatever others say: not for each record, for some neighbours are
        invented.
        """
        may = now - self._insisted_at >= NEWS_REST_MAX
        if may:
            self._insisted_at = now
        return may


class Link:
    """One link of this router, for which everything is kept apart."""

    def __init__(
        self,
        profile: LinkProfile,
        random: Random,
        now: float,
        store: RecordStore,
        carried: Callable[[Position, Instant], Carried | None],
    ) -> None:
        """`carried` gives a held record by position, with its age by a moment."""
        self.profile, self.name = profile, profile.name
        self.trickle = Trickle(random, now)
        self.flood = LinkFlood(random, store.holds, is_broadcast=profile.is_broadcast)
        self.air = Air(profile.air)
        self.dumps = Dumps(store, carried, self.air.repair.rate)
        self.asks = Asks()
        self.doubts = Doubts()
        self._number = random.randint(1, MAX_NUMBER)

    def agrees(self, neighbour: Neighbour) -> None:
        """A neighbour said what this router would say, to all who hear it."""
        self.trickle.consistent()
        self.asks.in_step = True
        self.doubts.agrees(neighbour)

    def insist(self, now: float) -> None:
        """Somebody in doubt may hear none of what would keep this router silent."""
        if self.doubts.insist(now):
            self.trickle.insist(INSIST)

    def next_number(self) -> int:
        """The number, 1 to 255, of the next packet to all whose loss is to be noticed."""
        self._number = self._number % MAX_NUMBER + 1
        return self._number
