"""The terminal front end from start to end: log in, choose a room, chat."""

import asyncio
import contextlib
import sys

from meshchat.chat.localtime import Zone
from meshchat.errors import DaemonGone, MeshchatError
from meshchat.terminal.commands import execute
from meshchat.terminal.conversation import Conversation
from meshchat.terminal.days import Days
from meshchat.terminal.dialogue import choose_room, log_in
from meshchat.terminal.edited import EditedFront
from meshchat.terminal.front import Front, Leave
from meshchat.terminal.keyboard import Keyboard, can_edit
from meshchat.terminal.lines import LineFront
from meshchat.terminal.session import LoggedOut, Session

LAST_LINES_TTY, LAST_LINES_PIPE = 3.0, 30.0
"""Seconds that the last lines may take, on leaving, each to be sent: a person waits less than a script."""


def run(socket: str, zone: Zone) -> int:
    """Talks to the person at the terminal until he leaves; returns the exit status.

    `zone` is for the times shown. Raises `DaemonGone` where no daemon answers at the start. The status is 1
    where lines of a pipe could not be sent.
    """
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is escaped: a message must never end the conversation.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with Keyboard() if can_edit() else contextlib.nullcontext() as keyboard:
            return asyncio.run(_run(socket, zone, keyboard))
    except KeyboardInterrupt:
        return 0


async def _run(socket: str, zone: Zone, keyboard: Keyboard | None) -> int:
    days = Days(zone)
    with EditedFront(days, keyboard) if keyboard else LineFront(days) as front:
        session = Session(socket, front)
        await session.open()
        conversation = Conversation(session, front)
        try:
            await _stay(front, session, conversation)
        except Leave:
            pass
        finally:
            if front.echoes:
                front.end_line()
            for line in conversation.outbox.lines:
                front.show(f"Not sent to room {line.room}: {line.text}")
            await session.close()
        return 1 if conversation.outbox.lines and not front.echoes else 0


async def _stay(front: Front, session: Session, conversation: Conversation) -> None:
    while True:
        try:
            if not session.logged_in:
                await log_in(front, session)
            if not conversation.room:
                conversation.room = await choose_room(front, session)
            await _chat(front, conversation)
        except LoggedOut:
            session.forget()
            front.show("The daemon does not take your name and password any more: log in again.")


async def _chat(front: Front, conversation: Conversation) -> None:
    """Types and reads at once; ends by what one of them raises."""
    tasks = [
        asyncio.create_task(doing)
        for doing in (conversation.listen(), conversation.send(), _type(front, conversation))
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _type(front: Front, conversation: Conversation) -> None:
    try:
        while True:
            await _take(front, conversation, await front.line())
    except Leave:
        await conversation.settle(LAST_LINES_TTY if front.echoes else LAST_LINES_PIPE)
        raise


async def _take(front: Front, conversation: Conversation, line: str) -> None:
    if line.startswith("/") and not line.startswith("//"):
        try:
            await execute(conversation, line)
        except DaemonGone:
            front.show("The daemon does not answer: say it again when it does.")
        except MeshchatError as error:
            front.show(str(error))
    elif line.strip():
        await conversation.say(line[1:] if line.startswith("//") else line)
