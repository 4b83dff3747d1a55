"""Who is present, as front ends tell and see it: what is said to the mesh, when, and what comes of it."""

from itertools import pairwise

from meshchat.constants import (
    ACTIVE_FOR,
    MAX_OPEN_ROOMS,
    PRESENCE_JITTER,
    PRESENCE_REFRESH,
    PRESENCE_REPEATS,
    STATEMENT_BURST,
    STATEMENT_RATE,
    TYPING_EVERY,
)
from meshchat.protocol.events import Restate
from meshchat.wire.presence import LONGEST_IDLE, MAX_STATEMENT, Statement
from tests.unit.chats import Chat, Person
from tests.unit.routers import Neighbour

SETTLED = sum(PRESENCE_REPEATS) * 1.2 + PRESENCE_JITTER
"""Seconds until a change was said for the last time."""


def said(chat: Chat) -> list[Statement]:
    """The statements so far, which are then forgotten."""
    statements = list(chat.mesh.statements)
    chat.mesh.statements.clear()
    return statements


def settled(*rooms: str) -> tuple[Chat, Person]:
    """Somebody who is present, of whom all was said."""
    chat = Chat()
    person = chat.person().enter("ja")
    person.ask("present", rooms=list(rooms), active=False)
    chat.let_pass(SETTLED)
    said(chat)
    return chat, person


# --- What front ends see --------------------------------------------------------------------------------


def test_who_has_a_room_open_is_listed_with_it() -> None:
    chat = Chat()
    ja, bo = chat.person().enter("ja"), chat.person().enter("bo")
    ja.ask("present", rooms=["2", "1"], active=True)
    chat.let_pass(PRESENCE_JITTER)
    users = {user["user"]: user for user in bo.items("users")}
    assert users["ja"]["present"] == [
        {"router": chat.mesh.router.hex(), "rooms": ["2", "1"], "active": True, "idle_s": 0}
    ]
    assert users["ja"]["active"] is True
    assert (users["bo"]["present"], users["bo"]["active"]) == ([], False)


def test_rooms_beyond_what_one_can_have_open_do_not_count() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    rooms = [f"r{number}" for number in range(9000)]
    person.ask("present", rooms=rooms, active=False)
    chat.let_pass(PRESENCE_JITTER)
    [statement] = said(chat)
    assert statement.rooms == tuple(rooms[:MAX_OPEN_ROOMS])


def test_who_lists_the_people_in_a_room_the_active_first() -> None:
    chat = Chat()
    people = {name: chat.person().enter(name) for name in ("abe", "bo", "cyd")}
    for name, person in people.items():
        person.ask("present", rooms=["2" if name == "bo" else "1"], active=name == "cyd")
    chat.let_pass(PRESENCE_JITTER)
    two, three = (Neighbour(chat.router, number) for number in (2, 3))
    two.states(people["cyd"].signer, "cyd", "1", idle=90)
    three.states(people["cyd"].signer, "cyd", "3")
    [first, second] = people["abe"].items("who", room="1")
    assert (first["user"], first["active"], first["idle_s"]) == ("cyd", True, 0)
    assert first["routers"] == [chat.mesh.router.hex(), two.id.hex()]
    assert (second["user"], second["active"], second["idle_s"]) == ("abe", False, None)
    assert people["abe"].refused("who", room="nowhere") == "name"


def test_subscribers_are_told_of_each_change() -> None:
    chat = Chat()
    ja, listener = chat.person().enter("ja"), chat.person()
    listener.ask("subscribe")
    ja.ask("present", rooms=["1"], active=False)
    chat.let_pass(PRESENCE_JITTER)
    ja.ask("logout")
    chat.let_pass(0)
    common = {
        "event": "presence",
        "user": "ja",
        "key": listener.items("users")[0]["key"],
        "router": chat.mesh.router.hex(),
        "active": False,
    }
    told = [event for event in listener.heard() if event["event"] == "presence"]
    assert told == [{**common, "rooms": ["1"]}, {**common, "rooms": []}]


