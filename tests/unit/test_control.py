import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from meshchat.adapters.control import ControlServer, Socket
from meshchat.adapters.worker import MAX_WORK, MAX_WORK_OF_ORIGIN
from meshchat.chat.access import OPERATOR, PEOPLE
from meshchat.chat.accounts import encode_account
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.localtime import Zone
from meshchat.chat.personal import Personal
from meshchat.chat.service import Service
from meshchat.chat.sessions import Origin, Session
from meshchat.chat.tickets import Tickets
from meshchat.chat.watching import WatchCodes
from meshchat.client.connection import AsyncControlClient, Refused
from meshchat.constants import (
    MAX_CONTROL_BACKLOG,
    MAX_CONTROL_CLIENTS,
    MAX_CONTROL_LINE,
    MAX_TEXT,
    MAX_WAITING,
)
from meshchat.errors import DaemonGone, MeshchatError, StoreError
from meshchat.identity.boxes import BoxKey
from meshchat.identity.passwords import PasswordSalt, SealedKey
from meshchat.wire.records import Kind, Record, Space
from tests.unit.chats import Chat, service_over, written
from tests.unit.routers import key

TRUSTED = {os.geteuid()}
HELLO = {"version": "0.1.0", "mesh": "test", "router": "00" * 8}
PATIENCE = 5.0


class Line:
    """A raw connection that reads only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, path: Path) -> "Line":
        return cls(*await asyncio.open_unix_connection(path, limit=64 * 1024))

    def write(self, line: object) -> None:
        raw = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.writer.write(raw + b"\n")

    async def read(self) -> dict[str, Any]:
        """The next object that the server sends."""
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        assert line.isascii()
        fields = json.loads(line)
        assert isinstance(fields, dict)
        return fields

    async def ended(self) -> bool:
        """Whether the server closed it; what is left is read first."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(-1), PATIENCE)
        return self.reader.at_eof() or self.reader.exception() is not None


class Running:
    """A served service, with what it logged and the errors that reached the event loop."""

    def __init__(self, path: Path, service: Service | None = None) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.chat = Chat()
        people = path.with_name("people.sock")
        self.server = ControlServer(
            (Socket(path, OPERATOR), Socket(people, PEOPLE)), service or self.chat.service, HELLO, TRUSTED
        )
        self.chat.router.told = lambda notice: self.server.publish(
            self.chat.service.tell(notice, asyncio.get_running_loop().time())
        )

    async def connect(self) -> Line:
        """A raw connection, which is closed at the end."""
        self.lines.append(await Line.to(self.path))
        return self.lines[-1]

    async def line(self) -> Line:
        """The same, greeted."""
        line = await self.connect()
        assert await line.read() == {"meshchat": 2, **HELLO, "rights": OPERATOR.names()}
        return line

    def fill(self, count: int) -> None:
        """Room 1 gets so many of the longest messages."""
        for number in range(count):
            text = str(number).rjust(MAX_TEXT, ".")
            self.chat.router.take(written(self.chat.mesh, key(1), "bo", text))


def account(chat: Chat, number: int) -> Record:
    """An account that was made elsewhere; nobody needs its password."""
    signer = key(number + 1)
    sealed = SealedKey(1, 8 * 1024, PasswordSalt(bytes(16)), bytes(24), bytes(48))
    body = encode_account(1, sealed)
    return written(chat.mesh, signer, f"user{number}", body, room="", space=Space.ACCOUNTS, kind=Kind.ACCOUNT)


def ticket(chat: Chat, number: int) -> str:
    """A ticket for that account."""
    return chat.tickets.give(key(number + 1), 1, chat.router.ms)[1]


@contextlib.asynccontextmanager
async def running(path: Path, service: Service | None = None) -> AsyncIterator[Running]:
    loop_errors: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    served = Running(path, service)
    await served.server.start()
    try:
        yield served
    finally:
        await served.server.close()
        for line in served.lines:
            line.writer.close()
        await asyncio.sleep(0)
    assert loop_errors == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "meshchat.sock"


def drive(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 3 * PATIENCE)

    asyncio.run(limited())


# --- Conversations --------------------------------------------------------------------------------------


