"""What slows down whoever guesses passwords. Nobody is ever locked out: he waits for the answer."""

from collections import OrderedDict

from meshchat.constants import PERSON_BURST, PERSON_RATE
from meshchat.state.limits import TokenBucket

FREE_FAILURES = 3
"""Wrong passwords in a row that cost nothing: people mistype."""

LONGEST_DELAY = 30.0
"""Seconds. 120 guesses an hour on a connection; the owner of a name under attack still gets in."""

FAILURES_FORGOTTEN = 900.0
"""Seconds after which earlier failures no longer count."""

MAX_FAILING_NAMES = 1024
"""Names with failures remembered: to push one out costs as many Argon2 runs, minutes on a router."""


class Failures:
    """A run of wrong passwords. Times are monotonic seconds."""

    __slots__ = ("_count", "_last")

    def __init__(self) -> None:
        self._count = 0
        self._last = 0.0

    def delay(self, now: float) -> float:
        """How long the next answer is held back: 0 at first, then 1, 2, 4, ... up to 30 s."""
        if self._count < FREE_FAILURES or now - self._last > FAILURES_FORGOTTEN:
            return 0.0
        return min(LONGEST_DELAY, 2.0 ** min(self._count - FREE_FAILURES, 16))

    def add(self, now: float) -> None:
        """One more."""
        if now - self._last > FAILURES_FORGOTTEN:
            self._count = 0
        self._count += 1
        self._last = now


class FailuresByName:
    """The failures under each (folded) name; the name that failed longest ago is forgotten first."""

    def __init__(self, limit: int = MAX_FAILING_NAMES) -> None:
        self._limit = limit
        self._names: OrderedDict[str, Failures] = OrderedDict()

    def delay(self, name: str, now: float) -> float:
        """How long the next answer for this name is held back, in seconds."""
        failures = self._names.get(name)
        return failures.delay(now) if failures else 0.0

    def add(self, name: str, now: float) -> None:
        """One more for this name."""
        failures = self._names.pop(name, None) or Failures()
        failures.add(now)
        self._names[name] = failures
        if len(self._names) > self._limit:
            self._names.popitem(last=False)

    def clear(self, name: str) -> None:
        """The right password was given."""
        self._names.pop(name, None)


def person_bucket() -> TokenBucket:
    """What a person may type in one session."""
    return TokenBucket(PERSON_RATE, PERSON_BURST)
