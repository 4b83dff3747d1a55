"""A person's connection to the daemon: made again when it is lost, and logged in again."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from meshchat.client.connection import Answer, AsyncControlClient, Refused
from meshchat.errors import DaemonGone

RETRY_FIRST, RETRY_LAST = 1.0, 15.0
"""Seconds before the first try to reconnect, doubled up to the second figure: a daemon restarts in one."""

LOGIN_TRIES = 3
"""A restarted router may have to hear of the account from its neighbours first; so many tries it gets."""


class LoggedOut(Exception):
    """The daemon takes name and password no longer: changed, retired, or forgotten with the state."""


def retry_waits() -> Iterator[float]:
    """Seconds to wait before each try to reconnect: 1, 2, 4, 8, 15, 15, ..."""
    wait = RETRY_FIRST
    while True:
        yield min(wait, RETRY_LAST)
        wait = min(wait * 2, RETRY_LAST)


class Session:
    """The connection at `path`; `tell` is called with False when it is lost, with True when it is found.

    The password is held in memory, to log in again after the daemon was restarted.
    """

    def __init__(self, path: str, tell: Callable[[bool], None]) -> None:
        self.user = ""
        self._tell = tell
        self._path = path
        self._account: tuple[str, str] | None = None
        self._restoring = asyncio.Lock()
        self._client: AsyncControlClient | None = None

    @property
    def client(self) -> AsyncControlClient:
        """The present connection, which may just have been lost."""
        if self._client is None:
            raise DaemonGone(f"No daemon answers at {self._path}.")
        return self._client

    @property
    def router(self) -> str:
        """The id of the daemon's router, hex."""
        return str(self.client.greeting.get("router", ""))

    async def open(self) -> None:
        """Connects for the first time; raises `DaemonGone`."""
        self._client = await AsyncControlClient.connect(self._path)

    async def close(self) -> None:
        """Ends the connection."""
        if self._client:
            await self._client.close()

    async def call(self, op: str, **args: Any) -> Answer:
        """The answer to a request that may be made twice; waits as long as no daemon answers.

        Raises `Refused`.
        """
        while True:
            client = self.client
            try:
                return await client.request(op, **args)
            except DaemonGone:
                await self.restore(client)

    async def log_in(self, user: str, password: str) -> None:
        """Logs in, and from then on after each loss again; raises `Refused`."""
        answer = await self.call("login", user=user, password=password)
        self.user = str(answer.fields["user"])
        self._account = (user, password)

    @property
    def logged_in(self) -> bool:
        """Whether a name and password are held that the daemon took."""
        return self._account is not None

    async def change_password(self, old: str, new: str) -> None:
        """Changes the password, here as well; raises `Refused` or `DaemonGone`."""
        await self.client.request("passwd", old=old, new=new)
        if self._account:
            self._account = self._account[0], new

    def forget(self) -> None:
        """The name and password are of no use any more."""
        self._account = None

    async def register(self, user: str, password: str) -> None:
        """Makes an account; raises `Refused`.

        Where the answer was lost, a login tells whether the account was made.
        """
        while True:
            client = self.client
            try:
                await client.request("register", user=user, password=password)
                return
            except DaemonGone:
                await self.restore(client)
            try:
                await self.call("login", user=user, password=password)
                await self.call("logout")
                return
            except Refused:
                continue

    async def restore(self, lost: AsyncControlClient) -> None:
        """Returns when another connection than `lost` stands, logged in as before.

        Whoever noticed first makes it, the others wait. Raises `LoggedOut`.
        """
        async with self._restoring:
            if self._client is not lost:
                return
            self._tell(False)
            await lost.close()
            refused = 0
            for wait in retry_waits():
                await asyncio.sleep(wait)
                try:
                    client = await AsyncControlClient.connect(self._path)
                except DaemonGone:
                    continue
                try:
                    await self._log_in_again(client)
                except DaemonGone:
                    await client.close()
                    continue
                except Refused:
                    refused += 1
                    if refused < LOGIN_TRIES:
                        await client.close()
                        continue
                    self._client, self._account = client, None
                    raise LoggedOut from None
                self._client = client
                self._tell(True)
                return

    async def _log_in_again(self, client: AsyncControlClient) -> None:
        if self._account:
            user, password = self._account
            answer = await client.request("login", user=user, password=password)
            self.user = str(answer.fields["user"])
