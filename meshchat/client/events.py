"""Events sorted out: each comes over a connection once, and goes to those of its sessions that want it.

What a public message costs grows with the sessions that want its room, not with those that there are.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from meshchat.chat.names import fold
from meshchat.errors import DaemonGone

Event = Mapping[str, Any]
"""One event, which all who get it share."""

MAX_UNTAKEN = 5_000
"""Events kept for a session that takes none: a minute of a mesh at its busiest. They are shared, so that they
cost a session 40 KB; what it missed beyond, the history has."""


class EventsMissed(Exception):
    """More events came than were taken, and those are gone: the history tells what they were."""


class Inbox:
    """The events that a session has not taken yet; empty it is a few words of memory."""

    __slots__ = ("_end", "_events", "_missed", "_taker")

    def __init__(self) -> None:
        self._events: deque[Event] | None = None
        self._missed = False
        self._end: str | None = None
        self._taker: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """An event came."""
        if self._events is None:
            self._events = deque()
        elif len(self._events) >= MAX_UNTAKEN:
            self._events.clear()
            self._missed = True
        self._events.append(event)
        self._wake()

    def end(self, said: str) -> None:
        """No more come: after those that are here, `DaemonGone` is raised, which says this."""
        self._end = said
        self._wake()

    async def take(self) -> Event:
        """The next event, for one taker at a time; raises `EventsMissed`, and `DaemonGone` at the end."""
        while True:
            if self._missed:
                self._missed = False
                raise EventsMissed
            if self._events:
                event = self._events.popleft()
                if not self._events:
                    self._events = None
                return event
            if self._end is not None:
                raise DaemonGone(self._end)
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None

    def _wake(self) -> None:
        if self._taker and not self._taker.done():
            self._taker.set_result(None)


class Subscription(NamedTuple):
    """What a session wants to hear of: all but messages anyway, and messages in `rooms`; None: in all."""

    rooms: frozenset[str] | None

    @classmethod
    def of(cls, rooms: Iterable[str] | None) -> "Subscription":
        """To these rooms, however they are written."""
        return cls(None if rooms is None else frozenset(map(fold, rooms)))


class Subscriptions:
    """Which sessions of a connection want which events."""

    def __init__(self) -> None:
        self._inboxes: dict[int, Inbox] = {}
        self._subscribed: dict[int, Subscription] = {}
        self._in_room: dict[str, dict[int, Inbox]] = {}
        """By folded name, who wants the messages of the room but not of all."""
        self._everywhere: dict[int, Inbox] = {}

    def open(self, session: int) -> Inbox:
        """A session, which wants no events yet."""
        self._inboxes[session] = Inbox()
        return self._inboxes[session]

    def close(self, session: int) -> None:
        """The session gets no more events."""
        self.change(session, None)
        self._inboxes.pop(session, None)

    def change(self, session: int, wanted: Subscription | None) -> Subscription | None:
        """An open session wants these from now on, None: nothing; returns what it wanted before."""
        before = self._subscribed.pop(session, None)
        if before:
            for among in self._wanting(before):
                among.pop(session, None)
            for room in before.rooms or ():
                if not self._in_room[room]:
                    del self._in_room[room]
        if wanted:
            self._subscribed[session] = wanted
            for among in self._wanting(wanted):
                among[session] = self._inboxes[session]
        return before

    def _wanting(self, wanted: Subscription) -> list[dict[int, Inbox]]:
        if wanted.rooms is None:
            return [self._everywhere]
        return [self._in_room.setdefault(room, {}) for room in wanted.rooms]

    def deliver(self, event: Event) -> None:
        """Puts an event of the connection into the inbox of each session that it is for."""
        for inbox in self._receivers(event):
            inbox.put(event)

    def _receivers(self, event: Event) -> Iterator[Inbox]:
        chosen = event.get("sessions")
        if chosen is not None:
            return (inbox for session in chosen if (inbox := self._inboxes.get(session)))
        if event["event"] == "message":
            return chain(self._in_room.get(fold(event["room"]), {}).values(), self._everywhere.values())
        return (self._inboxes[session] for session in self._subscribed)

    def end(self, said: str) -> None:
        """The connection is lost, which `said` tells of: all sessions' events end."""
        for inbox in self._inboxes.values():
            inbox.end(said)
