"""People at simulated routers: present by the very rules of the application, without its control socket."""

from random import Random

from meshchat.chat.access import PEOPLE
from meshchat.chat.accounts import Account, Login
from meshchat.chat.attendance import Attendance
from meshchat.chat.sessions import OWN, Connection, Origin, Session
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.wire.ids import RouterId
from meshchat.wire.presence import Statement
from meshchat.wire.records import Grade, Kind, Record, Space
from tests.sim.world import MESH, SimRouter, World


class Lobby:
    """The front ends of one router. A restart of the router ends them: make a new one."""

    def __init__(self, router: SimRouter, seed: int = 0) -> None:
        self.router, self.world = router, router.world
        self._attendance = Attendance(router.mesh, Random(seed))
        self._node = router.up
        self._alarm = -1.0
        router.restated = self._restate

    def enter(self, name: str, signer: SigningKey, *rooms: str, typed: bool = False) -> "Person":
        """Somebody logs in and opens rooms."""
        session = Connection(PEOPLE, Origin(name)).open(OWN)
        session.enter(Login(Account(name, signer.public, 0, 1, (0, b""), None), signer))
        person = Person(self, session)
        person.shows(*rooms, typed=typed)
        return person

    def present(self, session: Session, rooms: tuple[str, ...], *, typed: bool) -> None:
        """What the request of this name does."""
        self._attendance.present(session, rooms, self.world.now, typed=typed)
        self._rearm()

    def wrote(self, session: Session) -> None:
        """What a message does."""
        self._attendance.wrote(session, self.world.now)

    def leave(self, session: Session) -> None:
        """What the end of a connection does."""
        self._attendance.leave(session)
        self._rearm()

    def _restate(self) -> None:
        self._attendance.restate(self.world.now)
        self._rearm()

    def _rearm(self) -> None:
        deadline = self._attendance.deadline
        if deadline is not None:
            self._alarm = max(deadline, self.world.now) + 1e-6
            self.world.at(self._alarm, self._tick, self._alarm)

    def _tick(self, alarm: float) -> None:
        if alarm == self._alarm and self.router.node is self._node:
            self._attendance.tick(self.world.now)
            self._rearm()


class Person:
    """A session of somebody."""

    def __init__(self, lobby: Lobby, session: Session) -> None:
        self._lobby, self._session = lobby, session

    def shows(self, *rooms: str, typed: bool = False) -> None:
        """Has these rooms open from now on."""
        self._lobby.present(self._session, rooms, typed=typed)

    def wrote(self) -> None:
        """Has sent a message."""
        self._lobby.wrote(self._session)

    def leaves(self) -> None:
        """Closes the connection."""
        self._lobby.leave(self._session)


def someone(number: int) -> SigningKey:
    """A key pair that is the same in every run."""
    return SigningKey.from_seed(KeySeed(number.to_bytes(32, "big")))


def statement(
    signer: SigningKey,
    router: RouterId,
    stamp: int,
    rooms: tuple[str, ...] = ("1",),
    *,
    idle: int = 0,
    name: str = "ann",
    grade: Grade = Grade.UNKNOWN,
) -> Record:
    """One made by hand."""
    return sign_record(
        signer,
        mesh=MESH,
        space=Space.PRESENCE,
        log="",
        kind=Kind.PRESENCE,
        author=name,
        router=router,
        stamp=stamp,
        grade=grade,
        body=Statement(idle, rooms).encode(),
    )


def seen(router: SimRouter) -> dict[tuple[str, bytes], tuple[tuple[str, ...], bool]]:
    """Who is present where, with which rooms, and whether active, as this router shows it."""
    return {
        (present.name, present.router): (present.rooms, present.active) for present in router.mesh.present()
    }


def names(router: SimRouter) -> set[str]:
    """The names of those who are present anywhere."""
    return {present.name for present in router.mesh.present()}


def everywhere(world: World, *expected: str) -> bool:
    """Whether every router that is on shows just these as present."""
    return all(names(router) == set(expected) for router in world.alive())
