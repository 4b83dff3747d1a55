"""Who asks a router for what arrived since misses nothing, whatever became of the router meanwhile."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshchat.adapters.storage import arrivals, logindex, logstore, oncetable
from meshchat.adapters.storage.arrivals import ARRIVALS_FILE
from meshchat.adapters.storage.logline import encode_line
from meshchat.adapters.storage.logstore import FsyncPolicy
from meshchat.chat.access import OPERATOR
from meshchat.chat.answers import Answer, Work
from meshchat.chat.sessions import OWN, Origin
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.protocol.events import Deliver
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, router_id
from tests.sim.disk import PowerCut
from tests.sim.world import EPOCH_MS, MESH, RouterModel, SimRouter, World
from tests.unit.chats import service_over

ROOM = "1"
MINUTE = 60_000
STRANGER = SigningKey.from_seed(KeySeed(bytes(31) + b"\x07"))
TINY = StoreLimits(CapLimits(1_500, 2_500, 3_000), 100_000)
"""Room for some 15 messages: each further one pushes an older one out."""


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    """A dozen records fill several chunks of the index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logindex, "CHUNK_ENTRIES", 4)
        yield


def alone(seed: int = 1, *, limits: StoreLimits | None = None, fsync: FsyncPolicy = "interval") -> SimRouter:
    """A router without neighbours, up, in its own world."""
    world = World(seed, [], 1)
    [router] = world.routers
    router.model = RouterModel(fsync=fsync)
    router.model.limits = limits or router.model.limits
    router.boot()
    return router


def old(number: int, age_ms: int, *, room: str = ROOM, grade: Grade = Grade.GOOD) -> Record:
    """A message of elsewhere, written `age_ms` before the world began."""
    return sign_record(
        STRANGER,
        mesh=MESH,
        space=Space.ROOM,
        log=room,
        kind=Kind.MESSAGE,
        author="stranger",
        router=router_id(PublicKey(bytes(32))),
        stamp=make_stamp(EPOCH_MS - age_ms, number % 65536),
        grade=grade,
        body=f"old {number}".encode(),
    )


def bring(router: SimRouter, *records: Record) -> None:
    """The records come to the router late."""
    router.mesh.take_in([encode_line(record).decode() for record in records])


class Desk:
    """The application over a router, and one front end's session with it."""

    def __init__(self, router: SimRouter) -> None:
        self.service = service_over(router.mesh)
        self.session = self.service.connect(OPERATOR, Origin("here")).get(OWN)
        router.world.viewers.append(self._show)

    def _show(self, number: int, record: Record) -> None:
        self.service.tell(Deliver(record, True), 1000.0)

    def ask(self, do: str, **fields: object) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
        """The items and the last line of an answer."""
        outcome = self.service.handle(self.session, {"id": 1, "do": do, **fields}, 1000.0)
        answer = outcome.finish(outcome.compute(), 1000.0) if isinstance(outcome, Work) else outcome
        assert isinstance(answer, Answer)
        return list(answer.items), answer.result

    def enter(self, *, anew: bool) -> None:
        """Logs in, `anew` into an account that is made first."""
        if anew:
            self.ask("register", user="ja", password="pass")
        assert self.ask("login", user="ja", password="pass")[1]["ok"]


@contextmanager
def _failing(router: SimRouter, fault: str) -> Iterator[None]:
    """Within it, the rooms cannot be read."""
    if fault == "away":
        router.logs.vanish("rooms")
    else:
        getattr(router.logs, fault).add("rooms")
    yield
    router.logs.put_back()
    router.logs.unreadable.clear()
    router.logs.short.clear()


def texts(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["text"] for item in items]


# --- The property ---------------------------------------------------------------------------------------


