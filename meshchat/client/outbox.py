"""Lines on their way to the daemon: in order, each kept until it is known to be stored."""

import asyncio
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_WAITING = 100
"""Lines that wait to be sent before no more are read: a pasted file stays in the terminal meanwhile."""

MAX_SEEN = 10_000
"""Ids remembered so that no message is shown twice: more than a room shows in a day, 1 MB."""


KEY_SIZE = 16
"""Random bytes of a line's key: no two lines of a user are ever taken for one."""


class Seen:
    """The ids of the messages that were shown or sent here; the oldest are forgotten."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    def add(self, message_id: str) -> None:
        """Remembers it."""
        self._ids[message_id] = None
        if len(self._ids) > MAX_SEEN:
            self._ids.popitem(last=False)


def new_key() -> str:
    """A key for one line: whoever sends it twice with the same key has it stored once."""
    return secrets.token_hex(KEY_SIZE)


@dataclass(eq=False)
class Line:
    """A line for a room. By its `key` the daemon knows it again where an answer was lost."""

    room: str
    text: str
    key: str = field(default_factory=new_key)


class Outbox:
    """The lines that wait, the first of them perhaps under way."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque()
        self._changed = asyncio.Condition()

    async def put(self, line: Line) -> None:
        """Adds a line; waits while there are too many."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.lines) < MAX_WAITING)
            self.lines.append(line)
            self._changed.notify_all()

    async def first(self) -> Line:
        """The line to send next; it stays in the outbox."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.lines) > 0)
            return self.lines[0]

    async def drop_first(self) -> None:
        """The first line needs no more sending."""
        async with self._changed:
            self.lines.popleft()
            self._changed.notify_all()

    async def shrunk(self) -> None:
        """Returns when one line less waits."""
        async with self._changed:
            before = len(self.lines)
            await self._changed.wait_for(lambda: len(self.lines) < before)
