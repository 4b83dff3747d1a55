"""The network side of a visit: what is typed goes out in order and once, what arrives is shown once.

`listen`, `send` and `tend` run beside each other for as long as the visit lasts.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from meshchat.chat.localtime import format_rfc3339
from meshchat.chat.names import TAG_MARK
from meshchat.client.connection import Answer, ControlSession, Refused
from meshchat.client.events import Event, EventsMissed
from meshchat.client.messages import Message, time_ms
from meshchat.client.model import Link, Model
from meshchat.client.outbox import Line, Outbox, Seen
from meshchat.client.rooms import MAX_ENTRIES, MAX_FRESH, Mark, Room
from meshchat.client.session import Daemon, LoggedOut, Session
from meshchat.constants import PERSON_RATE
from meshchat.errors import DaemonGone, MeshchatError, TextRefused
from meshchat.terminal.front import Front

LOST = "The daemon does not answer; your line is kept. Trying again..."
FOUND = "The daemon answers again."

NOT_LOGGED_IN = "not-logged-in"
"""The code of the daemon's refusal when the account was retired meanwhile."""

RECENT = 200
"""Messages loaded when a room is first shown."""

PAGE = 500
"""Messages asked for at a time of those that came while the daemon or the connection was away."""

MAX_REFUSED = 100
"""Refused lines kept for `/again`."""

TEND_EVERY = 1.0
"""Seconds between what is told to the daemon of rooms and marks: a person who leafs through ten rooms makes
one statement of it."""

TYPING_EVERY = 20.0
"""Seconds between two statements that somebody is still typing (the control socket's rule)."""


Holding = tuple[str, int]
"""A room's digest, and how many messages it has: the digest leaves out what is stamped ahead."""


def _holding(room: Mapping[str, Any]) -> Holding:
    return room["digest"], room["messages"]