def test_a_stranger_without_an_account_is_shown_once_the_account_has_come() -> None:
    here, there = Chat(1), Chat(2)
    signer = there.person().enter("ja").signer
    [account] = there.router.records()
    listener = here.person()
    listener.ask("subscribe")
    Neighbour(here.router, 2).states(signer, "ja", "1")
    assert listener.items("who", room="1") == listener.heard() == []
    here.router.take(account)
    assert [event["event"] for event in listener.heard()] == ["user", "presence"]
    assert [who["user"] for who in listener.items("who", room="1")] == ["ja"]


def test_who_is_retired_is_shown_nowhere_any_more() -> None:
    here, there = Chat(1), Chat(2)
    ja = there.person().enter("ja")
    listener = here.person()
    here.meet(there)
    Neighbour(here.router, 2).states(ja.signer, "ja", "1")
    listener.ask("subscribe")
    ja.ask("retire", password="pass")
    here.meet(there)
    assert [event.get("rooms") for event in listener.heard()] == [None, []]
    assert listener.items("who", room="1") == listener.items("users") == []


def test_somebody_else_with_a_known_name_is_shown_with_another_tag() -> None:
    here, there = Chat(1), Chat(2)
    people = [chat.person().enter("ja") for chat in (here, there)]
    for chat, person in zip((here, there), people, strict=True):
        person.ask("present", rooms=["1"], active=False)
        chat.let_pass(PRESENCE_JITTER)
    here.meet(there)
    Neighbour(here.router, 2).states(people[1].signer, "ja", "1")
    assert len({who["user"] for who in people[0].items("who", room="1")}) == 2


# --- What the mesh is told ------------------------------------------------------------------------------


def test_needs_a_login_and_names_of_rooms() -> None:
    chat = Chat()
    assert chat.person().refused("present", rooms=["1"], active=False) == "not-logged-in"
    person = chat.person().enter("ja")
    assert person.refused("present", rooms=["a/b"], active=False) == "name"
    assert person.refused("present", rooms="1", active=False) == "usage"
    assert person.refused("present", rooms=["1"]) == "usage"
    assert chat.service.deadline is None


def test_what_changed_is_said_soon_and_twice_more_then_every_ten_minutes() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    person.ask("present", rooms=["1"], active=False)
    chat.let_pass(0.0)
    person.ask("present", rooms=["1", "2"], active=False)
    chat.let_pass(PRESENCE_JITTER)
    assert said(chat) == [Statement(LONGEST_IDLE, ("1", "2"))], "what is opened together is said together"
    chat.let_pass(SETTLED)
    assert len(said(chat)) == len(PRESENCE_REPEATS)
    chat.let_pass(10 * PRESENCE_REFRESH)
    assert 9 <= len(said(chat)) <= 11


def test_who_has_gone_is_said_to_have_gone_and_then_nothing_more_is_due() -> None:
    chat, person = settled("1")
    person.leave()
    chat.let_pass(SETTLED)
    assert said(chat) == [Statement(LONGEST_IDLE, ())] * (1 + len(PRESENCE_REPEATS))
    assert chat.service.deadline is None


def test_who_leaves_before_anything_was_said_leaves_nothing_behind() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    person.ask("present", rooms=["1"], active=True)
    person.leave()
    chat.let_pass(SETTLED)
    assert said(chat) == []
    assert chat.service.deadline is None


def test_a_session_in_which_somebody_else_logs_in_or_whose_account_is_retired_has_gone() -> None:
    chat, person = settled("1")
    chat.person().ask("register", user="bo", password="pass")
    person.ask("login", user="bo", password="pass")
    chat.let_pass(0)
    assert said(chat) == [Statement(LONGEST_IDLE, ())]
    person.ask("present", rooms=["2"], active=False)
    chat.let_pass(PRESENCE_JITTER)
    said(chat)
    person.ask("retire", password="pass")
    chat.let_pass(0)
    assert said(chat) == [Statement(LONGEST_IDLE, ())]
    assert chat.person().items("who", room="2") == []


