"""The line between messages and input: where one is, who is here, how the mesh is, what is new elsewhere."""

from itertools import product

from meshchat.chat.render import safe
from meshchat.client.model import Model
from meshchat.client.rooms import MAX_FRESH
from meshchat.constants import MAX_TEXT
from meshchat.terminal.cells import cells, columns

NAMED = 4
"""People named in the line; the others are counted."""

BETWEEN = "  "

BYTES_SHOWN_FROM = 1000
"""So many bytes before a message is too long, what is left is shown."""


def status_line(model: Model) -> list[tuple[str, ...]]:
    """The parts of the line, each in its forms from long to short; "" can be left out."""
    room = model.current
    if room is None:
        return [("",)]
    return [(safe(room.title),), _people(model), _link(model), _news(model)]


def arrange(parts: list[tuple[str, ...]], width: int) -> str:
    """The longest forms of the parts that fit `width` columns together; the first part shortens last."""
    measured = ([(at, text, columns(cells(text))) for at, text in enumerate(part)] for part in parts)
    shortest: list[str] = []
    for forms in sorted(product(*measured), key=lambda forms: sum(at for at, _, _ in forms)):
        shortest = [text for _, text, _ in forms if text]
        if sum(taken for _, _, taken in forms) + len(BETWEEN) * (len(shortest) - 1) <= width:
            break
    return BETWEEN.join(shortest)


def bytes_left(text: str) -> str:
    """What a person is told of the length of the text being typed; "" as long as it does not matter."""
    left = MAX_TEXT - len(text.encode("utf-8", "surrogateescape"))
    if left < 0:
        return f"{-left} bytes too long"
    return f"{left} of {MAX_TEXT} bytes left" if left < BYTES_SHOWN_FROM else ""


def too_long(text: str) -> bool:
    """Whether no message can hold the text."""
    return len(text.encode("utf-8", "surrogateescape")) > MAX_TEXT


def _people(model: Model) -> tuple[str, ...]:
    if model.current and not model.current.loaded:
        return ("loading",)
    people = model.here(model.current) if model.current else []
    if not people:
        return ("nobody else here", "")
    names = [safe(name) + ("" if active else " (idle)") for name, active in people]
    forms = []
    for shown in range(min(NAMED, len(names)), 0, -1):
        more = len(names) - shown
        forms.append("with " + ", ".join(names[:shown]) + (f" +{more}" if more else ""))
    return (*forms, f"{len(names)} here", "")


def _link(model: Model) -> tuple[str, ...]:
    if not model.connected:
        return ("daemon gone, trying again", "daemon gone")
    link = model.link
    if link is None:
        return ("",)
    if not link.neighbours:
        return ("alone: no neighbour heard", "alone")
    heard = "1 neighbour" if link.neighbours == 1 else f"{link.neighbours} neighbours"
    state = "in step" if link.in_step else "catching up"
    return (f"{heard}, {state}", f"{link.neighbours} near, {state}", state, "")


def _news(model: Model) -> tuple[str, ...]:
    pieces = []
    for room, unread, mentions in model.elsewhere():
        count = f"{unread}+" if unread >= MAX_FRESH else str(unread)
        where = f"{room.number}:" if room.name == str(room.number) else safe(room.title)
        pieces.append(f"[{where} {count}{'!' if mentions else ''}]")
    forms = []
    for shown in range(min(len(pieces), 9), 0, -1):
        more = len(pieces) - shown
        forms.append(" ".join(pieces[:shown]) + (f" +{more}" if more else ""))
    return tuple(forms) or ("",)
