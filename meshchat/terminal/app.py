"""The terminal front end from start to end: log in, choose a room, chat."""

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping

from meshchat.chat.localtime import Zone
from meshchat.client.model import Model
from meshchat.client.session import Daemon, LoggedOut
from meshchat.errors import DaemonGone, MeshchatError
from meshchat.terminal.commands import execute
from meshchat.terminal.conversation import Conversation
from meshchat.terminal.dialogue import choose_room, log_in
from meshchat.terminal.edited import EditedFront
from meshchat.terminal.front import Front, Leave
from meshchat.terminal.keyboard import Keyboard, can_edit
from meshchat.terminal.lines import LineFront
from meshchat.without_openssl import without_openssl

LAST_LINES_TTY, LAST_LINES_PIPE = 3.0, 30.0
"""Seconds that the last lines may take, on leaving, each to be sent: a person waits less than a script."""


def run(socket: str, zone: Zone, *, plain: bool) -> int:
    """Talks to the person at the terminal until he leaves; returns the exit status.

    `zone` is for the times shown; `plain` forgoes the screen. Raises `DaemonGone` where no daemon answers at
    the start. The status is 1 where a pipe did not get into a room, or something in it was not done.
    """
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is escaped: a message must never end the conversation.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with Keyboard() if can_edit() else contextlib.nullcontext() as keyboard:
            return asyncio.run(_run(Daemon(socket), zone, keyboard, plain))
    except KeyboardInterrupt:
        return 0


def ssh_origin(environment: Mapping[str, str]) -> str | None:
    """The address that whoever is at this terminal comes from by SSH, as the SSH server names it (ssh(1))."""
    named = environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or ""
    return next(iter(named.split()), None)


async def _run(daemon: Daemon, zone: Zone, keyboard: Keyboard | None, plain: bool) -> int:
    model = Model()
    lines = EditedFront(model, zone, keyboard) if keyboard else LineFront(model, zone)
    conversation = Conversation(daemon, model, lines, origin=ssh_origin(os.environ))
    await conversation.session.open()
    try:
        await _stay(lines, conversation, zone, None if plain or not _can_draw() else keyboard)
    except Leave:
        pass
    finally:
        conversation.front = lines
        if lines.attended:
            lines.end_line()
        for line in conversation.outbox.lines:
            lines.show(f"Not sent to room {line.room}: {line.text}")
        await daemon.close()
    if lines.attended:
        return 0
    is_in = model.current is not None or not lines.was_fed
    return 0 if is_in and not conversation.outbox.lines and not conversation.failed else 1


def _can_draw() -> bool:
    """Whether what the full screen needs is installed; on many routers it is not."""
    needed = ("prompt_toolkit", "meshchat.terminal.screen")
    return all(importlib.util.find_spec(module) is not None for module in needed)


async def _stay(lines: LineFront, conversation: Conversation, zone: Zone, keyboard: Keyboard | None) -> None:
    session, model = conversation.session, conversation.model
    while True:
        try:
            with lines:
                if not session.logged_in:
                    await log_in(lines, session)
                await conversation.prepare()
                if model.current is None:
                    model.show(await choose_room(lines, session, model))
                if keyboard is None:
                    await _chat(lines, conversation)
                    return
            with without_openssl():
                from meshchat.terminal.screen import Screen
            async with Screen(conversation, zone, keyboard, lines.typed_ahead()) as screen:
                conversation.front = screen
                await _chat(screen, conversation)
        except LoggedOut:
            session.forget()
            model.forget_person()
            conversation.front = lines
            lines.show("The daemon does not take your name and password any more: log in again.")


async def _chat(front: Front, conversation: Conversation) -> None:
    """Types and reads at once; ends by what one of them raises."""
    tasks = [
        asyncio.create_task(doing)
        for doing in (
            conversation.listen(),
            conversation.send(),
            conversation.tend(),
            _type(front, conversation),
        )
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
        await conversation.settle(LAST_LINES_TTY if front.attended else LAST_LINES_PIPE)
        raise


async def _take(front: Front, conversation: Conversation, line: str) -> None:
    if line.startswith("/") and not line.startswith("//"):
        try:
            await execute(conversation, line)
        except DaemonGone:
            conversation.failed = True
            front.show("The daemon does not answer: say it again when it does.")
        except MeshchatError as error:
            conversation.failed = True
            front.show(str(error))
    elif line.strip():
        await conversation.say(line[1:] if line.startswith("//") else line)
