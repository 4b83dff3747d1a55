"""The front end for terminals: the line being typed stays whole below whatever arrives."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Self

from meshchat.chat import render
from meshchat.chat.localtime import Zone
from meshchat.client.model import Model
from meshchat.terminal.editor import Editor
from meshchat.terminal.keyboard import Keyboard
from meshchat.terminal.lines import LineFront
from meshchat.terminal.widths import columns

PLAIN_WIDTH = 80
"""Columns of a terminal that does not say how many it has."""

MAX_AHEAD = 64 * 1024
"""Characters typed ahead of what is asked for; more wait in the terminal."""

ANSWER_COLUMNS = 16
"""A question that leaves less of the row than this is shown above it."""


class EditedFront(LineFront):
    """`Front` on a terminal in the hands of `keyboard`; it is drawn only while a line is asked for."""

    def __init__(self, model: Model, zone: Zone, keyboard: Keyboard) -> None:
        super().__init__(model, zone)
        self._keyboard = keyboard
        self._encoding = sys.stdout.encoding
        self._editor = Editor(sys.stdin.encoding, self._drawable)
        self._asking = False
        self._handled: dict[signal.Signals, Callable[[], None]] = {}

    def __enter__(self) -> Self:
        self._handled = {
            signal.SIGWINCH: self._draw,
            signal.SIGCONT: self._resume,
            signal.SIGTSTP: self._suspend,
        }
        for number, handler in self._handled.items():
            asyncio.get_running_loop().add_signal_handler(number, handler)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            asyncio.get_running_loop().remove_signal_handler(number)
        super().__exit__()

    # --- Typing -----------------------------------------------------------------------------------------

    async def line(self) -> str:
        """The next line; raises `Leave`."""
        return await self._answer("", secret=False)

    def typed_ahead(self) -> str:
        """What was typed and not asked for yet; it is handed over."""
        return self._editor.hand_over()

    async def ask(self, question: str) -> str:
        """Shows `question` and returns the next line, without the spaces around it."""
        return (await self._answer(question, secret=False)).strip()

    async def ask_secret(self, question: str) -> str:
        """Shows `question` and returns the next line, of which nothing is drawn."""
        return await self._answer(question, secret=True)

    async def _answer(self, question: str, *, secret: bool) -> str:
        prompt = self._drawable(question) + " " if question else ""
        if columns(prompt) + ANSWER_COLUMNS > self._width():
            self._show_line(prompt.rstrip())
            prompt = "> "
        self._editor.ask(prompt, secret)
        self._asking = True
        try:
            line = await self._next_line()
        finally:
            self._asking = False
        self._write(self._editor.finish(line))
        return line

    async def _next_line(self) -> str:
        while (line := self._editor.next_line()) is None:
            self._draw()
            self._arrived.clear()
            self._read_on()
            await self._wait()
        return line

    def _take(self, data: bytes) -> None:
        self._editor.feed(data)
        if self._editor.waiting >= MAX_AHEAD:
            self._pause()
        if data:
            self._arrived.set()

    def _suspend(self) -> None:
        """Ctrl-Z. Where no shell could continue the process, the kernel does not stop it (setpgid(2))."""
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGTSTP)
        self._write(self._editor.abandon())
        self._keyboard.give_back()
        os.kill(os.getpid(), signal.SIGTSTP)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._resume()

    def _resume(self) -> None:
        self._keyboard.take()
        self._write(self._editor.erase())
        self._draw()

    # --- Showing ----------------------------------------------------------------------------------------

    def end_line(self) -> None:
        """Leaves the cursor at the start of a line, below what was being typed."""
        self._write(self._editor.abandon())

    def _show_line(self, line: str) -> None:
        self._write(self._editor.erase() + line + "\n")
        self._draw()

    def _draw(self) -> None:
        if self._asking:
            self._write(self._editor.draw(self._width()))

    def _width(self) -> int:
        return os.get_terminal_size(sys.stdout.fileno()).columns or PLAIN_WIDTH

    def _drawable(self, text: str) -> str:
        """The text made safe, and as the terminal's encoding will have it: its width is known only then."""
        return render.safe(text).encode(self._encoding, "backslashreplace").decode(self._encoding)