class Asker(RuleBasedStateMachine):
    """A front end that asks `after` its cursor, page by page, and a router that lives a hard life."""

    @initialize(seed=st.integers(0, 2**32), fsync=st.sampled_from(["always", "interval", "never"]))
    def begin(self, seed: int, fsync: FsyncPolicy) -> None:
        self.router = alone(seed, limits=TINY, fsync=fsync)
        self.made = 0
        self.cursor: str | None = None
        self.seen: set[str] = set()
        self.owners: dict[str, str] = {}

    def do(self, action: Callable[..., object], *arguments: object) -> None:
        """Has the router do something; where the power goes meanwhile, it comes back."""
        try:
            action(*arguments)
        except PowerCut:
            self.router.power_cut()
        while self.router.node is None:
            self.router.boot()

    @rule(operations=st.integers(1, 12))
    def power_cut_soon(self, operations: int) -> None:
        """The power goes in the middle of one of the next things that the disk is told to do."""
        self.router.logs.crash_at = self.router.logs.operations + operations

    @rule(room=st.sampled_from(["1", "2"]))
    def write(self, room: str) -> None:
        self.made += 1
        self.do(self.router.say, room, f"new {self.made}")

    @rule(minutes=st.integers(0, 300), count=st.integers(1, 4), grade=st.sampled_from(Grade))
    def catch_up(self, minutes: int, count: int, grade: Grade) -> None:
        numbers = range(self.made + 1, self.made + count + 1)
        self.made += count
        self.do(bring, self.router, *(old(number, minutes * MINUTE, grade=grade) for number in numbers))

    @rule(room=st.sampled_from([None, "1", "2"]))
    def wipe(self, room: str | None) -> None:
        self.do(self.router.up.wipe, room)

    @rule()
    def sync(self) -> None:
        self.do(self.router.up.sync)

    @rule()
    def restart(self) -> None:
        self.do(self.router.stop)

    @rule()
    def kill(self) -> None:
        self.do(self.router.kill)

    @rule()
    def power_cut(self) -> None:
        self.do(self.router.power_cut)

    @rule(share=st.floats(0.1, 1.0))
    def edit(self, share: float) -> None:
        """Somebody takes the marks off some lines and turns the file round."""
        self.router.stop()
        self.do(self._edit, share)

    def _edit(self, share: float) -> None:
        name, rng = f"rooms/{ROOM}.log", self.router.world.rng
        if self.router.logs.size(name):
            lines = self.router.logs.read(name).splitlines(keepends=True)
            bare = [
                re.sub(rb',"mark":"[^"]*"', b"", line) if rng.random() < share else line for line in lines
            ]
            self.router.logs.replace(name, bare[::-1])

    @rule()
    def lose_the_numbers(self) -> None:
        self.router.stop()
        self.do(self.router.logs.remove, ARRIVALS_FILE)

    @rule(limit=st.one_of(st.none(), st.integers(1, 5)))
    def ask_for_a_page(self, limit: int | None) -> None:
        desk = Desk(self.router)
        fields = {} if limit is None else {"limit": limit}
        asked = {} if self.cursor is None else {"after": self.cursor}
        items, end = desk.ask("history", room=ROOM, **asked, **({} if self.cursor is None else fields))
        assert limit is None or self.cursor is None or len(items) <= limit
        self.seen.update(item["id"] for item in items)
        if self.cursor is not None:
            arrived = [int(item["cursor"].split("-")[1]) for item in items]
            assert arrived == sorted(set(arrived))
        self.cursor = end["cursor"]

    @rule(fault=st.sampled_from(["unreadable", "short", "away"]), limit=st.integers(1, 5))
    def ask_while_the_disk_fails(self, fault: str, limit: int) -> None:
        if self.cursor is None:
            return
        with _failing(self.router, fault):
            self.ask_for_a_page(limit)

    @rule()
    def drain(self) -> None:
        """Asks until nothing is left: what is held now was all given, then or before."""
        self.ask_for_a_page(None)
        while True:
            before = self.cursor
            self.ask_for_a_page(3)
            if self.cursor == before:
                break
        held, _ = Desk(self.router).ask("history", room=ROOM)
        assert {item["id"] for item in held} <= self.seen

    @invariant()
    def no_number_is_used_twice(self) -> None:
        if not hasattr(self, "router"):
            return
        for room in ("1", "2"):
            for record in self.router.mesh.messages(room):
                cursor = self.router.mesh.cursor(record)
                assert cursor is not None
                assert self.owners.setdefault(str(cursor), record.id.hex()) == record.id.hex()


TestAsker = Asker.TestCase
TestAsker.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- Examples -------------------------------------------------------------------------------------------


