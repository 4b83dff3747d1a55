"""The application behind the control socket: sessions, the requests they make, the events they are sent.

Sans-IO: a request goes in with the monotonic time, an `Answer` or `Work` comes out; whatever becomes stored
is told to `deliver`, and the events that follow come out, each with the session it is for.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from meshchat.chat import fields
from meshchat.chat.accounts import Sealing
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import Application
from meshchat.chat.localtime import Zone
from meshchat.chat.operations import OPERATIONS
from meshchat.chat.ports import Mesh, Station
from meshchat.chat.render import safe
from meshchat.chat.sessions import Session
from meshchat.errors import MeshchatError, UsageError
from meshchat.wire.records import Record, Space

Event: TypeAlias = tuple[Session, Mapping[str, object]]
"""An event, after the session that it is for."""


class Service:
    """Answers requests from what the mesh holds; one for each router.

    Made, it reads all accounts, rooms and authors from `mesh` once. `zone` is where the router stands: WHEN
    is read in it. `sealing` is what a new password costs.
    """

    def __init__(self, mesh: Mesh, station: Station, zone: Zone, *, sealing: Sealing | None = None) -> None:
        self._app = Application(mesh, station, zone, sealing or Sealing())
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

    def _message_seen(self, record: Record, live: bool) -> list[Event]:
        listeners = [session for session in self._sessions if session.wants(record.log)]
        message = self._app.message(record) if listeners else None
        if message is None:
            return []
        event = {"event": "message", "room": record.log, "message": message, "live": live}
        return [(session, event) for session in listeners]

    def _account_seen(self, record: Record) -> list[Event]:
        account = self._app.accounts.feed(record)
        if account is None:
            return []
        if account.sealed is None:
            for session in self._sessions:
                if session.login and session.login.account.key == account.key:
                    session.login = None
        return self._to_all({"event": "user", "name": self._app.accounts.display(account.name, account.key)})

    def _room_seen(self, name: str) -> list[Event]:
        return self._to_all({"event": "room", "name": name})

    def _to_all(self, event: Mapping[str, object]) -> list[Event]:
        return [(session, event) for session in self._sessions if session.subscribed]
