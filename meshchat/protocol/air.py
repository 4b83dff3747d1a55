"""A link's share of the air, and what each kind of traffic may take of it."""

from dataclasses import dataclass

from meshchat.state.limits import TokenBucket

NEWS_FRAMES_RATE = 3.3
NEWS_FRAMES_BURST = 8.0
"""Frames of new records a second, and in a burst, that go at once; beyond, records wait up to 0.3 s for
others to share the 63 bytes of headers. A full frame never waits for this."""

PRESENCE_SHARE = 0.02
"""Share of the air for telling new neighbours who is present: fifty people in four seconds."""

_BURST_SECONDS = 0.5
"""How much of its share a queue may save up: half a second, a handful of full frames at 1 Mb/s."""

_BURST_LEAST = 3000.0
"""Bytes that it may save up at least: two full frames."""

NO_AIR_RATE = 20_000_000
"""Bits a second for which each kind of traffic may use a link that has no share of the air. That costs nobody
else's radio, but what comes out at the far end is verified there: 2.5 MB/s are some 6,000 records a second,
what one PC core checks, and more than the queue of a link holds for a second is lost anyway."""


@dataclass(frozen=True)
class AirShare:
    """What the operator gives a link."""

    rate: int
    """The slowest multicast rate, bits a second. The others are shares of it, 0 to 1."""

    news: float
    repair: float
    talk: float


class Air:
    """The buckets of a link, in bytes; `frames` in frames."""

    def __init__(self, share: AirShare | None) -> None:
        """None for a link that has no share of the air: there, what the far end bears."""
        self.news = _bucket(share, share.news if share else 1.0)
        self.frames = TokenBucket(NEWS_FRAMES_RATE, NEWS_FRAMES_BURST)
        self.repair = _bucket(share, share.repair if share else 1.0)
        self.talk = _bucket(share, share.talk if share else 1.0)
        self.presence = _bucket(share, PRESENCE_SHARE)


def _bucket(air: AirShare | None, share: float) -> TokenBucket:
    a_second = NO_AIR_RATE / 8 if air is None else air.rate * share / 8
    return TokenBucket(a_second, max(a_second * _BURST_SECONDS, _BURST_LEAST))
