"""What people may do how often, by user and by origin: parallel connections, tabs and restarts gain nothing.

Nobody is ever locked out: he waits, or is told how long to. Times are monotonic seconds.
"""

import math
from collections import OrderedDict
from typing import NamedTuple

from meshchat.chat.access import OPERATOR, Door
from meshchat.chat.sessions import Origin
from meshchat.constants import ORIGIN_BURST, ORIGIN_RATE, PERSON_BURST, PERSON_RATE
from meshchat.errors import TooFast
from meshchat.state.limits import BucketTable, TokenBucket
from meshchat.wire.ids import PublicKey

FREE_FAILURES = 3
"""Wrong passwords in a row that cost nothing: people mistype."""

LONGEST_DELAY = 30.0
"""Seconds. 120 guesses an hour from one origin; the owner of a name under attack still gets in."""

FAILURES_FORGOTTEN = 900.0
"""Seconds after which earlier failures no longer count."""

MAX_GUESSED = 1024
"""Names under which, from one origin each, failures are remembered. To push one out costs as many Argon2
runs, minutes on a router."""

ORIGIN_GUESSES = 40.0
ORIGIN_GUESS_RATE = 1 / LONGEST_DELAY
"""Wrong passwords from one origin, in a burst and a second, whatever the names. Who tries one password on all
names is thereby no faster than who tries all passwords on one; forty are a classroom that mistypes."""

NAME_GUESSES = 60.0
NAME_GUESS_RATE = 0.1
"""Wrong passwords for one name, whatever the origins: who has many addresses guesses 360 an hour. Origins
from which the name has logged in before do not wait for it, or he could shut its owner out."""

MAX_FAMILIAR = 1024
"""Pairs of name and origin that have logged in, remembered."""

MAX_ORIGINS = 1024
MAX_USERS = 1024
"""Origins, and users, of whom it is remembered what they have used up. Who invents more addresses than that
is one whom a front end believed; a user costs a sign-up."""

SIGN_UPS = 100.0
SIGN_UP_RATE = 20 / 3600
"""Accounts made on one router, in a burst and a second, at whatever door: accounts are kept for good and on
every router of the mesh, 400 bytes each. A village signs up in an evening; a stranger makes 480 a day."""

ORIGIN_SIGN_UPS = 20.0
ORIGIN_SIGN_UP_RATE = 4 / 3600
"""The same from one origin at the people's door: nobody uses up the router's for all others in a moment."""


class Failures:
    """A run of wrong passwords for one name from one origin."""

    __slots__ = ("_count", "_free_at", "_last")

    def __init__(self) -> None:
        self._count = 0
        self._last = self._free_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the answers that are held back are all out."""
        return max(0.0, self._free_at - now)

    def delay(self, now: float) -> float:
        """Takes the next place for an answer; how long that is held back: 0 at first, then 1, 2, 4, ... s.

        The places lie behind each other: who asks on many connections at once gets no answer earlier.
        """
        if now - self._last > FAILURES_FORGOTTEN:
            self._count = 0
        if self._count < FREE_FAILURES:
            return 0.0
        pause = min(LONGEST_DELAY, 2.0 ** min(self._count - FREE_FAILURES, 16))
        self._free_at = max(now, self._free_at) + pause
        return self._free_at - now

    def add(self, now: float) -> None:
        """One more."""
        self._count += 1
        self._last = now


class Guess(NamedTuple):
    """What a password is tried on, by the folded name, and from where."""

    name: str
    origin: Origin


class Guesses:
    """The wrong passwords given lately."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Guess, Failures] = OrderedDict()
        self._origins: BucketTable[Origin] = BucketTable(ORIGIN_GUESS_RATE, ORIGIN_GUESSES, MAX_ORIGINS)
        self._names: BucketTable[str] = BucketTable(NAME_GUESS_RATE, NAME_GUESSES, MAX_GUESSED)
        self._familiar: OrderedDict[Guess, None] = OrderedDict()

    def admit(self, guess: Guess, now: float) -> None:
        """Before a password is tried; raises `TooFast`, which says how long to wait, where it must not be."""
        failures = self._failures.get(guess)
        wait = failures.wait(now) if failures else 0.0
        if wait <= LONGEST_DELAY:
            wait = self._origins.bucket(guess.origin).ready_in(now)
        if not wait and guess not in self._familiar:
            wait = self._names.bucket(guess.name).ready_in(now)
        if wait:
            raise TooFast(f"Too many wrong passwords: wait {math.ceil(wait)} s and try again.")

    def answer(self, guess: Guess, now: float, *, right: bool) -> float:
        """A password was tried: how long the answer is held back, in seconds.

        Raises `TooFast` where that would be too long: whether it was right is then not to be told.
        """
        failures = self._failures.pop(guess, None) or Failures()
        delay = failures.delay(now)
        too_long = delay > LONGEST_DELAY
        if right and not too_long:
            self._familiar[guess] = None
            self._familiar.move_to_end(guess)
            if len(self._familiar) > MAX_FAMILIAR:
                self._familiar.popitem(last=False)
            return delay
        failures.add(now)
        self._failures[guess] = failures
        if len(self._failures) > MAX_GUESSED:
            self._failures.popitem(last=False)
        self._origins.bucket(guess.origin).spend(now, 1)
        self._names.bucket(guess.name).spend(now, 1)
        if too_long:
            raise TooFast(f"Too many wrong passwords: wait {math.ceil(delay)} s and try again.")
        return delay


class Budgets:
    """What users and origins have used up of what they may write and make."""

    def __init__(self) -> None:
        self.guesses = Guesses()
        self._writers: BucketTable[PublicKey] = BucketTable(PERSON_RATE, PERSON_BURST, MAX_USERS)
        self._origins: BucketTable[Origin] = BucketTable(ORIGIN_RATE, ORIGIN_BURST, MAX_ORIGINS)
        self._sign_ups = TokenBucket(SIGN_UP_RATE, SIGN_UPS)
        self._sign_ups_from: BucketTable[Origin] = BucketTable(
            ORIGIN_SIGN_UP_RATE, ORIGIN_SIGN_UPS, MAX_ORIGINS
        )

    def write(self, user: PublicKey, origin: Origin, now: float) -> None:
        """A message of a user (his public key); raises `TooFast` where he or his origin is to wait."""
        buckets = (self._writers.bucket(user), self._origins.bucket(origin))
        wait = max(bucket.ready_in(now) for bucket in buckets)
        if wait:
            raise TooFast(f"You write too fast; wait {math.ceil(wait)} s and send it again.")
        for bucket in buckets:
            bucket.spend(now, 1)

    def may_sign_up(self, door: Door, origin: Origin, now: float) -> None:
        """Raises `TooFast` where no account is to be made now."""
        wait = max(bucket.ready_in(now) for bucket in self._sign_up_buckets(door, origin))
        if wait:
            minutes = max(1, math.ceil(wait / 60))
            raise TooFast(f"Too many accounts were made here lately; try again in {minutes} min.")

    def signed_up(self, door: Door, origin: Origin, now: float) -> None:
        """An account was made."""
        for bucket in self._sign_up_buckets(door, origin):
            bucket.spend(now, 1)

    def _sign_up_buckets(self, door: Door, origin: Origin) -> list[TokenBucket]:
        if door is OPERATOR:
            return [self._sign_ups]
        return [self._sign_ups, self._sign_ups_from.bucket(origin)]
