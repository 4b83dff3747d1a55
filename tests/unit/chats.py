"""The application over a real node on a simulated disk, and people to talk to it."""

from random import Random
from typing import Any

from meshchat.adapters.meshview import MeshView
from meshchat.chat.access import OPERATOR, AudienceOf, Door, everybody
from meshchat.chat.accounts import Sealing
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.localtime import Zone
from meshchat.chat.notices import Notice
from meshchat.chat.personal import Personal
from meshchat.chat.ports import Mesh, Operator
from meshchat.chat.service import Event, Service
from meshchat.chat.sessions import OWN, Connection, Origin
from meshchat.chat.tickets import Tickets
from meshchat.chat.watching import WatchCodes
from meshchat.identity.boxes import BoxKey
from meshchat.identity.keys import SigningKey, sign_record
from meshchat.wire.presence import Statement, read_statement
from meshchat.wire.records import Grade, Kind, Record, Space
from tests.unit.routers import Router

CHEAP = Sealing(operations=1, memory=8 * 1024)
"""Argon2 at its least, so that tests do not wait for it."""


def written(
    mesh: Mesh,
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
    operator: Operator | None = None,
    tickets: Tickets | None = None,
    codes: WatchCodes | None = None,
    personal: Personal | None = None,
    audience: AudienceOf = everybody,
    kind: type[Service] = Service,
) -> Service:
    """A service, of this kind, that remembers nobody unless it is told to."""
    return kind(
        mesh,
        operator or Router().operator,
        Zone("UTC"),
        Random(1),
        tickets=tickets or Tickets(BoxKey(bytes(32)), mesh.mesh),
        codes=codes or WatchCodes(),
        personal=personal or Personal(),
        sealing=CHEAP,
        audience=audience,
    )


class Spoken(MeshView):
    """A mesh that notes the statements that are made here."""

    def __init__(self, router: Router) -> None:
        super().__init__(router.node, router.logs)
        self.statements: list[Statement] = []

    def announce(self, record: Record) -> None:
        self.statements.append(read_statement(record))
        super().announce(record)


class Chat:
    """A service over a router, with the events that came out. Requests are made at the router's time."""

    def __init__(
        self, number: int = 1, *, router: Router | None = None, audience: AudienceOf = everybody
    ) -> None:
        """Over a new router of this number, or over that of another daemon that has ended."""
        self.router = router or Router(number=number)
        self.mesh = Spoken(self.router)
        self.personal = Personal()
        self.tickets = Tickets(BoxKey(bytes(32)), self.mesh.mesh)
        self.codes = WatchCodes()
        self.service = service_over(
            self.mesh,
            operator=self.router.operator,
            tickets=self.tickets,
            codes=self.codes,
            personal=self.personal,
            audience=audience,
        )
        self.events: list[Event] = []
        self.router.told = self.tell

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.router.mono

    def person(self, door: Door = OPERATOR, origin: str = "here") -> "Person":
        """Somebody at a front end of his own."""
        return Person(self, self.service.connect(door, Origin(origin)))

    def meet(self, other: "Chat") -> None:
        """Both routers hold the union afterwards, as when a link heals."""
        self.router.meet(other.router)

    def tell(self, notice: Notice) -> None:
        """Something happened."""
        self.events += self.service.tell(notice, self.now)

    def let_pass(self, seconds: float) -> None:
        """Time passes; what is due meanwhile is done."""
        end = self.now + seconds
        while (deadline := self.service.deadline) is not None and deadline <= end:
            self.router.let_pass(max(0.0, deadline - self.now))
            self.service.tick(self.now)
        self.router.let_pass(end - self.now)


class Person:
    """The own session of a connection, with requests as method calls."""

    def __init__(self, chat: Chat, connection: Connection) -> None:
        self.chat = chat
        self.connection = connection
        self.session = connection.get(OWN)

    @property
    def signer(self) -> SigningKey:
        """The key of whoever is logged in."""
        return self.session.require_login().signer

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
