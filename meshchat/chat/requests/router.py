"""Requests about the router itself: how it does, and what only its operator may do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshchat.chat.access import Right
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import shown_mesh
from meshchat.chat.localtime import format_rfc3339
from meshchat.chat.requests.accounts import Code
from meshchat.chat.requests.fields import OptionalWord, Texts, Word
from meshchat.chat.requests.operation import Call, Nothing, Operation
from meshchat.chat.watching import CODE_SIZE
from meshchat.constants import RELEASED_MS
from meshchat.errors import ClockRefused
from meshchat.identity.boxes import random_octets
from meshchat.protocol.clock import LATEST_MS


def _mesh(call: Call, asked: Nothing) -> Outcome:
    return Answer.done(**shown_mesh(call.app.mesh.mesh_state()))


def _peers(call: Call, asked: Nothing) -> Outcome:
    return Answer.stream(call.app.operator.peers())


def _status(call: Call, asked: Nothing) -> Outcome:
    rooms = [
        {"name": room.name, "messages": room.messages, "digest": room.digest}
        for room in call.app.room_list(call.session.viewer)
    ]
    return Answer.done(status={**call.app.operator.status(), "rooms": rooms})


def _check(call: Call, asked: Nothing) -> Outcome:
    return Answer.stream(call.app.operator.check())


# --- History --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wipe:
    """A room, or all of them."""

    room: OptionalWord


def _wipe(call: Call, asked: Wipe) -> Outcome:
    app = call.app
    room = None if asked.room is None else app.known_room(asked.room, call.session.viewer)
    return Answer.done(messages=app.mesh.wipe(room))


def _export_all(call: Call, asked: Nothing) -> Outcome:
    return Answer.partial({"line": line} for line in call.app.mesh.export(None))


@dataclass(frozen=True)
class Import:
    """Log lines, as `export` gives them."""

    lines: Texts


def _import(call: Call, asked: Import) -> Outcome:
    result = call.app.mesh.take_in(filter(str.strip, asked.lines))
    return Answer.done(added=result.added, known=result.known, refused=dict(result.refused))


# --- Clock, keys and codes ------------------------------------------------------------------------------


def _clock_show(call: Call, asked: Nothing) -> Outcome:
    return Answer.done(clock=call.app.operator.clock())


@dataclass(frozen=True)
class Time:
    """A time as people write it."""

    time: Word


def _clock_set(call: Call, asked: Time) -> Outcome:
    ms = call.app.when(asked.time)
    if not RELEASED_MS <= ms <= LATEST_MS:
        first, last = format_rfc3339(RELEASED_MS)[:10], format_rfc3339(LATEST_MS)[:10]
        raise ClockRefused(
            f"The clock was not set: {format_rfc3339(ms)[:10]} is not from {first} to {last}. Check the year."
        )
    call.app.operator.set_clock(ms)
    return Answer.done(clock=call.app.operator.clock())


@dataclass(frozen=True)
class Key:
    """A mesh key as people copy it."""

    key: Word


def _key_show(call: Call, asked: Nothing) -> Outcome:
    return Answer.done(keys=call.app.operator.keys())


def _key_new(call: Call, asked: Nothing) -> Outcome:
    call.app.operator.change_keys("new", None)
    return _key_show(call, asked)


def _changes_keys(do: str) -> Callable[[Call, Key], Outcome]:
    """The operation that changes the mesh keys by `do` and shows them."""

    def run(call: Call, asked: Key) -> Outcome:
        call.app.operator.change_keys(do, asked.key)
        return _key_show(call, Nothing())

    return run


def _watch_list(call: Call, asked: Nothing) -> Outcome:
    accounts = call.app.accounts
    return Answer.stream(
        {
            "code": code,
            "users": [accounts.display(name, key) for key in keys if (name := accounts.name(key))],
        }
        for code, keys in list(call.app.codes)
    )


def _watch_new(call: Call, asked: Nothing) -> Outcome:
    return Answer.done(code=call.app.codes.make(random_octets(CODE_SIZE)))


def _watch_drop(call: Call, asked: Code) -> Outcome:
    call.app.codes.drop(asked.code)
    return Answer.done()


TABLE: Mapping[str, Operation[Any]] = {
    "mesh": Operation(Right.READ, Nothing, _mesh),
    "clock_show": Operation(Right.READ, Nothing, _clock_show),
    "peers": Operation(Right.WATCH, Nothing, _peers),
    "status": Operation(Right.WATCH, Nothing, _status),
    "check": Operation(Right.WATCH, Nothing, _check),
    "wipe": Operation(Right.OPERATE, Wipe, _wipe),
    "export_all": Operation(Right.OPERATE, Nothing, _export_all),
    "import": Operation(Right.OPERATE, Import, _import),
    "clock_set": Operation(Right.OPERATE, Time, _clock_set),
    "key_show": Operation(Right.OPERATE, Nothing, _key_show),
    "key_new": Operation(Right.OPERATE, Nothing, _key_new),
    "key_add": Operation(Right.OPERATE, Key, _changes_keys("add")),
    "key_use": Operation(Right.OPERATE, Key, _changes_keys("use")),
    "key_drop": Operation(Right.OPERATE, Key, _changes_keys("drop")),
    "watch_new": Operation(Right.OPERATE, Nothing, _watch_new),
    "watch_list": Operation(Right.OPERATE, Nothing, _watch_list),
    "watch_drop": Operation(Right.OPERATE, Code, _watch_drop),
}
