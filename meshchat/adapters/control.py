"""The control sockets: UNIX stream sockets on which front ends speak JSON Lines with the application.

There is one for each door: the operator's, and the people's. The protocol is described in PROTOCOL.md. A
connection carries many sessions; the requests of one are answered in order, those of different ones beside
each other; events come between the lines of answers. Output is ASCII, so that a bare `nc` is safe as well.
"""

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from meshchat.adapters.host.socketfile import bind, identity
from meshchat.adapters.worker import Worker
from meshchat.chat.access import Door
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.places import Occupant, who_gives_way
from meshchat.chat.service import Event, Service
from meshchat.chat.sessions import Connection, Origin, Session
from meshchat.constants import (
    CONTROL_VERSION,
    MAX_CONTROL_BACKLOG,
    MAX_CONTROL_CLIENTS,
    MAX_CONTROL_LINE,
    MAX_OWN_WAITING_BYTES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
)
from meshchat.errors import MeshchatError, StoreError, TooFast, UsageError

ITEMS_AT_ONCE = 32
"""Items of a long answer made before others get their turn."""

CLOSE_WAIT = 0.5
"""Seconds for front ends to read their last lines: procd wants a daemon that stops gone soon, and whoever
does not read would keep a descriptor for each connection that he has given up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Socket:
    """Where a door is: the path of its file, and the group (its number) that may use it, None: this one's."""

    path: Path
    door: Door
    group: int | None = None


class _Listening(NamedTuple):
    """An open door, and which file is its."""

    server: asyncio.Server
    file: tuple[int, int] | None


class _Request:
    """What was asked, its number, and the bytes that it took."""

    __slots__ = ("fields", "number", "size")

    def __init__(self, number: int, fields: Mapping[str, object], size: int) -> None:
        self.number, self.fields, self.size = number, fields, size


