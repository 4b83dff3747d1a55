"""What the conversation asks of a front end; a line-by-line one is in `lines.py`.

The login, the rooms and the slash commands know only this, so that every front end has the same ones.
"""

from typing import Any, Protocol


class Leave(Exception):
    """The person wants to go: Ctrl-C, Ctrl-D, the end of a pipe, or `/quit`."""


class Front(Protocol):
    """One person's screen and keyboard. Whatever is shown has been made safe by the front end."""

    @property
    def echoes(self) -> bool:
        """Whether a typed line stays on the screen, so that it need not be shown again once sent."""

    async def ask(self, question: str) -> str:
        """Shows `question` and returns the next line typed; raises `Leave`."""

    async def ask_secret(self, question: str) -> str:
        """The same, with nothing shown of what is typed; raises `Leave`."""

    async def line(self) -> str:
        """The next line typed, with no question; raises `Leave`."""

    def show(self, text: str) -> None:
        """Shows a line of the program's own."""

    def show_message(self, message: dict[str, Any]) -> None:
        """Shows a message as the control socket gives it: user, time, text, grade."""

    def new_page(self) -> None:
        """What follows is of another room or time: the day is shown again before the next message."""
