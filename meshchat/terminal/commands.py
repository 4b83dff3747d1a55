"""The slash commands: one registry, from which help, completion and the tests are made."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from meshchat.chat.names import fold
from meshchat.chat.personal import BELLS
from meshchat.chat.render import ACTION
from meshchat.client.model import Model
from meshchat.client.rooms import MAX_ENTRIES
from meshchat.terminal.conversation import Conversation
from meshchat.terminal.dialogue import change_password, find_room, show_rooms, yes
from meshchat.terminal.front import Leave
from meshchat.terminal.tables import fields

DEFAULT_HISTORY = 100
"""Messages that a bare `/history` shows."""

MAX_DIGITS = 9
"""Of a number of messages; what is longer is no number but a time, and none either."""

STATUS_SHOWN = ("router", "mesh", "version", "uptime_s", "neighbours", "records", "disk_trouble")
"""What `/status` shows of the daemon's long answer; `meshchat status` shows all."""

Names = Callable[[Model], Iterable[str]]


@dataclass(frozen=True)
class Command:
    """A slash command: its name, what may follow it, what it does in one line, and the doing."""

    name: str
    argument: str
    summary: str
    run: Callable[[Conversation, str], Awaitable[None]]
    choices: Names | None = None
    """The words that may follow it."""
    right: str | None = None
    """What the daemon must allow the person for it, beyond chatting."""


def known(model: Model) -> dict[str, Command]:
    """The commands that this person has, by name."""
    return {
        name: command
        for name, command in COMMANDS.items()
        if command.right is None or command.right in model.rights
    }


async def execute(conversation: Conversation, line: str) -> None:
    """Does what the line, which begins with one `/`, says; raises `Leave`, `Refused` or `DaemonGone`."""
    name, _, argument = line[1:].partition(" ")
    command = known(conversation.model).get(name.lower())
    if command is None:
        conversation.front.show(f"There is no /{name}. /help lists what there is; // at the start sends a /.")
        return
    await command.run(conversation, argument.strip())


def complete(model: Model, before: str) -> tuple[int, list[str]]:
    """What the last word of `before` may become: how long it is, and the words, sorted."""
    word = before[before.rfind(" ") + 1 :]
    if before.startswith("/") and " " not in before:
        return len(word), [
            f"/{name} " for name in sorted(known(model)) if f"/{name}".startswith(word.lower())
        ]
    command = None
    if before.startswith("/"):
        name, _, argument = before[1:].partition(" ")
        command = known(model).get(name.lower())
        if command is None or " " in argument:
            command = None
    if command and command.choices:
        return len(word), _starting(command.choices(model), word, " ")
    if not word:
        return 0, []
    return len(word), _starting(_users(model), word, ": " if word == before else " ")


def _starting(names: Iterable[str], word: str, end: str) -> list[str]:
    return sorted((name + end for name in set(names) if fold(name).startswith(fold(word))), key=fold)


# --- The choices ----------------------------------------------------------------------------------------


def _users(model: Model) -> Iterable[str]:
    return (name for key, name in model.names.items() if key != model.key and key not in model.ignored)


def _room_names(model: Model) -> Iterable[str]:
    return model.rooms


def _ignored(model: Model) -> Iterable[str]:
    return model.ignored.values()


# --- The doing ------------------------------------------------------------------------------------------


async def _help(conversation: Conversation, _: str) -> None:
    commands = known(conversation.model).values()
    width = max(len(f"/{command.name} {command.argument}") for command in commands)
    conversation.front.show_lines(
        [
            *(f"{f'/{each.name} {each.argument}':<{width}}  {each.summary}" for each in commands),
            "Anything else is sent to the room; begin with // to send a line that begins with /",
            *conversation.front.keys,
        ]
    )


async def _rooms(conversation: Conversation, _: str) -> None:
    items = (await conversation.session.control.request("rooms")).items
    show_rooms(conversation.front, conversation.model, items)


async def _room(conversation: Conversation, name: str) -> None:
    if not name:
        current = conversation.model.current
        conversation.front.show(
            f"You are in room {current.name if current else '-'}. /room NAME goes to another."
        )
        return
    room = await find_room(conversation.front, conversation.session, conversation.model, name)
    if room is not None:
        await conversation.enter(room)


async def _leave(conversation: Conversation, _: str) -> None:
    await conversation.leave()


async def _list_users(conversation: Conversation, _: str) -> None:
    users = (await conversation.session.control.request("users")).items
    conversation.front.show("Users: " + ", ".join(str(user["user"]) for user in users))


async def _who(conversation: Conversation, name: str) -> None:
    model, show = conversation.model, conversation.front.show
    room = model.find_room(name) if name else model.current
    if room is None:
        show(f"There is no room {name}.")
        return
    items = (await conversation.session.control.request("who", room=room.name)).items
    if not items:
        show(f"Nobody has room {room.name} open.")
        return
    lines = [f"Here in room {room.name}:"]
    for person in items:
        idle, routers = person["idle_s"], len(person["routers"])
        doing = "active" if person["active"] else f"idle for {_long(idle)}" if idle else "idle"
        lines.append(f"  {person['user']}  {doing}" + (f", on {routers} routers" if routers > 1 else ""))
    conversation.front.show_lines(lines)