def test_two_people_talk(path: Path) -> None:
    async def test() -> None:
        async with running(path):
            one, other = await AsyncControlClient.connect(path), await AsyncControlClient.connect(path)
            for client, user in ((one, "ja"), (other, "bo")):
                await client.request("register", user=user, password="pass")
                answer = await client.request("login", user=user, password="pass")
                assert answer.fields["user"] == user
            await other.request("subscribe")
            sent = await one.request("send", room="1", text="hé\x1b\n!")
            event = await asyncio.wait_for(other.next_event(), PATIENCE)
            assert event["message"]["text"] == "hé\x1b\n!"
            assert event["message"]["id"] == sent.fields["record"]
            history = await other.request("history", room="1")
            assert history.items == [event["message"]]
            with pytest.raises(Refused) as refused:
                await one.request("login", user="ja", password="wrong")
            assert refused.value.code == "login"
            await one.close()
            await other.close()

    drive(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello",
        b"\xff\xfe{}",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b"{",
        b"[" * 100_000,
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"do":"status"}',
        b'{"id":"1","do":"status"}',
        b'{"id":true,"do":"status"}',
        b'{"id":1.5,"do":"status"}',
        b"\x00" * 1000,
    ],
)
def test_garbage_gets_one_answer_and_the_connection_lives(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(path) as served:
            line = await served.line()
            line.write(garbage)
            line.write(b"")
            line.write({"id": 7, "do": "whoami"})
            answer = await line.read()
            assert (answer["id"], answer["ok"], answer["code"]) == (None, False, "usage")
            assert await line.read() == {"id": 7, "ok": True, "user": None}

    drive(test)
    assert caplog.records == []


def test_a_line_that_is_too_long_is_answered_and_ends_the_connection(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            line = await served.line()
            line.write({"id": 1, "do": "import", "lines": ["x" * (MAX_CONTROL_LINE - 100)]})
            assert (await line.read())["refused"] == {"line-size": 1}
            line.write(b"x" * (MAX_CONTROL_LINE + 1))
            assert (await line.read())["code"] == "usage"
            assert await line.ended()

    drive(test)


def test_items_that_fail_half_way_end_in_a_refusal(path: Path) -> None:
    class Failing(Service):
        def handle(self, session: Session, request: Mapping[str, object], now: float) -> Outcome:
            def items() -> Any:
                yield {"n": 1}
                raise StoreError("The disk cannot be read.")

            return Answer.stream(items())

    async def test() -> None:
        async with running(path, service_over(Chat().mesh, kind=Failing)) as served:
            line = await served.line()
            line.write({"id": 1, "do": "history"})
            assert await line.read() == {"id": 1, "item": {"n": 1}}
            assert await line.read() == {
                "id": 1,
                "ok": False,
                "code": "disk",
                "error": "The disk cannot be read.",
            }

    drive(test)


# --- Doors and sessions ---------------------------------------------------------------------------------


def test_the_people_s_socket_gives_only_what_people_may(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            line = await Line.to(path.with_name("people.sock"))
            served.lines.append(line)
            assert (await line.read())["rights"] == ["enter", "read", "write"]
            for do in ("wipe", "key_show", "check", "export_all"):
                line.write({"id": 1, "do": do})
                answer = await line.read()
                assert (answer["ok"], answer["code"]) == (False, "no-right")

    drive(test)


def test_sessions_of_one_connection_are_answered_beside_each_other_and_each_in_order(path: Path) -> None:
    async def test() -> None:
        service = Slow()
        async with running(path, service) as served:
            line = await served.line()
            for number in (1, 2):
                line.write({"id": number, "do": "open", "session": number})
                assert (await line.read())["id"] == number
            line.write({"id": 10, "do": "slow", "session": 1})
            line.write({"id": 11, "do": "quick", "session": 1})
            line.write({"id": 20, "do": "quick", "session": 2})
            line.write({"id": 30, "do": "quick"})
            assert {(await line.read())["id"] for _ in range(2)} == {20, 30}
            service.gate.set()
            assert [(await line.read())["id"] for _ in range(2)] == [10, 11]

    drive(test)


def test_too_many_requests_of_one_session_are_refused_and_hold_no_other_up(path: Path) -> None:
    async def test() -> None:
        service = Slow()
        async with running(path, service) as served:
            line = await served.line()
            line.write({"id": 0, "do": "open", "session": 1})
            assert (await line.read())["ok"]
            for number in range(1, MAX_WAITING + 3):
                line.write({"id": number, "do": "slow" if number == 1 else "quick", "session": 1})
            refused = [await line.read() for _ in range(2)]
            assert {answer["code"] for answer in refused} == {"slow-down"}
            line.write({"id": 777, "do": "quick"})
            assert (await line.read())["id"] == 777
            service.gate.set()
            assert [(await line.read())["id"] for _ in range(MAX_WAITING)] == list(range(1, MAX_WAITING + 1))

    drive(test)


def test_a_public_message_crosses_the_connection_once_and_a_word_for_one_names_him(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            line = await served.line()
            for number in range(1, 6):
                line.write({"id": number, "do": "open", "session": number})
                assert (await line.read())["ok"]
                line.write({"id": number, "do": "subscribe", "session": number})
                assert (await line.read())["ok"]
            served.fill(1)
            message = await line.read()
            assert message["event"] == "message"
            assert "sessions" not in message
            line.write({"id": 99, "do": "whoami", "session": 3})
            assert (await line.read())["id"] == 99, "it came once"

    drive(test)


# --- Slow, many and gone --------------------------------------------------------------------------------


def test_a_slow_reader_of_events_is_dropped_and_others_hear_everything(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = 4 * MAX_CONTROL_BACKLOG // MAX_TEXT

    async def test() -> None:
        async with running(path) as served:
            slow, quick = await served.line(), await served.line()
            for line in (slow, quick):
                line.write({"id": 1, "do": "subscribe"})
                assert (await line.read())["ok"]

            for _ in range(count):
                served.fill(1)
                assert (await quick.read())["message"]
            assert await slow.ended()
            quick.write({"id": 2, "do": "whoami"})
            assert (await quick.read())["ok"]

    with caplog.at_level(logging.WARNING):
        drive(test)
    assert [record.getMessage() for record in caplog.records] == [
        "a front end did not read for too long and was dropped"
    ]


def test_a_long_answer_waits_for_its_reader_without_holding_others_up(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            served.fill(300)
            slow, quick = await served.line(), await served.line()
            slow.write({"id": 1, "do": "history", "room": "1"})
            await slow.reader.readexactly(1)
            quick.write({"id": 1, "do": "whoami"})
            assert (await quick.read())["ok"]
            await slow.reader.readline()
            texts = [(await slow.read())["item"]["text"].lstrip(".") for _ in range(299)]
            assert texts == [str(number) for number in range(1, 300)]
            assert (await slow.read())["ok"]

    drive(test)


def test_who_leaves_in_the_middle_of_an_answer_leaves_no_trace(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(path) as served:
            served.fill(300)
            for _ in range(MAX_CONTROL_CLIENTS + 5):
                leaver = await served.line()
                leaver.write({"id": 1, "do": "history", "room": "1"})
                await leaver.reader.readexactly(1)
                leaver.writer.transport.abort()
                await asyncio.sleep(0)
            stayer = await AsyncControlClient.connect(path)
            await stayer.request("whoami")
            await stayer.close()

    drive(test)
    assert caplog.records == []


def test_who_reads_no_refusals_is_read_no_further(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            flood, other = await served.line(), await served.line()
            flood.writer.write(b"x\n" * 500_000)
            for number in range(500):
                other.write({"id": number, "do": "whoami"})
                assert (await other.read())["id"] == number
            assert flood.writer.transport.get_write_buffer_size() > 0

    drive(test)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("shuts", [True, False])
def test_who_reads_nothing_keeps_no_more_descriptors_than_there_are_places(path: Path, shuts: bool) -> None:
    """Whether he says that he has done or has to give his place up."""

    async def test() -> None:
        async with running(path) as served:
            served.fill(100)
            before = descriptors()
            for number in range(1, 2 * MAX_CONTROL_CLIENTS):
                deaf = await served.line()
                deaf.write({"id": 1, "do": "history", "room": "1"})
                if shuts:
                    deaf.writer.write_eof()
                assert descriptors() - before - number <= MAX_CONTROL_CLIENTS + 1

    drive(test)


def test_who_leaves_with_much_waiting_has_left(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            served.fill(300)
            served.chat.router.take(account(served.chat, 0))
            leaver, stayer, other = [await served.line() for _ in range(3)]
            leaver.write({"id": 1, "do": "resume", "ticket": ticket(served.chat, 0)})
            assert (await leaver.read())["ok"]
            leaver.write({"id": 2, "do": "present", "rooms": ["1"], "active": True})
            assert (await leaver.read())["ok"]
            stayer.write({"id": 1, "do": "subscribe"})
            assert (await stayer.read())["ok"]
            assert (await stayer.read())["rooms"] == ["1"]
            leaver.write({"id": 3, "do": "open", "session": 1})
            assert (await leaver.read())["ok"]
            leaver.write({"id": 4, "do": "history", "room": "1", "session": 1})
            for number in range(10, 10 + MAX_WAITING - 1):
                leaver.write({"id": number, "do": "whoami", "session": 1, "pad": "x" * 70_000})
            await leaver.reader.readexactly(1)
            for number in range(500):
                other.write({"id": number, "do": "whoami"})
                assert (await other.read())["id"] == number
            leaver.writer.transport.abort()
            while (await stayer.read())["rooms"]:
                pass

    drive(test)


def test_idle_connections_shut_nobody_out_and_are_told_so(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            served.chat.person().enter("ja")
            at_work = await served.line()
            at_work.write({"id": 1, "do": "login", "user": "ja", "password": "pass"})
            assert (await at_work.read())["ok"]
            idle = [await served.line() for _ in range(MAX_CONTROL_CLIENTS - 1)]
            for _ in range(3):
                newcomer = await served.line()
                newcomer.write({"id": 1, "do": "rooms"})
                assert (await newcomer.read())["item"]
            for line in idle[:3]:
                answer = await line.read()
                assert (answer["ok"], answer["code"]) == (False, "busy")
                assert await line.ended()
            at_work.write({"id": 2, "do": "whoami"})
            assert (await at_work.read())["user"] == "ja"

    drive(test)


def test_where_everybody_is_somebody_a_newcomer_is_told_to_come_back(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            for number in range(MAX_CONTROL_CLIENTS):
                served.chat.router.take(account(served.chat, number))
            for number in range(MAX_CONTROL_CLIENTS):
                line = await served.line()
                line.write({"id": 1, "do": "resume", "ticket": ticket(served.chat, number)})
                assert (await line.read())["user"] == f"user{number}"
            extra = await served.connect()
            answer = await extra.read()
            assert (answer["ok"], answer["code"]) == (False, "busy")
            assert await extra.ended()
            line.writer.close()
            async with asyncio.timeout(PATIENCE):
                while "meshchat" not in await (await served.connect()).read():
                    await asyncio.sleep(0)

    drive(test)


def test_who_comes_and_goes_is_told_to_subscribers_without_any_other_request(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            served.chat.person().enter("ja")
            listener, ja = await served.line(), await served.line()
            listener.write({"id": 1, "do": "subscribe"})
            assert await listener.read() == {"id": 1, "ok": True}
            ja.write({"id": 1, "do": "login", "user": "ja", "password": "pass"})
            assert (await ja.read())["ok"]
            ja.write({"id": 2, "do": "present", "rooms": ["1"], "active": True})
            assert await ja.read() == {"id": 2, "ok": True}
            came = await listener.read()
            assert (came["event"], came["user"], came["rooms"], came["active"]) == (
                "presence",
                "ja",
                ["1"],
                True,
            )
            ja.writer.close()
            assert (await listener.read())["rooms"] == []

    asyncio.run(test())


# --- Work -----------------------------------------------------------------------------------------------


class Slow(Service):
    """Every request is work that lasts until `gate` opens; `running_now` counts what runs at once."""

    def __init__(self) -> None:
        chat = Chat()
        super().__init__(
            *(chat.mesh, chat.router.operator, Zone("UTC"), Random(1)),
            tickets=Tickets(BoxKey(bytes(32)), chat.mesh.mesh),
            codes=WatchCodes(),
            personal=Personal(),
        )
        self.gate = threading.Event()
        self.started = threading.Event()
        self.running_now = 0
        self.most_at_once = 0
        self.finished: list[object] = []

    def handle(self, session: Session, request: Mapping[str, object], now: float) -> Outcome:
        if request.get("do") in ("quick", "open"):
            return Answer.done()

        def compute() -> object:
            self.running_now += 1
            self.most_at_once = max(self.most_at_once, self.running_now)
            self.started.set()
            self.gate.wait(PATIENCE)
            self.running_now -= 1
            if request.get("do") == "fail":
                raise MeshchatError("Too little memory.")
            return request["id"]

        def finish(value: object, now: float) -> Answer:
            self.finished.append(value)
            return Answer.done(value=value).after(0.01)

        return Work(compute, finish, Origin(str(request.get("from"))))


def test_work_runs_one_at_a_time_beside_everybody_else_and_its_queue_is_bounded(path: Path) -> None:
    async def test() -> None:
        service = Slow()
        async with running(path, service) as served:
            first = await served.line()
            first.write({"id": 0, "do": "slow", "from": "first"})
            await asyncio.to_thread(service.started.wait, PATIENCE)
            lines = [await served.line() for _ in range(MAX_WORK)]
            for number, line in enumerate(lines):
                line.write({"id": number, "do": "fail" if number == 3 else "slow", "from": number})
                await asyncio.sleep(0)
            other = await served.line()
            other.write({"id": 1, "do": "quick"})
            assert (await other.read())["ok"]
            async with asyncio.timeout(PATIENCE):
                other.write({"id": 2, "do": "slow", "from": "other"})
                answer = await other.read()
            assert answer["code"] == "slow-down"
            service.gate.set()
            answers = [await line.read() for line in lines]
            assert answers[3] == {"id": 3, "ok": False, "code": "failed", "error": "Too little memory."}
            assert [answer["value"] for answer in answers if answer["ok"]] == [
                number for number in range(MAX_WORK) if number != 3
            ]
            assert service.most_at_once == 1

    drive(test)


def test_one_origin_has_few_places_and_others_are_served_between(path: Path) -> None:
    async def test() -> None:
        service = Slow()
        async with running(path, service) as served:
            lines = [await served.line() for _ in range(MAX_WORK_OF_ORIGIN + 2)]
            lines[0].write({"id": 0, "do": "slow", "from": "crowd"})
            await asyncio.to_thread(service.started.wait, PATIENCE)
            for number, line in enumerate(lines[1:], 1):
                line.write({"id": number, "do": "slow", "from": "crowd"})
                await asyncio.sleep(0)
            assert (await lines[-1].read())["code"] == "slow-down"
            neighbour = await served.line()
            neighbour.write({"id": 99, "do": "slow", "from": "neighbour"})
            lines[-1].write({"id": 100, "do": "quick"})
            assert (await lines[-1].read())["id"] == 100
            service.gate.set()
            assert (await neighbour.read())["value"] == 99
            assert service.finished.index(99) <= 2

    drive(test)


def test_closing_while_work_is_under_way_drops_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        service = Slow()
        async with running(path, service) as served:
            line = await served.line()
            line.write({"id": 1, "do": "slow"})
            await asyncio.to_thread(service.started.wait, PATIENCE)
            await served.server.close()
            assert await line.ended()
            service.gate.set()
        assert service.finished == []

    drive(test)
    assert caplog.records == []


# --- The socket file ------------------------------------------------------------------------------------


def test_the_socket_is_for_owner_and_group_and_goes_with_the_daemon(path: Path) -> None:
    async def test() -> None:
        for _ in range(2):
            async with running(path) as served:
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
                line = await served.line()
            assert await line.ended()
            assert not path.exists()
        with pytest.raises(DaemonGone):
            await AsyncControlClient.connect(path)

    drive(test)


def test_a_socket_left_by_a_killed_daemon_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async def test() -> None:
        async with running(path) as served:
            await served.line()

    drive(test)


def test_a_second_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    async def test() -> None:
        async with running(path) as served:
            with pytest.raises(StoreError, match="already answers"):
                await Running(path).server.start()
            await served.line()

    drive(test)


def test_a_place_that_cannot_hold_a_socket_is_refused_in_one_line(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("precious")
    refusals = {
        in_the_way: "in the way",
        in_the_way / "meshchat.sock": "Cannot make",
        tmp_path / ("x" * 108): "too long",
    }

    async def test() -> None:
        for place, why in refusals.items():
            with pytest.raises(StoreError, match=why) as refused:
                await Running(place).server.start()
            assert "\n" not in str(refused.value)

    drive(test)
    assert in_the_way.read_text() == "precious"
