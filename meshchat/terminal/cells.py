"""Text in the cells of a terminal: what belongs together, how wide it is, where a line is broken.

Terminals disagree about the width of emoji that are joined, of flags and of emoji forms; so whoever draws a
cell behind such a cluster says its column first (`Cell.doubtful`). (Clusters: UAX #29, as far as chat needs
it; widths: UAX #11 by wcwidth.)
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prompt_toolkit.utils import get_cwidth

from meshchat.chat.render import EMOJI_FORM, is_new_pictograph

MAX_CLUSTER = 12
"""Code points drawn in one cell: the longest emoji have 10; what a stranger stacks on top of that is cut."""

_ZWJ = "\u200d"
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)


class Cell(NamedTuple):
    """A cluster in its style; `width` is 1 or 2."""

    text: str
    width: int
    style: str = ""

    @property
    def doubtful(self) -> bool:
        """Whether terminals may give it another width."""
        return self.width != 1 or len(self.text) != 1


Row = list[Cell]


def clusters(text: str) -> Iterator[tuple[str, int]]:
    """What of `text` stands in a cell each, with its width."""
    at = 0
    while at < len(text):
        start, width = at, 2 if is_new_pictograph(text[at]) else get_cwidth(text[at])
        flag = ord(text[at]) in _FLAG_LETTERS
        at += 1
        if flag and at < len(text) and ord(text[at]) in _FLAG_LETTERS:
            at, width = at + 1, 2
        while at < len(text) and (extends(text[at]) or text[at - 1] == _ZWJ):
            if text[at] == EMOJI_FORM:
                width = 2
            at += 1
        if width == 0 and extends(text[start]):  # a mark with nothing to stand on
            yield " " + text[start:at], 1
        else:
            yield text[start:at], max(width, 1)


def characters(text: str) -> list[str]:
    """The characters of the text, as people see them."""
    return [cluster for cluster, _ in clusters(text)]


def extends(char: str) -> bool:
    """Whether the character stands in the cell of the one before it."""
    nothing = get_cwidth(char) == 0 and unicodedata.category(char) != "Cc" and not is_new_pictograph(char)
    return nothing or ord(char) in _SKIN_TONES


def cells(text: str, style: str = "") -> Row:
    """The text, which has to be safe, in cells."""
    return [
        # Cut behind a joiner, it would take in the cell after it.
        Cell(cluster[:MAX_CLUSTER].rstrip(_ZWJ), width, style)
        for cluster, width in clusters(text)
    ]


def columns(row: Iterable[Cell]) -> int:
    """Columns that the cells take."""
    return sum(cell.width for cell in row)


def fit(row: Row, width: int) -> Row:
    """As much of the row as fits into `width` columns."""
    fitting: Row = []
    for cell in row:
        if (width := width - cell.width) < 0:
            break
        fitting.append(cell)
    return fitting


def wrap(row: Row, width: int, indent: int = 0) -> list[Row]:
    """The cells in rows of `width` columns, broken at spaces, or anywhere in a word that is too long.

    All rows but the first begin with `indent` blank columns.
    """
    blank = [Cell(" ", 1)] * indent
    rows: list[Row] = [[]]
    room = width
    for word in _words(row):
        taken = columns(word)
        visible = taken - 1 if word[-1].text == " " else taken
        if visible > room and visible <= width - indent:
            rows.append([*blank])
            room = width - indent
        for cell in word:
            if cell.width > room:
                if cell.text == " ":  # a space at the break is the break
                    continue
                rows.append([*blank])
                room = width - indent
            rows[-1].append(cell)
            room -= cell.width
    return rows


def _words(row: Row) -> Iterator[Row]:
    """The pieces between which a row may be broken: words with the space after them, wide characters."""
    word: Row = []
    for cell in row:
        word.append(cell)
        if cell.text == " " or cell.width == 2:
            yield word
            word = []
    if word:
        yield word
