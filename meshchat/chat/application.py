"""What all requests share: the mesh, and the tables that the application keeps over it."""

from collections import defaultdict
from collections.abc import Mapping
from random import Random

from meshchat.chat.accounts import Accounts, Login, Sealing
from meshchat.chat.attendance import Attendance
from meshchat.chat.limits import FailuresByName
from meshchat.chat.localtime import Zone, format_rfc3339, parse_when
from meshchat.chat.names import key_tag, room_name
from meshchat.chat.personal import Personal
from meshchat.chat.ports import NO_RECORDS, Mesh, RoomSummary, Station
from meshchat.chat.rooms import Rooms
from meshchat.errors import NameRefused
from meshchat.protocol.events import MeshState
from meshchat.state.presence import Present
from meshchat.wire.records import Kind, Record, stamp_ms


class Application:
    """The tables over one mesh, and how records look from outside."""

    def __init__(
        self,
        mesh: Mesh,
        station: Station,
        zone: Zone,
        sealing: Sealing,
        random: Random,
        personal: Personal,
    ) -> None:
        self.mesh = mesh
        self.station = station
        self.zone = zone
        self.sealing = sealing
        self.accounts = Accounts(mesh)
        self.rooms = Rooms(mesh)
        self.personal = personal
        self.failures = FailuresByName()
        self.attendance = Attendance(mesh, random)

    def known_room(self, typed: str) -> str:
        """The room meant, in its own spelling; raises `NameRefused` where there is none."""
        name = room_name(typed)
        room = self.rooms.find(name)
        if room is None:
            raise NameRefused(f"There is no room '{name}' here; `meshchat rooms` lists those there are.")
        return room

    def room_list(self) -> list[RoomSummary]:
        """All rooms in the order that people see them in, the empty ones included."""
        full = {room.name: room for room in self.mesh.rooms()}
        return [full.get(name) or RoomSummary(name, 0, None, NO_RECORDS) for name in self.rooms.names()]

    def when(self, typed: str) -> int:
        """The moment that a person wrote, as UTC milliseconds; raises `UsageError`."""
        return parse_when(typed, self.mesh.now_ms(), self.zone)

    def shown_name(self, login: Login) -> str:
        """Who is logged in, as others see him."""
        return self.accounts.display(login.account.name, login.account.key)

    def present(self) -> dict[bytes, list[Present]]:
        """Where the people are who have an account, by key: the routers where they are active first."""
        found: dict[bytes, list[Present]] = defaultdict(list)
        for each in self.mesh.present():
            if self.accounts.get(each.key) is not None:
                found[each.key].append(each)
        for places in found.values():
            places.sort(key=lambda each: (not each.active, each.router))
        return found

    def message(self, record: Record) -> dict[str, object] | None:
        """A record as front ends see it; None where it is no message that this version can show."""
        if record.kind != Kind.MESSAGE:
            return None
        try:
            text = record.body.decode("utf-8")
        except UnicodeDecodeError:
            return None
        held = self.mesh.held_by(record.id) if record.router == self.mesh.router else None
        return {
            "id": record.id.hex(),
            "room": record.log,
            "user": self.accounts.display(record.author, record.key),
            "time": stamp_time(record.stamp),
            "text": text,
            "router": record.router.hex(),
            "grade": record.grade.name.lower(),
            "key": key_tag(record.key),
            **({} if held is None else {"held": held}),
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
