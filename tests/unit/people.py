"""Real `meshchat` processes, in a pipe or at a terminal of their own."""

import errno
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.unit.fakeserver import PATIENCE

TOP = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """A clean environment in UTC; a value of "" leaves the variable out."""
    plain = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", "TZ": "UTC0"}
    merged = {**plain, "TERM": "xterm", "PYTHONPATH": str(TOP), **more}
    return {name: value for name, value in merged.items() if value}


PROGRAM = (sys.executable, "-m", "meshchat")


def command(*words: str) -> list[str]:
    """The command line of `meshchat` with these words."""
    return [*PROGRAM, *words]


def run(
    *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs `meshchat` with `stdin` in a pipe and no terminal at all."""
    return subprocess.run(
        command(*words),
        input=stdin,
        env=env or environment(),
        capture_output=True,
        timeout=PATIENCE * 2,
        start_new_session=True,
        check=False,
    )


class Terminal:
    """`meshchat` at a pseudo-terminal, and the person in front of it."""

    def __init__(self, *words: str, program: Sequence[str] = PROGRAM, **variables: str) -> None:
        self._end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*program, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(**variables),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.screen = ""
        self._raw = b""
        self._read_up_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._end)

    def type(self, text: str) -> None:
        """Types; a newline is Enter."""
        os.write(self._end, text.encode())

    def expect(self, text: str) -> str:
        """Waits until `text` shows after what was expected last; returns what came before it."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.screen.find(text, self._read_up_to)) < 0:
            assert self._read(deadline), f"{text!r} is not in {self.screen[self._read_up_to :]!r}"
        before = self.screen[self._read_up_to : at]
        self._read_up_to = at + len(text)
        return before

    def answer(self, question: str, text: str) -> None:
        """Waits for the question and types the answer."""
        self.expect(question)
        self.type(text + "\n")

    def secret(self, question: str, text: str) -> None:
        """The same where the answer must not show: waits until the terminal has stopped to echo."""
        self.expect(question)
        deadline = time.monotonic() + PATIENCE
        while self.echoes():
            assert time.monotonic() < deadline, "the terminal still echoes at a password"
            select.select([self._end], [], [], 0.01)
        self.type(text + "\n")

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._end)[3] & termios.ECHO)

    def settings(self) -> list[object]:
        """The terminal's settings (termios(3))."""
        return termios.tcgetattr(self._end)

    def leave(self) -> int:
        """Waits for the end of the process; returns its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def enter(self, user: str = "abc", password: str = "secret", room: str = "1") -> None:
        """Logs in and chooses a room, by "" the one of the last visit."""
        self.answer("Do you have an account? [Yes/No]", "yes")
        self.answer("Username:", user)
        self.secret("Password:", password)
        self.expect(f"Logged in as: {user}")
        self.answer("Room Number [1,2,3,4]", room)
        self.expect(f"--- Room {room}")

    def _read(self, deadline: float) -> bool:
        """Takes in what the process shows; False at its end, or after the deadline."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._end], [], [], left)[0]:
            return False
        try:
            data = os.read(self._end, 65_536)
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the other end was closed
                raise
            return False
        self._raw += data
        self.screen = self._raw.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)
