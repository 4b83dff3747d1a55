"""The terminal's settings while lines are edited here: each key comes at once, and none is echoed."""

import contextlib
import os
import signal
import sys
import termios
from types import FrameType
from typing import Self

DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end the process at once; Ctrl-C unwinds it by itself."""

_LOCAL = 3
"""Where `tcgetattr` has the flags that matter here."""


def can_edit() -> bool:
    """Whether there is a terminal on both sides that knows how to erase a line."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Keyboard:
    """Standard input key by key, in a `with` statement; however that is left, the settings are as before.

    Ctrl-C, Ctrl-\\ and Ctrl-Z still send their signals (termios(3), ISIG).
    """

    def __init__(self) -> None:
        self.farewell = b""
        """What has to be written for the terminal to be as it was, should a signal end the process."""
        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)

    def __enter__(self) -> Self:
        for number in DEADLY:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._die)
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        for number in DEADLY:
            if signal.getsignal(number) == self._die:
                signal.signal(number, signal.SIG_DFL)

    def take(self) -> None:
        """Has each key handed over, silently. What was typed before is not lost."""
        settings = termios.tcgetattr(self._file)
        settings[_LOCAL] &= ~(termios.ICANON | termios.ECHO)
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._file, termios.TCSANOW, settings)

    def give_back(self) -> None:
        """The settings as they were found."""
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(self._file, termios.TCSANOW, self._before)

    def _die(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            os.write(sys.stdout.fileno(), self.farewell)
        self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
