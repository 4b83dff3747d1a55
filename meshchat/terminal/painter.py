"""Where everything stands on the screen: messages, the status line, the input, drawn for prompt_toolkit."""

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout import Container, Dimension, Window
from prompt_toolkit.layout.mouse_handlers import MouseHandlers
from prompt_toolkit.layout.screen import Char, WritePosition
from prompt_toolkit.layout.screen import Screen as Canvas

from meshchat.chat.render import safe
from meshchat.terminal.cells import Cell, Row, cells, characters, columns, fit, wrap
from meshchat.terminal.view import View

MAX_INPUT_ROWS = 5

ROWS_WITH_STATUS = 3
"""Rows of a terminal from which on one is for the status line: of two, the other is for messages."""

ROW_CLASSES = 251
"""Rows with doubtful widths are drawn whole or not at all: each has one of so many style classes, so that
all cells of a row that replaces another differ from those before. More than the rows of any terminal."""


class Drawn(Protocol):
    """What is drawn: the messages of `view`, and what is typed into `buffer` behind `prompt`."""

    view: View
    buffer: Buffer
    drawable: Callable[[str], str]
    prompt: str
    secret: bool

    def pending(self) -> list[str]:
        """The texts on their way to the current room."""

    def status(self, width: int) -> tuple[str, str]:
        """The status line, as wide as the terminal, and its style."""


class Painter(Container):
    """Draws the screen; `window` holds the keys' focus and draws nothing itself."""

    def __init__(self, drawn: Drawn, window: Window) -> None:
        self._drawn = drawn
        self._window = window
        self._row_class = 0
        self._classes: dict[tuple[Cell, ...], int] = {}

    def reset(self) -> None:
        """Nothing is kept between runs."""

    def preferred_width(self, max_available_width: int) -> Dimension:
        """All there is."""
        return Dimension(preferred=max_available_width)

    def preferred_height(self, width: int, max_available_height: int) -> Dimension:
        """All there is."""
        return Dimension(preferred=max_available_height)

    def get_children(self) -> list[Container]:
        """The window whose buffer the keys go to."""
        return [self._window]

    def write_to_screen(
        self,
        screen: Canvas,
        mouse_handlers: MouseHandlers,
        write_position: WritePosition,
        parent_style: str,
        erase_bg: bool,
        z_index: int | None,
    ) -> None:
        """Draws everything into the rows of `screen`."""
        width, height = write_position.width, write_position.height
        # The last column stays free: behind it terminals differ about where the cursor is.
        inner = max(width - 1, 1)
        typed, cursor = self._input(inner, max(min(MAX_INPUT_ROWS, height - 2), 1))
        below = [*([self._status(inner)] if height >= ROWS_WITH_STATUS else []), *typed]
        rows = self._drawn.view.rows(inner, max(height - len(below), 0), self._drawn.pending())
        for y, row in enumerate([*rows, *below][-height:]):
            self._draw(screen, y, row)
        screen.height, screen.width = height, width
        screen.set_cursor_position(self._window, Point(cursor.x, height - len(typed) + cursor.y))
        screen.show_cursor = True
        screen.visible_windows_to_write_positions[self._window] = write_position

    def _status(self, width: int) -> Row:
        text, style = self._drawn.status(width)
        status = fit(cells(self._drawn.drawable(text), style), width)
        return status + [Cell(" ", 1, style)] * (width - columns(status))

    def _input(self, width: int, most: int) -> tuple[list[Row], Point]:
        """The rows of the input, the cursor's among them, and where in them it is."""
        buffer = self._drawn.buffer
        rows = wrap(cells(self._drawn.drawable(safe(self._drawn.prompt or "> ")), "bold"), width)
        x = columns(rows[-1])
        at, cursor = 0, Point(x, len(rows) - 1)
        for cluster in characters("" if self._drawn.secret else buffer.text):
            if at == buffer.cursor_position:
                cursor = Point(x, len(rows) - 1)
            at += len(cluster)
            if cluster == "\n":
                rows.append([])
                x = 0
                continue
            for cell in cells(self._drawn.drawable(safe(cluster))):
                if x + cell.width > width:
                    rows.append([])
                    x = 0
                rows[-1].append(cell)
                x += cell.width
        if at <= buffer.cursor_position and not self._drawn.secret:
            if x >= width:
                rows.append([])
                x = 0
            cursor = Point(x, len(rows) - 1)
        first = max(cursor.y - most + 1, 0) if len(rows) > most else 0
        return rows[first : first + most], Point(cursor.x, cursor.y - first)

    def _draw(self, screen: Canvas, y: int, row: Row) -> None:
        line: defaultdict[int, Char] = screen.data_buffer[y]
        escapes = screen.zero_width_escapes[y]
        suffix = self._class_of(row) if any(cell.doubtful for cell in row) else ""
        x, doubtful = 0, False
        for cell in row:
            if cell.doubtful:
                # Should the terminal make it narrower, nothing of what was there before shows behind it.
                escapes[x] = f"\x1b[{x + 1}G{' ' * cell.width}\x1b[{x + 1}G"
            elif doubtful:
                escapes[x] = f"\x1b[{x + 1}G"
            line[x] = _char(cell.text, cell.width, cell.style + suffix)
            x, doubtful = x + cell.width, cell.doubtful
        if doubtful:
            # prompt_toolkit takes the empty cell for one column, so the blank there is drawn along.
            escapes[x] = f"\x1b[{x + 1}G "
            line[x] = _char("", 0, suffix)

    def _class_of(self, row: Row) -> str:
        """A style class of the row's own, which has no style."""
        key = tuple(row)
        number = self._classes.pop(key, None)
        if number is None:
            self._row_class = number = (self._row_class + 1) % ROW_CLASSES
        self._classes[key] = number
        if len(self._classes) > ROW_CLASSES:
            del self._classes[next(iter(self._classes))]
        return f" class:row{number}"


def _char(text: str, width: int, style: str) -> Char:
    char = Char("", style)
    char.char, char.width = text, width
    return char
