"""The messages of a room as rows of cells, and which of them are in view.

Only what is in view is laid out, and what was laid out is kept until something about it changes.
"""

import datetime
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshchat.chat.localtime import Zone
from meshchat.chat.render import ACTION, safe
from meshchat.client.messages import Entry, Message, Notice
from meshchat.client.model import Model
from meshchat.client.rooms import Room
from meshchat.terminal.cells import Row, cells, columns, wrap
from meshchat.terminal.days import NEW, clock, day_line
from meshchat.terminal.navigation import search
from meshchat.terminal.palette import style_of

KEPT_LAYOUTS = 120
"""Messages whose rows are kept, 4 KB each: about what a large terminal shows, so that a redraw lays out only
what is new."""

INDENT = 6
"""Columns before the further rows of a message whose own beginning is too long to hang them below."""


@dataclass(frozen=True)
class Look:
    """What the terminal can show: its encoding as a filter of text, 256 colours, signs beyond ASCII."""

    drawable: Callable[[str], str]
    many_colours: bool
    unicode: bool


@dataclass(frozen=True)
class _Position:
    """The lowest row in view: the first `rows` rows of this entry end there."""

    entry: Entry
    rows: int


class View:
    """The rows of the current room of `model`; `at_end` unless the person has scrolled back."""

    def __init__(self, model: Model, zone: Zone, look: Look) -> None:
        self._model = model
        self._zone = zone
        self._look = look
        self._bottom: _Position | None = None
        self._room: Room | None = None
        self._layouts: OrderedDict[Entry, tuple[tuple[object, ...], list[Row]]] = OrderedDict()
        self._width, self._height = 80, 24
        self._search = ""
        self._found: Message | None = None

    @property
    def at_end(self) -> bool:
        """Whether the latest messages are in view."""
        return self._bottom is None

    @property
    def at_top(self) -> bool:
        """Whether the oldest loaded message is in view."""
        entries = self._entries()
        return len(list(self._upwards(entries, self._height + 1))) <= self._height

    def rows(self, width: int, height: int, pending: list[str]) -> list[Row]:
        """What fills `height` rows, top first; `pending` are own texts on their way, shown at the end."""
        self._width, self._height = width, height
        if self._room is not self._model.current:
            self._room, self._bottom, self._found = self._model.current, None, None
        entries = self._entries()
        if self._bottom and not self._fills(entries, height):
            # What was in view, or above it, was too old to be kept, or wiped.
            self._bottom = None
            if entries:
                self._show_at_top(entries, entries[0])
        shown: list[Row] = []
        if self._bottom is None:
            for text in pending[-height:]:
                shown += self._pending(text)
            shown.reverse()
        for _, _, row in self._upwards(entries, height - len(shown)):
            shown.append(row)
        del shown[height:]
        shown.reverse()
        return [[] for _ in range(height - len(shown))] + shown

    def _fills(self, entries: list[Entry], height: int) -> bool:
        """Whether what is looked back at is still there, with as many rows above it as there is room for."""
        assert self._bottom
        return self._bottom.entry in entries and len(list(self._upwards(entries, height))) == height

    # --- Scrolling --------------------------------------------------------------------------------------

    def scroll(self, rows: int) -> None:
        """Moves what is in view by so many rows, back for a positive number; stops at both ends."""
        entries = self._entries()
        if rows > 0:
            above = list(self._upwards(entries, self._height + rows))
            excess = len(above) - self._height
            if excess > 0:
                entry, number, _ = above[min(rows, excess)]
                self._set(entries, entry, number)
        elif self._bottom:
            below = self._downwards(entries)
            for _ in range(-rows):
                step = next(below, None)
                if step is None:
                    self._bottom = None
                    return
                self._set(entries, *step)

    def to_top(self) -> None:
        """Goes to the oldest message that is loaded."""
        entries = self._entries()
        if entries:
            self._show_at_top(entries, entries[0])

    def to_end(self) -> None:
        """Goes to the latest messages, and ends a search."""
        self._bottom, self._found = None, None
        self._search = ""

    def show_from(self, entry: Entry) -> None:
        """Brings the entry into view, at the top where enough comes after it."""
        entries = self._entries()
        if entry in entries:
            self._show_at_top(entries, entry)

    def search(self, text: str, *, newer: bool = False) -> bool:
        """Goes to the newest message with `text`; with no text, from there to the next older or newer one."""
        if text:
            self._search, self._found = text, None
        if not self._search:
            return False
        found = search(self._model, self._search, self._found, newer=newer)
        if found is None:
            return False
        self._found = found
        entries = self._entries()
        self._show_at_top(entries, entries[max(entries.index(found) - 2, 0)])
        return True

    def _show_at_top(self, entries: list[Entry], entry: Entry) -> None:
        self._bottom = _Position(entry, 1)
        below = self._downwards(entries)
        for _ in range(self._height - 1):
            step = next(below, None)
            if step is None:
                self._bottom = None
                return
            self._bottom = _Position(*step)

    def _set(self, entries: list[Entry], entry: Entry, rows: int) -> None:
        last = entry is entries[-1] and rows >= len(self._block(entries, len(entries) - 1))
        self._bottom = None if last else _Position(entry, rows)

    def _upwards(self, entries: list[Entry], most: int) -> Iterator[tuple[Entry, int, Row]]:
        """Rows from the lowest in view upwards, each with its entry and its number in it, from 1."""
        if not entries:
            return
        if self._bottom and self._bottom.entry in entries:
            at, rows = entries.index(self._bottom.entry), self._bottom.rows
        else:
            at, rows = len(entries) - 1, None
        while at >= 0:
            block = self._block(entries, at)
            for number in range(min(rows or len(block), len(block)), 0, -1):
                if most <= 0:
                    return
                most -= 1
                yield entries[at], number, block[number - 1]
            at, rows = at - 1, None

    def _downwards(self, entries: list[Entry]) -> Iterator[tuple[Entry, int]]:
        """The positions below the lowest row in view."""
        if self._bottom is None:
            return
        at, rows = entries.index(self._bottom.entry), self._bottom.rows
        while at < len(entries):
            for number in range(rows + 1, len(self._block(entries, at)) + 1):
                yield entries[at], number
            at, rows = at + 1, 0

    # --- Laying out -------------------------------------------------------------------------------------

    def _entries(self) -> list[Entry]:
        room = self._model.current
        return [entry for entry in room.entries if self._model.visible(entry)] if room else []

    def _block(self, entries: list[Entry], at: int) -> list[Row]:
        """The rows of an entry: its day where that is a new one, the line above what is new, itself."""
        entry = entries[at]
        if isinstance(entry, Notice):
            return self._laid_out(entry)
        room = self._model.current
        above: list[str] = []
        day = self._zone.local(entry.ms)
        if day.date() != self._day_before(entries, at):
            above.append(day_line(day))
        if room and entry is room.new_from:
            above.append(NEW)
        heads = [cells(self._look.drawable(line), "class:line") for line in above]
        return heads + self._laid_out(entry)

    def _day_before(self, entries: list[Entry], at: int) -> datetime.date | None:
        for before in range(at - 1, -1, -1):
            if isinstance(entry := entries[before], Message):
                return self._zone.local(entry.ms).date()
        return None

    def _laid_out(self, entry: Entry) -> list[Row]:
        if isinstance(entry, Message):
            state: tuple[object, ...] = (
                self._width,
                self._model.name(entry),
                self._model.times,
                entry.held,
                self._search,
                entry is self._found,
            )
        else:
            state = (self._width, entry.text)
        known = self._layouts.get(entry)
        if known and known[0] == state:
            return known[1]
        rows = self._message(entry) if isinstance(entry, Message) else self._notice(entry.text)
        self._layouts[entry] = state, rows
        self._layouts.move_to_end(entry)
        if len(self._layouts) > KEPT_LAYOUTS:
            self._layouts.popitem(last=False)
        return rows

    def _notice(self, text: str) -> list[Row]:
        return wrap(cells(self._look.drawable(safe(text)), "class:notice"), self._width, indent=2)

    def _pending(self, text: str) -> list[Row]:
        time = " " * INDENT if self._model.times else ""
        return self._paragraphs(
            cells(time) + self._beginning(self._model.user, self._model.key, text, mention=False),
            text,
            "class:pending",
        )

    def _message(self, message: Message) -> list[Row]:
        head = self._beginning(self._model.name(message), message.key, message.text, mention=message.names_me)
        if self._model.times:
            style = "class:found" if message is self._found else "class:time"
            time = clock(message.ms, self._zone, unknown=message.unknown)
            head = cells(f"{time:>5}", style) + cells(" ") + head
        rows = self._paragraphs(head, message.text, "class:mention" if message.names_me else "")
        if message.held is not None:
            mark = cells(self._mark(message.held), "class:mark")
            if columns(rows[-1]) + columns(mark) > self._width:
                rows.append(cells(" " * INDENT))
            rows[-1] = rows[-1] + mark
        return rows

    def _mark(self, held: int) -> str:
        """Stored here, or held by so many neighbours as well: never more than is known."""
        if not held:
            return " ."
        return f" \u2713{held}" if self._look.unicode else f" +{held}"

    def _beginning(self, user: str, key: str, text: str, *, mention: bool) -> Row:
        style = style_of(key, many=self._look.many_colours) + (" reverse" if mention else " bold")
        name = cells(self._look.drawable(safe(user)), style)
        return cells("* ") + name + cells(" ") if text.startswith(ACTION) else name + cells(": ")

    def _paragraphs(self, head: Row, text: str, style: str) -> list[Row]:
        """The rows of a text below its beginning, one or more for each line of it."""
        said = text.removeprefix(ACTION)
        first = columns(head)
        indent = first if first <= self._width // 3 else min(INDENT, self._width // 4)
        rows: list[Row] = []
        for line in said.split("\n"):
            drawn = self._highlighted(self._look.drawable(safe(line)), style)
            if not rows:
                rows = wrap(head + drawn, self._width, indent=indent)
            else:
                rows += wrap(cells(" " * indent) + drawn, self._width, indent=indent)
        return rows

    def _highlighted(self, text: str, style: str) -> Row:
        """The text with each match of what is searched for standing out."""
        if not self._search:
            return cells(text, style)
        row: Row = []
        end = 0
        for match in re.finditer(re.escape(self._search), text, re.IGNORECASE):
            row += cells(text[end : match.start()], style) + cells(match.group(), "class:found")
            end = match.end()
        return row + cells(text[end:], style)
