"""Who may do what: by the door and the login, for each operation there is; and who sees what."""

import itertools
import json
from typing import Any

import pytest

from meshchat.chat.access import OPERATOR, PEOPLE, Audience, Door, Right
from meshchat.chat.answers import Work
from meshchat.chat.requests import OPERATIONS
from meshchat.chat.watching import MAX_CODES, MAX_WATCHERS
from tests.unit.chats import Chat, Person, written
from tests.unit.routers import key

SAMPLES: dict[str, list[Any]] = {
    "text": ["1", "ann", "secret", "bo"],
    "list": [[], ["1"], ["secret"]],
    "flag": [True, False],
}


def requests(name: str) -> list[dict[str, Any]]:
    """Requests of this operation, with fields that pass their rules, the room `secret` among them."""
    fields = OPERATIONS[name].fields
    values = [
        [value for values in SAMPLES.values() for value in values if rule.fits(value)]
        + ([] if rule.required else [None])
        for rule in fields.values()
    ]
    return [dict(zip(fields, chosen, strict=True)) for chosen in itertools.product(*values)][:200]


def of_operator() -> list[str]:
    return [name for name, operation in OPERATIONS.items() if operation.right in (Right.OPERATE, Right.WATCH)]


def test_what_changes_the_router_or_shows_all_of_it_is_the_operator_s() -> None:
    """Whoever adds an operation names its right; these ones must never become anybody's."""
    assert set(of_operator()) == {
        *("wipe", "import", "export_all", "check", "status", "peers"),
        *("clock_set", "key_show", "key_new", "key_add", "key_use", "key_drop"),
        *("watch_new", "watch_list", "watch_drop"),
    }


@pytest.mark.parametrize("name", of_operator())
def test_what_is_the_operator_s_is_refused_at_the_people_s_door_and_changes_nothing(name: str) -> None:
    chat = Chat()
    chat.person().enter("ann").ask("send", room="1", text="stays")
    person = chat.person(PEOPLE)
    person.ask("login", user="ann", password="pass")
    for fields in requests(name):
        assert person.refused(name, **fields) == "no-right"
    assert person.texts() == ["stays"]
    assert chat.router.operator.keys() == []
    assert not chat.codes.changed


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(of_operator())))
def test_all_else_is_open_to_people(name: str) -> None:
    person = Chat().person(PEOPLE)
    for fields in requests(name):
        result = person.answer(name, **fields).result
        assert result["ok"] or result["code"] != "no-right"


@pytest.mark.parametrize("door", [OPERATOR, PEOPLE])
def test_the_door_s_rights_are_told_at_each_step(door: Door) -> None:
    chat = Chat()
    chat.person().ask("register", user="ann", password="pass")
    person = chat.person(door)
    assert person.ask("login", user="ann", password="pass")["rights"] == door.names()
    assert person.ask("logout")["rights"] == door.names()


# --- Watching -------------------------------------------------------------------------------------------


def test_a_code_lets_a_person_watch_at_each_login_until_the_operator_drops_it() -> None:
    chat = Chat()
    operator, ann = chat.person(), chat.person(PEOPLE).enter("ann")
    code = operator.ask("watch_new")["code"]
    assert ann.refused("status") == "no-right"
    assert ann.refused("watch", code="a" * 16) == "usage"
    assert "watch" in ann.ask("watch", code=f" {code[:8].upper()} {code[8:]} ")["rights"]
    assert ann.ask("status")["status"]["router"] == chat.mesh.router.hex()
    assert ann.refused("wipe") == "no-right"
    elsewhere = chat.person(PEOPLE)
    assert elsewhere.refused("check") == "no-right"
    elsewhere.ask("login", user="ann", password="pass")
    assert elsewhere.items("check")
    assert operator.items("watch_list") == [{"code": code, "users": ["ann"]}]
    operator.ask("watch_drop", code=code)
    assert ann.refused("status") == elsewhere.refused("status") == "no-right"
    assert operator.refused("watch_drop", code=code) == "usage"


def test_whoever_logs_out_watches_no_more() -> None:
    chat = Chat()
    ann = chat.person(PEOPLE).enter("ann")
    ann.ask("watch", code=chat.person().ask("watch_new")["code"])
    ann.ask("logout")
    assert ann.refused("status") == "no-right"


def test_codes_and_their_users_are_bounded() -> None:
    chat = Chat()
    operator = chat.person()
    codes = [operator.ask("watch_new")["code"] for _ in range(MAX_CODES)]
    assert operator.refused("watch_new") == "usage"
    for number in range(MAX_WATCHERS):
        chat.codes.enter(codes[0], key(number).public)
    assert chat.person(PEOPLE).enter("ann").refused("watch", code=codes[0]) == "usage"


# --- Viewers --------------------------------------------------------------------------------------------

SECRET = "word-for-few"


def only_ann(chat: Chat) -> Audience:
    return frozenset(user.key for user in chat.router.records() if user.author == "ann")


def hidden_room() -> tuple[Chat, Person, Person]:
    """A room that only ann may see, with a message in it; ann, and bo who may not."""
    chat: Chat

    def audience(room: str) -> Audience:
        return only_ann(chat) if room == "secret" else None

    chat = Chat(audience=audience)
    ann, bo = chat.person().enter("ann"), chat.person().enter("bo")
    for person in (ann, bo):
        person.ask("subscribe")
    ann.ask("join", room="secret")
    ann.ask("send", room="secret", text=SECRET)
    ann.ask("present", rooms=["secret"], active=True)
    chat.let_pass(5)
    chat.router.take(written(chat.mesh, key(9), "far", SECRET, room="secret"))
    return chat, ann, bo


def all_there_is(outcome: object) -> str:
    """An answer as it goes out."""
    answer = outcome.finish(outcome.compute(), 1000.0) if isinstance(outcome, Work) else outcome
    return json.dumps([dict(answer.result), *answer.items])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"export_all", "import", "wipe", "close"}))
def test_whoever_may_not_see_a_room_finds_it_by_no_operation(name: str) -> None:
    _, _, bo = hidden_room()
    everything = "".join(all_there_is(bo.outcome(name, **fields)) for fields in requests(name))
    assert SECRET not in everything
    shown = everything.replace("There is no room 'secret' here", "")
    # What bo himself says he has open is his own, and so is what he is called.
    if name not in ("personal", "prefer", "register"):
        assert '"secret"' not in shown


def test_events_of_a_room_reach_those_who_may_see_it_and_name_their_sessions() -> None:
    chat, ann, bo = hidden_room()
    told = [event for event in ann.heard() if event["event"] in ("message", "room")]
    assert [event["event"] for event in told] == ["room", "message", "message"]
    assert all(event["sessions"] == [0] for event in told)
    heard = json.dumps(bo.heard())
    assert SECRET not in heard
    assert "secret" not in heard
    assert bo.refused("send", room="secret", text="let me in") == "name"
    assert bo.refused("join", room="SECRET") == "name"
    assert ann.texts("secret") == [SECRET, SECRET]
    assert "secret" in [room["name"] for room in ann.items("rooms")]
    assert [who["user"] for who in ann.items("who", room="secret")] == ["ann"]
    assert chat.person().refused("history", room="secret") == "name"
