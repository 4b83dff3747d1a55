"""A daemon for front ends to talk to: the real control server over a real node; it can be cut off."""

import asyncio
import concurrent.futures
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from meshchat.adapters.control import ControlServer, Socket
from meshchat.chat.access import OPERATOR
from meshchat.chat.accounts import decode_account
from meshchat.chat.notices import Notice
from meshchat.chat.personal import Personal
from meshchat.constants import NEIGHBOUR_LIFETIME
from meshchat.identity.keys import SigningKey
from meshchat.identity.passwords import open_key
from meshchat.protocol.events import Deliver
from meshchat.protocol.router import HELD_WAIT, HOUSEKEEPING, MESH_STATE_WAIT
from meshchat.wire.records import Record, Space, make_stamp
from tests.sim.disk import SimFiles
from tests.unit.chats import service_over, written
from tests.unit.routers import Neighbour, Router, key

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which something that has not happened is a failure; two busy cores are slow."""


class FakeDaemon:
    """Serves a router at `path`, in a thread. The router outlives `stop` and `start`, as a mesh would.

    Its clock stands still until a test moves it. `holders_at_once` neighbours confirm each message that is
    written here.

    Front ends reach it through a relay, so that it can die at a chosen moment: with `die_at` set to an
    operation, the first such request is done, but its answer and all that follows are lost.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "meshchat.sock"
        self.disk = SimFiles()
        self.router = Router(disk=self.disk)
        self.neighbours: list[Neighbour] = []
        self.holders_at_once = 0
        self.personal = Personal()
        self.die_at: str | None = None
        self.died = threading.Event()
        self.connections = 0
        self._inner = directory / "inner.sock"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._links: set[asyncio.Task[None]] = set()
        self._relay: asyncio.Server | None = None
        self._control: ControlServer | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Starts to answer."""
        self._run(self._start())

    def stop(self) -> None:
        """Dies: every connection ends and nobody answers any more."""
        self._run(self._stop())

    def do(self, doing: Callable[[], T]) -> T:
        """Runs `doing` where the server runs."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(doing()))
        return done.result(PATIENCE)

    def hear(self, user: str, text: str, room: str = "1", late_s: int = 0) -> Record:
        """A message arrives that was written on another router, so many seconds ago."""

        def take() -> Record:
            self.router.ms += 1
            mesh = self.router.mesh
            stamp = mesh.stamp()[0] - make_stamp(late_s * 1000, 0)
            record = written(mesh, key(77), user, text, room=room, stamp=stamp)
            self.router.take(record)
            return record

        return self.do(take)

    def take(self, *records: Record) -> None:
        """Records arrive."""
        self.do(lambda: self.router.take(*records))

    def meet(self, count: int) -> None:
        """So many more routers are neighbours from now on."""

        def heard() -> None:
            known = len(self.neighbours)
            self.neighbours += [Neighbour(self.router, known + number) for number in range(count)]
            self._settle(MESH_STATE_WAIT)

        self.do(heard)

    def differ(self) -> None:
        """A neighbour says that it holds other records."""

        def say() -> None:
            self.neighbours[0].differs()
            self._settle(MESH_STATE_WAIT)

        self.do(say)

    def be_alone(self) -> None:
        """The neighbours have been silent for long."""

        def wait() -> None:
            self.neighbours.clear()
            self._settle(NEIGHBOUR_LIFETIME + 2 * HOUSEKEEPING)

        self.do(wait)

    def see(self, signer: SigningKey, name: str, *rooms: str, idle: int = 0) -> None:
        """Somebody is present at the first neighbour."""
        self.do(lambda: self.neighbours[0].states(signer, name, *rooms, idle=idle))

    def signer(self, name: str, password: str) -> SigningKey:
        """The key of somebody with an account here."""

        def open_it() -> SigningKey:
            [record] = [each for each in self.router.mesh.permanent(Space.ACCOUNTS) if each.author == name]
            _, sealed = decode_account(record.body)
            signer = open_key(sealed, record.key, password)
            assert signer is not None
            return signer

        return self.do(open_it)

    def hold(self, text: str, by: int) -> None:
        """So many neighbours are known to hold the message with this text, which was made here."""
        self.do(lambda: self._confirm(text.encode(), by))

    def _confirm(self, body: bytes, by: int) -> None:
        record = next(each for each in self.router.records() if each.body == body)
        for neighbour in self.neighbours[:by]:
            neighbour.confirms(record)
        self._settle(HELD_WAIT)

    def _settle(self, seconds: float) -> None:
        """What is due so soon is done; the clock on the wall shows nothing of it."""
        shown = self.router.ms
        self.router.let_pass(seconds)
        self.router.ms = shown

    def texts(self, room: str = "1") -> list[str]:
        """What the room holds."""
        return self.do(lambda: [record.body.decode() for record in self.router.mesh.messages(room)])

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        service = service_over(self.router.mesh, operator=self.router.operator, personal=self.personal)
        control = ControlServer(
            (Socket(self._inner, OPERATOR),),
            service,
            {"version": "0.1.0", "mesh": "test", "router": self.router.mesh.router.hex()},
        )

        def tell(notice: Notice) -> None:
            control.publish(service.tell(notice, self._loop.time()))
            if isinstance(notice, Deliver) and self.holders_at_once:
                self._loop.call_soon(self._confirm, notice.record.body, self.holders_at_once)

        self.router.told = tell
        await control.start()
        self._control = control
        self._relay = await asyncio.start_unix_server(self._accept, str(self.path), limit=2**24)

    async def _stop(self) -> None:
        if self._relay is None or self._control is None:
            return
        self._relay.close()
        self.path.unlink(missing_ok=True)
        self._relay = None
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._control.close()
        self.router.told = lambda notice: None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self.connections += 1
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(self._inner), limit=2**24)
        doomed: set[int] = set()
        halves = [
            asyncio.create_task(self._requests(reader, inner_writer, doomed)),
            asyncio.create_task(self._answers(inner_reader, writer, doomed)),
        ]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass
        finally:
            for half in halves:
                half.cancel()
            # First, for the wait may be cancelled, and then a front end would wait for ever.
            for end in (writer, inner_writer):
                end.close()
            self._links.discard(link)
            await asyncio.gather(*halves, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: set[int]
    ) -> None:
        while line := await reader.readline():
            with contextlib.suppress(ValueError):
                request = json.loads(line)
                if request["do"] == self.die_at:
                    self.die_at = None
                    doomed.add(request["id"])
            writer.write(line)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: set[int]
    ) -> None:
        while line := await reader.readline():
            if doomed:
                if json.loads(line).get("id") in doomed:
                    if self._relay:
                        self._relay.close()
                        self.path.unlink(missing_ok=True)
                    self.died.set()
                    return
                continue  # the event of the doomed message does not get out either
            writer.write(line)
