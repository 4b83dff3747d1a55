"""The line that somebody types, without a terminal: bytes go in; finished lines and what to draw come out.

It stands in one row of the screen, the cursor at its end; of a line that is longer the end is shown. So it
can be taken away and drawn again around whatever else is shown. (Widths: UAX #11; keys and sequences:
ECMA-48.)
"""

import codecs
import enum
import unicodedata
from collections import deque
from collections.abc import Callable

from meshchat.chat.render import safe
from meshchat.terminal.front import Leave
from meshchat.terminal.widths import char_columns, columns

MAX_TYPED = 64 * 1024
"""Characters kept of one line; what follows is dropped. Eight times what a message may have, so that a line
which lost something is always refused."""

ERASE_ROW = "\r\x1b[K"
CLEAR_SCREEN = "\x1b[H\x1b[2J"

CUT_MARK = "<"
"""Stands for the beginning of a line that is longer than the row."""

_MIN_WIDTH = 4

_ENTER, _INTERRUPT, _END = "\r\n", "\x03", "\x04"
_BACKSPACE, _KILL_LINE, _KILL_WORD, _CLEAR, _ESCAPE = "\x08\x7f", "\x15", "\x17", "\x0c", "\x1b"


def tail(text: str, width: int, cut: bool = False) -> str:
    """`text`, or as much of its end as fits `width` columns after the mark of a cut.

    With `cut`, more text went before it.
    """
    if not cut and columns(text) <= width:
        return text
    start, room = len(text), width - len(CUT_MARK)
    while start and (room := room - char_columns(text[start - 1])) >= 0:
        start -= 1
    while start < len(text) and not char_columns(text[start]):
        start += 1
    return CUT_MARK + text[start:]


class _Escape(enum.Enum):
    """How much of the sequence that an arrow or function key sends was read."""

    NONE = enum.auto()
    BEGUN = enum.auto()
    """ESC; on its own it is a key without a meaning."""
    PARAMETERS = enum.auto()
    """ESC [ and its parameters: the next character from @ to ~ ends it."""
    LAST = enum.auto()
    """ESC O, or ESC [ [ of the Linux console: one more character."""


class Editor:
    """Edits one line at a time. What was typed ahead of a question waits, and is not drawn before it.

    `encoding` is the terminal's; `shown` turns what was typed into what may be drawn.
    """

    def __init__(self, encoding: str = "utf-8", shown: Callable[[str], str] = safe) -> None:
        # What is no text of the encoding becomes surrogates, which the client refuses to send.
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._shown = shown
        self._waiting: deque[str] = deque()
        self._typed: list[str] = []
        self._escape = _Escape.NONE
        self._prompt = ""
        self._secret = False
        self._drawn = ""
        self._clear = False

    def ask(self, prompt: str = "", secret: bool = False) -> None:
        """The next line answers `prompt`; nothing of a `secret` one is drawn."""
        self._prompt, self._secret = prompt, secret

    def feed(self, data: bytes) -> None:
        """Takes what the terminal sent, which may end within a character or a sequence."""
        self._waiting.extend(self._decoder.decode(data))

    @property
    def waiting(self) -> int:
        """Characters that were fed and not looked at yet."""
        return len(self._waiting)

    def hand_over(self) -> str:
        """What was fed and not made a line of; it is forgotten here."""
        typed = "".join((*self._typed, *self._waiting))
        self._typed.clear()
        self._waiting.clear()
        return typed

    def next_line(self) -> str | None:
        """Edits with what was fed: the next finished line, or None where all of it is used up.

        Raises `Leave` at a Ctrl-C, or a Ctrl-D on an empty line.
        """
        while self._waiting:
            char = self._waiting.popleft()
            if self._in_sequence(char):
                continue
            if char in _ENTER:
                line = "".join(self._typed)
                self._typed.clear()
                return line
            self._edit(char)
        return None

    def draw(self, width: int) -> str:
        """What to write for the row of a terminal of `width` columns to show prompt and line."""
        # The last column stays free: behind it terminals differ about where the cursor is.
        row = self._row(max(width - 1, _MIN_WIDTH))
        if self._clear:
            self._clear, self._drawn = False, ""
            return CLEAR_SCREEN + self._replace(row)
        return self._replace(row)

    def finish(self, line: str) -> str:
        """What to write for the whole of a finished line to stay on the screen, the cursor below it."""
        written = self._replace(self._prompt + ("" if self._secret else self._shown(line))) + "\n"
        self._drawn = ""
        return written

    def erase(self) -> str:
        """What to write for the row to be empty, so that something else can be shown there."""
        erased = ERASE_ROW if self._drawn else ""
        self._drawn = ""
        return erased

    def abandon(self) -> str:
        """What to write to leave the row as it is and go on below it."""
        below = "\n" if self._drawn else ""
        self._drawn = ""
        return below

    def _row(self, width: int) -> str:
        if self._secret:
            return tail(self._prompt, width)
        # Of a long line only what can matter is looked at: each key costs the same.
        end = self._typed[-4 * width :]
        if len(end) < len(self._typed):
            return tail(self._shown("".join(end)), width, cut=True)
        return tail(self._prompt + self._shown("".join(end)), width)

    def _replace(self, row: str) -> str:
        before, self._drawn = self._drawn, row
        if row.startswith(before):
            return row[len(before) :]
        return ERASE_ROW + row

    def _edit(self, char: str) -> None:
        if char == _INTERRUPT or (char == _END and not self._typed):
            raise Leave
        if char in _BACKSPACE:
            self._delete_character()
        elif char == _KILL_LINE:
            self._typed.clear()
        elif char == _KILL_WORD:
            self._delete_word()
        elif char == _CLEAR:
            self._clear = True
        elif (char == "\t" or unicodedata.category(char) != "Cc") and len(self._typed) < MAX_TYPED:
            self._typed.append(char)

    def _delete_character(self) -> None:
        """The last one with the marks that stand on it."""
        while self._typed and not char_columns(self._typed.pop()):
            pass

    def _delete_word(self) -> None:
        while self._typed and self._typed[-1].isspace():
            self._typed.pop()
        while self._typed and not self._typed[-1].isspace():
            self._typed.pop()

    def _in_sequence(self, char: str) -> bool:
        """Whether `char` belongs to an escape sequence, all of which are swallowed."""
        before, self._escape = self._escape, _Escape.NONE
        if char == _ESCAPE:
            self._escape = _Escape.BEGUN
            return True
        if before is _Escape.BEGUN and char in "[O":
            self._escape = _Escape.PARAMETERS if char == "[" else _Escape.LAST
            return True
        if before is _Escape.PARAMETERS and " " <= char <= "~":
            if char < "@":
                self._escape = _Escape.PARAMETERS
            elif char == "[":
                self._escape = _Escape.LAST
            return True
        return before is _Escape.LAST and " " <= char <= "~"
