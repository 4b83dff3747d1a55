"""A person's session with the daemon: made again when the daemon is lost, and resumed by a ticket."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from meshchat.client.connection import Answer, AsyncControlClient, ControlSession, Refused
from meshchat.errors import DaemonGone

RETRY_FIRST, RETRY_LAST = 1.0, 15.0
"""Seconds before the first try to reconnect, doubled up to the second figure: a daemon restarts in one."""

TICKET_REFUSED = "ticket"
"""The code of the daemon's refusal of a ticket."""


class LoggedOut(Exception):
    """The daemon takes the ticket no longer: another password, a retired account, or lost state."""


def retry_waits() -> Iterator[float]:
    """Seconds to wait before each try to reconnect: 1, 2, 4, 8, 15, 15, ..."""
    wait = RETRY_FIRST
    while True:
        yield min(wait, RETRY_LAST)
        wait = min(wait * 2, RETRY_LAST)


class Daemon:
    """The daemon at `path`, whatever connection leads there now: the sessions of a front end share it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client: AsyncControlClient | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> AsyncControlClient:
        """The connection, made if there is none; raises `DaemonGone`."""
        async with self._connecting:
            if self._client is None or self._client.lost:
                self._client = await self._connect()
            return self._client

    async def reconnected(self) -> AsyncControlClient:
        """The connection; where it is lost, waits for another. Whoever comes first makes it."""
        async with self._connecting:
            waits = retry_waits()
            while self._client is None or self._client.lost:
                await asyncio.sleep(next(waits))
                with contextlib.suppress(DaemonGone):
                    self._client = await self._connect()
            return self._client

    async def close(self) -> None:
        """Ends the connection, and with it all sessions."""
        if self._client:
            await self._client.close()

    async def _connect(self) -> AsyncControlClient:
        await self.close()
        return await AsyncControlClient.connect(self._path)


class Session:
    """A person's session by way of `daemon`; `tell` is called with False when it is lost, True when found.

    `origin` is the address the person comes from, where that is known. Of a login only the daemon's ticket is
    kept, which opens it again: no password.
    """

    def __init__(self, daemon: Daemon, tell: Callable[[bool], None], *, origin: str | None = None) -> None:
        self.user = ""
        self._daemon = daemon
        self._tell = tell
        self._origin = origin
        self._ticket: str | None = None
        self._restoring = asyncio.Lock()
        self._control: ControlSession | None = None

    @property
    def control(self) -> ControlSession:
        """The present session of the daemon, which may just have been lost."""
        if self._control is None:
            raise DaemonGone("No daemon answers.")
        return self._control

    @property
    def router(self) -> str:
        """The id of the daemon's router, hex."""
        return str(self.control.greeting.get("router", ""))

    async def open(self) -> None:
        """Opens it for the first time; raises `DaemonGone` or `Refused`."""
        self._control = await (await self._daemon.connected()).open_session(self._origin)

    async def close(self) -> None:
        """Ends it."""
        if self._control:
            await self._control.close()

    async def call(self, op: str, **args: Any) -> Answer:
        """The answer to a request that may be made twice; waits as long as no daemon answers.

        Raises `Refused`.
        """
        while True:
            control = self.control
            try:
                return await control.request(op, **args)
            except DaemonGone:
                await self.restore(control)

    async def log_in(self, user: str, password: str) -> None:
        """Logs in, and from then on after each loss again; raises `Refused`."""
        while True:
            control = self.control
            try:
                answer = await control.request("login", user=user, password=password)
                await self._keep_ticket(control)
            except DaemonGone:
                await self.restore(control)
            else:
                self.user = str(answer.fields["user"])
                return

    @property
    def logged_in(self) -> bool:
        """Whether a ticket is held, so that a loss of the daemon is no loss of the login."""
        return self._ticket is not None

    async def change_password(self, old: str, new: str) -> None:
        """Changes the password, which voids the tickets there were; raises `Refused` or `DaemonGone`."""
        await self.control.request("passwd", old=old, new=new)
        await self._keep_ticket(self.control)

    def forget(self) -> None:
        """The ticket is of no use any more."""
        self._ticket = None

    async def _keep_ticket(self, control: ControlSession) -> None:
        self._ticket = str((await control.request("ticket")).fields["ticket"])

    async def register(self, user: str, password: str) -> None:
        """Makes an account; raises `Refused`.

        Where the answer was lost, a login tells whether the account was made.
        """
        while True:
            control = self.control
            try:
                await control.request("register", user=user, password=password)
                return
            except DaemonGone:
                await self.restore(control)
            try:
                await self.call("login", user=user, password=password)
                await self.call("logout")
                return
            except Refused:
                continue

    async def restore(self, lost: ControlSession) -> None:
        """Returns when another session than `lost` stands, logged in as before.

        Whoever noticed first makes it, the others wait. Raises `LoggedOut`.
        """
        async with self._restoring:
            if self._control is not lost:
                return
            self._tell(False)
            waits = retry_waits()
            while (control := await self._opened_again()) is None:
                await asyncio.sleep(next(waits))
            self._control = control
            self._tell(True)

    async def _opened_again(self) -> ControlSession | None:
        """The session on the next connection, resumed; None: it has to be tried again."""
        client = await self._daemon.reconnected()
        try:
            control = await client.open_session(self._origin)
            await self._resume(control)
        except (DaemonGone, Refused):  # Refused: too many at once; all come back after a power cut.
            return None
        return control

    async def _resume(self, control: ControlSession) -> None:
        """Logs in by the ticket, if there is one; raises `LoggedOut`, `Refused` or `DaemonGone`."""
        if self._ticket is None:
            return
        try:
            answer = await control.request("resume", ticket=self._ticket)
        except Refused as error:
            if error.code == TICKET_REFUSED:
                self._control, self._ticket = control, None
                raise LoggedOut from None
            await control.close()
            raise
        self.user = str(answer.fields["user"])
