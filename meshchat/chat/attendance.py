"""Who is present at this router's front ends, and when that is said to the mesh, in each person's own name.

A change is said within `PRESENCE_JITTER`, and again after each of `PRESENCE_REPEATS`, lest it was lost; that
somebody still types at most once a minute, and not where a message has said it; all else every
`PRESENCE_REFRESH`. Whoever is not present costs no deadline.
"""

import math
from dataclasses import dataclass, field
from random import Random

from meshchat.chat.accounts import Login
from meshchat.chat.authoring import sign
from meshchat.chat.ports import Mesh
from meshchat.chat.sessions import Session
from meshchat.constants import (
    ACTIVE_FOR,
    ACTIVE_GRACE,
    PRESENCE_JITTER,
    PRESENCE_REFRESH,
    PRESENCE_REPEATS,
    STATEMENT_BURST,
    STATEMENT_RATE,
    TYPING_EVERY,
)
from meshchat.state.limits import TokenBucket
from meshchat.wire.ids import PublicKey
from meshchat.wire.presence import LONGEST_IDLE, Statement, fitting
from meshchat.wire.records import Grade, Kind, Space

_RESTATEMENTS = 3.0
"""Moves of the clock that are followed at once: one is adopted, a better one is found, and one is set."""


@dataclass
class _Person:
    """A user on this router. Times are seconds, monotonic.

    `sessions` are the rooms that each has open, the latest to tell last; `typed_at` is when he last typed and
    `known_at` as far as others know it, told them at `told_at`; `said` are the rooms stated last, `said_at`
    then, for the `repeat`th time since they changed; `due` is the next statement.
    """

    login: Login
    sessions: dict[Session, tuple[str, ...]] = field(default_factory=dict)
    typed_at: float = -math.inf
    known_at: float = -math.inf
    told_at: float = -math.inf
    said: tuple[str, ...] = ()
    repeat: int = 0
    refresh_at: float = math.inf
    due: float = math.inf
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(STATEMENT_RATE, STATEMENT_BURST))

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms open in all sessions, those of the latest one first."""
        rooms = [room for rooms in reversed(self.sessions.values()) for room in rooms]
        return fitting(self.login.account.name, tuple(dict.fromkeys(rooms)))


class Attendance:
    """The people at this router. After each change the `deadline` may be another."""

    def __init__(self, mesh: Mesh, random: Random) -> None:
        self._mesh, self._random = mesh, random
        self._people: dict[PublicKey, _Person] = {}
        self._restatements = TokenBucket(1 / ACTIVE_FOR, _RESTATEMENTS)
        self._restate_at = -math.inf

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called, monotonic seconds; None while nobody is here."""
        return min((person.due for person in self._people.values()), default=None)

    def present(self, session: Session, rooms: tuple[str, ...], now: float, *, typed: bool) -> None:
        """A session has these rooms open (none: not here); `typed`: the person typed since the last call."""
        login = session.require_login()
        person = self._people.get(login.account.key)
        if person is None:
            if not rooms:
                return
            person = self._people[login.account.key] = _Person(login)
        person.login = login
        person.sessions.pop(session, None)
        if rooms:
            person.sessions[session] = rooms
        if typed:
            self._typed(person, now)
        if person.rooms != person.said:
            person.due = min(person.due, self._soon(now))

    def _typed(self, person: _Person, now: float) -> None:
        person.typed_at = now
        seen_idle_at = person.known_at + ACTIVE_FOR + ACTIVE_GRACE
        if now >= seen_idle_at:
            person.due = min(person.due, self._soon(now))
        else:
            person.due = min(person.due, max(now, min(person.told_at + ACTIVE_FOR, seen_idle_at)))

    def _soon(self, now: float) -> float:
        return now + self._random.uniform(0, PRESENCE_JITTER)

    def wrote(self, session: Session, now: float) -> None:
        """Somebody logged in here sent a message: it says as well that he is active."""
        person = self._people.get(session.require_login().account.key)
        if person is not None:
            person.typed_at = now
            if person.said:
                person.known_at = person.told_at = now

    def leave(self, session: Session) -> None:
        """Who is logged in on a session leaves it; to be told before the session forgets who he was."""
        person = self._people.get(session.login.account.key) if session.login else None
        if person is None or person.sessions.pop(session, None) is None:
            return
        if person.rooms != person.said:
            person.due = -math.inf

    def restate(self, now: float) -> None:
        """What was stated may not count elsewhere: all of it is said once more, once a minute at most.

        Whoever lies about the time to routers without a clock could make everybody talk all the time.
        """
        if now < self._restate_at:
            return
        self._restate_at = now + self._restatements.ready_in(now)
        self._restatements.spend(now, 1)
        for person in self._people.values():
            self._refresh_by(person, self._soon(self._restate_at))

    @staticmethod
    def _refresh_by(person: _Person, at: float) -> None:
        person.refresh_at = min(person.refresh_at, at)
        person.due = min(person.due, at)

    def farewell(self, now: float) -> bool:
        """The daemon stops: says at once that everybody has gone; whether anybody was here."""
        for person in self._people.values():
            person.sessions.clear()
            if person.said:
                self._state(person, now)
        return bool(self._people)

    def tick(self, now: float) -> None:
        """Says what is due."""
        for person in [person for person in self._people.values() if person.due <= now]:
            typed = bool(person.rooms) and person.typed_at > person.known_at
            if not typed and person.rooms == person.said and now < person.refresh_at:
                person.due = person.refresh_at
            elif wait := person.bucket.ready_in(now):
                person.due = now + wait
            else:
                self._state(person, now)
        for key in [key for key, person in self._people.items() if self._is_over(person)]:
            del self._people[key]

    @staticmethod
    def _is_over(person: _Person) -> bool:
        """Whether somebody has gone of whom nothing is left to say."""
        all_said = person.repeat > len(PRESENCE_REPEATS) or person.refresh_at == math.inf
        return not person.sessions and not person.said and all_said

    def _state(self, person: _Person, now: float) -> None:
        person.bucket.spend(now, 1)
        if person.rooms != person.said:
            person.said, person.repeat = person.rooms, 0
        idle = now - person.typed_at
        person.known_at = now if idle <= TYPING_EVERY else person.typed_at
        person.told_at = now
        statement = Statement(_seconds(now - person.known_at), person.said)
        person.refresh_at = person.due = now + self._next_refresh(person)
        person.repeat += 1
        if now < self._restate_at:
            self._refresh_by(person, self._soon(self._restate_at))
        login, body = person.login, statement.encode()
        name = login.account.name
        record = sign(
            self._mesh, login.signer, name, Space.PRESENCE, "", Kind.PRESENCE, body, grade=Grade.UNKNOWN
        )
        self._mesh.announce(record)

    def _next_refresh(self, person: _Person) -> float:
        """Seconds from this statement to the next, a little more or less, lest all speak at once."""
        waits = (*PRESENCE_REPEATS, PRESENCE_REFRESH)
        return waits[min(person.repeat, len(waits) - 1)] * self._random.uniform(0.9, 1.1)


def _seconds(idle: float) -> int:
    return int(min(idle, LONGEST_IDLE))