def test_late_news_come_after_what_was_read_and_in_order_of_arrival() -> None:
    router = alone()
    router.say(ROOM, "read")
    _, end = Desk(router).ask("history", room=ROOM)
    bring(router, old(2, 5 * MINUTE))
    bring(router, old(1, 50 * MINUTE))
    router.say(ROOM, "latest")
    router.stop()
    router.restart()  # which sorts the log by date
    items, end = Desk(router).ask("history", room=ROOM, after=end["cursor"])
    assert texts(items) == ["old 2", "old 1", "latest"]
    assert "gap" not in end
    assert Desk(router).ask("history", room=ROOM, after=end["cursor"])[0] == []


@pytest.mark.parametrize("fault", ["unreadable", "short", "away"])
def test_what_the_disk_does_not_give_is_said_and_given_once_it_does(fault: str) -> None:
    router = alone()
    router.say(ROOM, "read")
    _, start = Desk(router).ask("history", room=ROOM)
    router.say(ROOM, "new")
    with _failing(router, fault):
        for asked in ({}, {"after": start["cursor"]}, {"limit": 1}):
            items, end = Desk(router).ask("history", room=ROOM, **asked)
            assert (items, end["ok"]) == ([], True)
            assert f"/rooms/{ROOM}.log" in end["trouble"]
        for operation, room in (("export", {"room": ROOM}), ("export_all", {})):
            items, end = Desk(router).ask(operation, **room)
            assert (items, end["ok"]) == ([], True)
            assert "2 of 2 records could not be read" in end["trouble"]
        _, end = Desk(router).ask("history", room=ROOM, after=start["cursor"])
    assert router.up.unread() == []
    items, end = Desk(router).ask("history", room=ROOM, after=end["cursor"])
    assert texts(items) == ["new"]
    assert "trouble" not in end


def test_pages_by_date_go_back_to_the_beginning() -> None:
    router = alone()
    bring(router, *(old(number, (20 - number) * MINUTE, grade=Grade(number % 3)) for number in range(10)))
    desk = Desk(router)
    whole, _ = desk.ask("history", room=ROOM)
    page, _ = desk.ask("history", room=ROOM, limit=3)
    read = list(page)
    while page:
        page, _ = desk.ask("history", room=ROOM, limit=3, before=read[0]["position"])
        read = [*page, *read]
    assert texts(read) == texts(whole) == [f"old {number}" for number in range(10)]


@pytest.mark.parametrize("lost", ["logs", "future", "other router"])
def test_a_cursor_that_says_nothing_here_gets_what_is_recent_or_came_late(lost: str) -> None:
    router = alone()
    router.say(ROOM, "long ago")
    router.world.run(20 * 60)
    bring(router, old(1, 5 * MINUTE))
    router.say(ROOM, "just now")
    newest = Desk(router).ask("history", room=ROOM)[1]["cursor"]
    epoch, number = newest.split("-")
    if lost == "future":
        cursor = f"{epoch}-{int(number) + 1}"
    elif lost == "logs":
        cursor = newest
        lines = router.logs.read(f"rooms/{ROOM}.log")
        router.kill()
        router.lose_logs()
        router.boot()
        router.mesh.take_in(lines.decode().splitlines())
        router.say(ROOM, "just now")
    else:
        cursor = f"{'0' * 16}-{number}"
    items, end = Desk(router).ask("history", room=ROOM, after=cursor)
    wanted = ["old 1", "just now"] if lost != "logs" else ["long ago", "old 1", "just now", "just now"]
    assert sorted(texts(items)) == sorted(wanted)
    assert end["gap"] is True
    assert Desk(router).ask("history", room=ROOM, after=end["cursor"])[0] == []


