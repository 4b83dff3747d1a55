"""The body of a presence record: which rooms its author has open on its router, and since when he is idle.

The record is signed by the author's own key. It is of grade unknown, so that its age travels with it: its
stamp only orders it among those of the same key and router.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshchat.errors import Malformed
from meshchat.wire.codec import Reader, text, uint
from meshchat.wire.records import Grade, Kind, Record, Space, carried_size, is_name

MAX_STATEMENT = 480
"""Bytes of a presence record as carried: with its age it fits a datagram at the smallest MTU, sealed."""

IDLE_SIZE = 2
LONGEST_IDLE = 2 ** (8 * IDLE_SIZE) - 1
"""Seconds: idle for so long, or for ever."""


@dataclass(frozen=True)
class Statement:
    """`idle` is seconds since the person typed; of `rooms` the first is the one shown. No room: gone."""

    idle: int
    rooms: tuple[str, ...]

    def encode(self) -> bytes:
        """idle u16, rooms."""
        return uint(min(self.idle, LONGEST_IDLE), IDLE_SIZE) + b"".join(map(text, self.rooms))

    @classmethod
    def decode(cls, body: bytes) -> "Statement":
        """Reads it; raises `Malformed`: "name" for a room that cannot be one, or the reader's reasons."""
        reader = Reader(body)
        idle = reader.uint(IDLE_SIZE)
        rooms = []
        while reader.remaining():
            rooms.append(reader.text())
        if not all(map(is_name, rooms)):
            raise Malformed("name")
        return cls(idle, tuple(rooms))


def fitting(author: str, rooms: Sequence[str]) -> tuple[str, ...]:
    """The first of the rooms, as many as a statement of this author has room for: one always fits."""
    left = MAX_STATEMENT - carried_size("", author, Statement(0, ()).encode())
    for number, room in enumerate(rooms):
        left -= len(text(room))
        if left < 0:
            return tuple(rooms[:number])
    return tuple(rooms)


def read_statement(record: Record) -> Statement:
    """The statement in a record; raises `Malformed("statement")` where it is none, and as `decode` does."""
    is_one = (record.space, record.kind, record.grade) == (Space.PRESENCE, Kind.PRESENCE, Grade.UNKNOWN)
    if not is_one or len(record.carried) > MAX_STATEMENT:
        raise Malformed("statement")
    return Statement.decode(record.body)
