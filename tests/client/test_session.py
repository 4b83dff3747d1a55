"""A person's session over losses of the daemon: resumed by its ticket, or told to log in again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshchat.client.connection import ControlClient, Refused
from meshchat.client.outbox import Line
from meshchat.client.session import Daemon, LoggedOut, Session
from meshchat.errors import DaemonGone
from tests.unit.fakeserver import FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


def restart(daemon: FakeDaemon) -> None:
    daemon.stop()
    daemon.start()


class Person:
    """A session, and what was told of it."""

    def __init__(self, door: Daemon) -> None:
        self.told: list[bool] = []
        self.session = Session(door, self.told.append)

    async def enter(self, user: str) -> Session:
        """Makes an account and logs in."""
        await self.session.open()
        await self.session.register(user, "secret")
        await self.session.log_in(user, "secret")
        return self.session


def test_a_login_outlives_the_daemon(daemon: FakeDaemon) -> None:
    async def visit() -> None:
        door = Daemon(str(daemon.path))
        person = Person(door)
        session = await person.enter("abc")
        rights = session.control.rights
        for _ in range(2):
            await asyncio.to_thread(restart, daemon)
            assert (await session.call("whoami")).fields["user"] == "abc"
        assert session.control.rights == rights
        assert person.told == [False, True] * 2
        await door.close()

    asyncio.run(visit())


def test_all_sessions_come_back_over_one_new_connection(daemon: FakeDaemon) -> None:
    async def visit() -> None:
        door = Daemon(str(daemon.path))
        people = [Person(door) for _ in range(5)]
        sessions = [await person.enter(f"user{number}") for number, person in enumerate(people)]
        await asyncio.to_thread(restart, daemon)
        answers = await asyncio.gather(*(session.call("whoami") for session in sessions))
        assert [answer.fields["user"] for answer in answers] == [f"user{number}" for number in range(5)]
        assert all(person.told == [False, True] for person in people)
        assert daemon.connections == 2
        await door.close()

    asyncio.run(visit())


def test_a_password_changed_here_keeps_the_login_and_elsewhere_ends_it(daemon: FakeDaemon) -> None:
    async def visit() -> None:
        door = Daemon(str(daemon.path))
        here, there = Person(door), Person(door)
        session = await here.enter("abc")
        await there.session.open()
        await there.session.log_in("abc", "secret")
        await session.change_password("secret", "better")
        await asyncio.to_thread(restart, daemon)
        assert (await session.call("whoami")).fields["user"] == "abc"
        with pytest.raises(LoggedOut):
            await there.session.call("whoami")
        assert not there.session.logged_in
        await there.session.log_in("abc", "better")
        assert (await there.session.call("whoami")).fields["user"] == "abc"
        await door.close()

    asyncio.run(visit())


@pytest.mark.parametrize("lost", ["login", "ticket", "register"])
def test_a_login_whose_answer_is_lost_is_made_again(daemon: FakeDaemon, lost: str) -> None:
    async def visit() -> None:
        door = Daemon(str(daemon.path))
        person = Person(door)
        daemon.die_at = lost
        entering = asyncio.create_task(person.enter("abc"))
        assert await asyncio.to_thread(daemon.died.wait, 5)
        await asyncio.to_thread(restart, daemon)
        session = await entering
        assert (await session.call("whoami")).fields["user"] == "abc"
        await door.close()

    asyncio.run(visit())


def test_a_line_whose_answer_is_lost_is_stored_once(daemon: FakeDaemon) -> None:
    async def visit() -> None:
        door = Daemon(str(daemon.path))
        session = await Person(door).enter("abc")
        line, same_words = Line("1", "hello"), Line("1", "hello")
        daemon.die_at = "send"
        with pytest.raises(DaemonGone):
            await session.control.request("send", room=line.room, text=line.text, key=line.key)
        await asyncio.to_thread(restart, daemon)
        for each in (line, line, same_words):
            await session.call("send", room=each.room, text=each.text, key=each.key)
        await door.close()

    asyncio.run(visit())
    assert daemon.texts() == ["hello", "hello"]


def test_nobody_is_waited_for_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DaemonGone):
        asyncio.run(Session(Daemon(str(tmp_path / "none.sock")), print).open())


def test_a_wrong_password_is_no_login(daemon: FakeDaemon) -> None:
    with ControlClient(daemon.path) as client:
        client.request("register", user="abc", password="secret")

    async def visit() -> None:
        door = Daemon(str(daemon.path))
        session = Session(door, print)
        await session.open()
        with pytest.raises(Refused) as refused:
            await session.log_in("abc", "wrong")
        assert refused.value.code == "login"
        assert not session.logged_in
        await door.close()

    asyncio.run(visit())
