"""What a terminal shows: the few controls that the login uses, on a screen of any width."""

import re
import unicodedata

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([@-~])|(.)", re.DOTALL)


class Screen:
    """Rows of cells, never scrolled away, as an xterm of `width` columns shows them."""

    def __init__(self, width: int = 80) -> None:
        self.width = width
        self._rows: list[list[str]] = [[]]
        self._column = 0

    @classmethod
    def of(cls, written: str, width: int = 80) -> "Screen":
        """The screen after this was written to it."""
        screen = cls(width)
        screen.write(written)
        return screen

    @property
    def rows(self) -> list[str]:
        """The rows from the top, the cursor's last."""
        return ["".join(row).rstrip() for row in self._rows]

    @property
    def text(self) -> str:
        """The rows, and a newline after each."""
        return "".join(f"{row}\n" for row in self.rows)

    def write(self, written: str) -> None:
        """Shows `written`; fails at a control that nothing here should send."""
        for parameters, final, char in _TOKEN.findall(written):
            if final:
                self._control(parameters + final)
            elif char == "\n":
                self._rows.append([])
                self._column = 0
            elif char == "\r":
                self._column = 0
            else:
                self._put(char)

    def _control(self, sequence: str) -> None:
        if sequence == "K":
            del self._rows[-1][self._column :]
        elif sequence == "2J":
            self._rows = [[]]
        else:
            assert sequence == "H", sequence
            self._column = 0

    def _put(self, char: str) -> None:
        assert char.isprintable() or char == "\u200d", ascii(char)
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            self._rows[-1][self._column - 1] += char
            return
        cells = [char, ""] if unicodedata.east_asian_width(char) in "WF" else [char]
        if self._column + len(cells) > self.width:
            self._rows.append([])
            self._column = 0
        row = self._rows[-1]
        row[self._column : self._column + len(cells)] = cells
        self._column += len(cells)
