"""The control socket from the outside: what every front end speaks to the daemon.

One JSON object a line each way. The daemon greets; a request `{"id":N,"do":OP,...}` is answered by any
number of `{"id":N,"item":{...}}` and then `{"id":N,"ok":true|false,...}`; after `subscribe`, events come
between the answers. `ControlClient` is for commands, `AsyncControlClient` for what types and reads at once,
and for what serves many people over one connection: each has a session of it.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from meshchat.client.events import Event, Subscription, Subscriptions
from meshchat.constants import CONTROL_VERSION, MAX_CONTROL_LINE, PEOPLE_SOCKET
from meshchat.errors import DaemonGone, MeshchatError, StoreError, TextRefused

CONNECT_TIMEOUT = 5.0
"""Seconds for the daemon to greet: it is on the same machine, and even a router in a dump gets to it."""

ANSWER_TIMEOUT = 120.0
"""Seconds without a line while an answer is due: a slowed-down login tries four seals on a slow CPU."""

MAX_ANSWER_LINE = 16 * 1024 * 1024
"""Bytes of one line from the daemon, which is trusted; only a runaway one sends more."""

Fields = dict[str, Any]
"""One JSON object."""


class Refused(MeshchatError):
    """What the daemon answered instead of doing it: its one line, and its code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Answer:
    """A whole answer: its items in order, and the fields of its last line."""

    items: list[Fields] = field(default_factory=list)
    fields: Fields = field(default_factory=dict)


# --- Framing, shared by both clients --------------------------------------------------------------------


