"""The slash commands: one registry, from which `/help` is made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from meshchat.terminal.conversation import Conversation
from meshchat.terminal.dialogue import find_room, show_rooms
from meshchat.terminal.front import Leave

DEFAULT_HISTORY = 100
"""Messages that a bare `/history` shows."""


@dataclass(frozen=True)
class Command:
    """A slash command: its name, what may follow it, what it does in one line, and the doing."""

    name: str
    argument: str
    summary: str
    run: Callable[[Conversation, str], Awaitable[None]]


async def execute(conversation: Conversation, line: str) -> None:
    """Does what the line, which begins with one `/`, says; raises `Leave`, `Refused` or `DaemonGone`."""
    name, _, argument = line[1:].partition(" ")
    command = COMMANDS.get(name.lower())
    if command is None:
        conversation.front.show(f"There is no /{name}. /help lists what there is; // at the start sends a /.")
        return
    await command.run(conversation, argument.strip())


async def _help(conversation: Conversation, _: str) -> None:
    show = conversation.front.show
    width = max(len(f"/{command.name} {command.argument}") for command in COMMANDS.values())
    for command in COMMANDS.values():
        show(f"{f'/{command.name} {command.argument}':<{width}}  {command.summary}")
    show("Anything else is sent to the room; begin with // to send a line that begins with /")
    show("Ctrl-U deletes what you have typed, Ctrl-W its last word; Ctrl-C or Ctrl-D leaves.")


async def _rooms(conversation: Conversation, _: str) -> None:
    show_rooms(conversation.front, (await conversation.session.client.request("rooms")).items)


async def _room(conversation: Conversation, name: str) -> None:
    if not name:
        conversation.front.show(f"You are in room {conversation.room}. /room NAME goes to another.")
        return
    rooms = (await conversation.session.client.request("rooms")).items
    room = await find_room(conversation.front, conversation.session, rooms, name)
    if room is not None:
        await conversation.enter(room)


async def _users(conversation: Conversation, _: str) -> None:
    users = (await conversation.session.client.request("users")).items
    conversation.front.show("Users: " + ", ".join(str(user["user"]) for user in users))


async def _history(conversation: Conversation, when: str) -> None:
    if not when or when.isdecimal():
        await conversation.show_history(limit=int(when or DEFAULT_HISTORY))
    else:
        await conversation.show_history(since=when)


async def _again(conversation: Conversation, _: str) -> None:
    await conversation.send_refused_again()


async def _quit(_: Conversation, __: str) -> None:
    raise Leave


COMMANDS = {
    command.name: command
    for command in (
        Command("help", "", "shows this", _help),
        Command("rooms", "", "lists the rooms", _rooms),
        Command("room", "NAME", "goes to another room, by number or name", _room),
        Command("users", "", "lists the accounts of the mesh", _users),
        Command("history", "[N|WHEN]", "shows the last N messages, or since WHEN (2h, 18:30)", _history),
        Command("again", "", "sends once more what was refused", _again),
        Command("quit", "", "leaves", _quit),
    )
}
