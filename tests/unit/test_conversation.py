"""A person in the rooms while the daemon comes and goes: all is shown once, and nothing is missed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from meshchat.client.messages import Message
from meshchat.client.model import Model
from meshchat.client.rooms import Room
from meshchat.client.session import Daemon
from meshchat.terminal.conversation import Conversation
from meshchat.terminal.front import Leave
from tests.unit.fakeserver import PATIENCE, FakeDaemon

ROOMS = ("1", "2", "3")
ME, PASSWORD = "abc", "secret"


class Recorder:
    """A front end that writes down what it is given to show; it echoes nothing."""

    attended, echoes = False, False
    keys: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.said: list[str] = []
        self._changed = asyncio.Event()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Returns when that is so."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def ask(self, question: str) -> str:
        raise Leave

    async def ask_secret(self, question: str) -> str:
        raise Leave

    async def line(self) -> str:
        raise Leave

    def show(self, text: str) -> None:
        self.said.append(text)
        self._changed.set()

    def show_lines(self, lines: list[str]) -> None:
        self.said += lines

    def enter(self, room: Room) -> None:
        self.messages = Counter(message.text for message in room.messages())
        self._changed.set()

    def add(self, message: Message) -> None:
        self.messages[message.text] += 1
        self._changed.set()

    def show_found(self, title: str, messages: list[Message]) -> None:
        self.said.append(title)

    def mentioned(self, message: Message) -> None:
        self.said.append(message.text)

    def search(self, text: str) -> bool:
        return False

    def changed(self) -> None:
        self._changed.set()

    def put_back(self, text: str) -> bool:
        return False

    def ring(self) -> None:
        pass


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


@asynccontextmanager
async def in_room_1(daemon: FakeDaemon) -> AsyncIterator[tuple[Conversation, Recorder]]:
    """A person with a new account, who reads and writes in room 1."""
    door, front = Daemon(str(daemon.path)), Recorder()
    conversation = Conversation(door, Model(), front)
    await conversation.session.open()
    await conversation.session.register(ME, PASSWORD)
    await conversation.session.log_in(ME, PASSWORD)
    await conversation.prepare()
    conversation.model.show("1")
    tasks = [
        asyncio.create_task(doing)
        for doing in (conversation.listen(), conversation.send(), conversation.tend())
    ]
    try:
        await front.until(lambda: conversation.model.rooms["1"].loaded)
        yield conversation, front
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await door.close()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_late_or_while_the_daemon_is_away_is_shown_and_counted_once(
    daemon: FakeDaemon, seed: int
) -> None:
    dice = Random(seed)
    heard: dict[str, list[str]] = {room: [] for room in ROOMS}
    written: list[str] = []

    def others_talk() -> None:
        for _ in range(dice.randrange(6)):
            room, late_s = dice.choice(ROOMS), dice.choice((0, 0, 100, 86_400))
            text = f"message {sum(map(len, heard.values()))}"
            daemon.hear("bob", text, room=room, late_s=late_s)
            heard[room].append(text)

    async def visit() -> None:
        async with in_room_1(daemon) as (conversation, front):
            for round_number in range(3):
                await asyncio.to_thread(others_talk)
                daemon.die_at = dice.choice((None, "send", "history"))
                for text in (f"mine, {round_number}", "the same each time"):
                    await conversation.say(text)
                    written.append(text)
                await asyncio.to_thread(daemon.stop)
                await asyncio.to_thread(others_talk)
                daemon.die_at = None
                await asyncio.to_thread(daemon.start)
                await front.until(lambda: not conversation.outbox.lines)
            model = conversation.model
            expected = Counter(heard["1"] + written)
            await front.until(lambda: front.messages.total() >= expected.total())
            await front.until(
                lambda: all(model.unread(model.room(room)) >= len(heard[room]) for room in ROOMS[1:])
            )
            assert Counter(daemon.texts()) == expected
            assert front.messages == expected
            assert [model.unread(model.room(room)) for room in ROOMS[1:]] == [
                len(heard[room]) for room in ROOMS[1:]
            ]

    asyncio.run(visit())
    assert Counter(daemon.texts()) == Counter(heard["1"] + written)


def test_a_room_of_which_the_disk_gives_a_part_is_shown_with_what_is_wrong(daemon: FakeDaemon) -> None:
    daemon.hear("bob", "in room 1", room="1")
    daemon.hear("bob", "in room 2", room="2")

    async def visit() -> None:
        async with in_room_1(daemon) as (conversation, front):
            daemon.disk.unreadable.add("rooms/2.log")
            await conversation.enter("2")
            assert front.messages == Counter()
            assert "1 of 1 records could not be read." in front.said[-1]
            daemon.disk.unreadable.clear()
            await conversation.history(10)
            assert [message.text for message in conversation.model.rooms["2"].messages()] == ["in room 2"]

    asyncio.run(visit())
