"""Lines on their way to the daemon: in order, each kept until it is known to be stored."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from meshchat.chat.names import split_tag

MAX_WAITING = 100
"""Lines that wait to be sent before no more are read: a pasted file stays in the terminal meanwhile."""

MAX_SEEN = 10_000
"""Ids remembered so that no message is shown twice: more than a room shows in a day, 1 MB."""


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


@dataclass(eq=False)
class Line:
    """A line for a room. `doubtful`: the answer was lost and the daemon may have it; `sent`: it has."""

    room: str
    text: str
    doubtful: bool = False
    sent: bool = False


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

    def recognise(self, messages: list[dict[str, Any]], seen: Seen, user: str, router: str) -> str | None:
        """Finds the first line, whose answer was lost, in its room's history; returns the id, if it is there.

        A router stamps what it takes after all that it has shown, so the line can only come after the last
        message known here: an equal text of yesterday is never taken for it.
        """
        line = self.lines[0] if self.lines else None
        if line is None or not line.doubtful or line.sent:
            return None
        known = [at for at, message in enumerate(messages) if message["id"] in seen]
        for message in messages[known[-1] + 1 if known else 0 :]:
            own = split_tag(message["user"])[0] == split_tag(user)[0] and message["router"] == router
            if own and message["room"] == line.room and message["text"] == line.text:
                line.sent = True
                return str(message["id"])
        return None
