"""The line-by-line front end: for pipes, and for terminals that can erase nothing.

Such a terminal stays in its canonical mode: it echoes and edits the line itself, and hands it over whole. So
a message that arrives while somebody types may land in the middle of his line; Ctrl-R shows it again.
"""

import asyncio
import contextlib
import os
import sys
import termios
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from meshchat.chat import render
from meshchat.terminal.days import Days
from meshchat.terminal.front import Leave

READ_SIZE = 65_536

MAX_WAITING_LINES = 200
"""Lines read ahead of what was asked for or sent: a piped file waits in its pipe, not in memory."""


class LineFront:
    """`Front` on standard input and output. Use it in a `with` statement, inside a running loop."""

    def __init__(self, days: Days) -> None:
        self._days = days
        self._input = sys.stdin.fileno()
        self._tty = os.isatty(self._input)
        self._lines: deque[str] = deque()
        self._partial = b""
        self._arrived = asyncio.Event()
        self._ended = False
        self._reading = False
        self._at_question = False

    @property
    def echoes(self) -> bool:
        """Whether standard input is a terminal, which shows what is typed."""
        return self._tty

    def __enter__(self) -> Self:
        self._read_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._pause()

    # --- Typing -----------------------------------------------------------------------------------------

    async def line(self) -> str:
        """The next line; raises `Leave` at the end of the input."""
        while not self._lines:
            self._arrived.clear()
            self._read_on()
            await self._wait()
        self._at_question = False
        return self._lines.popleft()

    async def ask(self, question: str) -> str:
        """Shows `question` and returns the next line, without the spaces around it."""
        self._write(render.safe(question) + " ")
        self._at_question = True
        answer = (await self.line()).strip()
        if not self._tty:
            self._write("\n")
        return answer

    async def ask_secret(self, question: str) -> str:
        """Shows `question` and returns the next line, which the terminal does not echo."""
        self._write(render.safe(question) + " ")
        self._at_question = True
        with self._no_echo():
            secret = await self.line()
        self._write("\n")
        return secret

    async def _wait(self) -> None:
        """Returns when more was read; raises `Leave` where there is no more."""
        if self._ended and not self._lines:
            raise Leave
        await self._arrived.wait()

    @contextlib.contextmanager
    def _no_echo(self) -> Iterator[None]:
        if not self._tty:
            yield
            return
        before = termios.tcgetattr(self._input)
        silent = list(before)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(self._input, termios.TCSANOW, silent)
        try:
            yield
        finally:
            termios.tcsetattr(self._input, termios.TCSANOW, before)

    def _read_on(self) -> None:
        if self._reading or self._ended:
            return
        try:
            asyncio.get_running_loop().add_reader(self._input, self._read)
            self._reading = True
        except PermissionError:  # epoll takes no plain files; they never make anybody wait
            while not self._ended and len(self._lines) < MAX_WAITING_LINES:
                self._read()

    def _pause(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._input)
            self._reading = False

    def _read(self) -> None:
        try:
            data = os.read(self._input, READ_SIZE)
        except OSError:  # the terminal was closed
            data = b""
        if not data:
            self._ended = True
            self._pause()
            self._arrived.set()
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Makes lines of what was read; of nothing, at the end, a last one without its newline."""
        *whole, self._partial = (self._partial + data).split(b"\n")
        if not data and self._partial:
            whole.append(self._partial)
        # What is no text of the terminal's encoding becomes surrogates, which the client refuses to send.
        encoding = sys.stdin.encoding or "utf-8"
        self._lines.extend(line.removesuffix(b"\r").decode(encoding, "surrogateescape") for line in whole)
        if len(self._lines) >= MAX_WAITING_LINES:
            self._pause()
        if self._lines:
            self._arrived.set()

    # --- Showing ----------------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """Shows one line, made safe."""
        self._show_line(render.safe(text))

    def show_message(self, message: dict[str, Any]) -> None:
        """Shows one message in local time, the day before the first one of it."""
        for line in self._days.lines(message):
            self._show_line(line)

    def new_page(self) -> None:
        """Has the day shown again."""
        self._days.forget()

    def end_line(self) -> None:
        """Leaves the cursor at the start of a line, after a `^C` or an unanswered question."""
        self._write("\n")
        self._at_question = False

    def _show_line(self, line: str) -> None:
        if self._at_question:
            line = f"\n{line}"
        self._at_question = False
        self._write(line + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
