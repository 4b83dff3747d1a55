"""Front ends as the application sees them: connections, and the sessions that each of them carries.

A session is one person, or nobody yet. A terminal is a connection with one session; a front end for many
people (the web) has one connection with a session for each. A public event crosses a connection once,
however many of its sessions want it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from meshchat.chat.access import ANYBODY, Door, Viewer
from meshchat.chat.accounts import Login
from meshchat.chat.tickets import Ticket
from meshchat.constants import MAX_OWN_SESSIONS
from meshchat.errors import NotLoggedIn, SessionRefused
from meshchat.wire.ids import PublicKey

OWN = 0
"""The number of a connection's own session, which is always there: a front end for one needs no other."""

MAX_SESSION_TICKETS = 16
"""Tickets that a session remembers having given out, to void them at its logout: each tab or restart of a
front end takes one. Those before are void."""


@dataclass(frozen=True)
class Origin:
    """Where requests come from, as budgets count: a user of this machine, or an address that a front end
    which is believed has named. Parallel connections and sessions of one origin share what it is granted.
    """

    name: str


class Connection:
    """One front end: its door, the origin of its process, and its sessions by number."""

    def __init__(self, door: Door, origin: Origin, *, trusted: bool = False) -> None:
        """`trusted`: it is believed where it says people come from, and may carry many of them."""
        self.door, self.origin, self.trusted = door, origin, trusted
        self.sessions: dict[int, Session] = {}
        self._subscribed = self._wanting_all = 0
        self._wanting: Counter[str] = Counter()
        self._users: dict[PublicKey, dict[Session, None]] = {}

    def open(self, number: int, named: str | None = None) -> "Session":
        """A new session. `named` is where its person comes from, by the front end's word.

        Raises `SessionRefused` where the number is in use, or there are too many.
        """
        if number in self.sessions:
            raise SessionRefused(f"The session {number} is open already.")
        if len(self.sessions) >= MAX_OWN_SESSIONS and not self.trusted:
            raise SessionRefused(f"A front end has at most {MAX_OWN_SESSIONS} sessions; close one.")
        believed = Origin(f"from {named}") if named and self.trusted else self.origin
        session = self.sessions[number] = Session(self, number, believed)
        return session

    def get(self, number: int) -> "Session":
        """A session by its number; raises `SessionRefused` where there is none."""
        session = self.sessions.get(number)
        if session is None:
            raise SessionRefused(f"There is no session {number}; open it first.")
        return session

    def forget(self, session: "Session") -> None:
        """The session has ended, with nobody logged in on it. Doing it twice is harmless."""
        if not session.ended:
            session.ended = True
            session.unsubscribe()
            del self.sessions[session.number]

    @property
    def subscribed(self) -> bool:
        """Whether any session hears of events."""
        return bool(self._subscribed)

    @property
    def users(self) -> Collection[PublicKey]:
        """The public keys of who is logged in on it."""
        return self._users.keys()

    def logged_in_as(self, user: PublicKey) -> list["Session"]:
        """The sessions on which a user (his public key) is logged in."""
        return list(self._users.get(user, ()))

    def wants(self, room: str | None) -> bool:
        """Whether any session hears of events, or with a room of the messages in it."""
        if room is None:
            return self.subscribed
        return bool(self._wanting_all) or room in self._wanting

    def hearing(self, audience: frozenset[PublicKey], room: str | None) -> list[int]:
        """The numbers of the sessions of these users that hear of events, or of the messages in `room`."""
        users = audience & self._users.keys()
        return sorted(each.number for user in users for each in self._users[user] if each.wants(room))

    def count(self, rooms: frozenset[str] | None, by: int) -> None:
        """A session begins (`by` 1) or ceases (-1) to hear of events, and of messages in these rooms."""
        self._subscribed += by
        if rooms is None:
            self._wanting_all += by
            return
        for room in rooms:
            self._wanting[room] += by
            if not self._wanting[room]:
                del self._wanting[room]

    def count_login(self, session: "Session", user: PublicKey, *, entered: bool) -> None:
        """A user logs in or out on a session."""
        if entered:
            self._users.setdefault(user, {})[session] = None
            return
        self._users[user].pop(session)
        if not self._users[user]:
            del self._users[user]


class Session:
    """One person's side of the application: who is logged in, and what he wants to hear of."""

    def __init__(self, connection: Connection, number: int, origin: Origin) -> None:
        """For `Connection.open`."""
        self.connection, self.number, self.origin = connection, number, origin
        self.ended = False
        self.login: Login | None = None
        self.subscribed = False
        self.rooms: frozenset[str] | None = None
        """The rooms whose messages it is sent; None: all."""
        self.tickets: list[Ticket] = []
        """The tickets that it gave out or resumed by, the latest last."""

    @property
    def viewer(self) -> Viewer:
        """Who it is that sees what is shown on it."""
        return Viewer(self.login.account.key) if self.login else ANYBODY

    def require_login(self) -> Login:
        """Who is logged in; raises `NotLoggedIn`."""
        if self.login is None:
            raise NotLoggedIn("Log in first.")
        return self.login

    def enter(self, login: Login) -> None:
        """Somebody logs in."""
        self.quit()
        self.login = login
        self.connection.count_login(self, login.account.key, entered=True)

    def quit(self) -> None:
        """Nobody is logged in any more."""
        if self.login:
            self.connection.count_login(self, self.login.account.key, entered=False)
        self.login = None
        self.tickets.clear()

    def remember_ticket(self, ticket: Ticket) -> Ticket | None:
        """A ticket that a logout here has to void; returns the oldest where there are too many: it has to be
        voided now, for it is not remembered any more.
        """
        if ticket not in self.tickets:
            self.tickets.append(ticket)
        return self.tickets.pop(0) if len(self.tickets) > MAX_SESSION_TICKETS else None

    def wants(self, room: str | None) -> bool:
        """Whether it hears of events, or with a room of the messages in it."""
        return self.subscribed and (room is None or self.rooms is None or room in self.rooms)

    def subscribe(self, rooms: frozenset[str] | None) -> None:
        """From now on it hears of what happens, and of messages in these rooms; None: in all."""
        self.unsubscribe()
        self.subscribed, self.rooms = True, rooms
        self.connection.count(rooms, 1)

    def unsubscribe(self) -> None:
        """It hears of nothing any more."""
        if self.subscribed:
            self.connection.count(self.rooms, -1)
        self.subscribed, self.rooms = False, None
