"""Mesh time: what a router stamps with, on machines that mostly have no clock.

A router with a good clock follows nobody. One without does not read its wall clock at all: its own time is
the floor it kept on flash plus the time it has run, and over that it lays the offset of the neighbours it
follows. Stamps are a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): never below a
stamp that this router has already shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from operator import itemgetter

from meshchat.constants import AHEAD_MS, RELEASED_MS
from meshchat.protocol.instant import Instant
from meshchat.wire.ids import NOBODY, RouterId
from meshchat.wire.packets import ClockClaim
from meshchat.wire.records import Grade, make_stamp, stamp_ms

PLAUSIBLE_MS = 20 * 365 * 86_400_000
"""How far past `RELEASED_MS` a neighbour's clock is believed: a liar's "good, 2431" moves nobody."""

CLOCK_SETTLE_MS = 2_000
"""Two clock claims that differ by less are the same time: radio delays and polling stay below it."""

LATEST_MS = RELEASED_MS + PLAUSIBLE_MS
"""No clock is believed to show a later time, UTC milliseconds."""


@dataclass(frozen=True)
class Heard:
    """A neighbour's claim and when it was heard (monotonic seconds)."""

    router: RouterId
    claim: ClockClaim
    at: float

    def time_ms(self, now: Instant) -> int:
        """What the neighbour's clock shows by now."""
        return self.claim.time_ms + int((now.mono - self.at) * 1000)

    def age(self, now: Instant) -> int:
        """Seconds since the good clock behind it spoke; rounded up, lest one told to and fro stays young."""
        return self.claim.age + ceil(now.mono - self.at)


@dataclass(frozen=True)
class _Followed:
    router: RouterId
    hops: int
    grade: Grade
    offset_ms: int
    spoke_at: float


