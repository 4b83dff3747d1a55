"""The application behind the control sockets: connections, the requests of their sessions, and their events.

Sans-IO: a request goes in with the monotonic time, an `Answer` or `Work` comes out; whatever becomes stored
is told to `tell`, and the events that follow come out, each with the connection that it is for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import TypeAlias

from meshchat.chat.access import ANYBODY, Audience, AudienceOf, Door, everybody
from meshchat.chat.accounts import Account, Sealing
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import Application, shown_mesh
from meshchat.chat.localtime import Zone
from meshchat.chat.names import key_tag
from meshchat.chat.notices import Evicted, Notice, Wiped
from meshchat.chat.personal import Personal
from meshchat.chat.ports import Mesh, Operator
from meshchat.chat.render import safe
from meshchat.chat.requests import OPERATIONS
from meshchat.chat.requests.accounts import Open
from meshchat.chat.requests.fields import read
from meshchat.chat.requests.operation import Call
from meshchat.chat.sessions import OWN, Connection, Origin, Session
from meshchat.chat.tickets import Tickets
from meshchat.chat.watching import WatchCodes
from meshchat.errors import MeshchatError, SessionRefused, UsageError
from meshchat.protocol.events import Deliver, Held, MeshState, PresenceChanged, Restate
from meshchat.state.presence import Present
from meshchat.wire.records import Record, Space

LAST_SESSION = 2**31 - 1
"""The highest number of a session."""

MAX_ORIGIN_NAME = 64
"""Characters of a named origin that tell it from others: an IPv6 address with its zone has fewer."""

Event: TypeAlias = tuple[Connection, Mapping[str, object]]
"""An event, after the connection that it is for. One that is not for all of its sessions names them."""


class Service:
    """Answers requests from what the mesh holds; one for each router.

    Made, it reads all accounts, rooms and authors from `mesh` once. `zone` is where the router stands: WHEN
    is read in it. `random` are dice, `tickets` let people in again, `codes` let them watch, `sealing` is what
    a new password costs, `personal` who is remembered, `audience` who may see a room.
    """

    def __init__(
        self,
        mesh: Mesh,
        operator: Operator,
        zone: Zone,
        random: Random,
        *,
        tickets: Tickets,
        codes: WatchCodes,
        personal: Personal,
        sealing: Sealing | None = None,
        audience: AudienceOf = everybody,
    ) -> None:
        self._app = Application(
            mesh=mesh,
            operator=operator,
            zone=zone,
            sealing=sealing or Sealing(),
            random=random,
            personal=personal,
            tickets=tickets,
            codes=codes,
            audience=audience,
        )
        self._connections: dict[Connection, None] = {}

    def set_zone(self, zone: Zone) -> None:
        """The configuration was read again."""
        self._app.zone = zone

    # --- Front ends -------------------------------------------------------------------------------------

    def connect(self, door: Door, origin: Origin, *, trusted: bool = False) -> Connection:
        """A new front end, whose own session is not logged in and subscribed to nothing; see `Connection`."""
        connection = Connection(door, origin, trusted=trusted)
        connection.open(OWN)
        self._connections[connection] = None
        return connection

    def disconnect(self, connection: Connection) -> None:
        """The front end has gone, and all who were on it. Doing it twice is harmless."""
        self._connections.pop(connection, None)
        for session in list(connection.sessions.values()):
            self._app.quit(session)
            connection.forget(session)

    def session(self, connection: Connection, request: Mapping[str, object]) -> Session:
        """The session that a request object is for, which the request `open` opens.

        Raises `UsageError` and `SessionRefused`.
        """
        number = request.get("session")
        if number is None:
            number = OWN
        if type(number) is not int or not OWN <= number <= LAST_SESSION:
            raise UsageError(f"'session' has to be a whole number from {OWN} to {LAST_SESSION}.")
        if request.get("do") != "open":
            return connection.get(number)
        origin = read(request, Open).origin
        return connection.open(number, None if origin is None else origin[:MAX_ORIGIN_NAME])

    # --- Time: who is present is said again and again ---------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called, monotonic seconds, or None: any other call may change it."""
        return self._app.attendance.deadline

    def tick(self, now: float) -> None:
        """The deadline came."""
        self._app.attendance.tick(now)

    def farewell(self, now: float) -> bool:
        """The daemon stops: says at once that everybody here has gone; whether anybody was."""
        return self._app.attendance.farewell(now)

    # --- What front ends ask ----------------------------------------------------------------------------

    def handle(self, session: Session, request: Mapping[str, object], now: float) -> Outcome:
        """The answer to a request object, or the work that leads to it. `now` is monotonic seconds.

        Whatever the object holds, a person's mistake comes back as a refusal and is not raised.
        """
        try:
            if session.ended:
                raise SessionRefused(f"The session {session.number} is closed.")
            name = request.get("do")
            operation = OPERATIONS.get(name) if isinstance(name, str) else None
            if operation is None:
                raise UsageError(f"This daemon knows no request {safe(repr(name)[:40])}.")
            return operation.carry_out(Call(self._app, session, now), request)
        except MeshchatError as error:
            return Answer.refusal(error)

    # --- What becomes known -----------------------------------------------------------------------------

    def tell(self, notice: Notice, now: float) -> list[Event]:
        """Takes in what happened, at `now` in monotonic seconds; the events that follow."""
        match notice:
            case Deliver(record, live):
                return self._delivered(record, live)
            case PresenceChanged(present):
                account = self._app.accounts.get(present.key)
                return [] if account is None else self._presence(account, present)
            case Restate():
                self._app.attendance.restate(now)
                return []
            case Held():
                return self._held(notice)
            case MeshState():
                return self._to_all({"event": "mesh", **shown_mesh(notice)})
            case Wiped(room, messages):
                return self._wiped(room, messages)
            case Evicted(records):
                return self._evicted(records)

    def _presence(self, account: Account, present: Present) -> list[Event]:
        seen = self._app.shown_presence(present, ANYBODY)
        return self._to_all(
            {
                "event": "presence",
                "user": self._app.accounts.display(account.name, account.key),
                "key": key_tag(account.key),
                "router": present.router.hex(),
                "rooms": list(seen.rooms),
                "active": present.active,
            }
        )

    def _delivered(self, record: Record, live: bool) -> list[Event]:
        if record.space == Space.ACCOUNTS:
            return self._account_seen(record)
        if record.space == Space.ROOMS:
            return self._room_seen(record.log) if self._app.rooms.feed(record) else []
        if record.space == Space.ROOM:
            self._app.accounts.saw_author(record.author, record.key)
            opened = self._room_seen(record.log) if self._app.rooms.add(record.log) else []
            return opened + self._message_seen(record, live)
        return []

    def _wiped(self, room: str | None, messages: int) -> list[Event]:
        self._app.rooms.history_gone()
        self._app.accounts.history_gone()
        return self._to_all({"event": "wiped", "room": room, "messages": messages})

    def _evicted(self, records: Iterable[Record]) -> list[Event]:
        for record in records:
            if record.space == Space.ACCOUNTS:
                self._app.accounts.drop(record)
            elif record.space == Space.ROOMS:
                self._app.rooms.drop(record)
        return []

    def _held(self, held: Held) -> list[Event]:
        """Its author's front ends hear of it."""
        return self._to_some(
            frozenset({held.author}),
            {"event": "held", "record": held.record.hex(), "room": held.room, "by": held.by, "of": held.of},
        )

    def _message_seen(self, record: Record, live: bool) -> list[Event]:
        heard = any(connection.wants(record.log) for connection in self._connections)
        message = self._app.message(record) if heard else None
        if message is None:
            return []
        event = {"event": "message", "room": record.log, "message": message, "live": live}
        return self._to_some(self._app.audience(record.log), event, room=record.log)

    def _account_seen(self, record: Record) -> list[Event]:
        was_known = self._app.accounts.get(record.key) is not None
        account = self._app.accounts.feed(record)
        if account is None:
            return []
        if account.sealed is None:
            for connection in self._connections:
                for session in connection.logged_in_as(account.key):
                    self._app.quit(session)
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
        return self._to_some(self._app.audience(name), {"event": "room", "name": name})

    def _to_all(self, event: Mapping[str, object]) -> list[Event]:
        return self._to_some(None, event)

    def _to_some(
        self, audience: Audience, event: Mapping[str, object], *, room: str | None = None
    ) -> list[Event]:
        """The event for who hears of events, and of messages in `room` where one is named.

        What all may see crosses each connection once; else it names the sessions of those who may.
        """
        if audience is None:
            return [(each, event) for each in self._connections if each.wants(room)]
        return [
            (connection, {**event, "sessions": numbers})
            for connection in self._connections
            if (numbers := connection.hearing(audience, room))
        ]
