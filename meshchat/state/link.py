"""How much of what a neighbour multicasts gets through, told by the gaps in its numbers."""

from meshchat.constants import LOSS_AT_FIRST, LOSS_STEP

_MODULO = 256
_LONGEST_GAP = 8
"""Frames that a gap counts for at most: a restart, whose numbers begin anywhere, is no catastrophe."""


class Link:
    """The link from one neighbour. `loss` is 0 to 1, a moving average over about `1 / LOSS_STEP` frames."""

    __slots__ = ("_last", "loss")

    def __init__(self) -> None:
        self.loss = LOSS_AT_FIRST
        self._last: int | None = None

    def heard(self, number: int) -> None:
        """A packet with this number (0 to 255) came in; one that is late or doubled tells nothing."""
        if self._last is None:
            self._last = number
            return
        ahead = (number - self._last) % _MODULO
        if not 0 < ahead < _MODULO // 2:
            return
        self._last = number
        lost = min(ahead - 1, _LONGEST_GAP)
        kept = (1 - LOSS_STEP) ** lost
        self.loss = (1 - kept + self.loss * kept) * (1 - LOSS_STEP)

    def restarted(self) -> None:
        """The neighbour counts anew."""
        self._last = None