class Conversation:
    """One person in the rooms of `model`, by way of `daemon`.

    Everything that is shown goes to `front`, the front end of the moment.
    """

    def __init__(self, daemon: Daemon, model: Model, front: Front, *, origin: str | None = None) -> None:
        """`origin` is the address that the person comes from, where the front end knows it."""
        self.session = Session(daemon, self._connected, origin=origin)
        self.model = model
        self.front = front
        self.outbox = Outbox()
        self._seen = Seen()
        self._sent = Seen()
        """Ids of the lines sent from here, which an echoing front end shows already."""
        self._refused: list[Line] = []
        self.failed = False
        """Whether something that was said or asked for was not done: scripts want to know."""
        self._slowed = False
        self._loaded = asyncio.Event()
        self._unshown: set[str] = set()
        """Own messages that are stored and not seen yet, where the front end does not echo."""
        self._all_shown = asyncio.Event()
        self._all_shown.set()
        self._answered = asyncio.Event()
        """Cleared while the daemon may hold a line that was sent from here and whose id is not known yet."""
        self._answered.set()
        self._cursor: str | None = None
        """Up to here in the order of arrival all that came to this router is known, in whatever room; None:
        nobody has looked yet."""
        self._held: dict[str, Holding] = {}
        """What each room held when all of it was known here."""
        self._tending = asyncio.Event()
        self._typed_at = self._said_typing_at = float("-inf")
        self._said_rooms: list[str] = []
        self._showing = asyncio.Lock()
        """Held while a room is loaded, so that what arrives meanwhile waits for it."""
        self._marks: dict[str, Mark] = {}
        self._users_stale = False
        self._new_rooms: list[Room] = []
        """Not told of yet: rooms that come together are told of together, however many a stranger makes."""

    def _connected(self, connected: bool) -> None:
        self.front.show(FOUND if connected else LOST)

    # --- Reading ----------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """After the login: learns who is who and what was kept of the last visit. Raises `LoggedOut`."""
        while True:
            control = self.session.control
            try:
                rooms = await self._learn(control)
                personal = (await control.request("personal")).fields
                break
            except DaemonGone:
                await self.session.restore(control)
        model, self._cursor = self.model, None
        for name, mark in personal["marks"].items():
            model.room(name).mark = Mark(mark["id"], time_ms(mark["time"]))
        model.remember(personal)
        for name in personal["rooms"]:
            if name in model.rooms:
                room = model.room(name)
                # Left open without a mark: it was empty then.
                room.open, room.mark = True, room.mark or Mark("", 0)
        model.last = next((model.rooms[name] for name in personal["rooms"] if name in model.rooms), None)
        for item in rooms:
            # Elsewhere, what is new is what was not read; where nobody has been, what comes from now on.
            room = model.room(item["name"])
            last = time_ms(item["last"]) if item["last"] else 0
            room.counted_to = (room.mark.ms if room.mark and room.open else last) + 1

    async def listen(self) -> None:
        """Shows the room, what it gets, and after a loss of the daemon what was missed. Never returns.

        Raises `LoggedOut`.
        """
        while True:
            control = self.session.control
            try:
                try:
                    await self._start(control)
                except Refused as error:
                    if error.code == NOT_LOGGED_IN:
                        raise LoggedOut from None
                    # The room itself was refused after a restart: the line to stay on is the person's choice.
                    self._cursor = None
                    self.front.show(f"{error} Choose another room: /room NAME")
                while True:
                    await self._take(await control.next_event())
            except EventsMissed:
                continue
            except DaemonGone:
                self.model.connected = False
                self.front.changed()
                await self.session.restore(control)

    async def _learn(self, control: ControlSession) -> list[dict[str, Any]]:
        """Who and which rooms there are; returns the rooms."""
        model = self.model
        model.router = self.session.router
        model.user, model.rights = self.session.user, self.session.control.rights
        model.know_users((await control.request("users")).items)
        model.key = next((key for key, name in model.names.items() if name == model.user), "")
        rooms = (await control.request("rooms")).items
        model.know(str(room["name"]) for room in rooms)
        return rooms

    async def _start(self, control: ControlSession) -> None:
        """Subscribes, shows the current room and counts what is new elsewhere."""
        model = self.model
        room = model.current
        assert room is not None
        await control.request("subscribe")
        rooms = await self._learn(control)
        mesh = (await control.request("mesh")).fields
        model.link = Link(mesh["neighbours"], mesh["in_step"])
        model.connected = True
        self._said_rooms = []
        await control.request("join", room=room.name)
        cursor = await (self._catch_up if room.loaded else self._show)(control, room)
        self._loaded.set()
        self._look_after()
        for item in rooms:
            if item["name"] != room.name and self._may_have_news(item):
                await self._catch_up(control, model.room(item["name"]))
        self._cursor, self._held = cursor, {item["name"]: _holding(item) for item in rooms}
        self.front.changed()

    def _may_have_news(self, item: dict[str, Any]) -> bool:
        """Whether something may have come into a room that is not known here."""
        if self._cursor is not None:
            return _holding(item) != self._held.get(item["name"])
        last = time_ms(item["last"]) if item["last"] else 0
        return last >= self.model.room(item["name"]).counted_to

    async def enter(self, name: str) -> None:
        """Goes to a room that the daemon knows; raises `DaemonGone` or `Refused`."""
        control = self.session.control
        await self._show(control, self.model.room(name))
        self._shown(*self._unshown)
        self._look_after()

    async def _show(self, control: ControlSession, room: Room) -> str | None:
        """Goes to the room; returns the newest arrival, if its history had to be loaded."""
        cursor = None
        async with self._showing:
            if not room.loaded:
                answer = await control.request("history", room=room.name, limit=RECENT)
                cursor = str(answer.fields["cursor"])
                room.load(self._read(answer.items), all_there_is=self._is_all(answer, RECENT))
            self.front.enter(self.model.show(room.name))
            self._seen_all()
        return cursor

    async def leave(self) -> None:
        """Closes the current room and goes to another; raises `DaemonGone` or `Refused`."""
        other = self.model.leave()
        if other is None:
            self.front.show("This is the only room that you have open. /quit leaves the chat.")
            return
        await self.enter(other.name)

    async def history(self, limit: int, since: str | None = None) -> list[Message]:
        """Older messages of the current room, which are loaded; raises `DaemonGone` or `Refused`."""
        room = self.model.current
        assert room is not None
        async with self._showing:
            answer = await self.session.control.request("history", room=room.name, limit=limit, since=since)
            messages = self._read(answer.items)
            room.extend_back(messages, all_there_is=since is None and self._is_all(answer, limit))
        return [message for message in messages if self.model.visible(message)]

    async def look_back(self, step: int) -> None:
        """Loads `step` more of the messages before those that are loaded, where there are more."""
        room = self.model.current
        if room is None or room.known_from is None:
            return
        answer = await self.session.control.request(
            "history", room=room.name, before=room.known_from, limit=step
        )
        room.extend_back(self._read(answer.items), all_there_is=self._is_all(answer, step))
        self.front.changed()

    def _is_all(self, answer: Answer, limit: int) -> bool:
        """Whether there is no more than what came; shows what the daemon's disk did not give."""
        trouble = answer.fields.get("trouble")
        if trouble:
            self.front.show(str(trouble))
        return not trouble and len(answer.items) < limit

    def _read(self, items: Iterable[dict[str, Any]]) -> list[Message]:
        for item in items:
            self._seen.add(item["id"])
            self._shown(item["id"])
        return [self.model.read(item) for item in items]

    async def _catch_up(self, control: ControlSession, room: Room) -> str:
        """Takes in what came into a room while nobody listened; returns the newest arrival.

        That is all that arrived after what is known here, however old it is by its date; on the first visit,
        when no arrival is known, what is newer than what was counted.
        """
        if self._cursor is None:
            since = format_rfc3339(room.counted_to)
            answer = await control.request("history", room=room.name, since=since, limit=MAX_FRESH)
            await self._missed(answer.items)
            return str(answer.fields["cursor"])
        cursor = self._cursor
        while True:
            answer = await control.request("history", room=room.name, after=cursor, limit=PAGE)
            cursor = str(answer.fields["cursor"])
            # Of another router, or after its logs were lost, old messages may come that were read long ago.
            known_to = room.counted_to if answer.fields.get("gap") and not room.loaded else 0
            await self._missed(item for item in answer.items if time_ms(item["time"]) >= known_to)
            if self._is_all(answer, PAGE) or answer.fields.get("trouble"):
                return cursor

    async def _missed(self, items: Iterable[dict[str, Any]]) -> None:
        # A line of one's own may be among them, which is shown already: its id comes with the answer.
        await self._answered.wait()
        for message in self._read([item for item in items if item["id"] not in self._seen]):
            self._arrived(message)

    async def _take(self, event: Event) -> None:
        kind, model = event.get("event"), self.model
        if kind == "message":
            await self._take_message(event["message"])
        elif kind == "held":
            if model.held(event["record"], event["room"], event["by"]):
                self.front.changed()
        elif kind == "presence":
            model.present(event["user"], event["key"], event["router"], event["rooms"], event["active"])
            self.front.changed()
        elif kind == "mesh":
            model.link = Link(event["neighbours"], event["in_step"])
            self.front.changed()
        elif kind == "room":
            if event["name"] not in model.rooms:
                self._new_rooms.append(model.room(event["name"]))
                self._look_after()
        elif kind == "user":
            self._users_stale = True
            self._look_after()
        elif kind == "wiped" and event.get("messages"):
            await self._wiped(event.get("room"), event["messages"])

    async def _wiped(self, name: str | None, messages: int) -> None:
        """History has gone: what is shown is what the daemon still has."""
        current = self.model.current
        for room in self.model.rooms.values():
            if room is not current and name in (None, room.name):
                room.unload()
        if current and name in (None, current.name):
            held = await self.session.control.request("history", room=current.name, limit=MAX_ENTRIES)
            if not held.fields.get("trouble"):
                current.keep_only({item["id"] for item in held.items})
            self.front.show(f"* {messages} old messages were wiped.")

    async def _take_message(self, fields: dict[str, Any]) -> None:
        if fields["router"] == self.session.router:
            # The event of an own line comes before the answer that tells its id.
            await self._answered.wait()
        if self._cursor is not None:  # It has none where the record has gone again at once.
            self._cursor = fields.get("cursor", self._cursor)
        async with self._showing:
            if fields["id"] not in self._seen:
                self._seen.add(fields["id"])
                self._arrived(self.model.read(fields))

    def _arrived(self, message: Message) -> None:
        model = self.model
        self._shown(message.id)
        if not model.take(message):
            return
        here = model.current is not None and message.room == model.current.name
        if here and not (self.front.echoes and message.id in self._sent):
            self.front.add(message)
        elif not here and message.names_me:
            self.front.mentioned(message)
        self._seen_all()
        if not message.own and (model.bell == "all" or (model.bell == "mentions" and message.names_me)):
            self.front.ring()
        self.front.changed()

    def seen_all(self) -> None:
        """The front end shows the end of the room."""
        self._seen_all()
        self.front.changed()

    def _seen_all(self) -> None:
        mark = self.model.seen_all()
        if mark and self.model.current:
            self._marks[self.model.current.name] = mark
            self._look_after()

    def _shown(self, *ids: str) -> None:
        self._unshown.difference_update(ids)
        if not self._unshown:
            self._all_shown.set()

    # --- What the daemon is told beside -----------------------------------------------------------------

    def typed(self) -> None:
        """The person has typed something."""
        self._typed_at = asyncio.get_running_loop().time()
        if self._typed_at - self._said_typing_at >= TYPING_EVERY:
            self._said_typing_at = self._typed_at
            self._look_after()

    async def prefer(self, **preferences: Any) -> None:
        """Has the daemon remember how the person wants it; raises `DaemonGone` or `Refused`."""
        self.model.remember((await self.session.control.request("prefer", **preferences)).fields)
        self.front.changed()

    def _look_after(self) -> None:
        self._tending.set()

    async def tend(self) -> None:
        """Tells the daemon what is open and read, at most once a second. Never returns.

        Raises `LoggedOut`.
        """
        while True:
            await self._tending.wait()
            self._tending.clear()
            control = self.session.control
            try:
                await self._tell(control)
            except DaemonGone:
                await self.session.restore(control)
                self._look_after()
            except Refused as error:
                if error.code == NOT_LOGGED_IN:
                    raise LoggedOut from None
                if self._marks:  # one was of a message that has been wiped
                    self._look_after()
            await asyncio.sleep(TEND_EVERY)

    async def _tell(self, control: ControlSession) -> None:
        model = self.model
        if model.current is None:
            return
        self._tell_new_rooms()
        shown = [model.current, *(room for room in model.open_rooms if room is not model.current)]
        rooms, active = [room.name for room in shown], self._typed_at > float("-inf")
        changed = rooms != self._said_rooms
        if active or changed:
            self._said_rooms, self._typed_at = rooms, float("-inf")
            await control.request("present", rooms=rooms, active=active)
        if changed:
            await control.request("prefer", rooms=rooms)
        while self._marks:
            room, mark = self._marks.popitem()
            await control.request("mark", room=room, record=mark.id)
        if self._users_stale:
            self._users_stale = False
            await self._refresh_users(control)

    def _tell_new_rooms(self) -> None:
        new, self._new_rooms = self._new_rooms, []
        if len(new) == 1:
            self.front.show(f"* There is a new room: {new[0].title}")
        elif new:
            self.front.show(f"* There are {len(new)} new rooms: /rooms lists all.")

    async def _refresh_users(self, control: ControlSession) -> None:
        """Accounts came or changed: perhaps names clash, which shows in all messages at once."""
        model = self.model
        before = model.user
        model.know_users((await control.request("users")).items)
        model.user = self.session.user = model.names.get(model.key, before)
        if model.user != before and TAG_MARK in model.user:
            self.front.show(f"* Somebody else has your name too: from now on you are shown as {model.user}")
        self.front.changed()

    # --- Writing ----------------------------------------------------------------------------------------

    async def say(self, text: str) -> None:
        """Takes a line for the current room; it is sent as soon as the daemon takes it."""
        assert self.model.current is not None
        await self.outbox.put(Line(self.model.current.name, text))
        self.front.changed()

    async def send(self) -> None:
        """Sends what `say` took, each line once. Never returns; raises `LoggedOut`."""
        while True:
            line = await self.outbox.first()
            control = self.session.control
            try:
                await self._send(control, line)
            except DaemonGone:
                await self.session.restore(control)

    async def _send(self, control: ControlSession, line: Line) -> None:
        self._answered.clear()
        try:
            answer = await control.request("send", room=line.room, text=line.text, person=True, key=line.key)
            self._acknowledge(line, answer.fields)
        except DaemonGone:  # It may be stored: sent again with its key, it is answered as the first time.
            raise
        except MeshchatError as error:
            self._answered.set()
            await self._refuse(line, error)
            return
        await self.outbox.drop_first()
        self._answered.set()
        self._slowed = self._slowed and bool(self.outbox.lines)
        self.front.changed()

    def _acknowledge(self, line: Line, answer: dict[str, Any]) -> None:
        self._sent.add(answer["record"])
        current = self.model.current
        if (
            not self.front.echoes
            and current
            and line.room == current.name
            and answer["record"] not in self._seen
        ):
            self._unshown.add(answer["record"])
            self._all_shown.clear()
        if answer.get("notice"):
            self.front.show(f"* {answer['notice']}")

    async def _refuse(self, line: Line, error: MeshchatError) -> None:
        if error.code == "slow-down":
            if not self._slowed:
                self.front.show(f"Not so fast: the rest follows by itself, {PERSON_RATE:.0f} lines a second.")
            self._slowed = True
            await asyncio.sleep(1 / PERSON_RATE)
            return
        if error.code == NOT_LOGGED_IN:
            raise LoggedOut
        self.failed = True
        await self.outbox.drop_first()
        if self.front.put_back(line.text):
            self.front.show(f"Not sent: {error}")
            return
        self._refused = [*self._refused, line][-MAX_REFUSED:]
        if error.code == TextRefused.code:  # too long to be shown once more
            self.front.show(f"Not sent, kept for /again: {error}")
            return
        self.front.show(str(error))
        self.front.show(f"Not sent: {line.text}")
        self.front.show("It is kept: /again sends it once more.")

    async def send_refused_again(self) -> None:
        """Puts back what was refused last, to be edited; sends all of it once more where nobody edits."""
        if not self._refused:
            self.front.show("Nothing was refused.")
            return
        if self.front.put_back(self._refused[-1].text):
            self._refused.pop()
            return
        refused, self._refused = self._refused, []
        for line in refused:
            await self.outbox.put(line)

    async def settle(self, patience: float) -> None:
        """Before leaving: waits for the room to be shown and for the last lines to be sent.

        Gives up when nothing has moved for `patience` seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._loaded.wait()
            while self.outbox.lines:
                async with asyncio.timeout(patience):
                    await self.outbox.shrunk()
            async with asyncio.timeout(patience):
                await self._all_shown.wait()
        with contextlib.suppress(MeshchatError, TimeoutError):
            async with asyncio.timeout(patience):
                await self._tell(self.session.control)
