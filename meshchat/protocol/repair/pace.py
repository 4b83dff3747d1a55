"""How fast one asker is sent to: less where less pace loses less, and back again (AIMD).

Random loss does not depend on the pace, a full channel or a small buffer does. So the loss alone decides
nothing: where it is high the pace is halved on trial, and stays halved only if that helped.
"""

from collections.abc import Callable

from meshchat.protocol.repair.spans import Spans
from meshchat.state.limits import TokenBucket
from meshchat.wire.ids import Bound, Span

PACE_SAMPLE = 24
PACE_LOSS = 0.4
PACE_GAIN = 0.15
"""Where more than 40% of at least 24 datagrams was lost, the pace to that asker is halved; and where that
does not lower the loss by 15 points, it is set back. Chance makes 20% look like 40% once in a hundred."""
PACE_TRIAL = 30.0
"""Seconds until a pace that was set back is tried again."""
PACE_STEP = 1 / 16
PACE_LEAST = 1 / 16
"""The pace creeps back by a sixteenth of the full one for each sample, and is never less than that."""


class Pace:
    """The pace towards one asker. Times are seconds, monotonic.

    `factor` is the share of the full rate, from `PACE_LEAST` to 1.
    """

    def __init__(self, rate: float) -> None:
        """`rate` is bytes a second at full pace."""
        self.factor = 1.0
        self._rate = rate
        self._bucket = TokenBucket(rate, 1.0)
        self._unjudged: list[Span] = []
        self._datagrams = 0
        self._sent = self._lost = 0
        self._loss_before: float | None = None
        self._trial_at = 0.0

    def ready_in(self, now: float) -> float:
        """Seconds until the next datagram may go; at full pace the interface's own share decides alone."""
        return 0.0 if self.factor >= 1.0 else self._bucket.ready_in(now)

    def spend(self, now: float, size: int) -> None:
        """A datagram of `size` bytes went out."""
        self._bucket.spend(now, size)

    def sent(self, low: Bound, high: Bound) -> None:
        """A datagram with all records of a range went out."""
        self._datagrams += 1
        if self._unjudged and self._unjudged[-1][1] == low:
            low, _ = self._unjudged.pop()
        self._unjudged.append((low, high))

    def told(self, wanted: Spans, count: Callable[[Bound, Bound], int], now: float) -> None:
        """The asker says what it still wants: what went out and is wanted again was lost.

        `count` gives the number of records in a range. Judged once enough datagrams went at this pace.
        """
        for low, high in self._unjudged:
            self._sent += count(low, high)
            self._lost += sum(count(*span) for span in wanted.common(low, high))
        self._unjudged.clear()
        if self._datagrams < PACE_SAMPLE or not self._sent:
            return
        loss = self._lost / self._sent
        self._datagrams = self._sent = self._lost = 0
        before, self._loss_before = self._loss_before, None
        if before is not None and loss > before - PACE_GAIN:
            # Half the pace lost as much: it is not the pace. Not tried again for a while.
            self._set(2 * self.factor)
            self._trial_at = now + PACE_TRIAL
        elif loss > PACE_LOSS and now >= self._trial_at and self.factor > PACE_LEAST:
            self._loss_before = loss
            self._set(self.factor / 2)
        else:
            self._set(self.factor + PACE_STEP)

    def _set(self, factor: float) -> None:
        self.factor = min(1.0, max(PACE_LEAST, factor))
        self._bucket.rate = self._rate * self.factor
