"""The requests that front ends make: one function each, and the table of them with their fields.

Each takes the application, the session, the monotonic time in seconds and the checked fields, and raises a
`MeshchatError` where it refuses.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from meshchat.chat.accounts import Account, Login, new_key, seal, try_login
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.application import Application, shown_mesh, stamp_time, with_notice
from meshchat.chat.authoring import submit
from meshchat.chat.fields import (
    FLAG,
    LINES,
    OPTIONAL_BELL,
    OPTIONAL_COUNT,
    OPTIONAL_FLAG,
    OPTIONAL_WORD,
    OPTIONAL_WORDS,
    TEXT,
    WORD,
    WORDS,
    Field,
    parse_id,
)
from meshchat.chat.localtime import format_rfc3339
from meshchat.chat.names import fold, key_tag, room_name, split_tag, user_name
from meshchat.chat.passwords import clean_password
from meshchat.chat.remembering import mark, personal, prefer
from meshchat.chat.sessions import Session
from meshchat.constants import MAX_OPEN_ROOMS, MAX_TEXT, RELEASED_MS
from meshchat.errors import (
    ClockRefused,
    LoginFailed,
    MeshchatError,
    NameTaken,
    PasswordRefused,
    TextRefused,
    TooFast,
)
from meshchat.identity import SealedKey, SigningKey
from meshchat.protocol.clock import LATEST_MS
from meshchat.state.presence import Present
from meshchat.wire.records import Kind, Space, make_stamp

T = TypeVar("T")


@dataclass(frozen=True)
class Operation:
    """A request: what runs it, and the fields that it reads."""

    run: Callable[..., Outcome]
    fields: Mapping[str, Field]


# --- Accounts -------------------------------------------------------------------------------------------


def _register(app: Application, session: Session, now: float, *, user: str, password: str) -> Outcome:
    name, secret = user_name(user), clean_password(password)

    def refuse_taken() -> None:
        if app.accounts.taken(name):
            raise NameTaken

    def publish(made: tuple[SigningKey, SealedKey], now: float) -> Answer:
        refuse_taken()
        signer, sealed = made
        notice = app.accounts.publish(signer, name, sealed)
        return Answer.done(**with_notice({"user": app.accounts.display(name, signer.public)}, notice))

    refuse_taken()
    return _work(lambda: new_key(secret, app.sealing), publish)


def _login(app: Application, session: Session, now: float, *, user: str, password: str) -> Outcome:
    def enter(login: Login | None) -> Answer:
        if login is None or app.accounts.get(login.account.key) is None:
            raise LoginFailed
        app.attendance.leave(session)
        session.login = login
        app.accounts.logged_in(login.account)
        return Answer.done(user=app.shown_name(login))

    secret, candidates = _password_given(password), app.accounts.candidates(user)
    guard = _Guard(app, session, fold(split_tag(user)[0]))
    return _work(lambda: try_login(candidates, secret, app.sealing), guard.checked(enter))


def _logout(app: Application, session: Session, now: float) -> Outcome:
    app.attendance.leave(session)
    if session.login:
        app.personal.left(session.login.account.key)
    session.login = None
    return Answer.done()


def _whoami(app: Application, session: Session, now: float) -> Outcome:
    return Answer.done(user=app.shown_name(session.login) if session.login else None)


def _passwd(app: Application, session: Session, now: float, *, old: str, new: str) -> Outcome:
    account = _own_account(app, session)
    old_secret, new_secret = _password_given(old), clean_password(new)

    def reseal() -> tuple[SigningKey, SealedKey] | None:
        login = try_login((account,), old_secret, app.sealing)
        return (login.signer, seal(login.signer, new_secret, app.sealing)) if login else None

    def publish(made: tuple[SigningKey, SealedKey] | None) -> Answer:
        if made is None or app.accounts.get(account.key) is None:
            raise LoginFailed("The old password is not right.")
        return Answer.done(**with_notice({}, app.accounts.publish(made[0], account.name, made[1])))

    return _work(reseal, _Guard(app, session, fold(account.name)).checked(publish))


def _retire(app: Application, session: Session, now: float, *, password: str) -> Outcome:
    account, secret = _own_account(app, session), _password_given(password)

    def publish(login: Login | None) -> Answer:
        if login is None:
            raise LoginFailed("The password is not right.")
        return Answer.done(**with_notice({}, app.accounts.retire(login.signer, account.name)))

    guard = _Guard(app, session, fold(account.name))
    return _work(lambda: try_login((account,), secret, app.sealing), guard.checked(publish))


def _users(app: Application, session: Session, now: float) -> Outcome:
    present = app.present()
    return Answer.stream(
        {
            "user": app.accounts.display(account.name, account.key),
            "key": key_tag(account.key),
            "since": stamp_time(account.since),
            "active": any(place.active for place in present.get(account.key, ())),
            "present": [_place(place) for place in present.get(account.key, ())],
        }
        for account in app.accounts.active()
    )


def _place(present: Present) -> dict[str, object]:
    return {
        "router": present.router.hex(),
        "rooms": list(present.rooms),
        "active": present.active,
        "idle_s": present.idle_s,
    }


def _present(app: Application, session: Session, now: float, *, rooms: list[str], active: bool) -> Outcome:
    session.require_login()
    names = [room_name(room) for room in rooms[:MAX_OPEN_ROOMS]]
    opened = tuple(app.rooms.find(name) or name for name in names)
    app.attendance.present(session, opened, now, typed=active)
    return Answer.done()


def _who(app: Application, session: Session, now: float, *, room: str) -> Outcome:
    name = app.known_room(room)
    found = {
        key: there
        for key, places in app.present().items()
        if (there := [place for place in places if name in place.rooms])
    }
    users = {account.key: account.name for account in app.accounts.active()}
    items = [
        {
            "user": app.accounts.display(users[key], key),
            "key": key_tag(key),
            "active": any(place.active for place in places),
            "routers": [place.router.hex() for place in places],
            "idle_s": min((place.idle_s for place in places if place.idle_s is not None), default=None),
        }
        for key, places in found.items()
    ]
    return Answer.stream(sorted(items, key=lambda item: (not item["active"], fold(str(item["user"])))))


def _own_account(app: Application, session: Session) -> Account:
    """The account logged in, in its latest version."""
    login = session.require_login()
    return app.accounts.get(login.account.key) or login.account


def _password_given(typed: str) -> str:
    """A password to be checked: one that no account can have is just wrong."""
    try:
        return clean_password(typed)
    except PasswordRefused:
        raise LoginFailed from None


class _Guard:
    """Holds the answer to a password back, right or wrong, for as long as earlier failures ask for."""

    def __init__(self, app: Application, session: Session, name: str) -> None:
        self._app, self._session, self._name = app, session, name

    def checked(self, finish: Callable[[T], Answer]) -> Callable[[T, float], Answer]:
        """`finish`, which raises `LoginFailed` for a wrong password, with the delay and the book-keeping."""
        names, session = self._app.failures, self._session.failures

        def run(value: T, now: float) -> Answer:
            delay = max(names.delay(self._name, now), session.delay(now))
            try:
                answer = finish(value)
            except LoginFailed as error:
                names.add(self._name, now)
                session.add(now)
                return Answer.refusal(error).after(delay)
            names.clear(self._name)
            return answer.after(delay)

        return run


def _work(compute: Callable[[], T], finish: Callable[[T, float], Answer]) -> Work[T]:
    """Work whose `finish` answers what it refuses."""

    def run(value: T, now: float) -> Answer:
        try:
            return finish(value, now)
        except MeshchatError as error:
            return Answer.refusal(error)

    return Work(compute, run)


# --- Rooms and messages ---------------------------------------------------------------------------------


def _rooms(app: Application, session: Session, now: float) -> Outcome:
    return Answer.stream(
        {
            "name": room.name,
            "messages": room.messages,
            "last": None if room.last is None else stamp_time(room.last),
            "digest": room.digest,
        }
        for room in app.room_list()
    )


def _join(app: Application, session: Session, now: float, *, room: str) -> Outcome:
    login, name = session.require_login(), room_name(room)
    known = app.rooms.find(name)
    return Answer.done(room=known or _make_room(app, login, name), created=known is None)


def _make_room(app: Application, login: Login, name: str) -> str:
    submit(app.mesh, login.signer, login.account.name, Space.ROOMS, name, Kind.ROOM, b"")
    return name


def _send(
    app: Application, session: Session, now: float, *, room: str, text: str, person: bool | None
) -> Outcome:
    login, name, body = session.require_login(), room_name(room), text.encode("utf-8")
    if not text.strip():
        raise TextRefused("There is nothing to send.")
    if len(body) > MAX_TEXT:
        raise TextRefused(f"A message has at most {MAX_TEXT} bytes; this one has {len(body)}.")
    if person and not session.bucket.take(now):
        wait = math.ceil(session.bucket.ready_in(now))
        raise TooFast(f"You write too fast; wait {wait} s and send it again.")
    known = app.rooms.find(name) or _make_room(app, login, name)
    sent = submit(app.mesh, login.signer, login.account.name, Space.ROOM, known, Kind.MESSAGE, body)
    app.attendance.wrote(session, now)
    stored = {"record": sent.record.id.hex(), "room": known, "time": stamp_time(sent.record.stamp)}
    return Answer.done(**with_notice(stored, sent.notice))


def _history(
    app: Application,
    session: Session,
    now: float,
    *,
    room: str,
    since: str | None,
    until: str | None,
    limit: int | None,
) -> Outcome:
    records = app.mesh.messages(
        app.known_room(room),
        None if since is None else make_stamp(app.when(since)),
        None if until is None else make_stamp(app.when(until)),
        limit,
    )
    return Answer.stream(message for record in records if (message := app.message(record)))


def _subscribe(app: Application, session: Session, now: float, *, rooms: list[str] | None) -> Outcome:
    session.rooms = None if rooms is None else frozenset(map(app.known_room, rooms))
    session.subscribed = True
    return Answer.done()


def _wipe(app: Application, session: Session, now: float, *, room: str | None) -> Outcome:
    return Answer.done(messages=app.mesh.wipe(None if room is None else app.known_room(room)))


def _export(app: Application, session: Session, now: float, *, room: str | None) -> Outcome:
    lines = app.mesh.export(None if room is None else app.known_room(room))
    return Answer.stream({"line": line} for line in lines)


def _import(app: Application, session: Session, now: float, *, lines: list[str]) -> Outcome:
    result = app.mesh.take_in(filter(str.strip, lines))
    return Answer.done(added=result.added, known=result.known, refused=dict(result.refused))


def _held(app: Application, session: Session, now: float, *, records: list[str]) -> Outcome:
    of = app.mesh.mesh_state().neighbours
    ids = dict.fromkeys(record_id for text in records if (record_id := parse_id(text)))
    known = ((record_id, app.mesh.held_by(record_id)) for record_id in ids)
    return Answer.stream(
        {"record": record_id.hex(), "by": by, "of": of} for record_id, by in known if by is not None
    )


# --- The router -----------------------------------------------------------------------------------------


def _peers(app: Application, session: Session, now: float) -> Outcome:
    return Answer.stream(app.station.peers())


def _status(app: Application, session: Session, now: float) -> Outcome:
    rooms = [
        {"name": room.name, "messages": room.messages, "digest": room.digest} for room in app.room_list()
    ]
    return Answer.done(status={**app.station.status(), "rooms": rooms})


def _mesh(app: Application, session: Session, now: float) -> Outcome:
    return Answer.done(**shown_mesh(app.mesh.mesh_state()))


def _check(app: Application, session: Session, now: float) -> Outcome:
    return Answer.stream(app.station.check())


def _clock_show(app: Application, session: Session, now: float) -> Outcome:
    return Answer.done(clock=app.station.clock())


def _clock_set(app: Application, session: Session, now: float, *, time: str) -> Outcome:
    ms = app.when(time)
    if not RELEASED_MS <= ms <= LATEST_MS:
        first, last = format_rfc3339(RELEASED_MS)[:10], format_rfc3339(LATEST_MS)[:10]
        raise ClockRefused(
            f"The clock was not set: {format_rfc3339(ms)[:10]} is not from {first} to {last}. Check the year."
        )
    app.station.set_clock(ms)
    return Answer.done(clock=app.station.clock())


def _keys(do: str | None) -> Callable[..., Outcome]:
    """The operation that changes the mesh keys by `do`, or changes nothing, and shows them."""

    def run(app: Application, session: Session, now: float, *, key: str | None = None) -> Outcome:
        if do:
            app.station.change_keys(do, key)
        return Answer.done(keys=app.station.keys())

    return run


OPERATIONS: Mapping[str, Operation] = {
    "register": Operation(_register, {"user": TEXT, "password": TEXT}),
    "login": Operation(_login, {"user": TEXT, "password": TEXT}),
    "logout": Operation(_logout, {}),
    "whoami": Operation(_whoami, {}),
    "passwd": Operation(_passwd, {"old": TEXT, "new": TEXT}),
    "retire": Operation(_retire, {"password": TEXT}),
    "users": Operation(_users, {}),
    "present": Operation(_present, {"rooms": WORDS, "active": FLAG}),
    "who": Operation(_who, {"room": TEXT}),
    "rooms": Operation(_rooms, {}),
    "join": Operation(_join, {"room": TEXT}),
    "send": Operation(_send, {"room": TEXT, "text": TEXT, "person": OPTIONAL_FLAG}),
    "history": Operation(
        _history,
        {"room": TEXT, "since": OPTIONAL_WORD, "until": OPTIONAL_WORD, "limit": OPTIONAL_COUNT},
    ),
    "subscribe": Operation(_subscribe, {"rooms": OPTIONAL_WORDS}),
    "wipe": Operation(_wipe, {"room": OPTIONAL_WORD}),
    "export": Operation(_export, {"room": OPTIONAL_WORD}),
    "import": Operation(_import, {"lines": LINES}),
    "held": Operation(_held, {"records": LINES}),
    "personal": Operation(personal, {}),
    "mark": Operation(mark, {"room": TEXT, "record": WORD}),
    "prefer": Operation(
        prefer,
        {
            "bell": OPTIONAL_BELL,
            "times": OPTIONAL_FLAG,
            "rooms": OPTIONAL_WORDS,
            "ignore": OPTIONAL_WORD,
            "unignore": OPTIONAL_WORD,
        },
    ),
    "mesh": Operation(_mesh, {}),
    "peers": Operation(_peers, {}),
    "status": Operation(_status, {}),
    "check": Operation(_check, {}),
    "clock_show": Operation(_clock_show, {}),
    "clock_set": Operation(_clock_set, {"time": WORD}),
    "key_show": Operation(_keys(None), {}),
    "key_new": Operation(_keys("new"), {}),
    "key_add": Operation(_keys("add"), {"key": WORD}),
    "key_use": Operation(_keys("use"), {"key": WORD}),
    "key_drop": Operation(_keys("drop"), {"key": WORD}),
}
