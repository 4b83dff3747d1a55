"""Token buckets: one, and a bounded table of them for whoever may be a stranger."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")

_DUST = 1e-6
"""Seconds. A shortfall that a microsecond makes good is what rounding left: a wait for it is too short for a
float that counts seconds, and whoever waits would be told for ever to come back at this very moment."""


class TokenBucket:
    """`rate` tokens a second, at most `burst` in store. Full at first. Times are seconds, monotonic."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at: float | None = None

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Takes `amount` tokens where there are so many; says whether it did."""
        self._refill(now)
        if self._tokens + self.rate * _DUST < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, now: float, amount: float) -> None:
        """Takes `amount` tokens even into debt."""
        self._refill(now)
        self._tokens -= amount

    def ready_in(self, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` tokens will be there; 0 where they are."""
        self._refill(now)
        wait = (amount - self._tokens) / self.rate
        return wait if wait > _DUST else 0.0


class BucketTable(Generic[K]):
    """A bucket for each key; the key not used for longest is forgotten when there are too many."""

    def __init__(self, rate: float, burst: float, limit: int) -> None:
        self._rate, self._burst, self._limit = rate, burst, limit
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def bucket(self, key: K) -> TokenBucket:
        """The bucket of `key`."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        return bucket

    def take(self, key: K, now: float, amount: float = 1.0) -> bool:
        """Takes from the bucket of `key`; says whether the tokens were there."""
        return self.bucket(key).take(now, amount)
