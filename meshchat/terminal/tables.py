"""What commands print: tables for people, JSON lines for scripts. Neither can drive a terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshchat.chat.localtime import Zone, format_local
from meshchat.chat.render import escape, message_line, safe
from meshchat.client.messages import time_ms
from meshchat.terminal.widths import columns, padded

HISTORY_FIELDS = ("id", "room", "user", "time", "text", "router")
"""What `history --json` prints of a message, in this order: scripts depend on it."""

Item = Mapping[str, Any]


def json_line(item: Item) -> str:
    """`item` as one line of JSON, every character that is not plainly visible escaped."""
    return escape(json.dumps(item, ensure_ascii=False))


def history_json(message: Item) -> str:
    """A message as `history --json` prints it."""
    return json_line({name: message[name] for name in HISTORY_FIELDS})


def history_text(message: Item, zone: Zone) -> str:
    """A message as `history` prints it: local date and time, user, text."""
    unknown = message.get("grade") == "unknown"
    written = format_local(time_ms(message["time"]), zone)
    return message_line(written, message["user"], message["text"], unknown=unknown)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The lines of a table with these column titles; None and missing values show as `-`."""
    cells = [list(titles), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()


def rooms(items: Sequence[Item], zone: Zone) -> Iterator[str]:
    """The rooms as a table."""
    rows = [(room["name"], room["messages"], local(room["last"], zone)) for room in items]
    return table(("ROOM", "MESSAGES", "LAST"), rows)


def users(items: Sequence[Item], zone: Zone) -> Iterator[str]:
    """The accounts as a table, with the rooms that each has open now."""
    rows = [(user["user"], user["key"], local(user["since"], zone), _here(user)) for user in items]
    return table(("USER", "KEY", "SINCE", "HERE"), rows)


def _here(user: Item) -> str | None:
    """`active: 1, garden`, or `idle 12 min: 1`; None for who is not present anywhere."""
    rooms = list(dict.fromkeys(room for place in user["present"] for room in place["rooms"]))
    if not rooms:
        return None
    idle = min((place["idle_s"] for place in user["present"] if place["idle_s"] is not None), default=None)
    since = "" if idle is None else f" {idle // 60} min"
    return ("active" if user["active"] else f"idle{since}") + ": " + ", ".join(rooms)


def peers(items: Sequence[Item], _: Zone) -> Iterator[str]:
    """The neighbours as a table."""
    names = ("router", "address", "interface", "heard_s", "clock", "version", "records", "in_step")
    titles = ("ROUTER", "ADDRESS", "INTERFACE", "HEARD S AGO", "CLOCK", "VERSION", "RECORDS", "IN STEP")
    return table(titles, [[peer.get(name) for name in names] for peer in items])


def check(items: Sequence[Item], _: Zone) -> Iterator[str]:
    """The findings about a router, the cure below each that needs one."""
    for item in items:
        yield f"{item['level']:<4}  {safe(str(item['what']))}: {safe(str(item['text']))}"
        if item["level"] != "ok" and item.get("cure"):
            yield f"      {safe(str(item['cure']))}"


def codes(items: Sequence[Item], _: Zone) -> Iterator[str]:
    """The codes for `watch` as a table."""
    return table(("CODE", "ENTERED BY"), [[each["code"], ", ".join(each["users"])] for each in items])


def fields(item: Item) -> Iterator[str]:
    """A status or a clock: a field a line, what is nested beside its name or below it."""
    width = max((columns(safe(name)) for name in item), default=0)
    for name, value in item.items():
        title = padded(safe(name), width) + "  "
        if isinstance(value, list) and value:
            for entry in value:
                yield title + _cell(entry)
                title = " " * len(title)
        else:
            yield (title + _cell(value)).rstrip()


def keys(items: Sequence[Item]) -> Iterator[str]:
    """The mesh keys, with what each is used for."""
    if not items:
        yield "There is no mesh key: everybody in radio range can read and write."
    for item in items:
        yield f"{safe(str(item['key']))}  {'sends' if item['sends'] else 'is accepted'}"


def local(time: str | None, zone: Zone) -> str | None:
    """A time of the control socket in local time."""
    return None if time is None else format_local(time_ms(time), zone)


def _cell(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, Mapping):
        return "  ".join(f"{safe(str(name))} {_cell(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return safe(str(value))