@dataclass(eq=False)
class _Wire:
    """A connection on its wire.

    `task` serves it. `waiting` are the requests of each session, the one under way first; a session that has
    none is not in it.
    """

    connection: Connection
    writer: asyncio.StreamWriter
    task: asyncio.Task[Any]
    heard_at: float
    waiting: dict[Session, deque[_Request]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    waiting_bytes: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def most_waiting(self) -> int:
        """Bytes of requests that may wait before the connection is read no further."""
        return MAX_WAITING_BYTES if self.connection.trusted else MAX_OWN_WAITING_BYTES

    def send(self, fields: Mapping[str, object]) -> None:
        """A line to the front end."""
        self.writer.write(_encode(fields))

    def push(self, line: bytes) -> None:
        """An event; a front end that has let too much pile up is dropped instead."""
        if self.writer.is_closing():
            return
        if self.writer.transport.get_write_buffer_size() + len(line) > MAX_CONTROL_BACKLOG:
            log.warning("a front end did not read for too long and was dropped")
            self.writer.transport.abort()
        else:
            self.writer.write(line)


class ControlServer:
    """Serves `service` at `sockets`. `hello` is what the greeting says beside the rights: version, mesh,
    router. `trusted` are the uids of front ends that are believed where they say people come from.
    """

    def __init__(
        self,
        sockets: Iterable[Socket],
        service: Service,
        hello: Mapping[str, object],
        trusted: Collection[int] = (),
    ) -> None:
        self._sockets = tuple(sockets)
        self._service = service
        self._hello = hello
        self._trusted = frozenset(trusted)
        self._lines: dict[Connection, _Wire] = {}
        self._tasks: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._listening: dict[Socket, _Listening] = {}
        self._worker = Worker()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None

    async def start(self) -> None:
        """Listens. Raises `StoreError` where a socket cannot be made or a daemon answers on it already."""
        try:
            for each in self._sockets:
                await self._listen(each)
        except StoreError:
            self._stop_listening()
            raise

    async def tend(self) -> None:
        """Makes the file of a socket anew where a cleaner of old files has removed it.

        Who is connected stays so. Raises `StoreError` as `start` does.
        """
        for each in self._sockets:
            if each in self._listening and identity(each.path) is None:
                self._listening.pop(each).server.close()
                await self._listen(each)
                log.warning("The control socket %s had been removed, and was made anew.", each.path)

    async def _listen(self, each: Socket) -> None:
        bound = bind(each.path, each.group)
        server = await self._serve_at(each.door, bound)
        self._listening[each] = _Listening(server, identity(each.path))

    def _stop_listening(self) -> None:
        """Removes the files as well, unless another daemon's is there by now."""
        for each, listening in self._listening.items():
            listening.server.close()
            if identity(each.path) == listening.file:
                each.path.unlink(missing_ok=True)
        self._listening.clear()

    async def _serve_at(self, door: Door, bound: socket.socket) -> asyncio.Server:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # No coroutine: Python 3.11 reports the tasks it makes of those as errors when they are cancelled.
            task = asyncio.get_running_loop().create_task(self._serve(door, reader, writer))
            self._tasks[task] = writer
            task.add_done_callback(self._tasks.pop)

        return await asyncio.start_unix_server(connected, sock=bound, limit=MAX_CONTROL_LINE)

    def publish(self, events: Iterable[Event]) -> None:
        """Sends events on."""
        last: Mapping[str, object] | None = None
        encoded = b""
        for connection, event in events:
            if event is not last:
                last, encoded = event, _encode(event)
            line = self._lines.get(connection)
            if line is not None:
                line.push(encoded)
        self.rearm()

    def rearm(self) -> None:
        """Sets the alarm to the service's deadline, which may have changed."""
        deadline = self._service.deadline
        if deadline == self._alarm_at:
            return
        self._alarm_at = deadline
        if self._alarm is not None:
            self._alarm.cancel()
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_at(max(deadline, loop.time()), self._tick)

    def _tick(self) -> None:
        self._alarm_at = None
        self._service.tick(asyncio.get_running_loop().time())
        self.rearm()

    async def close(self) -> None:
        """Stops listening, ends all connections and removes the sockets. Unfinished logins are dropped."""
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WAIT)
        for writer in self._tasks.values():
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._alarm is not None:
            self._alarm.cancel()
        self._worker.close()

    # --- One connection -------------------------------------------------------------------------------

    async def _serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        uid = _peer_uid(writer)
        connection = self._service.connect(door, Origin(f"uid {uid}"), trusted=uid in self._trusted)
        line = _Wire(connection, writer, task, asyncio.get_running_loop().time())
        try:
            # A front end that leaves while it is answered ends its connection, and that is all.
            with contextlib.suppress(ConnectionError):
                await self._converse(door, reader, line)
        finally:
            self._end(line)
            await _hang_up(writer)
            # Only now: it has a descriptor until then, and so a place.
            self._lines.pop(connection, None)

    async def _converse(self, door: Door, reader: asyncio.StreamReader, line: _Wire) -> None:
        if not self._make_room(line.connection):
            line.send(_closing_line("busy", "Too many front ends are connected; try again in a moment."))
            return
        self._lines[line.connection] = line
        line.send({"meshchat": CONTROL_VERSION, **self._hello, "rights": door.names()})
        while raw := await _read_line(reader, line):
            if raw.strip():
                self._take(line, raw)
            # Whoever does not read his refusals makes no more of them, and others get their turn.
            await line.writer.drain()
            await asyncio.sleep(0)
            while line.waiting_bytes > line.most_waiting:
                line.room.clear()
                await line.room.wait()

    def _make_room(self, newcomer: Connection) -> bool:
        """Whether there is a place for one more front end, after another has given its up."""
        if len(self._lines) < MAX_CONTROL_CLIENTS:
            return True
        occupants = (Occupant(connection, line.heard_at) for connection, line in self._lines.items())
        gone = who_gives_way(newcomer, occupants)
        if gone is None:
            return False
        line = self._lines.pop(gone)
        line.send(_closing_line("busy", "Too many front ends are connected, and this one was idle."))
        # Not `close`, which waits until all is read: what he did not read before he does not read now.
        line.writer.transport.abort()
        line.task.cancel()
        return True

    def _end(self, line: _Wire) -> None:
        """Nobody is on this connection any more, and nothing that was asked on it is done."""
        for task in line.tasks:
            task.cancel()
        self._service.disconnect(line.connection)
        self.rearm()

    def _take(self, line: _Wire, raw: bytes) -> None:
        """A request: it waits behind those of its session."""
        line.heard_at = asyncio.get_running_loop().time()
        number = None
        try:
            number, fields = _parse(raw)
            session = self._service.session(line.connection, fields)
            waiting = line.waiting.get(session)
            if waiting is not None and len(waiting) >= MAX_WAITING:
                raise TooFast(f"More than {MAX_WAITING} requests wait for their answers; wait for some.")
        except MeshchatError as error:
            line.send({"id": number, **Answer.refusal(error).result})
            return
        request = _Request(number, fields, len(raw))
        line.waiting_bytes += request.size
        if waiting is not None:
            waiting.append(request)
            return
        line.waiting[session] = deque((request,))
        task = asyncio.get_running_loop().create_task(self._answer_all(line, session))
        line.tasks.add(task)
        task.add_done_callback(line.tasks.discard)

    async def _answer_all(self, line: _Wire, session: Session) -> None:
        """Answers what waits on a session, in order."""
        waiting = line.waiting[session]
        try:
            with contextlib.suppress(ConnectionError):
                while waiting:
                    await self._answer(line, session, waiting[0])
                    line.waiting_bytes -= waiting.popleft().size
                    line.room.set()
        finally:
            # What is left is of a front end that has gone: nothing is to wait for room behind it.
            line.waiting_bytes -= sum(request.size for request in waiting)
            line.room.set()
            del line.waiting[session]

    async def _answer(self, line: _Wire, session: Session, request: _Request) -> None:
        number, now = request.number, asyncio.get_running_loop().time()
        answer = await self._settle(self._service.handle(session, request.fields, now))
        result = answer.result
        try:
            for count, item in enumerate(answer.items, 1):
                line.send({"id": number, "item": item})
                await line.writer.drain()
                if count % ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except MeshchatError as error:
            result = Answer.refusal(error).result
        line.send({"id": number, **result})
        await line.writer.drain()

    async def _settle(self, outcome: Outcome) -> Answer:
        """The answer that `outcome` leads to, when it is due."""
        answer = await self._worker.do(outcome) if isinstance(outcome, Work) else outcome
        self.rearm()
        if answer.delay_s > 0:
            await asyncio.sleep(answer.delay_s)
        return answer


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes a connection when its front end has read the last lines, or soon."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        try:
            async with asyncio.timeout(CLOSE_WAIT):
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """Whose process connected (SO_PEERCRED of unix(7)): pid, uid and gid as the kernel has them."""
    connected: socket.socket = writer.get_extra_info("socket")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


async def _read_line(reader: asyncio.StreamReader, line: _Wire) -> bytes:
    """The next request; empty at the end, and after a line that is too long, which is answered here."""
    try:
        return await reader.readline()
    except ValueError:
        line.send(_closing_line("usage", f"A request has at most {MAX_CONTROL_LINE} bytes."))
        return b""


def _parse(line: bytes) -> tuple[int, Mapping[str, object]]:
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise UsageError("A request is one JSON object on a line, in UTF-8.")
    number = request.get("id")
    if type(number) is not int:
        raise UsageError("A request has a whole number as its 'id'.")
    return number, request


def _encode(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def _closing_line(code: str, error: str) -> Mapping[str, object]:
    return {"id": None, "ok": False, "code": code, "error": error}
