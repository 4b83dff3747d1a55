"""The control socket: a UNIX stream socket on which front ends speak JSON Lines with the application.

The protocol is described in PROTOCOL.md. A connection has one request under way at a time; the events that it
subscribed to come between the lines of answers. Output is ASCII, so that a bare `nc` is safe as well.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from meshchat.adapters.client import CONTROL_VERSION
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.service import Event, Service
from meshchat.chat.sessions import Session
from meshchat.config import MAX_SOCKET_PATH
from meshchat.constants import MAX_CONTROL_BACKLOG, MAX_CONTROL_CLIENTS, MAX_CONTROL_LINE
from meshchat.errors import MeshchatError, StoreError, TooFast, UsageError

SOCKET_MODE = 0o660
"""The owner and the group may use a router's chat; giving the group is the operator's choice."""

MAX_WORK = 16
"""Passwords waiting to be checked, one at a time: up to a quarter of a minute on a slow router. Others are
asked to try again, so that a burst of logins cannot hold up the next person for minutes."""

ITEMS_AT_ONCE = 32
"""Items of a long answer made before others get their turn."""

CLOSE_WAIT = 0.5
"""Seconds for front ends to read their last lines when the daemon stops: procd wants it gone soon."""

log = logging.getLogger(__name__)


class ControlServer:
    """Serves `service` at `path`. `hello` is what the greeting says: version, mesh, router."""

    def __init__(self, path: Path, service: Service, hello: Mapping[str, object]) -> None:
        self._path = path
        self._service = service
        self._greeting = _encode({"meshchat": CONTROL_VERSION, **hello})
        self._clients: dict[Session, asyncio.StreamWriter] = {}
        self._tasks: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password")
        self._work = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None

    async def start(self) -> None:
        """Listens. Raises `StoreError` where the socket cannot be made or a daemon answers on it already."""
        self._server = await asyncio.start_unix_server(
            self._connected, sock=_bind(self._path), limit=MAX_CONTROL_LINE
        )

    def publish(self, events: Iterable[Event]) -> None:
        """Sends events on. A front end that has let too much pile up is dropped instead."""
        last: Mapping[str, object] | None = None
        line = b""
        for session, event in events:
            if event is not last:
                last, line = event, _encode(event)
            writer = self._clients.get(session)
            if writer is not None and not writer.is_closing():
                self._push(writer, line)
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
        """Stops listening, ends all connections and removes the socket. Unfinished logins are dropped."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
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
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _push(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        if writer.transport.get_write_buffer_size() + len(line) > MAX_CONTROL_BACKLOG:
            log.warning("a front end did not read for too long and was dropped")
            writer.transport.abort()
        else:
            writer.write(line)

    # --- One connection -------------------------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: Python 3.11 reports the tasks it makes of those as errors when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A front end that leaves while it is answered ends its connection, and that is all.
            with contextlib.suppress(ConnectionError):
                await self._converse(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CONTROL_CLIENTS:
            writer.write(_encode(_closing_line("busy", "Too many front ends are connected; close one.")))
            return
        session = self._service.open_session()
        self._clients[session] = writer
        try:
            writer.write(self._greeting)
            while line := await _read_line(reader, writer):
                if line.strip():
                    await self._answer(session, line, writer)
        finally:
            del self._clients[session]
            self._service.close_session(session)
            self.rearm()

    async def _answer(self, session: Session, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            number, request = _parse(line)
        except UsageError as error:
            writer.write(_encode({"id": None, **Answer.refusal(error).result}))
            return await writer.drain()
        answer = await self._settle(self._service.handle(session, request, asyncio.get_running_loop().time()))
        result = answer.result
        try:
            for count, item in enumerate(answer.items, 1):
                writer.write(_encode({"id": number, "item": item}))
                await writer.drain()
                if count % ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except MeshchatError as error:
            result = Answer.refusal(error).result
        writer.write(_encode({"id": number, **result}))
        return await writer.drain()

    async def _settle(self, outcome: Outcome) -> Answer:
        """The answer that `outcome` leads to, when it is due."""
        answer = await self._compute(outcome) if isinstance(outcome, Work) else outcome
        self.rearm()
        if answer.delay_s > 0:
            await asyncio.sleep(answer.delay_s)
        return answer

    async def _compute(self, work: Work[Any]) -> Answer:
        if self._work >= MAX_WORK:
            return Answer.refusal(TooFast("Many people are logging in right now; try again in a moment."))
        loop = asyncio.get_running_loop()
        self._work += 1
        try:
            value = await loop.run_in_executor(self._worker, work.compute)
        except MeshchatError as error:
            return Answer.refusal(error)
        finally:
            self._work -= 1
        return work.finish(value, loop.time())


async def _read_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The next request; empty at the end, and after a line that is too long, which is answered here."""
    try:
        return await reader.readline()
    except ValueError:
        writer.write(_encode(_closing_line("usage", f"A request has at most {MAX_CONTROL_LINE} bytes.")))
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


# --- The socket file ------------------------------------------------------------------------------------


def _bind(path: Path) -> socket.socket:
    """A bound socket at `path` with its mode set; it does not listen yet. Raises `StoreError`."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise StoreError(f"The socket path {path} is too long: at most {MAX_SOCKET_PATH} bytes (--socket).")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        bound.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        bound.close()
        raise StoreError(
            f"Cannot make the control socket {path}: {error.strerror}; choose another place with --socket."
        ) from None
    except StoreError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Removes a socket on which nobody answers: a daemon that was killed leaves one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StoreError(f"{path} is in the way and is no socket; move it, or choose another with --socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # Somebody is there, and busy.
    raise StoreError(f"A daemon already answers at {path}; stop it, or choose another with --socket.")