@pytest.mark.parametrize(
    "cursor", ["", "1", "-", "0" * 16 + "-", "0" * 16 + "-01", "x" * 300, "a" * 16 + "-" + "9" * 400]
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    _, end = Desk(alone()).ask("history", room=ROOM, after=cursor)
    assert (end["ok"], end["code"]) == (False, "usage")


@pytest.mark.parametrize(
    "fields", [{"before": "00"}, {"before": "zz"}, {"after": "0" * 16 + "-1", "since": "1h"}]
)
def test_what_cannot_be_asked_is_refused(fields: Mapping[str, str]) -> None:
    _, end = Desk(alone()).ask("history", room=ROOM, **fields)
    assert (end["ok"], end["code"]) == (False, "usage")


def test_a_new_limit_is_on_the_disk_before_the_old_one_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "RESERVED", 4)
    router = alone()
    given = set()
    for round_ in range(5):
        for number in range(6):
            record = router.say(ROOM, f"{round_} {number}")
            assert record is not None
            given.add(str(router.mesh.cursor(record)))
        router.power_cut()
        router.boot()
    assert len(given) == 30


def test_logs_in_another_router_have_another_epoch() -> None:
    router = alone()
    router.say(ROOM, "here")
    before = Desk(router).ask("history", room=ROOM)[1]["cursor"]
    router.stop()
    router.lose_state()
    router.boot()
    items, end = Desk(router).ask("history", room=ROOM, after=before)
    assert texts(items) == ["here"]
    assert end["gap"] is True


def test_a_file_of_numbers_that_is_older_than_the_logs_ends_their_epoch() -> None:
    router = alone()
    before = router.logs.read(ARRIVALS_FILE)
    router.stop()
    router.restart()
    record = router.say(ROOM, "numbered above the older limit")
    assert record is not None
    given = router.mesh.cursor(record)
    router.stop()
    router.logs.replace(ARRIVALS_FILE, [before])
    router.restart()
    kept = router.mesh.cursor(record)
    later = router.say(ROOM, "later")
    assert later is not None
    newest = router.mesh.cursor(later)
    assert given is not None
    assert kept is not None
    assert newest is not None
    assert kept.epoch == newest.epoch != given.epoch
    assert given.number == kept.number < newest.number


def test_a_line_of_another_router_arrives_when_it_is_found() -> None:
    here, there = alone(1), alone(2)
    theirs = there.say(ROOM, "from there")
    assert theirs is not None
    for number in range(3):
        here.say(ROOM, f"here {number}")
    _, end = Desk(here).ask("history", room=ROOM)
    here.stop()
    name = f"rooms/{ROOM}.log"
    here.logs.append(name, there.logs.read(name))
    here.restart()
    items, _ = Desk(here).ask("history", room=ROOM, after=end["cursor"])
    assert texts(items) == ["from there"]


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"00 5", b"0" * 16 + b" 0", b"0" * 16 + b" " + b"9" * 15]
)
def test_a_damaged_file_of_numbers_begins_a_new_epoch(content: bytes) -> None:
    router = alone()
    router.say(ROOM, "before")
    before = Desk(router).ask("history", room=ROOM)[1]["cursor"]
    router.stop()
    router.logs.replace(ARRIVALS_FILE, [content])
    router.restart()
    router.say(ROOM, "after")
    items, end = Desk(router).ask("history", room=ROOM, after=before)
    assert texts(items) == ["before", "after"]
    assert end["gap"] is True


def test_on_a_disk_that_takes_nothing_the_numbers_last_until_the_next_start() -> None:
    router = alone()
    router.say(ROOM, "before")
    before = Desk(router).ask("history", room=ROOM)[1]["cursor"]
    router.stop()
    router.logs.read_only = True
    router.restart()
    items, end = Desk(router).ask("history", room=ROOM, after=before)
    assert texts(items) == ["before"]
    assert end["gap"] is True
    router.stop()
    router.logs.read_only = False
    router.restart()
    router.say(ROOM, "after")
    assert texts(Desk(router).ask("history", room=ROOM, after=before)[0]) == ["after"]


def test_a_message_in_a_file_with_others_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstore, "MAX_NAMED_LOGS", 1)
    router = alone()
    _, end = Desk(router).ask("history", room=ROOM)
    for number in range(6):
        bring(router, old(number, number * MINUTE, room=("9", "8", "7", ROOM)[number % 4]))
    router.say(ROOM, "last")
    for _ in range(2):
        items, _ = Desk(router).ask("history", room=ROOM, after=end["cursor"])
        assert texts(items) == ["old 3", "last"]
        assert texts(Desk(router).ask("history", room=ROOM, after=end["cursor"], limit=1)[0]) == ["old 3"]
        router.stop()
        router.restart()


