"""In a room: what is typed goes out in order and once, what arrives is shown once."""

import asyncio
import contextlib
from typing import Any

from meshchat.adapters.client import AsyncControlClient, Refused
from meshchat.constants import PERSON_RATE
from meshchat.errors import DaemonGone, MeshchatError, TextRefused
from meshchat.terminal.front import Front
from meshchat.terminal.outbox import Line, Outbox, Seen
from meshchat.terminal.session import LoggedOut, Session

NOT_LOGGED_IN = "not-logged-in"
"""The code of the daemon's refusal when the account was retired meanwhile."""

RECENT = 20
"""Messages shown on entering a room."""

MISSED = 500
"""Messages looked through after a loss of the daemon; `/history` shows more."""

MAX_REFUSED = 100
"""Refused lines kept for `/again`."""


class Conversation:
    """One person in one room at a time. `listen` and `send` run beside each other for as long as it lasts."""

    def __init__(self, session: Session, front: Front) -> None:
        self.session = session
        self.front = front
        self.room = ""
        self.outbox = Outbox()
        self._seen = Seen()
        self._first_shown: str | None = None
        self._refused: list[Line] = []
        self._slowed = False
        self._showing = asyncio.Lock()
        self._loaded = asyncio.Event()
        self._unshown: set[str] = set()
        """Own messages that are stored and not seen yet, where the front end does not echo."""
        self._all_shown = asyncio.Event()
        self._all_shown.set()
        self._answered = asyncio.Event()
        self._answered.set()

    # --- Reading ----------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Shows the room, what it gets, and after a loss of the daemon what was missed. Never returns.

        Raises `LoggedOut`.
        """
        while True:
            client = self.session.client
            try:
                await self._load(client)
                while True:
                    await self._take(await client.next_event())
            except DaemonGone:
                await self.session.restore(client)
            except Refused as error:
                if error.code == NOT_LOGGED_IN:
                    raise LoggedOut from None
                # The room itself was refused after a restart: the line to stay on is the person's choice.
                self.front.show(f"{error} Choose another room: /room NAME")
                await self._listen_only(client)

    async def enter(self, room: str) -> None:
        """Goes to `room` and shows its recent history; raises `DaemonGone` or `Refused`."""
        async with self._showing:
            before, self.room = self.room, room
            if before != room:
                self._first_shown = None
                self._shown(*self._unshown)
        await self._load(self.session.client, again=True)

    async def show_history(self, limit: int | None = None, since: str | None = None) -> None:
        """Shows older messages of the room once more; raises `DaemonGone` or `Refused`."""
        answer = await self.session.client.request("history", room=self.room, limit=limit, since=since)
        async with self._showing:
            self.front.new_page()
            self.front.show(f"--- history of room {self.room} ---")
            for message in answer.items:
                self._seen.add(message["id"])
                self.front.show_message(message)
            self.front.show("--- end of history ---")
            self.front.new_page()

    async def _listen_only(self, client: AsyncControlClient) -> None:
        try:
            while True:
                await self._take(await client.next_event())
        except DaemonGone:
            await self.session.restore(client)

    async def _load(self, client: AsyncControlClient, again: bool = False) -> None:
        """Subscribes, then shows the history: the recent one at first, later what was missed."""
        async with self._showing:
            await client.request("join", room=self.room)
            await client.request("subscribe", rooms=[self.room])
            entering = self._first_shown is None or again
            limit = RECENT if entering else MISSED
            messages = (await client.request("history", room=self.room, limit=limit)).items
            self._recognise(messages)
            if entering:
                self.front.new_page()
                self.front.show(f"--- Room {self.room} --- /help lists the commands")
                # In a room with less history than that, whatever turns up later was missed.
                self._first_shown = messages[0]["time"] if len(messages) == RECENT else ""
            for message in messages:
                if again or (
                    message["id"] not in self._seen and message["time"] >= (self._first_shown or "")
                ):
                    self._show(message)
            self._loaded.set()

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "message":
            await self._take_message(event["message"])
        elif kind == "room":
            self.front.show(f"* There is a new room: {event['name']}")
        elif kind == "wiped" and event.get("messages") and event.get("room") in (None, self.room):
            self.front.show(f"* {event['messages']} old messages were wiped.")

    async def _take_message(self, message: dict[str, Any]) -> None:
        if message["router"] == self.session.router:
            # The event of an own line comes before the answer that tells its id.
            await self._answered.wait()
        self._recognise([message])
        async with self._showing:
            if message["room"] == self.room and message["id"] not in self._seen:
                self._show(message)

    def _show(self, message: dict[str, Any]) -> None:
        self._seen.add(message["id"])
        self._shown(message["id"])
        self.front.show_message(message)

    def _shown(self, *ids: str) -> None:
        self._unshown.difference_update(ids)
        if not self._unshown:
            self._all_shown.set()

    # --- Writing ----------------------------------------------------------------------------------------

    async def say(self, text: str) -> None:
        """Takes a line for the room; it is sent as soon as the daemon takes it."""
        await self.outbox.put(Line(self.room, text))

    async def send(self) -> None:
        """Sends what `say` took, each line once. Never returns; raises `LoggedOut`."""
        while True:
            line = await self.outbox.first()
            client = self.session.client
            try:
                await self._send(client, line)
            except DaemonGone:
                await self.session.restore(client)

    async def _send(self, client: AsyncControlClient, line: Line) -> None:
        if line.doubtful and not line.sent:
            await self._look_for(client, line)
        if not line.sent:
            try:
                await self._ask_to_send(client, line)
            except DaemonGone:
                raise
            except MeshchatError as error:
                await self._refuse(line, error)
                return
        await self.outbox.drop_first()
        self._slowed = self._slowed and bool(self.outbox.lines)

    async def _ask_to_send(self, client: AsyncControlClient, line: Line) -> None:
        self._answered.clear()
        try:
            answer = await client.request("send", room=line.room, text=line.text, person=True)
            self._acknowledge(line, answer.fields)
        except DaemonGone:
            line.doubtful = True
            raise
        finally:
            self._answered.set()

    def _acknowledge(self, line: Line, answer: dict[str, Any]) -> None:
        line.sent = True
        if self.front.echoes:
            self._seen.add(answer["record"])
        elif line.room == self.room and answer["record"] not in self._seen:
            self._unshown.add(answer["record"])
            self._all_shown.clear()
        if answer.get("notice"):
            self.front.show(f"* {answer['notice']}")

    async def _look_for(self, client: AsyncControlClient, line: Line) -> None:
        """The answer to the line was lost with the daemon: is it in the room?"""
        try:
            messages = (await client.request("history", room=line.room, limit=MISSED)).items
        except Refused:  # the restarted daemon knows no such room, so nothing of it either
            return
        self._recognise(messages)

    def _recognise(self, messages: list[dict[str, Any]]) -> None:
        found = self.outbox.recognise(messages, self._seen, self.session.user, self.session.router)
        if found and self.front.echoes:
            self._seen.add(found)

    async def _refuse(self, line: Line, error: MeshchatError) -> None:
        if error.code == "slow-down":
            if not self._slowed:
                self.front.show(f"Not so fast: the rest follows by itself, {PERSON_RATE:.0f} lines a second.")
            self._slowed = True
            await asyncio.sleep(1 / PERSON_RATE)
            return
        if error.code == NOT_LOGGED_IN:
            raise LoggedOut
        await self.outbox.drop_first()
        self._refused = [*self._refused, line][-MAX_REFUSED:]
        if error.code == TextRefused.code:  # too long to be shown once more
            self.front.show(f"Not sent, kept for /again: {error}")
            return
        self.front.show(str(error))
        self.front.show(f"Not sent: {line.text}")
        self.front.show("It is kept: /again sends it once more.")

    async def send_refused_again(self) -> None:
        """Sends once more what was refused."""
        if not self._refused:
            self.front.show("Nothing was refused.")
        refused, self._refused = self._refused, []
        for line in refused:
            await self.outbox.put(line)

    async def settle(self, patience: float) -> None:
        """Before leaving: waits for the room to be shown and for the last lines to be sent.

        Gives up when nothing has moved for `patience` seconds.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), patience)
            while self.outbox.lines:
                await asyncio.wait_for(self.outbox.shrunk(), patience)
            await asyncio.wait_for(self._all_shown.wait(), patience)
