"""The clients of the control socket, against daemons good and bad."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshchat.client.connection import AsyncControlClient, ControlClient, ControlSession, Refused
from meshchat.errors import DaemonGone, TextRefused
from tests.unit.fakeserver import PATIENCE, FakeDaemon

GREETING = b'{"meshchat":2,"version":"0.1.0","mesh":"test","router":"00"}\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[[bytes, bytes], Path]]:
    """Makes a socket on which one front end gets a first piece, then, after its request, a second one."""
    threads: list[threading.Thread] = []

    def serve(first: bytes, second: bytes) -> Path:
        path = tmp_path / "scripted.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()

        def talk() -> None:
            with listener, listener.accept()[0] as connection:
                connection.sendall(first)
                if connection.recv(65_536):
                    connection.sendall(second)

        threads.append(threading.Thread(target=talk))
        threads[-1].start()
        return path

    yield serve
    for thread in threads:
        thread.join(PATIENCE)


def test_answers_items_refusals_and_events(daemon: FakeDaemon) -> None:
    with ControlClient(daemon.path) as client:
        assert client.greeting["mesh"] == "test"
        client.request("register", user="abc", password="secret")
        assert client.request("login", user="abc", password="secret")["user"] == "abc"
        with pytest.raises(Refused) as refusal:
            client.request("register", user="abc", password="secret")
        assert refusal.value.code == "taken"
        client.request("subscribe", rooms=["1"])
        sent = client.request("send", room="1", text="hello")["record"]
        assert [message["id"] for message in client.stream("history", room="1")] == [sent]
        record = daemon.hear("bob", "hi")
        events = client.events()
        assert [next(events)["message"]["id"], next(events)["message"]["id"]] == [sent, record.id.hex()]


def test_text_that_is_no_unicode_and_requests_too_long_never_reach_the_daemon(daemon: FakeDaemon) -> None:
    with ControlClient(daemon.path) as client:
        for text in ("gr\udcfc\udcdf", "x" * 300_000):
            with pytest.raises(TextRefused):
                client.request("send", room="1", text=text)
        assert client.request("whoami") == {"user": None}


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\n", "no meshchat daemon"),
        (b'["meshchat"]\n', "no meshchat daemon"),
        (b'{"meshchat":1,"version":"9.9"}\n', "another version (9.9)"),
        (b'{"id":null,"ok":false,"code":"busy","error":"Too many front ends."}\n', "Too many front ends."),
    ],
)
def test_what_answers_may_be_no_daemon(
    scripted: Callable[[bytes, bytes], Path], greeting: bytes, said: str
) -> None:
    path = scripted(greeting, b"")
    with pytest.raises(DaemonGone) as gone:
        ControlClient(path)
    assert said in str(gone.value)


def test_nobody_listens(tmp_path: Path) -> None:
    for name in ("none.sock", "x" * 200):
        with pytest.raises(DaemonGone) as gone:
            ControlClient(tmp_path / name)
        assert name in str(gone.value)
        assert "meshchat daemon" in str(gone.value)


def test_a_daemon_that_does_not_greet_is_not_waited_for(scripted: Callable[[bytes, bytes], Path]) -> None:
    with pytest.raises(DaemonGone):
        ControlClient(scripted(b"", b""), timeout=0.05)


def test_half_an_answer_is_no_answer(scripted: Callable[[bytes, bytes], Path]) -> None:
    path = scripted(GREETING, b'{"id":1,"item":{"name":"1"}}\n{"id":1,"ok":tr')
    with ControlClient(path) as client:
        items = client.stream("rooms")
        assert next(items) == {"name": "1"}
        with pytest.raises(DaemonGone):
            next(items)


def test_an_unreadable_request_is_a_refusal_and_no_endless_wait(
    scripted: Callable[[bytes, bytes], Path],
) -> None:
    answer = {"id": None, "ok": False, "code": "usage", "error": "A request has at most 5 bytes."}
    path = scripted(GREETING, json.dumps(answer).encode() + b"\n")
    with ControlClient(path) as client, pytest.raises(Refused) as refusal:
        client.request("rooms")
    assert refusal.value.code == "usage"


def test_all_that_waits_ends_with_the_connection(daemon: FakeDaemon) -> None:
    async def talk() -> None:
        client = await AsyncControlClient.connect(daemon.path)
        try:
            await client.request("register", user="abc", password="secret")
            await client.request("subscribe", rooms=["1"])
            await asyncio.to_thread(daemon.hear, "bob", "hi")
            event = asyncio.create_task(client.next_event())
            assert (await event)["message"]["text"] == "hi"
            waiting = asyncio.create_task(client.next_event())
            await asyncio.to_thread(daemon.stop)
            with pytest.raises(DaemonGone):
                await asyncio.wait_for(waiting, PATIENCE)
            for _ in range(2):
                with pytest.raises(DaemonGone):
                    await client.next_event()
                with pytest.raises(DaemonGone):
                    await client.request("rooms")
        finally:
            await client.close()
        with pytest.raises(DaemonGone):
            await AsyncControlClient.connect(daemon.path)

    asyncio.run(talk())


# --- Many sessions over one connection ------------------------------------------------------------------


async def enter(session: ControlSession, user: str) -> None:
    """Makes an account and logs in."""
    await session.request("register", user=user, password="secret")
    await session.request("login", user=user, password="secret")


async def message(session: ControlSession) -> str:
    """The text of the next message that the session hears of."""
    while True:
        event = await asyncio.wait_for(session.next_event(), PATIENCE)
        if event["event"] == "message":
            return str(event["message"]["text"])


def test_sessions_of_a_connection_are_different_people(daemon: FakeDaemon) -> None:
    async def talk() -> None:
        client = await AsyncControlClient.connect(daemon.path)
        ann, bob = await client.open_session(), await client.open_session("10.0.0.5")
        await asyncio.gather(enter(ann, "ann"), enter(bob, "bob"))
        users = [(await each.request("whoami")).fields["user"] for each in (client, ann, bob)]
        assert users == [None, "ann", "bob"]
        for _ in range(2):
            await ann.close()
        with pytest.raises(Refused) as refused:
            await ann.request("whoami")
        assert refused.value.code == "no-session"
        with pytest.raises(DaemonGone):
            await ann.next_event()
        assert (await bob.request("whoami")).fields["user"] == "bob"
        await client.close()
        with pytest.raises(DaemonGone):
            await bob.request("whoami")

    asyncio.run(talk())


def test_each_session_hears_of_the_rooms_that_it_subscribed_to(daemon: FakeDaemon) -> None:
    async def talk() -> None:
        client = await AsyncControlClient.connect(daemon.path)
        all_rooms, first, second = [await client.open_session() for _ in range(3)]
        await all_rooms.request("subscribe")
        await first.request("subscribe", rooms=["1"])
        await second.request("subscribe", rooms=["2"])
        with pytest.raises(Refused):
            await second.request("subscribe", rooms=["nowhere"])
        for text, room in (("one", "1"), ("two", "2"), ("three", "1"), ("four", "2")):
            await asyncio.to_thread(daemon.hear, "bob", text, room)
        assert [await message(all_rooms) for _ in range(4)] == ["one", "two", "three", "four"]
        assert [await message(first) for _ in range(2)] == ["one", "three"]
        assert [await message(second) for _ in range(2)] == ["two", "four"]
        await first.request("subscribe", rooms=["2"])
        await asyncio.to_thread(daemon.hear, "bob", "five", "2")
        assert [await message(each) for each in (all_rooms, first, second)] == ["five"] * 3
        await client.close()

    asyncio.run(talk())


def test_rights_are_those_of_the_door_and_of_who_is_logged_in(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def write(**line: object) -> None:
            writer.write(json.dumps(line).encode() + b"\n")

        write(meshchat=2, version="0.1.0", mesh="test", router="00", rights=["enter"])
        while line := await reader.readline():
            request = json.loads(line)
            if request["do"] == "wipe":
                write(id=request["id"], ok=False, code="no-right", error="Only the operator may do that.")
            else:
                logged_in = request["do"] in ("login", "resume")
                write(id=request["id"], ok=True, rights=["enter", "read"] if logged_in else ["enter"])
        writer.close()

    async def talk() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "socket")
        client = await AsyncControlClient.connect(tmp_path / "socket")
        opened = await client.open_session()
        for session in (client, opened):
            assert session.rights == {"enter"}
            await session.request("login")
            assert session.rights == {"enter", "read"}
            with pytest.raises(Refused, match="Only the operator") as refused:
                await session.request("wipe")
            assert refused.value.code == "no-right"
            await session.request("logout")
            assert session.rights == {"enter"}
            await session.request("resume")
            assert session.rights == {"enter", "read"}
        await client.close()
        server.close()

    asyncio.run(talk())


def test_answers_in_another_order_and_events_for_some_find_their_sessions(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def write(**line: object) -> None:
            writer.write(json.dumps(line).encode() + b"\n")

        write(meshchat=2, version="0.1.0", mesh="test", router="00", rights=[])
        for _ in range(2):
            opened = json.loads(await reader.readline())
            origins.append(opened.get("origin"))
            write(id=opened["id"], ok=True)
        asked = [json.loads(await reader.readline()) for _ in range(2)]
        for request in reversed(asked):
            write(event="held", record=str(request["session"]), sessions=[request["session"], 99])
            write(id=request["id"], item={"session": request["session"]})
            write(id=request["id"], ok=True)
        assert not await reader.readline()
        writer.close()

    origins: list[object] = []

    async def talk() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "socket")
        client = await AsyncControlClient.connect(tmp_path / "socket")
        sessions = [await client.open_session(), await client.open_session("10.0.0.5")]
        answers = await asyncio.gather(*(session.request("rooms") for session in sessions))
        for session, answer in zip(sessions, answers, strict=True):
            assert answer.items == [{"session": session.number}]
            assert (await session.next_event())["record"] == str(session.number)
        await client.close()
        server.close()

    asyncio.run(talk())
    assert origins == [None, "10.0.0.5"]


def test_a_request_that_the_daemon_cannot_read_ends_the_connection(
    scripted: Callable[[bytes, bytes], Path],
) -> None:
    path = scripted(GREETING, b'{"id":null,"ok":false,"code":"usage","error":"That is no request."}\n')

    async def talk() -> None:
        client = await AsyncControlClient.connect(path)
        with pytest.raises(DaemonGone, match="That is no request"):
            await client.request("rooms")
        assert client.lost
        await client.close()

    asyncio.run(talk())
