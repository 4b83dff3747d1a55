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
from typing import Self

from meshchat.chat import render
from meshchat.chat.localtime import Zone
from meshchat.client.messages import Message
from meshchat.client.model import Model
from meshchat.client.rooms import Room
from meshchat.terminal.days import NEW, Days, clock
from meshchat.terminal.front import Leave
from meshchat.terminal.navigation import search

READ_SIZE = 65_536

RECENT, MOST_NEW = 20, 100
"""Messages shown on entering a room, and at most where more are new."""

KEYS = ("Ctrl-U deletes what you have typed, Ctrl-W its last word; Ctrl-C or Ctrl-D leaves.",)

MAX_LINE = 32 * 1024
"""Bytes kept of a line that has not ended: a message has 8 KiB, so what is cut is refused anyway, and a line
without an end fills no memory."""

MAX_WAITING_LINES = 200
"""Lines read ahead of what was asked for or sent: a piped file waits in its pipe, not in memory."""


class LineFront:
    """`Front` on standard input and output. Use it in a `with` statement, inside a running loop."""

    def __init__(self, model: Model, zone: Zone) -> None:
        self._model = model
        self._days = Days(zone)
        self._search = ""
        self._found: Message | None = None
        self._input = sys.stdin.fileno()
        self._tty = os.isatty(self._input)
        self._lines: deque[str] = deque()
        self._partial = b""
        self._arrived = asyncio.Event()
        self._ended = False
        self._reading = False
        self._at_question = False
        self.was_fed = False
        """Whether anything at all was read."""

    @property
    def attended(self) -> bool:
        """Whether standard input is a terminal."""
        return self._tty

    @property
    def echoes(self) -> bool:
        """A terminal shows what is typed."""
        return self._tty

    def __enter__(self) -> Self:
        self._read_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._pause()

    @property
    def keys(self) -> tuple[str, ...]:
        """What `/help` says of the keys."""
        return KEYS

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

    def typed_ahead(self) -> str:
        """What was typed and not asked for yet; it is handed over."""
        lines = "".join(f"{line}\n" for line in self._lines)
        self._lines.clear()
        return lines

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
        self.was_fed = self.was_fed or bool(data)
        if not data:
            self._ended = True
            self._pause()
            self._arrived.set()
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Makes lines of what was read; of nothing, at the end, a last one without its newline."""
        *whole, partial = (self._partial + data).split(b"\n")
        self._partial = partial[:MAX_LINE]
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

    def show_lines(self, lines: list[str]) -> None:
        """Shows several lines."""
        for line in lines:
            self.show(line)

    def enter(self, room: Room) -> None:
        """Shows the last messages of a room, and at least those that are new."""
        self.show(f"--- Room {room.name} --- /help lists the commands")
        messages = [message for message in room.messages() if self._model.visible(message)]
        start = max(len(messages) - RECENT, 0)
        if room.new_from in messages:
            start = max(min(start, messages.index(room.new_from)), len(messages) - MOST_NEW, 0)
        self._days.forget()
        for message in messages[start:]:
            if message is room.new_from:
                self.show(NEW)
            self.add(message)

    def add(self, message: Message) -> None:
        """Shows one message in local time, the day before the first one of it."""
        if heading := self._days.heading(message.ms):
            self._show_line(heading)
        text = render.said(self._model.name(message), message.text)
        time = clock(message.ms, self._days.zone, unknown=message.unknown) + " " if self._model.times else ""
        self._show_line(time + text)

    def show_found(self, title: str, messages: list[Message]) -> None:
        """Shows these messages once more."""
        self.show(f"--- {title} ---")
        self._days.forget()
        for message in messages:
            self.add(message)
        self.show(f"--- end of {title.partition(' ')[0]} ---")
        self._days.forget()

    def mentioned(self, message: Message) -> None:
        """Tells of a message in another room that names the person."""
        self.show(f"* {self._model.name(message)} names you in room {message.room}: /room {message.room}")

    def search(self, text: str) -> bool:
        """Shows the newest message that holds `text`, then with no text the ones before it."""
        if text:
            self._search, self._found = text, None
        self._found = search(self._model, self._search, self._found)
        if self._found:
            self._days.forget()
            self.add(self._found)
            self._days.forget()
        return self._found is not None

    def changed(self) -> None:
        """Lines stay as they were shown."""

    def put_back(self, text: str) -> bool:
        """What was typed is gone."""
        return False

    def ring(self) -> None:
        """Rings the bell of a terminal."""
        if self._tty:
            self._write("\a")

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
