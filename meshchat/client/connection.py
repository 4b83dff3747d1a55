"""The control socket from the outside: what every front end speaks to the daemon.

One JSON object a line each way. The daemon greets; a request `{"id":N,"do":OP,...}` is answered by any
number of `{"id":N,"item":{...}}` and then `{"id":N,"ok":true|false,...}`; after `subscribe`, events come
between the answers. `ControlClient` is for commands, `AsyncControlClient` for what types and reads at once.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from meshchat.constants import CONTROL_VERSION, MAX_CONTROL_LINE
from meshchat.errors import DaemonGone, MeshchatError, TextRefused

CONNECT_TIMEOUT = 5.0
"""Seconds for the daemon to greet: it is on the same machine, and even a router in a dump gets to it."""

ANSWER_TIMEOUT = 120.0
"""Seconds between two lines of an answer: a slowed-down login tries four Argon2 seals on a slow CPU."""

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


def encode_request(number: int, op: str, args: Fields) -> bytes:
    """The line that asks for `op`; arguments that are None are left out.

    Raises `TextRefused` where an argument is no Unicode text (a terminal of another encoding) or too long.
    """
    given = {name: value for name, value in args.items() if value is not None}
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
    except ValueError:
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
    return DaemonGone(f"No daemon answers at {path}. Start one: meshchat daemon --socket {path}")


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
        """Asks for `op` and yields the items of its answer as they come; raises like `request`."""
        asked = self._ask(op, args)
        return (line["item"] for line in self._answer(asked) if "item" in line)

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
            raise DaemonGone(f"The daemon at {self.path} does not answer: is it overloaded?") from None

    def _read_line(self) -> bytes:
        try:
            return self._reader.readline(MAX_ANSWER_LINE)
        except TimeoutError:
            raise
        except OSError:
            raise _stopped(self.path) from None


# --- Front ends that read and write at once -------------------------------------------------------------


class AsyncControlClient:
    """A connection on which several requests may be under way; make one with `connect`.

    Once it is lost, everything that waits on it raises `DaemonGone`.
    """

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `connect`, which has read and set the greeting."""
        self.path = path
        self.greeting: Fields = {}
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._asked: dict[int, tuple[asyncio.Future[Answer], list[Fields]]] = {}
        self._events: asyncio.Queue[Fields | None] = asyncio.Queue()
        self._lost: DaemonGone | None = None
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, path: str | Path) -> "AsyncControlClient":
        """Connects to the socket at `path` and reads its greeting; raises `DaemonGone`."""
        name = str(path)
        try:
            reader, writer = await asyncio.open_unix_connection(name, limit=MAX_ANSWER_LINE)
        except OSError as error:
            raise no_daemon(name, error) from None
        client = cls(name, reader, writer)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                client.greeting = await client._receive()
            check_greeting(name, client.greeting)
        except TimeoutError:
            writer.close()
            raise DaemonGone(f"The daemon at {name} does not answer: is it overloaded?") from None
        except DaemonGone:
            writer.close()
            raise
        client._pump = asyncio.create_task(client._read_all())
        return client

    async def request(self, op: str, **args: Any) -> Answer:
        """Asks for `op` and returns its whole answer; raises `Refused` or `DaemonGone`."""
        if self._lost:
            raise self._lost
        self._number += 1
        number = self._number
        line = encode_request(number, op, args)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = (answer, [])
        try:
            self._writer.write(line)
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the answer.
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await answer
        except TimeoutError:
            self._lose(DaemonGone(f"The daemon at {self.path} does not answer: is it overloaded?"))
            raise self._lost or _stopped(self.path) from None
        finally:
            self._asked.pop(number, None)

    async def next_event(self) -> Fields:
        """The next event; those that came before the connection was lost still come, then `DaemonGone`."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise self._lost or _stopped(self.path)
        return event

    async def close(self) -> None:
        """Ends the connection."""
        self._lose(_stopped(self.path))
        if self._pump:
            self._pump.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read_all(self) -> None:
        try:
            while True:
                self._take(await self._receive())
        except DaemonGone as error:
            self._lose(error)

    def _take(self, line: Fields) -> None:
        if "event" in line:
            self._events.put_nowait(line)
            return
        number = line.get("id")
        if number is None:  # a request that could not even be read; only one is ever under way at the daemon
            number = min(self._asked, default=0)
        answer, items = self._asked.get(number, (None, []))
        if answer is None or answer.done():
            return
        if "item" in line:
            items.append(line["item"])
        elif line.get("ok"):
            answer.set_result(Answer(items, line))
        else:
            answer.set_exception(refusal(line))

    def _lose(self, error: DaemonGone) -> None:
        if self._lost:
            return
        self._lost = error
        for answer, _ in self._asked.values():
            if not answer.done():
                answer.set_exception(error)
        self._events.put_nowait(None)

    async def _receive(self) -> Fields:
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):  # ValueError: a line beyond MAX_ANSWER_LINE
            raise _stopped(self.path) from None
        return decode_line(self.path, line)
