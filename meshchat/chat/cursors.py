"""How a front end says up to where it has read: cursors by arrival at this router, positions by date.

A cursor is `<epoch>-<number>`: the epoch of the router's logs, 16 hex digits, and an arrival number in
decimal. Front ends keep it as it is and give it back.
"""

import re
from typing import NamedTuple

from meshchat.errors import UsageError
from meshchat.wire.ids import POSITION_SIZE, Bound, Position

_CURSOR = re.compile(r"([0-9a-f]{16})-(0|[1-9][0-9]{0,14})", re.ASCII)
"""15 digits hold every arrival number, which is below 2**47."""


class Cursor(NamedTuple):
    """A place in the order of arrival at one router, whose logs have this epoch."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    def counts_for(self, newest: "Cursor") -> bool:
        """Whether a router whose newest arrival is `newest` knows what came after this one.

        Not where it is another router's, or of logs that were lost, or of a future that they do not have.
        """
        return self.epoch == newest.epoch and self.number <= newest.number


def parse_cursor(text: str) -> Cursor:
    """The cursor that a front end gave back; raises `UsageError` for what no router gave."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise UsageError(
            "'after' has to be a cursor as this answer gives it. Without it, you get the newest."
        )
    return Cursor(found[1], int(found[2]))


def parse_position(text: str) -> Position:
    """The position that a front end gave back, as in MESSAGE; raises `UsageError` for anything else."""
    try:
        place = bytes.fromhex(text)
    except ValueError:
        place = b""
    if len(place) != POSITION_SIZE:
        raise UsageError("'before' has to be the position of a message, as this answer gives it.")
    return Position(Bound(place))
