"""How much of what a neighbour multicasts gets through, told by the gaps in its numbers."""

from meshchat.constants import LOSS_AT_FIRST, LOSS_STEP
from meshchat.wire.packets import MAX_NUMBER, NO_NUMBER

_LONGEST_GAP = 8
"""Frames that a gap counts for at most: a restart, whose numbers begin anywhere, is no catastrophe."""


_PRIOR = 2
"""Frames that `LOSS_AT_FIRST` weighs as much as."""


class Reception:
    """The link from one neighbour. `loss` is 0 to 1: the mean of the first frames, then a moving average."""

    __slots__ = ("_last", "_seen", "loss")

    def __init__(self) -> None:
        self.loss = LOSS_AT_FIRST
        self._last: int | None = None
        self._seen = _PRIOR

    def heard(self, number: int) -> None:
        """A packet with this number came in; one that is late, doubled or not numbered tells nothing."""
        if number == NO_NUMBER:
            return
        if self._last is None:
            self._last = number
            return
        ahead = (number - self._last) % MAX_NUMBER
        if not 0 < ahead <= MAX_NUMBER // 2:
            return
        self._last = number
        for _ in range(min(ahead - 1, _LONGEST_GAP)):
            self._count(1.0)
        self._count(0.0)

    def _count(self, lost: float) -> None:
        self._seen += 1
        self.loss += (lost - self.loss) * max(1 / self._seen, LOSS_STEP)

    def restarted(self) -> None:
        """The neighbour counts anew."""
        self._last = None
