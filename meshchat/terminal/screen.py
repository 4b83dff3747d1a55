"""The full screen: messages above, one line of status, the input below, drawn by prompt_toolkit.

prompt_toolkit reads the keys, edits the line and writes what has changed; where everything stands, and in
which columns, is decided in `painter.py`. Only this module and what it imports of `cells.py`, `painter.py`,
`statusline.py` and `view.py` need it, and it is imported only when there is a terminal for it.
"""

import asyncio
import locale
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Self

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import BufferControl, Layout, Window
from prompt_toolkit.styles import Style

from meshchat.chat.localtime import Zone
from meshchat.chat.render import safe
from meshchat.client.messages import Message, Notice
from meshchat.client.rooms import Room
from meshchat.constants import MAX_TEXT
from meshchat.errors import MeshchatError
from meshchat.terminal import statusline
from meshchat.terminal.cells import characters
from meshchat.terminal.commands import complete
from meshchat.terminal.conversation import Conversation
from meshchat.terminal.days import clock
from meshchat.terminal.front import Leave, NotAnswered
from meshchat.terminal.keyboard import Keyboard
from meshchat.terminal.navigation import neighbour
from meshchat.terminal.painter import Painter
from meshchat.terminal.palette import has_256
from meshchat.terminal.pasting import PasteWatch
from meshchat.terminal.view import Look, View

REDRAW_S = 0.05
"""Shortest time between two redraws: a flood of messages is drawn 20 times a second, a key at once."""

MAX_INPUT = 4 * MAX_TEXT
"""Characters that a paste may fill the input with: all of it is laid out at every key."""

MAX_TYPED = 100
"""Lines that Up brings back, and lines that wait before no more are taken from the input."""

LOOK_BACK = 200
"""Older messages asked for when the oldest loaded one is in view and the person goes on back."""

LATE_ENTRIES = 10
"""A message that comes in above so many others may be out of sight: routers that meet again bring such."""

KEYS = (
    "PageUp and PageDown leaf back and forth, Home and End go to the oldest message and back to the latest.",
    "Alt-1 to Alt-9 go to a room, Ctrl-N and Ctrl-P to the next one that is open or has news.",
    "Tab completes commands, rooms and users. Up and Down bring back what you typed before.",
    "Alt-Enter begins another line of the same message; a paste of several lines is one message, too.",
    "Ctrl-R goes to the next older message found by /search, Ctrl-S to the next newer one.",
    "Ctrl-C drops what you have typed; on an empty line it leaves, and so does Ctrl-D.",
    "Below the messages: your room, who else is here, the mesh, and [2: 3!] for 3 new messages in room 2,",
    "with ! if one names you. A ~ before a time: no good clock stands for it.",
)
MARKS = "Behind your own message: nothing at first, . once it is stored here, {} if 2 neighbours hold it too."

STYLE = Style.from_dict(
    {
        "status": "reverse",
        "warning": "reverse bold",
        "line": "bold",
        "found": "reverse",
        "mention": "bold",
        "pending": "italic",
    }
)


