"""An engine in memory, and people to talk to the application over it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any

from meshchat.chat.access import OPERATOR, AudienceOf, Door, everybody
from meshchat.chat.accounts import Sealing
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.cursors import Cursor
from meshchat.chat.localtime import Zone
from meshchat.chat.notices import Notice, Wiped
from meshchat.chat.personal import Personal
from meshchat.chat.ports import Made, MergeResult, Mesh, RoomSummary, Station
from meshchat.chat.service import Event, Service
from meshchat.chat.sessions import OWN, Connection, Origin
from meshchat.chat.tickets import Tickets
from meshchat.chat.watching import WatchCodes
from meshchat.constants import LATE_MS
from meshchat.errors import ConfigError, Malformed, StoreError
from meshchat.identity import SigningKey, sign_record, verify_record
from meshchat.protocol.events import Deliver, MeshState, PresenceChanged
from meshchat.state.presence import Entry, Present, place
from meshchat.wire.presence import Statement, read_statement
from meshchat.wire.records import (
    Grade,
    Kind,
    Record,
    Space,
    decode_record,
    make_stamp,
    mesh_id,
    router_id,
    stamp_ms,
)

START_MS = 1_795_300_000_000
CHEAP = Sealing(operations=1, memory=8 * 1024)
"""Argon2 at its least, so that tests do not wait for it."""


def key(number: int) -> SigningKey:
    """A key pair that is the same in every run."""
    return SigningKey.from_seed(number.to_bytes(32, "big"))


def digest_of(records: Iterable[Record]) -> str:
    """What tells two holdings of a room apart."""
    return hashlib.blake2b(b"".join(record.id for record in records), digest_size=16).hexdigest()


class FakeMesh:
    """Implements `Mesh` over a dictionary.

    `tell` is called with what happens.
    """

    def __init__(self, number: int = 1) -> None:
        self.mesh = mesh_id("test")
        self.router = router_id(number.to_bytes(32, "big"))
        self.ms = START_MS
        self.disk_full = False
        self.notice: str | None = None
        self.tell: Callable[[Notice], object] = lambda notice: None
        self.records: dict[bytes, Record] = {}
        self.arrivals: dict[bytes, tuple[int, bool]] = {}
        self.once: dict[bytes, Record] = {}
        self.statements: list[Statement] = []
        self.here: dict[bytes, Present] = {}
        self.mesh_keys: list[str] = []
        self.holders: dict[bytes, int] = {}
        self.held_at_once = 0
        self.state = MeshState(3, True, Grade.GOOD)
        self._counter = 0

    def now_ms(self) -> int:
        return self.ms

    def stamp(self) -> tuple[int, Grade]:
        self._counter += 1
        return make_stamp(self.ms, self._counter), Grade.GOOD

    def submit(self, record: Record, once: bytes | None = None) -> str | None:
        if self.disk_full:
            raise StoreError("The disk is full: free some space.")
        if record.space == Space.ROOM:
            self.holders[record.id] = self.held_at_once
        if once is not None:
            self.once[once] = record
        self.take(record)
        return self.notice

    def take(self, record: Record, *, live: bool = True) -> bool:
        """Stores a record from anywhere; says whether it was new."""
        assert verify_record(record)
        if record.id in self.records:
            return False
        self.records[record.id] = record
        late = self.ms - stamp_ms(record.stamp) > LATE_MS
        self.arrivals[record.id] = len(self.arrivals) + 1, late
        self.tell(Deliver(record, live))
        return True

    def meet(self, other: "FakeMesh") -> None:
        """Both hold the union afterwards, as when a link heals."""
        for record in list(self.records.values()):
            other.take(record, live=False)
        for record in list(other.records.values()):
            self.take(record, live=False)

    def announce(self, record: Record) -> None:
        assert verify_record(record)
        statement = read_statement(record)
        self.statements.append(statement)
        self.see(Entry(record, statement, 0.0).present(0.0))

    def see(self, present: Present) -> None:
        """Somebody is present, or has gone."""
        self.here[place(present.key, present.router)] = present
        self.tell(PresenceChanged(present))

    def present(self) -> list[Present]:
        return [present for present in self.here.values() if present.rooms]

    def rooms(self) -> list[RoomSummary]:
        held: dict[str, list[Record]] = {}
        for record in self._in_space(Space.ROOM):
            held.setdefault(record.log, []).append(record)
        return [
            RoomSummary(name, len(records), records[-1].stamp, digest_of(records))
            for name, records in held.items()
        ]

    def room_names(self) -> list[str]:
        return [room.name for room in self.rooms()]

    def authors(self) -> Iterator[tuple[str, bytes]]:
        return ((record.author, record.key) for record in self._in_space(Space.ROOM))

    def made(self, once: bytes) -> Made | None:
        record = self.once.get(once)
        if record is None:
            return None
        return Made(record.id, record.log, record.stamp, record.body if record.id in self.records else None)

    def newest(self) -> Cursor:
        return Cursor(self.router.hex(), len(self.arrivals))

    def cursor(self, record: Record) -> Cursor | None:
        return Cursor(self.router.hex(), self.arrivals[record.id][0]) if record.id in self.records else None

    def arrived(
        self, room: str, after: int, *, since: int | None = None, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        for record_id, (number, late) in list(self.arrivals.items()):
            record = self.records.get(record_id)
            if record is None or (record.space, record.log) != (Space.ROOM, room):
                continue
            if number > after and (since is None or late or record.stamp >= since):
                yield number, record

    def messages(
        self,
        room: str,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        *,
        before: bytes | None = None,
    ) -> Iterator[Record]:
        records = [
            record
            for record in self._in_space(Space.ROOM)
            if record.log == room
            and (since is None or record.stamp >= since)
            and (until is None or record.stamp < until)
            and (before is None or record.position[1:] < before[1:])
        ]
        return iter(records if limit is None else records[-limit:])

    def stamp_of(self, room: str, record_id: bytes) -> int | None:
        record = self.records.get(record_id)
        return record.stamp if record and record.log == room else None

    def held_by(self, record_id: bytes, author: bytes) -> int | None:
        record = self.records.get(record_id)
        return self.holders.get(record_id) if record is not None and record.key == author else None

    def mesh_state(self) -> MeshState:
        return self.state

    def has_room(self, room: str) -> bool:
        return any(record.log == room for record in self._in_space(Space.ROOM))

    def has_author(self, key: bytes) -> bool:
        return any(record.key == key for record in self._in_space(Space.ROOM))

    def permanent(self, space: int) -> Iterator[Record]:
        return iter(self._in_space(space))

    def _in_space(self, space: int) -> list[Record]:
        return sorted((r for r in self.records.values() if r.space == space), key=lambda r: r.order)

    def wipe(self, room: str | None) -> int:
        gone = [r for r in self._in_space(Space.ROOM) if room in (None, r.log)]
        for record in gone:
            del self.records[record.id]
        self.tell(Wiped(room, len(gone)))
        return len(gone)

    def take_in(self, lines: Iterable[str]) -> MergeResult:
        added = known = 0
        refused: Counter[str] = Counter()
        for line in lines:
            try:
                record = decode_record(self.mesh, bytes.fromhex(line))
            except (ValueError, Malformed):
                refused["line"] += 1
                continue
            if not verify_record(record):
                refused["signature"] += 1
            elif self.take(record, live=False):
                added += 1
            else:
                known += 1
        return MergeResult(added, known, dict(refused))

    def export(self, room: str | None) -> Iterator[str]:
        held = sorted(self.records.values(), key=lambda record: record.order)
        return (record.carried.hex() for record in held if room in (None, record.log))

    def status(self) -> Mapping[str, object]:
        return {"router": self.router.hex(), "group": "224.1.1.1", "port": 8888, "interfaces": []}

    def peers(self) -> list[Mapping[str, object]]:
        return [{"router": "00" * 8, "interface": "wlan0"}]

    def check(self) -> list[Mapping[str, object]]:
        return [{"level": "ok", "what": "clock", "text": "The clock is good.", "cure": ""}]

    def clock(self) -> Mapping[str, object]:
        return {"time": self.ms, "quality": "good"}

    def set_clock(self, ms: int) -> None:
        self.ms = ms

    def keys(self) -> list[Mapping[str, object]]:
        return [{"key": key, "sends": at == 0} for at, key in enumerate(self.mesh_keys)]

    def change_keys(self, do: str, key: str | None) -> None:
        if key == "bad":
            raise ConfigError("A mesh key is 52 letters and digits.")
        self.mesh_keys.append(f"{do} {key}")


def written(
    mesh: FakeMesh,
    signer: SigningKey,
    author: str,
    body: str | bytes,
    *,
    room: str = "1",
    space: Space | int = Space.ROOM,
    kind: Kind | int = Kind.MESSAGE,
    stamp: int | None = None,
    grade: Grade = Grade.GOOD,
) -> Record:
    """A record as another router would make it; signed by `signer` in the name `author`."""
    return sign_record(
        signer,
        mesh=mesh.mesh,
        space=space,
        log=room,
        kind=kind,
        author=author,
        router=mesh.router,
        stamp=mesh.stamp()[0] if stamp is None else stamp,
        grade=grade,
        body=body.encode() if isinstance(body, str) else body,
    )


def service_over(
    mesh: Mesh,
    *,
    station: Station | None = None,
    tickets: Tickets | None = None,
    codes: WatchCodes | None = None,
    personal: Personal | None = None,
    audience: AudienceOf = everybody,
    kind: type[Service] = Service,
) -> Service:
    """A service, of this kind, that remembers nobody unless it is told to."""
    return kind(
        mesh,
        station or FakeMesh(),
        Zone("UTC"),
        Random(1),
        tickets=tickets or Tickets(bytes(32), mesh.mesh),
        codes=codes or WatchCodes(),
        personal=personal or Personal(),
        sealing=CHEAP,
        audience=audience,
    )


class Chat:
    """A service over a fake mesh, with the clock that requests are made at and the events that came out."""

    def __init__(self, mesh: FakeMesh | None = None, *, audience: AudienceOf = everybody) -> None:
        self.mesh = mesh or FakeMesh()
        self.personal = Personal()
        self.tickets = Tickets(bytes(32), self.mesh.mesh)
        self.codes = WatchCodes()
        self.service = service_over(
            self.mesh,
            station=self.mesh,
            tickets=self.tickets,
            codes=self.codes,
            personal=self.personal,
            audience=audience,
        )
        self.events: list[Event] = []
        self.mesh.tell = self.tell
        self.now = 1000.0

    def person(self, door: Door = OPERATOR, origin: str = "here") -> "Person":
        """Somebody at a front end of his own."""
        return Person(self, self.service.connect(door, Origin(origin)))

    def tell(self, notice: Notice) -> None:
        """Something happened."""
        self.events += self.service.tell(notice, self.now)

    def let_pass(self, seconds: float) -> None:
        """Time passes; what is due meanwhile is done."""
        end = self.now + seconds
        while (deadline := self.service.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.service.tick(self.now)
        self.now = end


class Person:
    """The own session of a connection, with requests as method calls."""

    def __init__(self, chat: Chat, connection: Connection) -> None:
        self.chat = chat
        self.connection = connection
        self.session = connection.get(OWN)

    def leave(self) -> None:
        """The front end goes."""
        self.chat.service.disconnect(self.connection)

    def outcome(self, do: str, **fields: Any) -> Outcome:
        """What the service returns before any work is done."""
        return self.chat.service.handle(self.session, {"id": 1, "do": do, **fields}, self.chat.now)

    def answer(self, do: str, **fields: Any) -> Answer:
        """The answer, its work done."""
        outcome = self.outcome(do, **fields)
        if isinstance(outcome, Work):
            return outcome.finish(outcome.compute(), self.chat.now)
        return outcome

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """The fields of an answer that has to be ok."""
        result = dict(self.answer(do, **fields).result)
        assert result.pop("ok") is True, result
        return result

    def refused(self, do: str, **fields: Any) -> str:
        """The code of an answer that has to be a refusal in one line."""
        result = self.answer(do, **fields).result
        assert result["ok"] is False
        line = result["error"]
        assert isinstance(line, str)
        assert line.isprintable()
        assert line
        return str(result["code"])

    def items(self, do: str, **fields: Any) -> list[Any]:
        """The items of an answer."""
        answer = self.answer(do, **fields)
        assert answer.result["ok"] is True, answer.result
        return list(answer.items)

    def texts(self, room: str = "1", **fields: Any) -> list[str]:
        """The texts of a room's history."""
        return [item["text"] for item in self.items("history", room=room, **fields)]

    def enter(self, user: str, password: str = "pass") -> "Person":
        """Makes the account and logs in."""
        self.ask("register", user=user, password=password)
        self.ask("login", user=user, password=password)
        return self

    def heard(self) -> list[dict[str, Any]]:
        """The events so far, which are then forgotten."""
        mine = [dict(event) for each, event in self.chat.events if each is self.connection]
        self.chat.events = [(each, event) for each, event in self.chat.events if each is not self.connection]
        return mine
