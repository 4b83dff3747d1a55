"""The Trickle timer (RFC 6206): often while neighbours disagree, almost never while they agree."""

from random import Random

from meshchat.constants import TRICKLE_DOUBLINGS, TRICKLE_IMIN, TRICKLE_K

SILENCE_MAX = 128.0
"""Longest a router stays silent although its digests are suppressed: neighbours count each other to
decide about relaying, and a dense cell where only three speak would look sparse."""

_IMAX = TRICKLE_IMIN * float(2**TRICKLE_DOUBLINGS)


class Trickle:
    """One timer. Times are seconds, monotonic; the names I, t, c, k, Imin are the RFC's (section 4.2)."""

    def __init__(self, random: Random, now: float) -> None:
        self._random = random
        self._interval = TRICKLE_IMIN
        self._heard = 0
        self._sent_at = now
        self._insist = 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._heard = 0
        self._fire_at = now + self._random.uniform(self._interval / 2, self._interval)
        self._end_at = now + self._interval
        self._fired = False

    @property
    def deadline(self) -> float:
        """When to call `expire`."""
        return self._end_at if self._fired else self._fire_at

    def consistent(self) -> None:
        """A neighbour said what this router would say (rule 3)."""
        self._heard += 1

    def insist(self, times: int) -> None:
        """The next transmissions are not suppressed: somebody may hear none of what would suppress them."""
        self._insist = max(self._insist, times)

    def inconsistent(self, now: float) -> None:
        """Something differs: back to Imin, unless there already (rule 6)."""
        if self._interval > TRICKLE_IMIN:
            self._interval = TRICKLE_IMIN
            self._begin(now)

    def expire(self, now: float) -> bool:
        """The deadline came; returns whether to transmit (rules 4 and 5).

        Beyond the RFC, a router suppressed for `SILENCE_MAX` speaks once, so that neighbours count it.
        """
        if self._fired:
            self._interval = min(self._interval * 2, _IMAX)
            self._begin(now)
            return False
        self._fired = True
        speak = self._heard < TRICKLE_K or self._insist > 0 or now - self._sent_at >= SILENCE_MAX
        self._insist = max(0, self._insist - 1)
        if speak:
            self._sent_at = now
        return speak
