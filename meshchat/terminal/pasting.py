"""Telling a paste from typing where the terminal does not bracket it: by how much comes at once."""

from collections.abc import Callable

AT_ONCE = 5
"""Keys that come in one go, from which on nobody has typed them: a slow router draws in a quarter of a
second, in which a fast typist strikes four keys."""

SURELY = 20
"""Keys of a go in which even a Tab is no request to complete: one that was typed ahead comes with fewer."""

FULL_GO = 512
"""Keys of a go that is but a piece: a terminal hands over some thousand bytes at once."""

GOES_ON = 0.1
"""Seconds within which what comes after such a piece, or after a pasted line's end, belongs to the paste."""


class PasteWatch:
    """Counts the keys of each go. `now` is a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._count = self._go = 0
        self._until = 0.0

    def key(self, waiting: int) -> None:
        """A key is about to be handled, behind which `waiting` others came in the same go."""
        self._count += 1
        self._go = self._count + waiting
        if self._go >= FULL_GO:
            self._until = self._now() + GOES_ON
        if not waiting:
            self._count = 0

    @property
    def is_surely_paste(self) -> bool:
        """Whether the key that is being handled belongs to a paste, and may not have been typed ahead."""
        return self._go >= SURELY or self._now() < self._until

    def ends_line(self) -> bool:
        """Whether the key that is being handled, which ends a line, belongs to a paste; then what follows
        closely does, too.
        """
        pasted = self._go >= AT_ONCE or self._now() < self._until
        if pasted:
            self._until = self._now() + GOES_ON
        return pasted