def encode_request(number: int, op: str, args: Fields, session: int = 0) -> bytes:
    """The line that asks for `op` in a session; arguments that are None are left out.

    Raises `TextRefused` where an argument is no Unicode text (a terminal of another encoding) or too long.
    """
    given = {name: value for name, value in args.items() if value is not None}
    if session:
        given["session"] = session
    try:
        line = json.dumps({"id": number, "do": op, **given}, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        raise TextRefused("This is not UTF-8 text: set the terminal to UTF-8 and try again.") from None
    if len(line) > MAX_CONTROL_LINE:
        raise TextRefused("This is too long: a message may have 8 KiB.")
    return line


def decode_line(path: str, line: bytes) -> Fields:
    """The object in one line of the daemon at `path`; raises `DaemonGone` at the end, or if it is none."""
    if not line.endswith(b"\n"):
        raise DaemonGone(f"The daemon at {path} has stopped.")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise DaemonGone(f"What answers at {path} is no meshchat daemon.")
    return fields


def check_greeting(path: str, greeting: Fields) -> None:
    """Raises `DaemonGone` unless `greeting` is that of a daemon this client can talk to."""
    version = greeting.get("meshchat")
    if version is None:
        # A daemon that takes nobody on (too many clients) says so in place of its greeting.
        said = greeting.get("error")
        raise DaemonGone(str(said) if said else f"What answers at {path} is no meshchat daemon.")
    if version != CONTROL_VERSION:
        other = greeting.get("version")
        raise DaemonGone(f"The daemon at {path} is of another version ({other}): restart it.")


def refusal(answer: Fields) -> Refused:
    """The exception for an answer that is not ok."""
    return Refused(str(answer.get("code", "failed")), str(answer.get("error", "The daemon refused.")))


def no_daemon(path: str, error: OSError) -> DaemonGone:
    """What a person is told when `path` cannot be connected to, with the command that mends it."""
    if isinstance(error, PermissionError):
        return DaemonGone(f"You may not use {path}: join the group that owns it, or become root.")
    if path.endswith(PEOPLE_SOCKET):
        return DaemonGone(f"No daemon answers at {path}, where people reach it. Start one: meshchat daemon")
    return DaemonGone(f"No daemon answers at {path}. Start one: meshchat daemon --socket {path}")


def _overloaded(path: str) -> DaemonGone:
    return DaemonGone(f"The daemon at {path} does not answer: is it overloaded?")


def _stopped(path: str) -> DaemonGone:
    return DaemonGone(f"The daemon at {path} has stopped.")


# --- Commands -------------------------------------------------------------------------------------------


class ControlClient:
    """A blocking connection, one request at a time. Use it in a `with` statement."""

    def __init__(self, path: str | Path, timeout: float = CONNECT_TIMEOUT) -> None:
        """Connects to the socket at `path`, with `timeout` seconds for the greeting; raises `DaemonGone`."""
        self.path = str(path)
        self._number = 0
        self._events: deque[Fields] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            raise no_daemon(self.path, error) from None
        self._reader = self._socket.makefile("rb")
        try:
            self.greeting = self._receive()
            check_greeting(self.path, self.greeting)
        except DaemonGone:
            self.close()
            raise
        self._socket.settimeout(ANSWER_TIMEOUT)

    def request(self, op: str, **args: Any) -> Fields:
        """Asks for `op` and returns the fields of its answer; raises `Refused` or `DaemonGone`."""
        asked = self._ask(op, args)
        answer = next(line for line in self._answer(asked) if "ok" in line)
        return {name: value for name, value in answer.items() if name not in ("id", "ok")}

    def stream(self, op: str, **args: Any) -> Iterator[Fields]:
        """Asks for `op` and yields the items of its answer as they come; raises like `request`.

        Raises `StoreError` after the last item where the daemon's disk did not give all of them.
        """
        return self._items(self._ask(op, args))

    def _items(self, asked: int) -> Iterator[Fields]:
        for line in self._answer(asked):
            if "item" in line:
                yield line["item"]
            elif trouble := line.get("trouble"):
                raise StoreError(str(trouble))

    def events(self, seconds: float | None = None) -> Iterator[Fields]:
        """Yields events, once `subscribe` was asked for, without end or for `seconds`, after which nothing
        more can be asked here; raises `DaemonGone`.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            while self._events:
                yield self._events.popleft()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            self._socket.settimeout(left)
            try:
                line = decode_line(self.path, self._read_line())
            except TimeoutError:
                return
            if "event" in line:
                yield line

    def close(self) -> None:
        """Ends the connection."""
        reader = getattr(self, "_reader", None)
        if reader is not None:
            reader.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, op: str, args: Fields) -> int:
        self._number += 1
        line = encode_request(self._number, op, args)
        try:
            self._socket.sendall(line)
        except OSError:
            raise _stopped(self.path) from None
        return self._number

    def _answer(self, asked: int) -> Iterator[Fields]:
        while True:
            line = self._receive()
            if "event" in line:
                self._events.append(line)
            elif line.get("id") in (asked, None):  # no id: the request could not even be read
                if line.get("ok") is False:
                    raise refusal(line)
                yield line
                if "ok" in line:
                    return

    def _receive(self) -> Fields:
        try:
            return decode_line(self.path, self._read_line())
        except TimeoutError:
            raise _overloaded(self.path) from None

    def _read_line(self) -> bytes:
        try:
            return self._reader.readline(MAX_ANSWER_LINE)
        except TimeoutError:
            raise
        except OSError:
            raise _stopped(self.path) from None


# --- Front ends that read and write at once -------------------------------------------------------------


def _rights(fields: Fields) -> frozenset[str]:
    return _shared(tuple(fields.get("rights", ())))


@lru_cache(maxsize=32)
def _shared(rights: tuple[str, ...]) -> frozenset[str]:
    """One set for all sessions that have the same rights: thousands have."""
    return frozenset(rights)


class ControlSession:
    """One session of a connection. Its requests are answered in order, beside those of other sessions.

    `rights` are what it may do now: its door's, and those of who is logged in.
    """

    __slots__ = ("_inbox", "_wire", "number", "rights")

    def __init__(self, wire: "_Wire", number: int, rights: frozenset[str]) -> None:
        """For `AsyncControlClient`, which has opened session `number` on `wire`."""
        self.number = number
        self.rights = rights
        self._wire = wire
        self._inbox = wire.subscriptions.open(number)

    @property
    def greeting(self) -> Fields:
        """What the daemon said first."""
        return self._wire.greeting

    async def request(self, op: str, **args: Any) -> Answer:
        """Asks for `op` and returns its whole answer; raises `Refused` or `DaemonGone`.

        After `subscribe` events come, of messages those in `rooms`.
        """
        if op == "subscribe":
            return await self._subscribe(args)
        answer = await self._wire.ask(self.number, op, args)
        if "rights" in answer.fields:
            self.rights = _rights(answer.fields)
        elif op == "retire":
            self.rights = _rights(self._wire.greeting)
        return answer

    async def _subscribe(self, args: Fields) -> Answer:
        # Before the daemon hears of it: events may come together with its answer.
        subscriptions = self._wire.subscriptions
        before = subscriptions.change(self.number, Subscription.of(args.get("rooms")))
        try:
            return await self._wire.ask(self.number, "subscribe", args)
        except Refused:
            subscriptions.change(self.number, before)
            raise

    async def next_event(self) -> Event:
        """The next event; those that came before the connection was lost still come, then `DaemonGone`.

        Raises `EventsMissed` where too many came meanwhile to be kept.
        """
        return await self._inbox.take()

    async def close(self) -> None:
        """Ends the session: its login, its subscription, its presence. The connection stays.

        Closing twice is harmless.
        """
        self._wire.subscriptions.close(self.number)
        self._inbox.end("This session has been closed.")
        with contextlib.suppress(DaemonGone, Refused):
            await self._wire.ask(self.number, "close", {})


class AsyncControlClient(ControlSession):
    """A connection, which is a session itself (number 0) and opens others; make one with `connect`.

    Once it is lost, everything that waits on it or on its sessions raises `DaemonGone`.
    """

    __slots__ = ("_last",)

    def __init__(self, wire: "_Wire") -> None:
        """For `connect`, which has read the greeting."""
        super().__init__(wire, 0, _rights(wire.greeting))
        self._last = 0

    @classmethod
    async def connect(cls, path: str | Path) -> "AsyncControlClient":
        """Connects to the socket at `path` and reads its greeting; raises `DaemonGone`."""
        return cls(await _Wire.connect(str(path)))

    @property
    def lost(self) -> bool:
        """Whether nothing more can be asked here."""
        return self._wire.lost is not None

    async def open_session(self, origin: str | None = None) -> ControlSession:
        """Another session, for somebody at the address `origin`; raises `DaemonGone` or `Refused`.

        The daemon believes an origin only where its operator lets this front end name them.
        """
        self._last += 1
        number = self._last
        answer = await self._wire.ask(number, "open", {"origin": origin})
        return ControlSession(self._wire, number, _rights(answer.fields))

    async def close(self) -> None:
        """Ends the connection, and with it all its sessions."""
        await self._wire.close()


class _Asked:
    """A request that is under way."""

    __slots__ = ("answer", "items")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.items: list[Fields] = []


class _Wire:
    """The lines of one connection: requests out, and what comes in to whom it is for."""

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.path = path
        self.greeting: Fields = {}
        self.lost: str | None = None
        """What is told to whoever asks, once it is lost."""
        self.subscriptions = Subscriptions()
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._heard_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, path: str) -> "_Wire":
        """Connects, and reads the greeting; raises `DaemonGone`."""
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_LINE)
        except OSError as error:
            raise no_daemon(path, error) from None
        wire = cls(path, reader, writer)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                wire.greeting = await wire._receive()
            check_greeting(path, wire.greeting)
        except TimeoutError:
            writer.close()
            raise _overloaded(path) from None
        except DaemonGone:
            writer.close()
            raise
        wire._pump = asyncio.create_task(wire._read_all())
        return wire

    async def ask(self, session: int, op: str, args: Fields) -> Answer:
        """The whole answer to a request of a session; raises `Refused` or `DaemonGone`."""
        if self.lost is not None:
            raise DaemonGone(self.lost)
        self._number += 1
        number = self._number
        line = encode_request(number, op, args, session)
        asked = _Asked()
        self._watch()
        self._asked[number] = asked
        try:
            self._writer.write(line)
            return await asked.answer
        finally:
            del self._asked[number]

    async def close(self) -> None:
        """Ends it."""
        self._lose(str(_stopped(self.path)))
        if self._pump:
            self._pump.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # --- What comes in --------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        try:
            while True:
                self._take(await self._receive())
        except DaemonGone as error:
            self._lose(str(error))

    def _take(self, line: Fields) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if "event" in line:
            self.subscriptions.deliver(line)
            return
        number = line.get("id")
        if number is None:  # The daemon could not read what it was sent, and nobody knows whose it was.
            raise DaemonGone(str(refusal(line)))
        asked = self._asked.get(number)
        if asked is None or asked.answer.done():
            return
        if "item" in line:
            asked.items.append(line["item"])
        elif line.get("ok"):
            asked.answer.set_result(Answer(asked.items, line))
        else:
            asked.answer.set_exception(refusal(line))

    def _lose(self, said: str) -> None:
        if self.lost is not None:
            return
        self.lost = said
        if self._alarm:
            self._alarm.cancel()
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(DaemonGone(said))
        self.subscriptions.end(said)

    async def _receive(self) -> Fields:
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):  # ValueError: a line beyond MAX_ANSWER_LINE
            raise _stopped(self.path) from None
        return decode_line(self.path, line)

    # --- A daemon that is there and says nothing --------------------------------------------------------

    def _watch(self) -> None:
        """Something is asked: from now on the daemon has to say something."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            self._heard_at = loop.time()
        if self._alarm is None:
            self._alarm = loop.call_later(ANSWER_TIMEOUT, self._listen)

    def _listen(self) -> None:
        self._alarm = None
        if not self._asked:
            return
        loop = asyncio.get_running_loop()
        left = self._heard_at + ANSWER_TIMEOUT - loop.time()
        if left > 0:
            self._alarm = loop.call_later(left, self._listen)
            return
        self._lose(str(_overloaded(self.path)))