def test_a_second_session_adds_its_rooms_and_takes_them_along() -> None:
    chat, _ = settled("1")
    second = chat.person()
    second.ask("login", user="ja", password="pass")
    second.ask("present", rooms=["2"], active=False)
    chat.let_pass(PRESENCE_JITTER)
    assert said(chat) == [Statement(LONGEST_IDLE, ("2", "1"))]
    second.ask("present", rooms=[], active=False)
    chat.let_pass(PRESENCE_JITTER)
    assert said(chat) == [Statement(LONGEST_IDLE, ("1",))]


def test_who_types_on_and_on_says_so_once_a_minute_without_a_gap() -> None:
    chat, person = settled("1")
    start = chat.now
    times = []
    while chat.now < start + 600:
        person.ask("present", rooms=["1"], active=True)
        before = chat.now
        chat.let_pass(TYPING_EVERY)
        times += [before] * len(said(chat))
    assert 10 <= len(times) <= 11
    assert all(b - a <= ACTIVE_FOR for a, b in pairwise(times))


def test_who_writes_says_no_more_than_the_message() -> None:
    chat, person = settled("1")
    for _ in range(20):
        person.ask("present", rooms=["1"], active=True)
        person.ask("send", room="1", text="hello")
        chat.let_pass(TYPING_EVERY)
    assert len(said(chat)) <= 2, "one when it began, and perhaps a refresh"


def test_how_long_nothing_was_typed_is_said_with_the_refresh() -> None:
    chat, person = settled("1")
    person.ask("present", rooms=["1"], active=True)
    chat.let_pass(PRESENCE_JITTER)
    assert [statement.idle for statement in said(chat)] == [0]
    chat.let_pass(PRESENCE_REFRESH * 1.1)
    [refresh] = said(chat)
    assert PRESENCE_REFRESH * 0.9 - 2 <= refresh.idle <= PRESENCE_REFRESH * 1.1


def test_a_script_that_opens_and_closes_rooms_says_no_more_than_others_take() -> None:
    chat, person = settled("1")
    for number in range(1000):
        person.ask("present", rooms=[f"room{number % 7}"], active=True)
        chat.let_pass(0.5)
    assert len(said(chat)) <= STATEMENT_BURST + 500 * STATEMENT_RATE + 1


def test_rooms_that_do_not_fit_are_left_out_but_the_one_shown() -> None:
    chat = Chat()
    person = chat.person().enter("字" * 32)
    rooms = [f"{number:02}" + "字" * 30 for number in range(20)]
    person.ask("present", rooms=rooms, active=False)
    chat.let_pass(PRESENCE_JITTER)
    [statement] = said(chat)
    assert statement.rooms == tuple(rooms[: len(statement.rooms)])
    assert statement.rooms
    assert len(statement.encode()) < MAX_STATEMENT


def test_when_the_clock_moved_or_the_daemon_stops_all_of_it_is_said_at_once() -> None:
    chat, _ = settled("1")
    chat.tell(Restate())
    chat.let_pass(PRESENCE_JITTER)
    assert said(chat) == [Statement(LONGEST_IDLE, ("1",))]
    for _ in range(600):
        chat.tell(Restate())
        chat.let_pass(1)
    assert 10 <= len(said(chat)) <= 14, "a clock that jumps to and fro makes nobody talk all the time"
    chat.service.farewell(chat.now)
    assert said(chat) == [Statement(LONGEST_IDLE, ())]


def test_a_message_by_a_script_makes_nobody_present() -> None:
    chat = Chat()
    chat.person().enter("ja").ask("send", room="1", text="hello")
    chat.let_pass(SETTLED)
    assert said(chat) == []