def test_a_page_is_full_though_some_of_it_can_not_be_shown() -> None:
    router = alone()
    _, end = Desk(router).ask("history", room=ROOM)
    shown = [old(number, MINUTE) for number in range(4)]
    odd = sign_record(
        STRANGER,
        mesh=MESH,
        space=Space.ROOM,
        log=ROOM,
        kind=Kind.MESSAGE,
        author="stranger",
        router=router_id(PublicKey(bytes(32))),
        stamp=make_stamp(EPOCH_MS),
        grade=Grade.GOOD,
        body=b"\xff",
    )
    bring(router, shown[0], odd, *shown[1:])
    items, end = Desk(router).ask("history", room=ROOM, after=end["cursor"], limit=2)
    assert texts(items) == ["old 0", "old 1"]
    items, end = Desk(router).ask("history", room=ROOM, after=end["cursor"], limit=2)
    assert texts(items) == ["old 2", "old 3"]


def test_exports_carry_no_numbers_and_imports_get_new_ones() -> None:
    here, there = alone(1), alone(2)
    desk = Desk(here)
    desk.enter(anew=True)
    desk.ask("send", room=ROOM, text="hello", key="k")
    lines = list(here.mesh.export(None))
    assert not [line for line in lines if re.search('"(arrival|late|once|mark)"', line)]
    there.say(ROOM, "first")
    _, end = Desk(there).ask("history", room=ROOM)
    there.mesh.take_in(lines)
    items, _ = Desk(there).ask("history", room=ROOM, after=end["cursor"])
    assert texts(items) == ["hello"]


# --- Once -----------------------------------------------------------------------------------------------


def test_a_send_that_is_repeated_is_stored_once_over_restarts_too() -> None:
    router = alone(fsync="always")
    desk = Desk(router)
    desk.enter(anew=True)
    _, first = desk.ask("send", room=ROOM, text="hello", key="a key")
    assert desk.ask("send", room=ROOM, text="hello", key="a key")[1] == first
    router.power_cut()
    router.boot()
    desk = Desk(router)
    desk.enter(anew=False)
    assert desk.ask("send", room=ROOM, text="hello", key="a key")[1] == first
    assert texts(desk.ask("history", room=ROOM)[0]) == ["hello"]
    assert desk.ask("send", room=ROOM, text="other", key="a key")[1]["code"] == "usage"
    assert desk.ask("send", room="2", text="hello", key="a key")[1]["code"] == "usage"
    assert desk.ask("send", room=ROOM, text="hello", key="another")[1]["record"] != first["record"]
    assert texts(desk.ask("history", room=ROOM)[0]) == ["hello", "hello"]


def test_a_send_of_what_was_wiped_meanwhile_is_not_stored_again() -> None:
    desk = Desk(alone())
    desk.enter(anew=True)
    _, first = desk.ask("send", room=ROOM, text="hello", key="a key")
    desk.ask("wipe", room=ROOM)
    assert desk.ask("send", room=ROOM, text="hello", key="a key")[1] == first
    assert desk.ask("history", room=ROOM)[0] == []


def test_the_newest_keys_are_remembered_in_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oncetable, "MAX_ONCE", 3)
    router = alone()
    desk = Desk(router)
    desk.enter(anew=True)
    for number in range(5):
        desk.ask("send", room=str(number % 2 + 1), text=f"text {number}", key=f"key {number}")
    router.stop()
    router.restart()
    desk = Desk(router)
    desk.enter(anew=False)
    again = [
        desk.ask("send", room=str(number % 2 + 1), text="another", key=f"key {number}")[1]
        for number in (4, 3, 2, 1)
    ]
    assert [answer.get("code") for answer in again] == ["usage", "usage", "usage", None]


@pytest.mark.parametrize("key", ["", "x" * 65, "a\nb", 7])
def test_what_is_no_key_is_refused(key: object) -> None:
    desk = Desk(alone())
    desk.enter(anew=True)
    assert desk.ask("send", room=ROOM, text="hello", key=key)[1]["code"] == "usage"
