"""Messages as a person sees them: whose they are, whether they name him, who holds them."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any

from meshchat.chat.localtime import EPOCH
from meshchat.chat.names import TAG_MARK, fold, split_tag


@dataclass(eq=False, slots=True)
class Message:
    """A stored message. `ms` is its time in UTC milliseconds since 1970."""

    id: str
    position: str
    """Its place in the order of dates; later ones are greater."""
    room: str
    user: str
    key: str
    text: str
    ms: int
    unknown: bool
    """No good clock stands for the time."""
    own: bool = False
    """The person wrote it, here or elsewhere."""
    names_me: bool = False
    held: int | None = None
    """How many neighbours are known to hold it; None where nobody counts: it was made elsewhere."""


@dataclass(eq=False, slots=True)
class Notice:
    """A line of the program's own among the messages; `ms` keeps its place."""

    text: str
    ms: int


Entry = Message | Notice


def time_ms(written: str) -> int:
    """UTC milliseconds since 1970 of a time as the control socket writes it (RFC 3339)."""
    since = datetime.datetime.fromisoformat(written) - EPOCH
    return since // datetime.timedelta(milliseconds=1)


def read_message(fields: Mapping[str, Any], user: str, key: str, router: str) -> Message:
    """A message of the control socket, as seen by `user`, whose key has the tag `key`, on `router`."""
    own = fields["key"] == key if key else fields["user"] == user
    here = own and fields["router"] == router
    return Message(
        id=fields["id"],
        position=fields["position"],
        room=intern(fields["room"]),
        user=intern(fields["user"]),
        key=intern(fields["key"]),
        text=fields["text"],
        ms=time_ms(fields["time"]),
        unknown=fields.get("grade") == "unknown",
        own=own,
        names_me=not own and names(fields["text"], user),
        held=fields.get("held", 0) if here else None,
    )


def names(text: str, user: str) -> bool:
    """Whether the text names the user as a word, however it is written."""
    return bool(user) and _word(user).search(fold(text)) is not None


@lru_cache(maxsize=4)
def _word(user: str) -> re.Pattern[str]:
    name = re.escape(fold(split_tag(user)[0]))
    # A name with another tag is another person's.
    tag = f"(?!{TAG_MARK}(?!{re.escape(user.partition(TAG_MARK)[2])}))" if TAG_MARK in user else ""
    return re.compile(rf"(?<!\w){name}{tag}(?!\w)")