class Screen:
    """`Front` on a whole terminal, in an `async with` statement. `typed_ahead` is put into its input."""

    def __init__(self, conversation: Conversation, zone: Zone, keyboard: Keyboard, typed_ahead: str) -> None:
        self._conversation = conversation
        self._model = conversation.model
        self._keyboard = keyboard
        encoding = sys.stdout.encoding
        self._unicode = locale.nl_langinfo(locale.CODESET).upper() == "UTF-8"
        look = Look(
            drawable=lambda text: text.encode(encoding, "backslashreplace").decode(encoding),
            many_colours=has_256(os.environ),
            unicode=self._unicode,
        )
        self.view = View(self._model, zone, look)
        self.drawable = look.drawable
        self._zone = zone
        self._late: Notice | None = None
        self._late_since = self._late_count = 0
        self.buffer = Buffer(multiline=True, on_text_changed=self._edited)
        self._typed: deque[str] = deque(maxlen=MAX_TYPED)
        self._recalled = 0
        """How far Up has gone back in what was typed."""
        self.prompt = ""
        self.secret = False
        self.choices: list[str] = []
        """What Tab offers, for as long as nothing else is typed."""
        self._choice = 0
        self._completed: tuple[Document, int] | None = None
        self._completing = False
        self._lines: asyncio.Queue[str | type[Exception]] = asyncio.Queue()
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._bindings(),
            style=STYLE,
            full_screen=True,
            erase_when_done=True,
            min_redraw_interval=REDRAW_S,
            max_render_postpone_time=None,
            terminal_size_polling_interval=None,
            enable_page_navigation_bindings=False,
        )
        self._app.ttimeoutlen = 0.05
        self._watch = PasteWatch(time.monotonic)
        self._app.key_processor.before_key_press += lambda keys: self._watch.key(len(keys.input_queue))
        self._is_pasted = False
        """Whether line ends in the input came with a paste, and nobody has seen it through yet."""
        self._running: asyncio.Task[None] | None = None
        self._looking_back: asyncio.Task[None] | None = None
        *lines, rest = typed_ahead.replace("\r", "\n").split("\n")
        for line in lines:
            self._lines.put_nowait(line)
        self.buffer.insert_text(rest)

    async def __aenter__(self) -> Self:
        self._keyboard.farewell = b"\x1b[?2004l\x1b[?1049l\x1b[0m\x1b[?25h"
        self._running = asyncio.create_task(self._app.run_async(set_exception_handler=False))
        self._running.add_done_callback(lambda _: self._lines.put_nowait(Leave))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking_back:
            self._looking_back.cancel()
        if self._app.is_running:
            self._app.exit()
        if self._running:
            await asyncio.wait([self._running])
            error = self._running.exception()
            if error and not isinstance(error, EOFError):
                raise error
        self._keyboard.farewell = b""

    # --- Front ------------------------------------------------------------------------------------------

    @property
    def attended(self) -> bool:
        """There is a person."""
        return True

    @property
    def echoes(self) -> bool:
        """What was typed leaves the input; it is shown again among the messages."""
        return False

    @property
    def keys(self) -> tuple[str, ...]:
        """What `/help` says of the keys and the marks."""
        return (*KEYS, MARKS.format("\u27132" if self._unicode else "+2"))

    async def line(self) -> str:
        """The next line typed; raises `Leave`."""
        line = await self._lines.get()
        if not isinstance(line, str):
            raise Leave
        return line

    async def ask(self, question: str) -> str:
        """Shows `question` before the input; raises `NotAnswered` after Ctrl-C."""
        return (await self._answer(question, secret=False)).strip()

    async def ask_secret(self, question: str) -> str:
        """The same, with nothing shown of what is typed."""
        return await self._answer(question, secret=True)

    async def _answer(self, question: str, *, secret: bool) -> str:
        self.prompt, self.secret = question + " ", secret
        self.changed()
        try:
            line = await self._lines.get()
            if isinstance(line, str):
                return line
            raise line
        finally:
            self.prompt, self.secret = "", False
            self.changed()

    def show(self, text: str) -> None:
        """Shows a line of the program's own among the messages."""
        self._model.notice(text)
        self.changed()

    def show_lines(self, lines: list[str]) -> None:
        """Shows the lines among the messages; of more than the screen holds the first are in view."""
        notices = [notice for line in lines if (notice := self._model.notice(line))]
        self.view.to_end()
        if notices:
            self.view.show_from(notices[0])
        self._moved()

    def enter(self, room: Room) -> None:
        """The room is in the model; it only has to be drawn."""
        self._moved()

    def add(self, message: Message) -> None:
        """The message is in the model, at its time; of one that is out of sight there the person is told."""
        room = self._model.current
        if room and room.since(message.ms) < len(room.entries) - LATE_ENTRIES:
            self._tell_late(room, message.ms)
        self.changed()

    def _tell_late(self, room: Room, ms: int) -> None:
        if self._late is None or room.entries[-1] is not self._late:
            self._late, self._late_since, self._late_count = Notice("", room.last_ms()), ms, 0
            room.add(self._late)
        self._late_since, self._late_count = min(ms, self._late_since), self._late_count + 1
        first = clock(self._late_since, self._zone, unknown=False)
        many = (
            "1 message came late and stands"
            if self._late_count == 1
            else (f"{self._late_count} messages came late and stand")
        )
        self._late.text = f"* {many} further up, from {first} on: PageUp"

    def show_found(self, title: str, messages: list[Message]) -> None:
        """Scrolls back to the first of the messages."""
        if messages:
            self.view.show_from(messages[0])
            self._moved()
        else:
            self.show(f"There is no {title}.")

    def mentioned(self, message: Message) -> None:
        """The status line shows it."""
        self.changed()

    def search(self, text: str) -> bool:
        """Scrolls to the next message that holds the text."""
        found = self.view.search(text)
        self._moved()
        return found

    def changed(self) -> None:
        """Draws the screen again, soon."""
        self._app.invalidate()

    def put_back(self, text: str) -> bool:
        """Puts the text into the input for editing, if that is empty."""
        if self.buffer.text or self.prompt:
            return False
        self.buffer.insert_text(text)
        return True

    def ring(self) -> None:
        """Rings the terminal's bell."""
        self._app.output.bell()
        self._app.output.flush()

    # --- What the painter needs -------------------------------------------------------------------------

    def pending(self) -> list[str]:
        """The texts on their way to the current room."""
        current = self._model.current
        outbox = self._conversation.outbox.lines
        return [line.text for line in outbox if current and line.room == current.name]

    def status(self, width: int) -> tuple[str, str]:
        """The status line, as wide as the terminal, and its style."""
        warning = "" if self.prompt else statusline.bytes_left(self.buffer.text)
        parts = statusline.status_line(self._model)
        if self.choices:
            parts = [("  ".join(safe(choice).strip(" ") for choice in self.choices),)]
        elif warning:
            parts = [(warning,), *parts]
        elif not self.view.at_end:
            parts = [("End: to the latest", "End"), *parts]
        return " " + statusline.arrange(parts, width - 2), "class:warning" if warning else "class:status"

    # --- Keys -------------------------------------------------------------------------------------------

    def _layout(self) -> Layout:
        window = Window(BufferControl(self.buffer))
        return Layout(Painter(self, window), focused_element=window)

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        def on(*keys: str, do: Callable[[], object]) -> None:
            @bindings.add(*keys)
            def run(_: KeyPressEvent) -> None:
                do()

        for key in ("enter", "c-j"):
            on(key, do=self._enter)
        on("escape", "enter", do=lambda: self.buffer.insert_text("\n"))
        on("tab", do=lambda: self._complete(1))
        on("s-tab", do=lambda: self._complete(-1))
        on("c-c", do=self._interrupt)
        on("<sigint>", do=self._interrupt)
        on("c-d", do=self._end)
        on("c-z", do=self._app_suspend)
        on("pageup", do=lambda: self._scroll(1))
        on("pagedown", do=lambda: self._scroll(-1))
        on("home", do=self._to_top)
        on("end", do=self._to_end)
        on("c-r", do=lambda: self._search_on(newer=False))
        on("c-s", do=lambda: self._search_on(newer=True))
        on("left", do=lambda: self._step(-1))
        on("right", do=lambda: self._step(1))
        on("backspace", do=lambda: self._delete(-1))
        on("delete", do=lambda: self._delete(1))
        on("up", do=lambda: self._recall(1))
        on("down", do=lambda: self._recall(-1))
        on("c-n", do=lambda: self._turn(1))
        on("c-p", do=lambda: self._turn(-1))
        for number in range(1, 10):
            on("escape", str(number), do=partial(self._go, number))

        @bindings.add(Keys.Any, filter=Condition(lambda: len(self.buffer.text) >= MAX_INPUT))
        def full(_: KeyPressEvent) -> None:
            self.ring()

        @bindings.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            self._paste(event.data.replace("\r\n", "\n").replace("\r", "\n"))

        return bindings

    def _paste(self, text: str) -> None:
        # What is copied mostly ends with a line's end, which is no line of its own.
        text = text.removesuffix("\n")
        room = max(MAX_INPUT - len(self.buffer.text), 0)
        self.buffer.insert_text(text[:room])
        if len(text) > room:
            self.show(f"Of what you pasted only the first {room} characters were taken.")

    def _enter(self) -> None:
        """Sends what was typed; what a terminal pasted without brackets, only once a person has seen it."""
        if not self.prompt and self._watch.ends_line():
            self._is_pasted = True
            if len(self.buffer.text) < MAX_INPUT:
                self.buffer.insert_text("\n")
            return
        text = self.buffer.text
        if self._is_pasted:
            text = text.rstrip("\n")
            self._is_pasted = False
            if (lines := text.count("\n") + 1) > 1:
                self.buffer.document = Document(text, len(text))
                self.show(
                    f"You have pasted {lines} lines: Enter sends them as one message, Ctrl-C drops them."
                )
                return
        if not self.prompt and statusline.too_long(text):
            self.ring()
            return
        if self._lines.qsize() >= MAX_TYPED:  # the daemon is gone
            self.ring()
            return
        self._clear()
        self.view.to_end()
        self._moved()
        self._lines.put_nowait(text)

    def _clear(self) -> None:
        """Empties the input, and keeps what was in it for Up."""
        text = self.buffer.text
        if not self.prompt and text.strip() and text not in list(self._typed)[-1:]:
            self._typed.append(text)
        self.buffer.reset()
        self.choices, self._recalled = [], 0
        self._is_pasted = False

    def _recall(self, step: int) -> None:
        """To the row above or below of the input; at its end, to what was typed before or after it."""
        document = self.buffer.document
        inside = document.cursor_position_row > 0 if step > 0 else not document.on_last_line
        if inside:
            self.buffer.cursor_up() if step > 0 else self.buffer.cursor_down()
            return
        at = self._recalled + step
        if self.prompt or not 0 <= at <= len(self._typed):
            return
        if self._recalled == 0 and self.buffer.text:
            self._typed.append(self.buffer.text)
            at += 1
        self._recalled = at
        text = self._typed[-at] if at else ""
        self.buffer.document = Document(text, len(text))

    def _interrupt(self) -> None:
        if self.buffer.text:
            self._clear()
        else:
            self._lines.put_nowait(NotAnswered if self.prompt else Leave)

    def _end(self) -> None:
        if self.buffer.text:
            self._delete(1)
        else:
            self._lines.put_nowait(NotAnswered if self.prompt else Leave)

    def _app_suspend(self) -> None:
        self._app.suspend_to_background()

    def _edited(self, _: Buffer) -> None:
        if not self._completing:
            self.choices = []
        self._conversation.typed()

    def _complete(self, step: int) -> None:
        """The first Tab completes as far as all choices agree, further ones go through them."""
        if self.prompt:
            return
        if self._watch.is_surely_paste:
            self.buffer.insert_text("\t")
            return
        if self.choices and self._completed:
            document, word = self._completed
            self._choice = (self._choice + step) % len(self.choices)
            self._insert(document, word, self.choices[self._choice])
            return
        document = self.buffer.document
        word, choices = complete(self._model, document.text_before_cursor)
        if len(choices) > 1:
            self._completed, self._choice = (document, word), -1 if step > 0 else 0
            common = _common_beginning(choices)
            if len(common) > word:
                self._insert(document, word, common)
            self.choices = choices
        elif choices:
            self._insert(document, word, choices[0])

    def _insert(self, document: Document, word: int, choice: str) -> None:
        before = document.text_before_cursor
        text = before[: len(before) - word] + choice
        self._completing = True
        self.buffer.document = Document(text + document.text_after_cursor, len(text))
        self._completing = False

    def _step(self, way: int) -> None:
        """To the next character as people see it."""
        at = self.buffer.cursor_position
        self.buffer.cursor_position = at + self._cluster(way)

    def _delete(self, way: int) -> None:
        length = self._cluster(way)
        if length > 0:
            self.buffer.delete(length)
        elif length < 0:
            self.buffer.delete_before_cursor(-length)

    def _cluster(self, way: int) -> int:
        """How far it is to the next character before (-1) or after (1) the cursor."""
        text, at = self.buffer.text, self.buffer.cursor_position
        if way > 0:
            return next((len(cluster) for cluster in characters(text[at:])), 0)
        last = 0
        for cluster in characters(text[:at]):
            last = len(cluster)
        return -last

    # --- Moving about -----------------------------------------------------------------------------------

    def _moved(self) -> None:
        self._model.at_end = self.view.at_end
        self._conversation.seen_all()

    def _scroll(self, pages: int) -> None:
        size = self._app.output.get_size()
        self.view.scroll(pages * max(size.rows - 4, 1))
        self._moved()
        if pages > 0 and self.view.at_top:
            self._look_back()

    def _to_top(self) -> None:
        if self.buffer.text:
            self.buffer.cursor_position += self.buffer.document.get_start_of_line_position()
            return
        if self.view.at_top:
            self._look_back(then=self._show_top)
        self._show_top()

    def _show_top(self) -> None:
        self.view.to_top()
        self._moved()

    def _to_end(self) -> None:
        if self.buffer.text and self.view.at_end:
            self.buffer.cursor_position += self.buffer.document.get_end_of_line_position()
            return
        self.view.to_end()
        self._moved()

    def _look_back(self, then: Callable[[], None] = lambda: None) -> None:
        """Has older messages loaded, unless that is under way."""

        async def load() -> None:
            try:
                await self._conversation.look_back(LOOK_BACK)
                then()
            except MeshchatError as error:
                self.show(str(error))

        if self._looking_back is None or self._looking_back.done():
            self._looking_back = asyncio.create_task(load())

    def _search_on(self, *, newer: bool) -> None:
        if not self.view.search("", newer=newer):
            self.show(f"Nothing {'newer' if newer else 'older'} holds that. /search TEXT finds another.")
        self._moved()

    def _turn(self, step: int) -> None:
        room = neighbour(self._model, step)
        if room:
            self._command(f"/room {room.name}")

    def _go(self, number: int) -> None:
        room = next((room for room in self._model.rooms.values() if room.number == number), None)
        if room:
            self._command(f"/room {room.name}")

    def _command(self, line: str) -> None:
        if not self.prompt:
            self.view.to_end()
            self._lines.put_nowait(line)


def _common_beginning(words: list[str]) -> str:
    alike = takewhile(lambda chars: len(set(chars)) == 1, zip(*words, strict=False))
    return "".join(chars[0] for chars in alike)
