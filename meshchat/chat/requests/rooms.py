"""Requests about rooms and what is in them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshchat.chat.access import Right
from meshchat.chat.accounts import Login
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import Application, stamp_time, with_notice
from meshchat.chat.authoring import submit
from meshchat.chat.cursors import Cursor, parse_cursor, parse_position
from meshchat.chat.names import fold, key_tag, room_name
from meshchat.chat.ports import Made
from meshchat.chat.requests.fields import (
    OptionalCount,
    OptionalFlag,
    OptionalKey,
    OptionalTexts,
    OptionalWord,
    Text,
    Texts,
    parse_id,
)
from meshchat.chat.requests.operation import Call, Nothing, Operation
from meshchat.constants import MAX_TEXT, ONCE_SIZE, ROAMING_MS
from meshchat.errors import StoreError, TextRefused, UsageError
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import Kind, Space, make_stamp


@dataclass(frozen=True)
class Room:
    """A room, by its name."""

    room: Text


def _rooms(call: Call, asked: Nothing) -> Outcome:
    return Answer.stream(
        {
            "name": room.name,
            "messages": room.messages,
            "last": None if room.last is None else stamp_time(room.last),
            "digest": room.digest,
        }
        for room in call.app.room_list(call.session.viewer)
    )


def _join(call: Call, asked: Room) -> Outcome:
    login, name = call.session.require_login(), room_name(asked.room)
    known = _find(call, name)
    return Answer.done(room=known or _make_room(call.app, login, name), created=known is None)


def _find(call: Call, name: str) -> str | None:
    """The room of this name in its own spelling, None where there is none yet.

    Raises `NameRefused` where it is there, but not for who asks.
    """
    known = call.app.rooms.find(name)
    return None if known is None else call.app.known_room(known, call.session.viewer)


def _make_room(app: Application, login: Login, name: str) -> str:
    submit(app.mesh, login.signer, login.account.name, Space.ROOMS, name, Kind.ROOM, b"")
    return name


def _who(call: Call, asked: Room) -> Outcome:
    app, viewer = call.app, call.session.viewer
    name = app.known_room(asked.room, viewer)
    found = {
        key: there
        for key, places in app.present(viewer).items()
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


@dataclass(frozen=True)
class Message:
    """A text for a room. `person`: it was typed, so that it counts against what a person may write. `key` is
    an idempotency key: what was sent with it before is not sent again.
    """

    room: Text
    text: Text
    person: OptionalFlag
    key: OptionalKey


def _send(call: Call, asked: Message) -> Outcome:
    app, session = call.app, call.session
    login, name, body = session.require_login(), room_name(asked.room), asked.text.encode("utf-8")
    if not asked.text.strip():
        raise TextRefused("There is nothing to send.")
    if len(body) > MAX_TEXT:
        raise TextRefused(f"A message has at most {MAX_TEXT} bytes; this one has {len(body)}.")
    once = None if asked.key is None else _once(login.account.key, asked.key)
    if once is not None and (made := app.mesh.made(once)) is not None:
        return _sent_before(made, name, body)
    if asked.person or Right.OPERATE not in call.rights:
        app.budgets.write(login.account.key, session.origin, call.now)
    known = _find(call, name) or _make_room(app, login, name)
    sent = submit(
        app.mesh, login.signer, login.account.name, Space.ROOM, known, Kind.MESSAGE, body, once=once
    )
    app.attendance.wrote(session, call.now)
    stored = {"record": sent.record.id.hex(), "room": known, "time": stamp_time(sent.record.stamp)}
    return Answer.done(**with_notice(stored, sent.notice))


def _once(user: PublicKey, key: str) -> bytes:
    """The hash of a user's request by its idempotency key."""
    return hashlib.blake2b(user + key.encode("utf-8"), digest_size=ONCE_SIZE).digest()


def _sent_before(made: Made, room: str, body: bytes) -> Answer:
    """The first answer to a request that is made again; raises `UsageError` where it is another one."""
    if fold(room) != fold(made.room) or made.body not in (None, body):
        raise UsageError("This key was used for another message: give each message a key of its own.")
    return Answer.done(record=made.id.hex(), room=made.room, time=stamp_time(made.stamp))


