"""How a fetch from one source goes: when to ask again, and when to give the source up."""

from dataclasses import dataclass

from meshchat.constants import FETCH_LONGEST, SLOWEST, STALL, WANT_KEEP, WANT_RETRY

SOURCE_SILENCE = 3.0
"""A source that has sent nothing wanted for so long is replaced; one that has brought something before, after
twice that: at 50% loss both ways a question or its answer is lost three times of four."""

WANT_GAPS = 16
WANT_EVERY = 4.0
"""A dump under way is told what was lost once there are 16 gaps, or one for 4 s: at 20 bytes a gap the whole
list fits into a datagram, also where half of what is sent again is lost again."""

WANT_SOON = 0.5
"""After which a WANT of whole ranges is said again, by multicast, and then after twice as long each time: of
two that fetch from two sources, one hears the other and takes the same, also where a fifth is lost."""

FETCH_ROUNDS_IDLE = 3
"""Rounds of a fetch that brought nothing before the asker leaves the rest to the digests."""


@dataclass
class Progress:
    """The times of a fetch. All are seconds, monotonic."""

    began_at: float = 0.0
    """When this source was named."""

    asked_at: float = 0.0
    """When the last WANT went to it."""

    heard_at: float = 0.0
    """When its last DUMP came."""

    progress_at: float = 0.0
    """When it brought a record that was wanted."""

    busy_until: float = 0.0
    """So long, the fetch keeps other sources out."""

    interval: float = 0.0
    """The usual seconds between two DUMPs of it."""

    pause: float = 0.0
    """For how many seconds it may be silent while it serves others."""

    brought: bool = False
    """It has brought something."""

    _idle_rounds: int = 0
    _progressed: bool = False

    @classmethod
    def begun(cls, now: float, pause: float) -> "Progress":
        """A source is named now that may be silent for `pause` seconds."""
        return cls(now, now, now, now, busy_until=now + max(STALL, pause), pause=pause)

    def asked(self, now: float) -> None:
        """A WANT goes to the source."""
        self.asked_at = now

    def brought_record(self, size: int, now: float) -> None:
        """The source brought a wanted record of `size` bytes."""
        self._progressed = self.brought = True
        self.progress_at = now
        bought = max(self.busy_until, now) + size / SLOWEST
        self.busy_until = max(self.busy_until, now + self.pause, min(now + SOURCE_SILENCE, bought))

    def heard(self, now: float) -> None:
        """A DUMP of the source came. That is no progress: anybody could send one."""
        self.interval += (min(now - self.heard_at, 1.0) - self.interval) / 8
        self.heard_at = now

    def is_silent(self, now: float) -> bool:
        """Whether the source has brought nothing for so long that it is given up."""
        patience = max(SOURCE_SILENCE, 2 * self.pause) * (2 if self.brought else 1)
        return now >= self.progress_at + patience

    def is_too_long(self, now: float) -> bool:
        """Whether the source has had its time."""
        return now - self.began_at > FETCH_LONGEST

    @property
    def retry_at(self) -> float:
        """When the source is to be asked again if nothing comes from it."""
        return max(self.asked_at, self.heard_at) + max(WANT_RETRY, 4 * self.interval)

    def is_time_to_ask(self, gaps: int, now: float, *, for_all: bool) -> bool:
        """Whether to say again what is wanted, with so many gaps in what has come.

        `for_all`: the WANT goes by multicast, for whoever else fetches.
        """
        since = now - self.asked_at
        many = gaps >= WANT_GAPS and since >= max(WANT_RETRY, 4 * self.interval)
        keep = min(WANT_KEEP, max(WANT_SOON, self.asked_at - self.began_at)) if for_all else WANT_KEEP
        return many or (gaps > 0 and since >= WANT_EVERY) or since >= keep

    def may_go_on(self) -> bool:
        """The source is through and something is missing: whether to ask it again."""
        self._idle_rounds = 0 if self._progressed else self._idle_rounds + 1
        self._progressed = False
        return self._idle_rounds < FETCH_ROUNDS_IDLE