class MeshClock:
    """Mesh time and the stamps made from it. Milliseconds are UTC since 1970."""

    def __init__(self, now: Instant, floor_ms: int, resume_ms: int = 0) -> None:
        """`floor_ms` is the latest time this router ever knew for sure; it is raised to the release date.

        `resume_ms` is mesh time of before the restart, borrowed perhaps: it goes on from there, so that what
        was shown is still shown, but of the lowest grade, so that any clock overrules it. What no clock is
        believed to show is an operator's slip of before a restart, and is forgotten.
        """
        self._base_ms = max(floor_ms, RELEASED_MS) if floor_ms <= LATEST_MS else RELEASED_MS
        self._base_at = now.mono
        self._followed: _Followed | None = None
        if self._base_ms < resume_ms <= LATEST_MS:
            offset_ms = resume_ms - int(now.mono * 1000)
            self._followed = _Followed(NOBODY, 0, Grade.UNKNOWN, offset_ms, now.mono)
        self._set_offset_ms: int | None = None
        self._set_over_kernel = False
        self._last_stamp = 0
        self._looked_ms, self._looked_at = self.now_ms(now), now.mono

    # --- Reading ----------------------------------------------------------------------------------------

    def own_ms(self, now: Instant) -> int:
        """The time without anybody else's word: the floor plus running time."""
        return self._base_ms + int((now.mono - self._base_at) * 1000)

    def grade(self, now: Instant) -> Grade:
        """How far this router's clock is trusted."""
        if now.trusted or self._set_offset_ms is not None:
            return Grade.GOOD
        return self._followed.grade if self._followed else Grade.UNKNOWN

    def now_ms(self, now: Instant) -> int:
        """Mesh time."""
        if self._set_offset_ms is not None:
            return int(now.mono * 1000) + self._set_offset_ms
        if now.trusted:
            return now.wall_ms
        if self._followed:
            return int(now.mono * 1000) + self._followed.offset_ms
        return self.own_ms(now)

    def floor_ms(self, now: Instant) -> int:
        """What this router knows for sure, to be kept on flash: never somebody else's claim.

        Only a good clock or this router's own running time raises it.
        """
        return self.now_ms(now) if self.grade(now) is Grade.GOOD else self.own_ms(now)

    def claim(self, now: Instant) -> ClockClaim:
        """What this router tells its neighbours."""
        grade, time_ms = self.grade(now), min(self.now_ms(now), 2**48 - 1)
        if grade is Grade.ADOPTED and self._followed:
            age = ceil(now.mono - self._followed.spoke_at)
            return ClockClaim(grade, self._followed.hops, age, time_ms)
        return ClockClaim(grade, 0, 0, time_ms)

    def followed(self) -> tuple[RouterId, int] | None:
        """The neighbour whose clock was adopted and the hops to the good one, or None."""
        followed = self._followed
        return (followed.router, followed.hops) if followed and followed.router != NOBODY else None

    # --- Setting ----------------------------------------------------------------------------------------

    def set_by_operator(self, now: Instant, time_ms: int) -> None:
        """The operator vouches for `time_ms`; stamps go on from there, backwards too.

        It holds until the kernel synchronises its clock after this (see `follow`), for whoever set a clock by
        hand and then gets NTP means the NTP. Over a clock that is synchronised already, it holds until the
        kernel loses that and finds it again.
        """
        self._set_offset_ms = time_ms - int(now.mono * 1000)
        self._set_over_kernel = now.trusted
        self.forget_stamps(now)

    @property
    def operator_offset_ms(self) -> int | None:
        """Mesh time less monotonic time as the operator set it, to be kept for a restart without reboot."""
        return self._set_offset_ms

    @property
    def operator_over_kernel(self) -> bool:
        """Whether the kernel's clock was synchronised when the operator set it, and is since."""
        return self._set_over_kernel

    def restore_operator(self, offset_ms: int, *, over_kernel: bool) -> None:
        """The operator's setting of before a restart; valid only within the same boot of the machine."""
        self._set_offset_ms, self._set_over_kernel = offset_ms, over_kernel

    def forget_stamps(self, now: Instant) -> None:
        """Lets stamps start again from mesh time where it was set back."""
        if stamp_ms(self._last_stamp) > self.now_ms(now) + AHEAD_MS:
            self._last_stamp = 0

    def follow(self, now: Instant, heard: Iterable[Heard]) -> bool:
        """Adopts the neighbours' best grade by majority; returns whether mesh time moved noticeably.

        A kernel that has synchronised since the operator set the clock ends the operator's setting. Claims
        beyond `PLAUSIBLE_MS` after the release, or before this router's own time, are no clock's.
        Among equals the smaller jump wins, measured from this router's own time, so that an honest clock
        that comes back displaces a liar's.
        """
        self._look_at_kernel(now)
        if self.grade(now) is Grade.GOOD:
            self._followed = None
            if self.now_ms(now) <= LATEST_MS:
                self._base_ms, self._base_at = max(self.now_ms(now), RELEASED_MS), now.mono
        else:
            choice = self._choose(now, list(heard))
            if choice is not None:
                self._adopt(now, choice)
        expected_ms = self._looked_ms + int((now.mono - self._looked_at) * 1000)
        self._looked_ms, self._looked_at = self.now_ms(now), now.mono
        return abs(self._looked_ms - expected_ms) > CLOCK_SETTLE_MS

    def _look_at_kernel(self, now: Instant) -> None:
        if not now.trusted:
            self._set_over_kernel = False
        elif not self._set_over_kernel:
            self._set_offset_ms = None

    def _plausible(self, now: Instant, claim: Heard) -> bool:
        time_ms = claim.time_ms(now)
        return self.own_ms(now) - AHEAD_MS <= time_ms <= LATEST_MS

    def _choose(self, now: Instant, heard: list[Heard]) -> Heard | None:
        heard = [one for one in heard if self._plausible(now, one)]
        if not heard:
            return None
        best = max(one.claim.grade for one in heard)
        if best is Grade.UNKNOWN:
            return self._furthest(now, heard)
        voters = [(one.time_ms(now), one) for one in heard if one.claim.grade is best]
        voters.sort(key=itemgetter(0))
        group = _largest_agreeing(voters)
        return min(group, key=lambda one: (one.age(now), one.claim.hops, one.router))

    def _furthest(self, now: Instant, heard: list[Heard]) -> Heard | None:
        """With no good clock anywhere: the latest time, since every honest one is a lower bound."""
        if self._followed and self._followed.grade is not Grade.UNKNOWN:
            return None
        latest = max(heard, key=lambda one: one.time_ms(now))
        return latest if latest.time_ms(now) > self.now_ms(now) + CLOCK_SETTLE_MS else None

    def _adopt(self, now: Instant, source: Heard) -> None:
        claim = source.claim
        grade = Grade.UNKNOWN if claim.grade is Grade.UNKNOWN else Grade.ADOPTED
        spoke_at = now.mono - source.age(now)
        current = self._followed
        offset_ms = source.time_ms(now) - int(now.mono * 1000)
        if current and current.grade is grade:
            same_time = abs(offset_ms - current.offset_ms) <= AHEAD_MS
            if same_time and spoke_at <= current.spoke_at and grade is not Grade.UNKNOWN:
                return
            if abs(offset_ms - current.offset_ms) <= CLOCK_SETTLE_MS:
                offset_ms = current.offset_ms
        self._followed = _Followed(source.router, claim.hops + 1, grade, offset_ms, spoke_at)
        self.forget_stamps(now)

    # --- Stamps -----------------------------------------------------------------------------------------

    def is_ahead(self, now: Instant, stamp: int) -> bool:
        """Whether a record stamped so has to wait: it is over 15 minutes ahead of mesh time."""
        return stamp_ms(stamp) > self.now_ms(now) + AHEAD_MS

    def shown(self, stamp: int) -> None:
        """A record with this stamp was shown: whatever is stamped from now on sorts after it."""
        self._last_stamp = max(self._last_stamp, stamp)

    def stamp(self, now: Instant, above: int) -> int:
        """The stamp for a new record: mesh time, but later than all shown and not below `above`."""
        self._last_stamp = max(make_stamp(self.now_ms(now)), self._last_stamp + 1, above)
        return self._last_stamp


def _largest_agreeing(voters: list[tuple[int, Heard]]) -> list[Heard]:
    """The most claims that lie within `AHEAD_MS`, the earliest of equally many; `voters` sorted by time."""
    best = range(0)
    first = 0
    for last, (time_ms, _) in enumerate(voters):
        while time_ms - voters[first][0] > AHEAD_MS:
            first += 1
        if last + 1 - first > len(best):
            best = range(first, last + 1)
    return [voters[number][1] for number in best]
