"""Which request made which record here, so that a request that is repeated makes no second one."""

import heapq
from typing import NamedTuple

from meshchat.wire.ids import Position

MAX_ONCE = 1024
"""Requests remembered, some 210 bytes each. A front end repeats a request within minutes, when it did not
hear the answer: this is 10 messages waiting on each of 100 phones when the power comes back, or one person
for 5 minutes at the 3 messages a second that he may send. Who fills it makes others' retries post twice."""


class Made(NamedTuple):
    """A record that a request made: its position, and the log it went into."""

    position: Position
    log: str


class OnceTable:
    """The newest `MAX_ONCE` requests by their hashes; what its record became does not matter."""

    def __init__(self) -> None:
        self._made: dict[bytes, Made] = {}
        self._found: list[tuple[int, bytes, Made]] = []

    def found(self, arrival: int, once: bytes, made: Made) -> None:
        """A line that the start came upon, in any order; its number is `arrival`."""
        put = heapq.heappush if len(self._found) < MAX_ONCE else heapq.heappushpop
        put(self._found, (arrival, once, made))

    def loaded(self) -> None:
        """All lines were found."""
        for _, once, made in sorted(self._found):
            self.add(once, made)
        self._found.clear()

    def add(self, once: bytes, made: Made) -> None:
        """The request with this hash has just made a record."""
        self._made[once] = made
        if len(self._made) > MAX_ONCE:
            del self._made[next(iter(self._made))]

    def get(self, once: bytes) -> Made | None:
        """What the request with this hash has made, as far as it is remembered."""
        return self._made.get(once)
