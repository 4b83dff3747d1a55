"""What the conversation asks of a front end: lines in `lines.py` and `edited.py`, a screen in `screen.py`.

The login, the rooms and the slash commands know only this, so that every front end has the same ones.
"""

from typing import Protocol

from meshchat.client.messages import Message
from meshchat.client.rooms import Room
from meshchat.errors import MeshchatError


class Leave(Exception):
    """The person wants to go: Ctrl-C, Ctrl-D, the end of a pipe, or `/quit`."""


class NotAnswered(MeshchatError):
    """A question was left without an answer."""

    def __init__(self) -> None:
        super().__init__("Nothing was changed.")


class Front(Protocol):
    """One person's screen and keyboard. Whatever is shown has been made safe by the front end."""

    @property
    def attended(self) -> bool:
        """Whether there is a person, and not the end of a pipe."""

    @property
    def echoes(self) -> bool:
        """Whether a typed line stays on the screen, so that it need not be shown again once sent."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What `/help` says of the keys, and of what the front end shows."""

    async def ask(self, question: str) -> str:
        """Shows `question` and returns the next line typed; raises `Leave`."""

    async def ask_secret(self, question: str) -> str:
        """The same, with nothing shown of what is typed; raises `Leave`."""

    async def line(self) -> str:
        """The next line typed, with no question; raises `Leave`."""

    def show(self, text: str) -> None:
        """Shows a line of the program's own."""

    def show_lines(self, lines: list[str]) -> None:
        """Shows several lines that belong together, with the first in view."""

    def enter(self, room: Room) -> None:
        """Shows a room, of which the recent history is loaded, from now on."""

    def add(self, message: Message) -> None:
        """Shows a message that came into the current room."""

    def show_found(self, title: str, messages: list[Message]) -> None:
        """Shows these messages of the current room, which were asked for, with the first in view."""

    def mentioned(self, message: Message) -> None:
        """Tells of a message in another room that names the person."""

    def search(self, text: str) -> bool:
        """Goes to the next older message that holds `text`, the last text again if it is empty.

        Says whether there is one.
        """

    def changed(self) -> None:
        """Something else that is shown has changed: who is here, what is unread, how the mesh is."""

    def put_back(self, text: str) -> bool:
        """Puts a text that was refused into the line being typed; False where that cannot be edited."""

    def ring(self) -> None:
        """Rings the bell."""
