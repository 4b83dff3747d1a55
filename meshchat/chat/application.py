"""What all requests share: the mesh, and the tables that the application keeps over it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from meshchat.chat.access import AudienceOf, Right, Viewer
from meshchat.chat.accounts import Accounts, Login, Sealing
from meshchat.chat.attendance import Attendance
from meshchat.chat.limits import Budgets
from meshchat.chat.localtime import Zone, format_rfc3339, parse_when
from meshchat.chat.names import key_tag, room_name
from meshchat.chat.personal import Personal
from meshchat.chat.ports import NO_RECORDS, Mesh, Operator, RoomSummary
from meshchat.chat.rooms import Rooms
from meshchat.chat.sessions import Session
from meshchat.chat.tickets import Tickets
from meshchat.chat.watching import WatchCodes
from meshchat.errors import NameRefused
from meshchat.protocol.events import MeshState
from meshchat.state.presence import Present
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import Kind, Record, stamp_ms


class Application:
    """The tables over one mesh, and how records look from outside."""

    def __init__(
        self,
        mesh: Mesh,
        operator: Operator,
        zone: Zone,
        sealing: Sealing,
        random: Random,
        personal: Personal,
        tickets: Tickets,
        codes: WatchCodes,
        audience: AudienceOf,
    ) -> None:
        self.mesh = mesh
        self.operator = operator
        self.zone = zone
        self.sealing = sealing
        self.random = random
        self.accounts = Accounts(mesh)
        self.rooms = Rooms(mesh)
        self.personal = personal
        self.tickets = tickets
        self.codes = codes
        self.audience = audience
        self.budgets = Budgets()
        self.attendance = Attendance(mesh, random)

    def known_room(self, typed: str, viewer: Viewer) -> str:
        """The room meant, in its own spelling; raises `NameRefused` where there is none for this viewer."""
        name = room_name(typed)
        room = self.rooms.find(name)
        if room is None or not self.shows(room, viewer):
            raise NameRefused(f"There is no room '{name}' here; `meshchat rooms` lists those there are.")
        return room

    def shows(self, room: str, viewer: Viewer) -> bool:
        """Whether a room, in its own spelling, exists for this viewer."""
        return viewer.sees(self.audience(room))

    def room_list(self, viewer: Viewer) -> list[RoomSummary]:
        """The viewer's rooms in the order that people see them in, the empty ones included."""
        full = {room.name: room for room in self.mesh.rooms()}
        return [
            full.get(name) or RoomSummary(name, 0, None, NO_RECORDS)
            for name in self.rooms.names()
            if self.shows(name, viewer)
        ]

    def when(self, typed: str) -> int:
        """The moment that a person wrote, as UTC milliseconds; raises `UsageError`."""
        return parse_when(typed, self.mesh.now_ms(), self.zone)

    def shown_name(self, login: Login) -> str:
        """Who is logged in, as others see him."""
        return self.accounts.display(login.account.name, login.account.key)

    def rights(self, session: Session) -> frozenset[Right]:
        """What may be done on a session now: what its door gives, and what its login was granted."""
        granted = session.login is not None and self.codes.has(session.login.account.key)
        return session.connection.door.rights | ({Right.WATCH} if granted else frozenset())

    def enter(self, session: Session, login: Login) -> None:
        """Somebody is logged in on this session from now on; whoever was before has gone."""
        self.attendance.leave(session)
        session.enter(login)
        self.accounts.logged_in(login.account)

    def quit(self, session: Session) -> None:
        """Nobody is logged in on this session any more."""
        self.attendance.leave(session)
        if session.login:
            self.personal.left(session.login.account.key)
        session.quit()

    def present(self, viewer: Viewer) -> dict[PublicKey, list[Present]]:
        """Where the people are who have an account, by key: the routers where they are active first.

        Of the rooms that they have open those that the viewer may see.
        """
        found: dict[PublicKey, list[Present]] = defaultdict(list)
        for each in self.mesh.present():
            if self.accounts.get(each.key) is not None:
                found[each.key].append(self.shown_presence(each, viewer))
        for places in found.values():
            places.sort(key=lambda each: (not each.active, each.router))
        return found

    def shown_presence(self, present: Present, viewer: Viewer) -> Present:
        """Who is present, with those of the rooms that the viewer may see."""
        rooms = tuple(room for room in present.rooms if self.shows(self.rooms.find(room) or room, viewer))
        return present if len(rooms) == len(present.rooms) else replace(present, rooms=rooms)

    def seen(self, record: Record, viewer: Viewer) -> dict[str, object] | None:
        """A message as this viewer sees it: None where he may not, or `message` shows none. How many hold it
        is its author's to know.
        """
        message = self.message(record) if self.shows(record.log, viewer) else None
        if message is None or record.key != viewer.key:
            return message
        held = self.mesh.held_by(record.id, record.key)
        return message if held is None else {**message, "held": held}

    def message(self, record: Record) -> dict[str, object] | None:
        """A record as all see it who may; None where it is no message that this version can show."""
        if record.kind != Kind.MESSAGE:
            return None
        try:
            text = record.body.decode("utf-8")
        except UnicodeDecodeError:
            return None
        cursor = self.mesh.cursor(record)
        return {
            "id": record.id.hex(),
            "room": record.log,
            "user": self.accounts.display(record.author, record.key),
            "time": stamp_time(record.stamp),
            "text": text,
            "router": record.router.hex(),
            "grade": record.grade.name.lower(),
            "key": key_tag(record.key),
            "position": record.position.hex(),
            **({} if cursor is None else {"cursor": str(cursor)}),
        }


def stamp_time(stamp: int) -> str:
    """The time of a stamp as RFC 3339 in UTC."""
    return format_rfc3339(stamp_ms(stamp))


def shown_mesh(state: MeshState) -> dict[str, object]:
    """How the mesh looks from here, as front ends see it."""
    clock = state.clock.name.lower()
    return {"neighbours": state.neighbours, "in_step": state.in_step, "clock": clock}


def with_notice(fields: Mapping[str, object], notice: str | None) -> dict[str, object]:
    """The fields of an answer, and the mesh's line for the author where there is one."""
    return {**fields, "notice": notice} if notice else dict(fields)
