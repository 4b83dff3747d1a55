"""A real terminal, under tmux, and the person in front of it: what he types, and the screen that he sees."""

import fcntl
import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from meshchat.terminal.pasting import GOES_ON
from tests.unit.fakeserver import PATIENCE
from tests.unit.people import command, environment

SHOWN = 3.0
"""Seconds at most for what was typed to be shown as it is, which not all of it is: passwords, escapes."""

SIZES = ((80, 24), (40, 15), (200, 50))
"""Columns and rows: the usual terminal, a telephone's, a large one."""


class Screen:
    """`meshchat` with these words in a terminal of `columns` by `rows`; a command of your own with `run`.

    `variables` are those of the environment; "" leaves one out.
    """

    def __init__(
        self,
        home: Path,
        *words: str,
        columns: int = 80,
        rows: int = 24,
        run: list[str] | None = None,
        **variables: str,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._tmux = ["tmux", "-S", str(home / "tmux"), "-f", os.devnull]
        self._pipe = home / "output"
        self._bells = 0
        self._typed = ""
        os.mkfifo(self._pipe)
        # Opened for both, or it would wait for a writer.
        self._output = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        self._bells = 0
        self._call("new-session", "-d", "-x", str(columns), "-y", str(rows), "exec cat")
        self._call("set-option", "-g", "remain-on-exit", "on")
        self._call("set-option", "-g", "escape-time", "0")
        self._call("pipe-pane", f"exec cat >{self._pipe}")
        clean = environment(**{"TERM": "tmux-256color", "LC_ALL": "C.UTF-8", **variables})
        settings = [f"{name}={value}" for name, value in clean.items()]
        self._call("respawn-pane", "-k", "env", "-i", *settings, *(run or command(*words)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("kill-server", check=False)
        os.close(self._output)

    # --- Typing -----------------------------------------------------------------------------------------

    def type(self, text: str) -> None:
        """Types the text, without Enter."""
        self._call("send-keys", "-l", "--", text)
        self._typed = text

    def keys(self, *names: str) -> None:
        """Presses keys by tmux's names: `Enter`, `PageUp`, `M-2`, `C-n`."""
        # They come when the text is on the screen: what comes all at once is taken for a paste.
        text, self._typed = self._typed.strip()[-8:], ""
        deadline = time.monotonic() + SHOWN
        while text not in self._up_to_cursor() and time.monotonic() < deadline:
            self._drain(0.2)
        self._call("send-keys", *names)

    def say(self, text: str) -> None:
        """Types a line."""
        self.type(text)
        self.keys("Enter")

    def say_unseen(self, text: str) -> None:
        """The same where nothing of it is shown: a password."""
        self.type(text)
        self._typed = ""
        self.keys("Enter")

    def _up_to_cursor(self) -> str:
        row = self.cursor[1]
        return "".join(self.rows[max(row - 1, 0) : row + 1])

    def paste(self, text: str) -> None:
        """Pastes as terminals do: bracketed where the program has asked for that."""
        subprocess.run([*self._tmux, "load-buffer", "-"], input=text.encode(), check=True, timeout=PATIENCE)
        self._call("paste-buffer", "-p")

    def paste_unbracketed(self, text: str) -> None:
        """Pastes as poor terminals do: as if it were typed, very fast."""
        subprocess.run([*self._tmux, "load-buffer", "-"], input=text.encode(), check=True, timeout=PATIENCE)
        self._call("paste-buffer")
        self._until(lambda _: not self._unread(), "the paste read")
        time.sleep(2 * GOES_ON)  # a person's pause, by which the program tells that this was all

    def log_in(self, user: str = "abc", password: str = "secret", room: str = "1") -> None:
        """Answers the questions, and waits for the room."""
        self.shows("Do you have an account? [Yes/No]")
        self.say("yes")
        self.shows("Username:")
        self.say(user)
        self.shows("Password:")
        self.say_unseen(password)
        self.shows("Room Number [")
        self.say(room)
        self.shows_line("> ", at=-1)
        self._until(lambda _: "loading" not in self.status, "the room")

    # --- Seeing -----------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[str]:
        """The rows as they are now, without the blanks at their ends."""
        shown = self._call("capture-pane", "-p").removesuffix("\n")
        return [row.rstrip() for row in shown.split("\n")]

    @property
    def status(self) -> str:
        """The line between the messages and the input."""
        return next((row for row in reversed(self.rows[:-1]) if row.startswith(" ")), "")

    @property
    def styled(self) -> str:
        """The rows with the escape sequences of their colours."""
        return self._call("capture-pane", "-p", "-e", "-N")

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row of the cursor, from 0."""
        column, row = self._call("display-message", "-p", "#{cursor_x} #{cursor_y}").split()
        return int(column), int(row)

    def shows(self, *texts: str) -> list[str]:
        """Waits until all of these are on the screen; returns its rows."""
        return self._until(lambda rows: all(text in "\n".join(rows) for text in texts), f"{texts}")

    def shows_within(self, columns: int) -> None:
        """Waits until the last of so many columns is empty."""
        self._until(lambda rows: max(map(len, rows)) < columns, f"within {columns} columns")

    def shows_not(self, text: str) -> list[str]:
        """Waits until this is not on the screen any more."""
        return self._until(lambda rows: text not in "\n".join(rows), f"no {text!r}")

    def shows_times(self, text: str, times: int) -> None:
        """Waits until this is on the screen so many times."""
        self._until(lambda rows: "\n".join(rows).count(text) == times, f"{text!r} {times} times")

    def shows_line(self, line: str, at: int) -> list[str]:
        """Waits until this is the row `at`; negative numbers count from below."""
        return self._until(lambda rows: rows[at] == line.rstrip(), f"{line!r} in row {at}")

    def shows_status(self, *texts: str) -> str:
        """Waits until the status line has all of these."""
        self._until(lambda rows: all(text in self.status for text in texts), f"{texts} in the status line")
        return self.status

    def shows_status_across(self, columns: int) -> None:
        """Waits until the status line is that wide: it is drawn in reverse video over its whole width."""
        self._until(lambda _: self._reversed() == columns, f"a status line of {columns} columns")

    def _reversed(self) -> int:
        """How many characters of the row above the input are in reverse video."""
        status = self.styled.rstrip("\n").split("\n")[-2]
        return sum(len(part) for part in re.findall(r"\x1b\[(?:\d+;)*7m([^\x1b]*)", status))

    def shows_last(self, line: str) -> list[str]:
        """Waits until this is the last row that is not blank, as the latest question is without a screen."""
        return self._until(lambda rows: [*filter(None, rows)][-1:] == [line], f"{line!r} at the end")

    def rings(self, times: int) -> None:
        """Waits until the bell was rung so many times in all."""
        self._until(lambda _: self._bells == times, f"{times} times the bell")

    def resize(self, columns: int, rows: int) -> None:
        """Gives the terminal another size."""
        self._call("resize-window", "-x", str(columns), "-y", str(rows))

    def ends(self) -> int:
        """Waits for the end of the program; returns its exit status, negative for a signal."""
        self._until(lambda _: any(self._end()), "the end")
        status, signal = self._end()
        return int(status or f"-{signal}")

    def _end(self) -> tuple[str, str]:
        """The exit status, or the signal that ended the program; both empty while it runs."""
        # tmux misses the end of a program now and then, until that of another one.
        self._call("run-shell", "true")
        ended = self._call("display-message", "-p", "#{pane_dead_status},#{pane_dead_signal}")
        status, _, signal = ended.strip().partition(",")
        return status, signal

    @property
    def rang(self) -> bool:
        """Whether the bell has rung."""
        self._drain(0.0)
        return self._bells > 0

    @property
    def alternate(self) -> bool:
        """Whether the program draws on the terminal's second screen, so that the first is kept."""
        return self._call("display-message", "-p", "#{alternate_on}").strip() == "1"

    @property
    def pid(self) -> int:
        """The program's process."""
        return int(self._call("display-message", "-p", "#{pane_pid}"))

    def _until(self, fits: Callable[[list[str]], bool], what: str) -> list[str]:
        """Looks again whenever something was written to the terminal."""
        deadline = time.monotonic() + PATIENCE
        while not fits(rows := self.rows):
            left = deadline - time.monotonic()
            assert left > 0, f"{what} is not on the screen:\n" + "\n".join(rows)
            # A program's end writes nothing: the screen is looked at once a second all the same.
            self._drain(min(left, 1.0))
        return rows

    def _unread(self) -> int:
        """Bytes that were typed and not read by the program yet."""
        try:
            keyboard = os.open(f"/proc/{self.pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:  # the program has ended
            return 0
        try:
            return int.from_bytes(fcntl.ioctl(keyboard, termios.FIONREAD, bytes(4)), sys.byteorder)
        finally:
            os.close(keyboard)

    def _drain(self, seconds: float) -> None:
        """Waits so long for something to be written to the terminal, and takes it away."""
        if select.select([self._output], [], [], seconds)[0]:
            self._bells += os.read(self._output, 1 << 20).count(b"\a")

    def _call(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout
