"""The clients of the control socket, against daemons good and bad."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshchat.client.connection import AsyncControlClient, ControlClient, Refused
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
        (b'{"meshchat":3,"version":"9.9"}\n', "another version (9.9)"),
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
