"""The application behind the control socket: sessions, the requests they make, the events they are sent.

Sans-IO: a request goes in with the monotonic time, an `Answer` or `Work` comes out; whatever becomes stored
is told to `deliver`, and the events that follow come out, each with the session it is for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import TypeAlias

from meshchat.chat import fields
from meshchat.chat.accounts import Account, Sealing
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import Application, shown_mesh
from meshchat.chat.localtime import Zone
from meshchat.chat.names import key_tag
from meshchat.chat.operations import OPERATIONS
from meshchat.chat.personal import Personal
from meshchat.chat.ports import Mesh, Station
from meshchat.chat.render import safe
from meshchat.chat.sessions import Session
from meshchat.errors import MeshchatError, UsageError
from meshchat.protocol.events import Held, MeshState
from meshchat.state.presence import Present
from meshchat.wire.records import Record, Space

Event: TypeAlias = tuple[Session, Mapping[str, object]]
"""An event, after the session that it is for."""


class Service:
    """Answers requests from what the mesh holds; one for each router.

    Made, it reads all accounts, rooms and authors from `mesh` once. `zone` is where the router stands: WHEN
    is read in it. `random` are dice, `sealing` is what a new password costs, `personal` who is remembered.
    """

    def __init__(
        self,
        mesh: Mesh,
        station: Station,
        zone: Zone,
        random: Random,
        *,
        sealing: Sealing | None = None,
        personal: Personal | None = None,
    ) -> None:
        remembered = Personal() if personal is None else personal
        self._app = Application(mesh, station, zone, sealing or Sealing(), random, remembered)
        self._sessions: dict[Session, None] = {}

    def set_zone(self, zone: Zone) -> None:
        """The configuration was read again."""
        self._app.zone = zone

    def open_session(self) -> Session:
        """A new front end, not logged in and subscribed to nothing."""
        session = Session()
        self._sessions[session] = None
        return session

    def close_session(self, session: Session) -> None:
        """The front end has gone. Closing twice is harmless."""
        self._sessions.pop(session, None)
        self._app.attendance.leave(session)
        if session.login:
            self._app.personal.left(session.login.account.key)

    # --- Time: who is present is said again and again ---------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called, monotonic seconds, or None: any other call may change it."""
        return self._app.attendance.deadline

    def tick(self, now: float) -> None:
        """The deadline came."""
        self._app.attendance.tick(now)

    def restate(self, now: float) -> None:
        """What was said of who is present here may not count elsewhere any more."""
        self._app.attendance.restate(now)

    def farewell(self, now: float) -> bool:
        """The daemon stops: says at once that everybody here has gone; whether anybody was."""
        return self._app.attendance.farewell(now)

    # --- What front ends ask ----------------------------------------------------------------------------

    def handle(self, session: Session, request: Mapping[str, object], now: float) -> Outcome:
        """The answer to a request object, or the work that leads to it. `now` is monotonic seconds.

        Whatever the object holds, a person's mistake comes back as a refusal and is not raised.
        """
        try:
            name = request.get("do")
            operation = OPERATIONS.get(name) if isinstance(name, str) else None
            if operation is None:
                raise UsageError(f"This daemon knows no request {safe(repr(name)[:40])}.")
            values = fields.read(request, operation.fields)
            return operation.run(self._app, session, now, **values)
        except MeshchatError as error:
            return Answer.refusal(error)

    # --- What becomes known -----------------------------------------------------------------------------

    def presence_changed(self, present: Present) -> list[Event]:
        """Somebody came, went, opened or closed a room, began to type or fell idle, on any router."""
        account = self._app.accounts.get(present.key)
        return [] if account is None else self._presence(account, present)

    def _presence(self, account: Account, present: Present) -> list[Event]:
        return self._to_all(
            {
                "event": "presence",
                "user": self._app.accounts.display(account.name, account.key),
                "key": key_tag(account.key),
                "router": present.router.hex(),
                "rooms": list(present.rooms),
                "active": present.active,
            }
        )

    def deliver(self, record: Record, live: bool) -> list[Event]:
        """A record became stored; `live` is False where it came by catching up. The events that follow."""
        if record.space == Space.ACCOUNTS:
            return self._account_seen(record)
        if record.space == Space.ROOMS:
            return self._room_seen(record.log) if self._app.rooms.feed(record) else []
        if record.space == Space.ROOM:
            self._app.accounts.saw_author(record.author, record.key)
            opened = self._room_seen(record.log) if self._app.rooms.add(record.log) else []
            return opened + self._message_seen(record, live)
        return []

    def wiped(self, room: str | None, messages: int) -> list[Event]:
        """History of a room, or of all, has gone: by hand or because the horizon moved."""
        self._app.rooms.history_gone()
        self._app.accounts.history_gone()
        return self._to_all({"event": "wiped", "room": room, "messages": messages})

    def evicted(self, records: Iterable[Record]) -> None:
        """These records of accounts or rooms have gone for their byte budget."""
        for record in records:
            if record.space == Space.ACCOUNTS:
                self._app.accounts.drop(record)
            elif record.space == Space.ROOMS:
                self._app.rooms.drop(record)

    def held(self, held: Held) -> list[Event]:
        """More neighbours hold a message that was written here: its author's front ends hear of it."""
        event = {
            "event": "held",
            "record": held.record.hex(),
            "room": held.room,
            "by": held.by,
            "of": held.of,
        }
        return [
            (session, event)
            for session in self._sessions
            if session.subscribed and session.login and session.login.account.key == held.author
        ]

    def mesh_changed(self, state: MeshState) -> list[Event]:
        """The mesh looks otherwise than before."""
        return self._to_all({"event": "mesh", **shown_mesh(state)})

    def _message_seen(self, record: Record, live: bool) -> list[Event]:
        listeners = [session for session in self._sessions if session.wants(record.log)]
        message = self._app.message(record) if listeners else None
        if message is None:
            return []
        event = {"event": "message", "room": record.log, "message": message, "live": live}
        return [(session, event) for session in listeners]

    def _account_seen(self, record: Record) -> list[Event]:
        was_known = self._app.accounts.get(record.key) is not None
        account = self._app.accounts.feed(record)
        if account is None:
            return []
        if account.sealed is None:
            for session in self._sessions:
                if session.login and session.login.account.key == account.key:
                    session.login = None
                    self._app.attendance.leave(session)
        name = self._app.accounts.display(account.name, account.key)
        events = self._to_all({"event": "user", "name": name})
        if was_known != (account.sealed is not None):
            events += self._came_or_retired(account)
        return events

    def _came_or_retired(self, account: Account) -> list[Event]:
        """Who is present without an account is not shown: from now on he is, or is not any more."""
        places = [each for each in self._app.mesh.present() if each.key == account.key]
        if account.sealed is None:
            places = [replace(each, rooms=(), active=False) for each in places]
        return [event for each in places for event in self._presence(account, each)]

    def _room_seen(self, name: str) -> list[Event]:
        return self._to_all({"event": "room", "name": name})

    def _to_all(self, event: Mapping[str, object]) -> list[Event]:
        return [(session, event) for session in self._sessions if session.subscribed]
