"""A captured terminal screen as SVG: text at its columns, in the colours that its escape sequences name.

Reads what tmux's `capture-pane -e` writes: characters and SGR sequences (ECMA-48, 8.3.117), nothing else.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN, BASELINE = 8.4, 18, 12, 14
"""A character cell, the space around the screen, and where in a cell letters stand, in pixels."""

INK, PAPER = "#d0d0d0", "#14181c"
BASIC = ("#000000", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5")
BRIGHT = ("#666666", "#f14c4c", "#23d18b", "#f5f543", "#3b8eea", "#d670d6", "#29b8db", "#ffffff")
CUBE = (0, 95, 135, 175, 215, 255)

_SGR = re.compile(r"\x1b\[([\d;]*)m")


@dataclass(frozen=True)
class Style:
    """How a character is drawn."""

    ink: str = INK
    paper: str = PAPER
    bold: bool = False
    italic: bool = False
    reverse: bool = False


def draw(rows: Iterable[str], columns: int, cursor: tuple[int, int]) -> str:
    """The whole picture; `cursor` is column and row."""
    drawn = [list(_characters(row)) for row in rows]
    x, y = cursor
    width, height = columns * WIDTH + 2 * MARGIN, len(drawn) * HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="14">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
        _box(x, y, 1, INK),
    ]
    for number, row in enumerate(drawn):
        at = 0
        for style, run in groupby(row, key=lambda cell: cell[1]):
            text = "".join(char for char, _ in run)
            parts += _run(text, style, at, number)
            at += len(text)
    return "\n".join([*parts, "</svg>", ""])


def _run(text: str, style: Style, column: int, row: int) -> Iterator[str]:
    ink, paper = (style.paper, style.ink) if style.reverse else (style.ink, style.paper)
    if paper != PAPER:
        yield _box(column, row, len(text), paper)
    start = len(text) - len(text.lstrip())
    said = text.strip()
    if said:
        look = ' font-weight="bold"' * style.bold + ' font-style="italic"' * style.italic
        x, y = MARGIN + (column + start) * WIDTH, MARGIN + row * HEIGHT + BASELINE
        yield (
            f'<text x="{x:g}" y="{y}" textLength="{len(said) * WIDTH:g}" fill="{ink}"{look} '
            f'xml:space="preserve">{escape(said)}</text>'
        )


def _box(column: int, row: int, columns: int, colour: str) -> str:
    return (
        f'<rect x="{MARGIN + column * WIDTH:g}" y="{MARGIN + row * HEIGHT}" '
        f'width="{columns * WIDTH:g}" height="{HEIGHT}" fill="{colour}"/>'
    )


def _characters(row: str) -> Iterator[tuple[str, Style]]:
    """Each character of the row with its style."""
    style = Style()
    for number, part in enumerate(_SGR.split(row)):
        if number % 2:
            style = _changed(style, [int(code or 0) for code in part.split(";")])
        else:
            yield from ((char, style) for char in part)


def _changed(style: Style, codes: list[int]) -> Style:
    """The style after one SGR sequence."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = Style()
        elif code in (38, 48) and codes[:1] == [5]:
            side = "ink" if code == 38 else "paper"
            style = replace(style, **{side: _of_256(codes[1])})  # type: ignore[arg-type]
            del codes[:2]
        elif code in _SIMPLE:
            style = replace(style, **_SIMPLE[code])  # type: ignore[arg-type]
    return style


def _of_256(number: int) -> str:
    """A colour of xterm's 256: the sixteen, a cube of 6 by 6 by 6, and greys."""
    if number < 16:
        return (*BASIC, *BRIGHT)[number]
    if number < 232:
        red, green, blue = (CUBE[(number - 16) // each % 6] for each in (36, 6, 1))
        return f"#{red:02x}{green:02x}{blue:02x}"
    grey = 8 + 10 * (number - 232)
    return f"#{grey:02x}{grey:02x}{grey:02x}"


_SIMPLE: dict[int, dict[str, str | bool]] = {
    1: {"bold": True},
    3: {"italic": True},
    7: {"reverse": True},
    22: {"bold": False},
    23: {"italic": False},
    27: {"reverse": False},
    39: {"ink": INK},
    49: {"paper": PAPER},
    **{30 + number: {"ink": colour} for number, colour in enumerate(BASIC)},
    **{40 + number: {"paper": colour} for number, colour in enumerate(BASIC)},
    **{90 + number: {"ink": colour} for number, colour in enumerate(BRIGHT)},
    **{100 + number: {"paper": colour} for number, colour in enumerate(BRIGHT)},
}
