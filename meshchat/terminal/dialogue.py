"""The questions on the way in: account, name and password, room. Every front end asks the same ones.

`Leave` passes through: whoever goes at a question goes.
"""

from typing import Any

from meshchat.chat.names import fold, room_name, split_tag, user_name
from meshchat.chat.passwords import clean_password
from meshchat.client.connection import Refused
from meshchat.client.model import Model
from meshchat.client.session import Session
from meshchat.errors import NameRefused, NameTaken, PasswordRefused, TextRefused
from meshchat.terminal.front import Front, Leave

YES, NO = frozenset(("y", "yes")), frozenset(("n", "no"))

TAKEN = "This username is already taken"

MAX_LISTED = 100
"""Rooms in a list: a stranger can make thousands."""

MAX_CHOICES = 12
"""Numbers spelled out in the question for a room."""


async def yes(front: Front, question: str) -> bool:
    """Asks until the answer is yes or no."""
    while True:
        answer = (await front.ask(f"{question} [Yes/No]")).casefold()
        if answer in YES | NO:
            return answer in YES


async def log_in(front: Front, session: Session) -> None:
    """Leads to a login, over a new account where there is none yet."""
    while True:
        if await yes(front, "Do you have an account?"):
            if await enter_password(front, session):
                return
        else:
            await make_account(front, session)


async def enter_password(front: Front, session: Session) -> bool:
    """Asks for name and password until they fit; False where no name is given (wrong turn).

    No password leads back to the name.
    """
    while True:
        user = await front.ask("Username:")
        if not user:
            return False
        password = await _password(front, "Password:")
        if not password:
            continue
        try:
            await session.log_in(user, password)
        except (Refused, TextRefused) as error:
            front.show("Username or password is invalid" if error.code == "login" else str(error))
            continue
        front.show(f"Logged in as: {session.user}")
        return True


async def make_account(front: Front, session: Session) -> None:
    """Asks for a new name and password and makes the account; returns at once where no name is given.

    No password leads back to the name.
    """
    while True:
        user = await front.ask("Choose a username:")
        if not user:
            return
        try:
            await _need_free(session, user)
            password = await _new_password(front)
            if not password:
                continue
            await session.register(user, password)
        except (Refused, NameRefused, NameTaken, TextRefused) as error:
            front.show(TAKEN if error.code == NameTaken.code else str(error))
            continue
        front.show("Your account has been created")
        return


async def _need_free(session: Session, typed: str) -> None:
    """Raises `NameRefused` or `NameTaken` for a name that need not be asked a password for.

    The daemon has the last word: it knows of closed accounts and of strangers, too.
    """
    wanted = fold(user_name(typed))
    users = (await session.call("users")).items
    if any(fold(split_tag(str(user["user"]))[0]) == wanted for user in users):
        raise NameTaken


async def _new_password(front: Front) -> str:
    """A password that was typed twice; "" where none was given."""
    while True:
        password = await _password(front, "Choose a password:")
        if not password or password == await _password(front, "The same again:"):
            return password
        front.show("Password is not matched")


async def _password(front: Front, question: str) -> str:
    """Asks until the answer can be a password, or is empty."""
    while password := await front.ask_secret(question):
        try:
            return clean_password(password)
        except PasswordRefused as error:
            front.show(str(error))
        except UnicodeEncodeError:
            front.show("This is not UTF-8 text: set the terminal to UTF-8 and try again.")
    return ""


# --- Rooms ----------------------------------------------------------------------------------------------


def show_rooms(front: Front, model: Model, rooms: list[dict[str, Any]]) -> None:
    """Lists the rooms with their numbers."""
    messages = {str(room["name"]): int(room["messages"]) for room in rooms}
    model.know(messages)
    lines = ["Rooms:"]
    there = [room for room in model.rooms.values() if room.name in messages]
    for room in there[:MAX_LISTED]:
        count = messages[room.name]
        held = "empty" if count == 0 else "1 message" if count == 1 else f"{count} messages"
        new = f", {unread} new" if (unread := model.unread(room)) else ""
        label = room.title.replace(":", "  ", 1)
        lines.append(f"  {label}  ({held}{new}){' *' if room is model.current else ''}")
    if len(there) > MAX_LISTED:
        lines.append(f"  and {len(there) - MAX_LISTED} more; any can be chosen by its name")
    front.show_lines(lines)


async def choose_room(front: Front, session: Session, model: Model) -> str:
    """Asks for a room by number or name until there is one to enter; returns its name.

    Nothing chooses the room of the last visit.
    """
    show_rooms(front, model, (await session.call("rooms")).items)
    last = model.last
    if last:
        front.show(f"Enter alone goes back to room {last.name}.")
    while True:
        numbers = [str(room.number) for room in model.rooms.values()]
        choices = ",".join(numbers[:MAX_CHOICES]) + (",..." if len(numbers) > MAX_CHOICES else "")
        answer = await front.ask(f"Room Number [{choices}]") or (last.name if last else "")
        if answer == "/quit":
            raise Leave
        if answer.startswith("/"):
            front.show("Choose a room first, by its number or name; commands come then.")
        elif answer and (room := await find_room(front, session, model, answer)) is not None:
            return room


async def find_room(front: Front, session: Session, model: Model, answer: str) -> str | None:
    """The room meant by a number or a name, a new one after confirmation; None where there is none."""
    known = model.find_room(answer)
    try:
        name = known.name if known else room_name(answer)
        if known is None and not await yes(front, f"There is no room {name} yet. Make it?"):
            return None
        return str((await session.call("join", room=name)).fields["room"])
    except (Refused, NameRefused, TextRefused) as error:
        front.show(str(error))
        return None


# --- Passwords ------------------------------------------------------------------------------------------


async def change_password(front: Front, session: Session) -> None:
    """Asks for the old password and a new one, and changes it; nothing typed leaves it as it is."""
    old = await _password(front, "Old password:")
    new = old and await _new_password(front)
    if not new:
        front.show("The password stays as it is.")
        return
    await session.change_password(old, new)
    front.show("The password has been changed")