def _long(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


async def _history(conversation: Conversation, when: str) -> None:
    if not when or (when.isdecimal() and len(when) <= MAX_DIGITS):
        messages = await conversation.history(min(int(when or DEFAULT_HISTORY), MAX_ENTRIES))
    else:
        messages = await conversation.history(MAX_ENTRIES, since=when)
    current = conversation.model.current
    conversation.front.show_found(f"history of room {current.name if current else ''}", messages)


async def _search(conversation: Conversation, text: str) -> None:
    if text:
        await conversation.history(MAX_ENTRIES)
    if not conversation.front.search(text):
        conversation.front.show("Nothing older holds that." if not text else f"Nothing here holds {text}")


async def _ignore(conversation: Conversation, user: str) -> None:
    show = conversation.front.show
    if user:
        await conversation.prefer(ignore=user)
        show(f"You see nothing of {user} any more, not even under another name. /unignore {user} ends it.")
        return
    ignored = ", ".join(conversation.model.ignored.values())
    show(f"You ignore {ignored}. /unignore USER ends it." if ignored else "You ignore nobody.")


async def _unignore(conversation: Conversation, user: str) -> None:
    await conversation.prefer(unignore=user)
    conversation.front.show(f"You see {user} again.")


async def _bell(conversation: Conversation, when: str) -> None:
    if when not in BELLS:
        conversation.front.show(f"The bell rings for: {conversation.model.bell}. /bell {'|'.join(BELLS)}")
        return
    await conversation.prefer(bell=when)
    conversation.front.show(f"The bell rings for: {when}.")


async def _time(conversation: Conversation, _: str) -> None:
    model = conversation.model
    await conversation.prefer(times=not model.times)
    conversation.front.show(f"Times are {'shown' if model.times else 'hidden'}.")


async def _me(conversation: Conversation, doing: str) -> None:
    if doing:
        await conversation.say(ACTION + doing)
    else:
        conversation.front.show("/me waves shows to all: * you wave")


async def _wipe(conversation: Conversation, _: str) -> None:
    current = conversation.model.current
    if current is None or not await yes(
        conversation.front, f"Delete the history of room {current.name} on this router, for all who use it?"
    ):
        conversation.front.show("Nothing was deleted.")
        return
    answer = await conversation.session.control.request("wipe", room=current.name)
    if not answer.fields["messages"]:
        conversation.front.show("There was nothing to delete.")


async def _status(conversation: Conversation, _: str) -> None:
    status = (await conversation.session.control.request("status")).fields["status"]
    conversation.front.show_lines(
        list(fields({name: status[name] for name in STATUS_SHOWN if name in status}))
    )


async def _watch(conversation: Conversation, code: str) -> None:
    control, show = conversation.session.control, conversation.front.show
    if not code:
        show("/watch CODE, with the code that the router's operator gave you, lets you use /status here.")
        return
    await control.request("watch", code=code)
    conversation.model.rights = control.rights
    show("From now on you may use /status on this router.")


async def _passwd(conversation: Conversation, _: str) -> None:
    await change_password(conversation.front, conversation.session)


async def _again(conversation: Conversation, _: str) -> None:
    await conversation.send_refused_again()


async def _quit(_: Conversation, __: str) -> None:
    raise Leave


COMMANDS = {
    command.name: command
    for command in (
        Command("help", "", "shows this", _help),
        Command("rooms", "", "lists the rooms", _rooms),
        Command("room", "NAME", "goes to another room, by number or name", _room, _room_names),
        Command("leave", "", "closes this room; only what names you counts there", _leave),
        Command("users", "", "lists the accounts of the mesh", _list_users),
        Command("who", "[ROOM]", "who has the room open, on all routers", _who, _room_names),
        Command("history", "[N|WHEN]", "shows the last N messages, or since WHEN (2h, 18:30)", _history),
        Command("search", "[TEXT]", "finds TEXT; alone, the one before", _search),
        Command("ignore", "[USER]", "hides all that USER writes or wrote", _ignore, _users),
        Command("unignore", "USER", "shows it again", _unignore, _ignored),
        Command("bell", "off|mentions|all", "when the bell rings", _bell, lambda _: BELLS),
        Command("time", "", "hides the times, or shows them again", _time),
        Command("me", "DOING", "/me waves: * you wave", _me),
        Command("wipe", "", "deletes the room's history on this router", _wipe, right="operate"),
        Command("status", "", "how this router is doing", _status, right="watch"),
        Command("watch", "CODE", "lets you use /status, by a code of the router's operator", _watch),
        Command("passwd", "", "changes your password", _passwd),
        Command("again", "", "brings back a line that was not sent", _again),
        Command("quit", "", "leaves", _quit),
    )
}
