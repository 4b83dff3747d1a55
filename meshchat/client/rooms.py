"""A room as a person has it before him: what is loaded of it, what he has read, what is new.

Every table is bounded: strangers fill them.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass

from meshchat.client.messages import Entry, Message, Notice

MAX_ENTRIES = 2000
MAX_TEXT_HELD = 1024 * 1024
"""Messages, and characters of them, kept of a room for scrolling back; what is older `/history` asks for."""

MAX_FRESH = 999
"""Unread messages counted in a room."""


@dataclass(frozen=True)
class Mark:
    """The last message that was read in a room."""

    id: str
    ms: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """What is remembered of an unread message, also where the message itself is not kept."""

    key: str
    names_me: bool


class Room:
    """A room: what was loaded of it, oldest first, and what is unread."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.open = False
        self.left = False
        """Left by `/leave`: from then on only mentions count there."""
        self.loaded = False
        self.entries: list[Entry] = []
        self.mark: Mark | None = None
        self.counted_to = 0
        """Up to this time, in UTC milliseconds, all that came is counted or read, loaded or not."""
        self.new_from: Message | None = None
        """The first message that was new when the room was last entered."""
        self.fresh: deque[Fresh] = deque(maxlen=MAX_FRESH)
        self._ids: set[str] = set()
        self._floor: str | None = None
        """The position from which on all is here; None: from the beginning."""
        self._length = 0

    @property
    def title(self) -> str:
        """`5:garden`, or just `2` for room 2."""
        return self.name if self.name == str(self.number) else f"{self.number}:{self.name}"

    def messages(self) -> Iterator[Message]:
        """The messages among the entries."""
        return (entry for entry in self.entries if isinstance(entry, Message))

    def load(self, messages: list[Message], *, all_there_is: bool) -> list[Message]:
        """Takes in what the history holds from its first message on; returns what is new here, in order.

        Of a room that is loaded already, what is older than that is not let in: it was never missed.
        """
        if not self.loaded:
            self.loaded = True
            self._floor = None if all_there_is or not messages else messages[0].position
        return [message for message in messages if self.add(message)]

    def extend_back(self, messages: list[Message], *, all_there_is: bool) -> None:
        """Takes in older messages, up to those that are here."""
        if all_there_is:
            self._floor = None
        elif messages and self._floor is not None:
            self._floor = min(messages[0].position, self._floor)
        for message in messages:
            self.add(message)

    @property
    def known_from(self) -> str | None:
        """The position from which on the room is here; None: from its beginning, or more cannot be kept."""
        return self._floor if len(self.entries) < MAX_ENTRIES else None

    def add(self, entry: Entry) -> bool:
        """Puts an entry into its place by time; says whether it was new and is not too old."""
        if isinstance(entry, Message):
            if entry.id in self._ids or entry.position < (self._floor or ""):
                return False
            self._ids.add(entry.id)
        insort(self.entries, entry, key=_time)
        self._length += len(entry.text)
        while len(self.entries) > MAX_ENTRIES or (self._length > MAX_TEXT_HELD and len(self.entries) > 1):
            self._drop_first()
        return True

    def _drop_first(self) -> None:
        gone = self.entries.pop(0)
        self._length -= len(gone.text)
        if isinstance(gone, Message):
            self._ids.discard(gone.id)
            self._floor = max(gone.position, self._floor or "")

    def keep_only(self, ids: Container[str]) -> None:
        """All other messages have been wiped."""
        self.entries = [entry for entry in self.entries if isinstance(entry, Notice) or entry.id in ids]
        self._ids = {message.id for message in self.messages()}
        self._length = sum(len(entry.text) for entry in self.entries)

    def unload(self) -> None:
        """Forgets the messages, which the daemon still has, but not what is unread."""
        self.loaded, self.entries, self._length, self._floor = False, [], 0, None
        self._ids.clear()
        self.new_from = None

    def has(self, message_id: str) -> bool:
        """Whether the message is here."""
        return message_id in self._ids

    def find(self, message_id: str) -> Message | None:
        """The message, if it is here."""
        if message_id not in self._ids:
            return None
        return next((message for message in self.messages() if message.id == message_id), None)

    def since(self, ms: int) -> int:
        """The position of the first entry that is not older."""
        return bisect_left(self.entries, ms, key=_time)

    def last(self) -> Message | None:
        """The latest message."""
        return next((entry for entry in reversed(self.entries) if isinstance(entry, Message)), None)

    def last_ms(self) -> int:
        """The time of the latest entry; 0 where there is none."""
        return self.entries[-1].ms if self.entries else 0

    def after(self, mark: Mark | None) -> list[Message]:
        """The messages after the mark; none where nothing was ever read: everything is new then."""
        if mark is None:
            return []
        at = bisect_right(self.entries, mark.ms, key=_time)
        same = self.since(mark.ms)
        known = [i for i in range(same, at) if getattr(self.entries[i], "id", None) == mark.id]
        start = known[-1] + 1 if known else at
        return [entry for entry in self.entries[start:] if isinstance(entry, Message)]


def _time(entry: Entry) -> int:
    return entry.ms
