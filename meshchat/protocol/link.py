"""A link as the engine sees it: what it is, its timers, its queues, its share of the air."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from meshchat.constants import NEWS_FRAMES_BURST, NEWS_FRAMES_RATE, PRESENCE_SHARE
from meshchat.protocol.flooding import LinkFlood
from meshchat.protocol.instant import Instant
from meshchat.protocol.source import Source
from meshchat.protocol.trickle import Trickle
from meshchat.state.limits import TokenBucket
from meshchat.state.neighbour import Neighbour
from meshchat.state.store import RecordStore
from meshchat.wire.ids import Position, RouterId
from meshchat.wire.packets import MAX_NUMBER, Carried

_BURST_SECONDS = 0.5
"""How much of its share a queue may save up: half a second, a handful of full frames at 1 Mb/s."""

NO_AIR_RATE = 20_000_000
"""Bits a second for which each kind of traffic may use a link that has no share of the air. That costs nobody
else's radio, but what comes out at the far end is verified there: 2.5 MB/s are some 6,000 records a second,
what one PC core checks, and more than the queue of a link holds for a second is lost anyway."""


@dataclass(frozen=True)
class AirShare:
    """`rate` is the slowest multicast rate in bits a second; the others are shares of it, 0 to 1."""

    rate: int
    news: float
    repair: float
    talk: float


@dataclass(frozen=True)
class LinkProfile:
    """What the adapter of a link tells of it.

    `name` tells it from this router's other links, and is what people are shown; `mtu` is bytes of an IP
    packet. `is_broadcast`: what is sent to all is one transmission, which others overhear, so that copies are
    suppressed; else it goes to one far end, which misses nothing but what is lost. `air` is its own share of
    the air, None where it takes none.
    """

    name: str
    mtu: int
    is_broadcast: bool
    air: AirShare | None


def _bucket(air: AirShare | None, share: float) -> TokenBucket:
    """A bucket of bytes for a share of the air; of a link without, for what the far end bears."""
    a_second = NO_AIR_RATE / 8 if air is None else air.rate * share / 8
    return TokenBucket(a_second, max(a_second * _BURST_SECONDS, 3000.0))


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
        air = profile.air
        self.trickle = Trickle(random, now)
        self.flood = LinkFlood(random, store.holds, is_broadcast=profile.is_broadcast)
        self.news = _bucket(air, air.news if air else 1.0)
        self.frames = TokenBucket(NEWS_FRAMES_RATE, NEWS_FRAMES_BURST)
        self.repair = _bucket(air, air.repair if air else 1.0)
        self.talk = _bucket(air, air.talk if air else 1.0)
        self.tell = _bucket(air, PRESENCE_SHARE)
        self.source = Source(store, carried, self.repair.rate)
        self.asks_sent = 0
        self.in_step = False
        self.insisted_at = -1e9
        self.doubt_since: float | None = None
        self.doubted: set[RouterId] = set()
        self.number = random.randint(1, MAX_NUMBER)

    def agrees(self, neighbour: Neighbour) -> None:
        """A neighbour said what this router would say, to all who hear it."""
        self.trickle.consistent()
        self.in_step = True
        if self.doubted:
            reach = neighbour.said.reach
            self.doubted = {one for one in self.doubted if one != neighbour.router and one not in reach}
        if not self.doubted:
            self.doubt_since = None

    def told(self) -> None:
        """This router said what it holds, to all who hear it."""
        self.doubt_since = None
        self.doubted.clear()

    def next_number(self) -> int:
        """The number, 1 to 255, of the next packet to all whose loss is to be noticed."""
        self.number = self.number % MAX_NUMBER + 1
        return self.number
