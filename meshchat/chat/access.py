"""Who may do and see what: the rights that each operation names, the doors that give them, and viewers.

What a session may do follows from the socket that its front end came through and from its login, never from
what a front end hides. What it may see is asked for a viewer, by whatever way a text reaches him: history, an
event, a list, an export.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from meshchat.wire.ids import PublicKey


class Right(StrEnum):
    """What an operation needs; the value is its name on the control socket."""

    ENTER = "enter"
    """To make an account, log in and log out, and to open and close sessions."""
    READ = "read"
    """To see what is public, and what one's login may see."""
    WRITE = "write"
    """To speak in the name of one's login, and to change what is remembered of oneself."""
    WATCH = "watch"
    """To see how the router and its neighbours do."""
    OPERATE = "operate"
    """To change the router: its history, clock and keys."""


@dataclass(frozen=True)
class Door:
    """A socket that front ends come through: what people call it, and the rights that it gives."""

    name: str
    rights: frozenset[Right]

    def names(self) -> list[str]:
        """The rights as the greeting says them, in the order in which they are declared."""
        return in_words(self.rights)


OPERATOR = Door("operator", frozenset(Right))
"""For who runs the router: its file is closed to all but its owner and its group."""

PEOPLE = Door("people", frozenset({Right.ENTER, Right.READ, Right.WRITE}))
"""For everybody else: guests over SSH, the web."""


def in_words(rights: frozenset[Right]) -> list[str]:
    """Rights by name, in the order in which they are declared."""
    return [right.value for right in Right if right in rights]


Audience: TypeAlias = frozenset[PublicKey] | None
"""Who may see something: the public keys of these users; None: everybody."""

AudienceOf: TypeAlias = Callable[[str], Audience]
"""Who may see a room and what is in it, by the room's name in its own spelling."""


def everybody(room: str) -> Audience:
    """The audience of a public room, which each room is today."""
    return None


@dataclass(frozen=True)
class Viewer:
    """Who asks to see something: the public key that is logged in, None for nobody."""

    key: PublicKey | None = None

    def sees(self, audience: Audience) -> bool:
        """Whether he is of the audience."""
        return audience is None or (self.key is not None and self.key in audience)


ANYBODY = Viewer()
"""Who is not logged in: sees what all may see."""