@dataclass(frozen=True)
class History:
    """What of a room is asked for: by date, WHEN from and before which, below which position, and how many of
    the newest; or `after` a cursor, by arrival.
    """

    room: Text
    since: OptionalWord
    until: OptionalWord
    limit: OptionalCount
    before: OptionalWord
    after: OptionalWord


def _history(call: Call, asked: History) -> Outcome:
    app, viewer = call.app, call.session.viewer
    name = app.known_room(asked.room, viewer)
    if asked.after is not None:
        if (asked.since, asked.until, asked.before) != (None, None, None):
            raise UsageError("'after' goes by arrival: leave out 'since', 'until' and 'before'.")
        return _arrived(call, name, parse_cursor(asked.after), asked.limit)
    newest = app.mesh.newest()
    records = app.mesh.messages(
        name,
        None if asked.since is None else make_stamp(app.when(asked.since)),
        None if asked.until is None else make_stamp(app.when(asked.until)),
        asked.limit,
        before=None if asked.before is None else parse_position(asked.before),
    )
    items = (message for record in records if (message := app.seen(record, viewer)))
    return Answer.partial(items, cursor=str(newest))


def _arrived(call: Call, room: str, after: Cursor, limit: int | None) -> Answer:
    """What a room got after a cursor, in order of arrival, with the cursor to ask after next."""
    app, viewer = call.app, call.session.viewer
    # Taken before the first is read: what arrives while they are read is given again rather than never.
    newest = app.mesh.newest()
    result: dict[str, object] = {"ok": True, "cursor": str(newest)}
    if after.counts_for(newest):
        found = app.mesh.arrived(room, after.number, limit=limit)
    else:
        since = make_stamp(max(0, app.mesh.now_ms() - ROAMING_MS))
        found = app.mesh.arrived(room, 0, since=since, limit=limit)
        result["gap"] = True

    def items() -> Iterator[Mapping[str, object]]:
        given, passed = 0, after
        try:
            for number, record in found:
                passed = newest._replace(number=number)
                message = app.seen(record, viewer)
                if message is not None:
                    yield message
                    given += 1
                    if given == limit:
                        result["cursor"] = str(passed)
                        return
        except StoreError as error:
            # Who asks after this cursor gets what the disk did not give, once it does.
            result["cursor"], result["trouble"] = str(passed), str(error)

    return Answer(result, items())


@dataclass(frozen=True)
class Subscription:
    """The rooms whose messages are wanted, beside all other events; left out: all rooms."""

    rooms: OptionalTexts


def _subscribe(call: Call, asked: Subscription) -> Outcome:
    app, session = call.app, call.session
    rooms = None if asked.rooms is None else {app.known_room(room, session.viewer) for room in asked.rooms}
    session.subscribe(None if rooms is None else frozenset(rooms))
    return Answer.done()


def _export(call: Call, asked: Room) -> Outcome:
    lines = call.app.mesh.export(call.app.known_room(asked.room, call.session.viewer))
    return Answer.partial({"line": line} for line in lines)


@dataclass(frozen=True)
class Ids:
    """Records, by their ids in hex; what is none is passed over."""

    records: Texts


def _held(call: Call, asked: Ids) -> Outcome:
    mesh, key = call.app.mesh, call.session.require_login().account.key
    of = mesh.mesh_state().neighbours
    ids = dict.fromkeys(record_id for each in asked.records if (record_id := parse_id(each)))
    known = ((record_id, mesh.held_by(record_id, key)) for record_id in ids)
    return Answer.stream(
        {"record": record_id.hex(), "by": by, "of": of} for record_id, by in known if by is not None
    )


TABLE: Mapping[str, Operation[Any]] = {
    "rooms": Operation(Right.READ, Nothing, _rooms),
    "who": Operation(Right.READ, Room, _who),
    "history": Operation(Right.READ, History, _history),
    "subscribe": Operation(Right.READ, Subscription, _subscribe),
    "export": Operation(Right.READ, Room, _export),
    "held": Operation(Right.READ, Ids, _held),
    "join": Operation(Right.WRITE, Room, _join),
    "send": Operation(Right.WRITE, Message, _send),
}
