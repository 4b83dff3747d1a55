"""The requests about what a router remembers of a person: `personal`, `mark`, `prefer`."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshchat.chat.access import Right
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import Application, stamp_time
from meshchat.chat.names import fold, key_tag, room_name, split_tag
from meshchat.chat.personal import Mark, Person
from meshchat.chat.render import safe
from meshchat.chat.requests.fields import (
    OptionalBell,
    OptionalFlag,
    OptionalTexts,
    OptionalWord,
    Text,
    Word,
    parse_id,
)
from meshchat.chat.requests.operation import Call, Nothing, Operation
from meshchat.constants import MAX_OPEN_ROOMS
from meshchat.errors import NameRefused, UsageError
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import is_name


def _personal(call: Call, asked: Nothing) -> Outcome:
    return Answer.done(**_shown(call.app, _person(call)))


@dataclass(frozen=True)
class MarkRead:
    """A message, by its id, up to which a room was read."""

    room: Text
    record: Word


def _mark(call: Call, asked: MarkRead) -> Outcome:
    """Never back to an earlier message."""
    app, person = call.app, _person(call)
    name, record_id = app.known_room(asked.room, call.session.viewer), parse_id(asked.record)
    stamp = None if record_id is None else app.mesh.stamp_of(name, record_id)
    if record_id is None or stamp is None:
        raise UsageError(f"There is no such message in the room '{name}'.")
    person = person.marked(name, Mark(stamp, record_id))
    app.personal.put(person)
    moved = person.marks[name]
    return Answer.done(record=moved.id.hex(), time=stamp_time(moved.stamp))


@dataclass(frozen=True)
class Preferences:
    """What is to be otherwise from now on; what is left out stays."""

    bell: OptionalBell
    times: OptionalFlag
    rooms: OptionalTexts
    ignore: OptionalWord
    unignore: OptionalWord


def _prefer(call: Call, asked: Preferences) -> Outcome:
    """Changes what is given, all or nothing, and answers with all that is remembered."""
    app, person = call.app, _person(call)
    if asked.bell is not None:
        person = replace(person, bell=asked.bell)
    if asked.times is not None:
        person = replace(person, times=asked.times)
    if asked.rooms is not None:
        names = map(room_name, asked.rooms[:MAX_OPEN_ROOMS])
        person = person.opening(app.rooms.find(name) or name for name in names)
    if asked.ignore is not None:
        person = person.ignoring(*_meant(app, person, asked.ignore))
    if asked.unignore is not None:
        person = person.heeding(_ignored(app, person, asked.unignore))
    app.personal.put(person)
    return Answer.done(**_shown(app, person))


def _person(call: Call) -> Person:
    return call.app.personal.get(call.session.require_login().account.key)


def _shown(app: Application, person: Person) -> dict[str, object]:
    return {
        "marks": {room: _shown_mark(each) for room, each in person.marks.items()},
        "ignored": [_name(app, key, name) for key, name in person.ignored.items()],
        "ignored_keys": [key_tag(key) for key in person.ignored],
        "bell": person.bell,
        "rooms": list(person.rooms),
        "times": person.times,
    }


def _shown_mark(mark: Mark) -> dict[str, object]:
    return {"id": mark.id.hex(), "time": stamp_time(mark.stamp)}


def _name(app: Application, key: PublicKey, name: str) -> str:
    """How somebody who is ignored is shown now; he was called `name` then."""
    return app.accounts.display(app.accounts.name(key) or name, key)


def _meant(app: Application, person: Person, typed: str) -> tuple[PublicKey, str]:
    """Whom a typed name, with a tag or without, means: his key and his name. There has to be just one."""
    name, tag = split_tag(unicodedata.normalize("NFC", typed))
    keys = [key for key in app.accounts.keys(name) if tag in (None, key_tag(key))]
    if not keys or not is_name(name):
        raise NameRefused(f"Nobody called '{safe(typed[:64])}' is known here.")
    if len(keys) > 1:
        all_of_them = ", ".join(sorted(app.accounts.display(name, key) for key in keys))
        raise NameRefused(f"Several people use this name: say which one of {safe(all_of_them)}.")
    if keys[0] == person.key:
        raise NameRefused("You cannot ignore yourself.")
    return keys[0], app.accounts.name(keys[0]) or name


def _ignored(app: Application, person: Person, typed: str) -> list[PublicKey]:
    """The keys among those ignored that a typed name means: by the name of then or the name of now."""
    name, tag = split_tag(typed)
    keys = [
        key
        for key, then in person.ignored.items()
        if fold(name) in (fold(then), fold(app.accounts.name(key) or then)) and tag in (None, key_tag(key))
    ]
    if not keys:
        raise NameRefused(f"You do not ignore '{safe(typed[:64])}'.")
    return keys


TABLE: Mapping[str, Operation[Any]] = {
    "personal": Operation(Right.WRITE, Nothing, _personal),
    "mark": Operation(Right.WRITE, MarkRead, _mark),
    "prefer": Operation(Right.WRITE, Preferences, _prefer),
}
