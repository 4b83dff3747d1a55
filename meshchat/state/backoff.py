"""How often two routers that disagree may talk about it."""

import math
from dataclasses import dataclass

EXCHANGE_RETRY = 0.5
EXCHANGE_FREE_TRIES = 4
EXCHANGE_RETRY_MAX = 3600.0
"""An exchange with a neighbour that changed nothing is tried again after 0.5 s; from the fifth on the
wait doubles up to an hour, so that no disagreement, honest or malicious, costs the air for ever."""


@dataclass
class Backoff:
    """Paces exchanges with one neighbour. Times are seconds, monotonic.

    A full exchange that moves no record either way is repeated ever more rarely: a router that remembers what
    it wiped by hand differs for ever from one that never had it. The newest records are compared apart from
    that whenever either side has changed, until the other one answers, so that what gets lost now is not held
    up by what cannot be mended.
    """

    _tries: int = 0
    _not_before: float = 0.0
    _recent: object = None
    _recent_wait: float = 0.0
    _recent_at: float = -math.inf
    _recent_not_before: float = 0.0
    full: bool = False

    def allows_full(self, now: float) -> bool:
        """Whether a full exchange may start."""
        return now >= self._not_before

    def started_full(self, now: float) -> None:
        """A full exchange starts now."""
        doublings = max(0, self._tries + 1 - EXCHANGE_FREE_TRIES)
        self._not_before = now + min(EXCHANGE_RETRY * 2**doublings, EXCHANGE_RETRY_MAX)
        self._tries = min(self._tries + 1, 64)
        self.full = True

    def allows_recent(self, now: float, state: object) -> bool:
        """Whether the newest records may be compared; `state` is what the two sides hold."""
        if state != self._recent:
            self._recent, self._recent_wait = state, EXCHANGE_RETRY
            self._recent_not_before = self._recent_at + EXCHANGE_RETRY
        return now >= self._recent_not_before

    def started_recent(self, now: float) -> None:
        """The newest records are compared now."""
        self._recent_at = now
        self._recent_not_before = now + self._recent_wait
        self._recent_wait = min(2 * self._recent_wait, EXCHANGE_RETRY_MAX)
        self.full = False

    def agreed(self) -> None:
        """The other side has nothing to add to the last step: not until something changes."""
        self._recent_not_before = math.inf

    def moved(self) -> None:
        """Records went one way or the other; if by a full exchange, the next one may follow soon."""
        if self.full:
            self._tries, self._not_before = 0, 0.0

    def over(self) -> None:
        """Both agree: the next difference is a new one."""
        self._tries, self._not_before, self._recent = 0, 0.0, None
