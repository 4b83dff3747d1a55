"""Ranges of positions that are still wanted, or still to be sent."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from meshchat.wire.ids import END, POSITION_SIZE, Bound, Position, Span


def after(position: Bound) -> Bound:
    """The bound just above a position."""
    return Bound((int.from_bytes(position, "big") + 1).to_bytes(len(position), "big"))


def between(below: Bound, above: Bound) -> Bound:
    """The shortest bound over `below` and not over `above`: as few bytes of `above` as tell the two apart."""
    if above >= END:
        return END
    for size in range(1, POSITION_SIZE):
        if (short := Bound(above[:size].ljust(POSITION_SIZE, b"\x00"))) > below:
            return short
    return above


class Spans:
    """Ranges low <= position < high, in order and apart. Each step costs the logarithm of their number, and
    the number of those that it takes away."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """The spans given; those that touch are made one."""
        self._lows: list[Bound] = []
        self._highs: list[Bound] = []
        for low, high in sorted(spans):
            if self._highs and self._highs[-1] >= low:
                self._highs[-1] = max(self._highs[-1], high)
            elif low < high:
                self._lows.append(low)
                self._highs.append(high)

    def __iter__(self) -> Iterator[Span]:
        return zip(tuple(self._lows), tuple(self._highs), strict=True)

    def __len__(self) -> int:
        return len(self._lows)

    def __contains__(self, position: Position) -> bool:
        at = bisect_right(self._lows, position) - 1
        return at >= 0 and position < self._highs[at]

    @property
    def lowest(self) -> Span:
        """The first span; raises IndexError where there is none."""
        return self._lows[0], self._highs[0]

    def ending_by(self, bound: Bound) -> int:
        """How many spans lie below `bound` altogether."""
        return bisect_right(self._highs, bound)

    def common(self, low: Bound, high: Bound) -> list[Span]:
        """What lies both in a span and in low <= position < high."""
        first, last = bisect_right(self._highs, low), bisect_left(self._lows, high)
        return [(max(self._lows[at], low), min(self._highs[at], high)) for at in range(first, last)]

    def remove(self, low: Bound, high: Bound) -> bool:
        """Takes low <= position < high away; whether any of it was there."""
        first, last = bisect_right(self._highs, low), bisect_left(self._lows, high)
        if first >= last or low >= high:
            return False
        below = [(self._lows[first], low)] if self._lows[first] < low else []
        above = [(high, self._highs[last - 1])] if high < self._highs[last - 1] else []
        self._lows[first:last] = [begin for begin, _ in below + above]
        self._highs[first:last] = [end for _, end in below + above]
        return True
