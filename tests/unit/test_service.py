import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.answers import Answer, Work
from meshchat.chat.notices import Evicted
from meshchat.chat.requests import OPERATIONS
from meshchat.constants import DEFAULT_ROOMS, MAX_TEXT
from meshchat.identity.meshkey import MeshKey, mesh_key_text
from meshchat.wire.records import Grade, Kind, Space, make_position, make_stamp
from tests.unit.chats import Chat, written
from tests.unit.routers import START_MS, Neighbour, key

ODD_TEXTS = [
    "two\nlines",
    " padded ",
    "a|b/c!^d",
    "\x00\x1b[2J\x07",
    "\u202eevil",
    "😀" * (MAX_TEXT // 4),
    "e\u0301 is not é",
]


# --- Accounts -------------------------------------------------------------------------------------------


def test_sign_up_log_in_and_out() -> None:
    chat = Chat()
    person = chat.person()
    assert person.ask("whoami") == {"user": None}
    assert person.ask("register", user="ja", password="pass") == {"user": "ja"}
    assert person.ask("whoami") == {"user": None}
    assert person.ask("login", user="JA", password="pass")["user"] == "ja"
    assert person.ask("whoami") == {"user": "ja"}
    assert chat.person().ask("whoami") == {"user": None}
    person.ask("logout")
    assert person.ask("whoami") == {"user": None}


def test_a_known_name_is_taken_also_in_another_spelling_and_while_two_sign_up_at_once() -> None:
    chat = Chat()
    first, second = chat.person(), chat.person()
    works = [person.outcome("register", user="ja", password="pass") for person in (first, second)]
    answers = [work.finish(work.compute(), 0.0) for work in works if isinstance(work, Work)]
    assert [answer.result["ok"] for answer in answers] == [True, False]
    assert answers[1].result == {"ok": False, "code": "taken", "error": "This username is already taken"}
    assert first.refused("register", user="Ja", password="x") == "taken"
    assert first.refused("register", user="ｊａ", password="x") == "taken"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer_and_cost_the_same_work() -> None:
    chat = Chat()
    chat.person().enter("ja")
    for fields in ({"user": "ja", "password": "no"}, {"user": "nobody", "password": "no"}):
        outcome = chat.person().outcome("login", **fields)
        assert isinstance(outcome, Work)
        assert outcome.finish(outcome.compute(), 0.0).result["error"] == "Username or password is invalid"
    assert chat.person().refused("login", user="ja", password="") == "login"


def test_a_new_password_works_on_a_router_that_learns_of_it_and_the_old_one_no_longer() -> None:
    here, there = Chat(1), Chat(2)
    person = here.person().enter("ja", "old")
    assert person.refused("passwd", old="wrong", new="new") == "login"
    assert person.refused("passwd", old="old", new="") == "password"
    person.ask("passwd", old="old", new="new")
    here.meet(there)
    assert there.person().refused("login", user="ja", password="old") == "login"
    assert there.person().ask("login", user="ja", password="new")["user"] == "ja"
    person.ask("passwd", old="new", new="third")
    here.meet(there)
    assert there.person().ask("login", user="ja", password="third")["user"] == "ja"


def test_a_retired_account_is_logged_out_everywhere_and_its_name_stays_taken() -> None:
    here, there = Chat(1), Chat(2)
    person = here.person().enter("ja")
    here.meet(there)
    elsewhere = there.person()
    elsewhere.ask("login", user="ja", password="pass")
    assert person.refused("retire", password="wrong") == "login"
    person.ask("retire", password="pass")
    here.meet(there)
    assert person.ask("whoami") == elsewhere.ask("whoami") == {"user": None}
    assert there.person().refused("login", user="ja", password="pass") == "login"
    assert there.person().refused("register", user="ja", password="pass") == "taken"
    assert there.person().items("users") == []


def test_a_name_given_to_two_people_by_two_partitions_is_kept_by_both() -> None:
    here, there = Chat(1), Chat(2)
    one, other = here.person().enter("ja", "one"), there.person().enter("ja", "other")
    one.ask("send", room="1", text="from one")
    other.ask("send", room="1", text="from other")
    here.meet(there)
    names = {item["text"]: item["user"] for item in here.person().items("history", room="1")}
    assert names["from one"].startswith("ja~")
    assert names["from other"].startswith("ja~")
    assert names["from one"] != names["from other"]
    assert one.ask("whoami") == {"user": names["from one"]}
    assert {user["user"] for user in there.person().items("users")} == set(names.values())
    assert here.person().ask("login", user="ja", password="other")["user"] == names["from other"]
    assert here.person().ask("login", user=names["from one"], password="one")["user"] == names["from one"]


def test_a_full_disk_is_said_and_nothing_has_changed() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    chat.router.fill_disk()
    assert person.refused("send", room="1", text="hi") == "disk"
    assert person.refused("register", user="bo", password="x") == "disk"
    assert person.refused("passwd", old="pass", new="x") == "disk"
    assert person.refused("join", room="Garten") == "disk"
    chat.router.fill_disk(full=False)
    person.ask("register", user="bo", password="x")
    assert chat.person().ask("login", user="ja", password="pass")
    assert "Garten" not in [room["name"] for room in person.items("rooms")]


# --- Rooms and messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_text_is_stored_exactly_as_typed(text: str) -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    sent = person.ask("send", room="1", text=text)
    [message] = person.items("history", room="1")
    record = chat.router.record(sent["record"])
    assert message == {
        "id": sent["record"],
        "room": "1",
        "user": "ja",
        "time": sent["time"],
        "text": text,
        "router": chat.mesh.router.hex(),
        "grade": "good",
        "key": person.items("users")[0]["key"],
        "position": make_position(1, record.stamp, record.id).hex(),
        "cursor": str(chat.mesh.newest()),
        "held": 0,
    }


@pytest.mark.parametrize(
    ("text", "code"), [("", "text"), (" \n\t", "text"), ("x" * (MAX_TEXT + 1), "text"), ("\ud800", "usage")]
)
def test_what_cannot_be_sent_is_refused(text: str, code: str) -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    assert person.refused("send", room="1", text=text) == code
    assert person.texts() == []


def test_sending_and_joining_need_a_login() -> None:
    person = Chat().person()
    assert person.refused("send", room="1", text="hi") == "not-logged-in"
    assert person.refused("join", room="x") == "not-logged-in"
    assert person.refused("passwd", old="a", new="b") == "not-logged-in"
    assert person.refused("retire", password="a") == "not-logged-in"


def test_rooms_are_made_by_use_and_keep_their_first_spelling() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    assert person.ask("join", room="Garten") == {"room": "Garten", "created": True}
    assert person.ask("join", room="garten") == {"room": "Garten", "created": False}
    assert person.ask("send", room="GARTEN", text="hi")["room"] == "Garten"
    assert person.ask("send", room="attic", text="hi")["room"] == "attic"
    assert person.ask("join", room="1") == {"room": "1", "created": False}
    rooms = person.items("rooms")
    assert [room["name"] for room in rooms] == [*DEFAULT_ROOMS, "attic", "Garten"]
    assert [room["messages"] for room in rooms] == [0, 0, 0, 0, 1, 1]
    assert rooms[0]["last"] is None
    assert rooms[5]["last"]
    made = [record.log for record in chat.mesh.permanent(Space.ROOMS)]
    assert made == ["Garten", "attic"]
    assert person.refused("join", room="no/room") == "name"
    assert person.refused("history", room="nowhere") == "name"


def test_two_spellings_from_two_partitions_both_stay_reachable() -> None:
    here, there = Chat(1), Chat(2)
    here.person().enter("ja").ask("send", room="Garten", text="upper")
    there.person().enter("bo").ask("send", room="garten", text="lower")
    here.meet(there)
    for chat in (here, there):
        assert chat.person().texts("Garten") == ["upper"]
        assert chat.person().texts("garten") == ["lower"]
        assert chat.person().texts("GARTEN") == ["upper"]


def test_history_has_bounds_and_a_limit() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    for minute in range(5):
        chat.router.ms = START_MS + minute * 60_000
        person.ask("send", room="1", text=str(minute))
    assert person.texts() == ["0", "1", "2", "3", "4"]
    assert person.texts(limit=2) == ["3", "4"]
    assert person.texts(since="2m") == ["2", "3", "4"]
    assert person.texts(since="3m", until="1m") == ["1", "2"]
    time = person.items("history", room="1")[1]["time"]
    assert person.texts(since=time, limit=1, until=None) == ["4"]
    assert person.refused("history", room="1", since="the day before never") == "usage"
    for limit in (0, 2**31, 10**40):
        assert person.refused("history", room="1", limit=limit) == "usage"


def test_what_is_no_message_of_this_version_is_kept_and_not_shown() -> None:
    chat = Chat()
    listener = chat.person()
    listener.ask("subscribe")
    chat.router.take(written(chat.mesh, key(5), "bo", b"\xff\xfe not UTF-8"))
    chat.router.take(written(chat.mesh, key(5), "bo", "later", kind=99))
    chat.router.take(written(chat.mesh, key(5), "bo", "undated", grade=Grade.UNKNOWN, stamp=make_stamp(1)))
    assert [(item["text"], item["grade"]) for item in listener.items("history", room="1")] == [
        ("undated", "unknown")
    ]
    assert [event["message"]["text"] for event in listener.heard()] == ["undated"]


def test_the_mesh_s_notice_reaches_the_author() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    Neighbour(chat.router, 2).shows(chat.router.ms - 3_600_000)
    assert "ahead of 1 of its neighbours" in person.ask("send", room="1", text="hi")["notice"]


# --- Events ---------------------------------------------------------------------------------------------


def test_subscribers_hear_of_what_they_asked_for() -> None:
    chat = Chat()
    all_rooms, only_two, deaf = chat.person(), chat.person(), chat.person()
    all_rooms.ask("subscribe", rooms=None)
    only_two.ask("subscribe", rooms=["2"])
    assert only_two.refused("subscribe", rooms=["nowhere"]) == "name"
    author = chat.person().enter("ja")
    author.ask("send", room="1", text="one")
    author.ask("send", room="2", text="two")
    author.ask("join", room="Garten")
    chat.person().ask("wipe", room="1")
    events = all_rooms.heard()
    assert [event["event"] for event in events] == ["user", "message", "message", "room", "wiped"]
    assert events[1]["live"] is True
    assert events[1]["message"]["text"] == "one"
    assert events[3] == {"event": "room", "name": "Garten"}
    assert events[4] == {"event": "wiped", "room": "1", "messages": 1}
    heard = only_two.heard()
    assert [event["room"] for event in heard if event["event"] == "message"] == ["2"]
    assert deaf.heard() == []
    all_rooms.leave()
    author.ask("send", room="1", text="gone")
    assert all_rooms.heard() == []


def test_what_comes_by_catching_up_is_not_live_and_shows_its_room() -> None:
    here, there = Chat(1), Chat(2)
    here.person().enter("ja").ask("send", room="Garten", text="hi")
    listener = there.person()
    listener.ask("subscribe")
    there.router.ms += 3_600_000
    there.meet(here)
    events = listener.heard()
    assert [event["name"] for event in events if event["event"] == "room"] == ["Garten"]
    assert [event["live"] for event in events if event["event"] == "message"] == [False]


# --- Wipe, export, import -------------------------------------------------------------------------------


def test_a_wipe_leaves_accounts_and_rooms() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    person.ask("send", room="Garten", text="a")
    person.ask("send", room="1", text="b")
    assert person.ask("wipe", room="garten") == {"messages": 1}
    assert person.texts("Garten") == []
    assert person.texts("1") == ["b"]
    assert person.ask("wipe") == {"messages": 1}
    assert person.refused("wipe", room="nowhere") == "name"


def test_export_and_import_carry_everything_and_count_what_is_refused() -> None:
    here, there = Chat(1), Chat(2)
    person = here.person().enter("ja")
    person.ask("send", room="Garten", text="hi")
    lines = [item["line"] for item in person.items("export_all")]
    fields = json.loads(lines[-1])
    signature = fields["signature"]
    forged = json.dumps({**fields, "signature": ("A" if signature[0] != "A" else "B") + signature[1:]})
    answer = there.person().ask("import", lines=[*lines, "", "junk", forged])
    assert answer == {"added": 3, "known": 0, "refused": {"line-syntax": 1, "signature": 1}}
    assert there.person().ask("import", lines=lines)["known"] == 3
    assert there.person().texts("Garten") == ["hi"]
    assert there.person().ask("login", user="ja", password="pass")["user"] == "ja"


def test_tables_are_read_at_the_start_and_what_goes_is_forgotten() -> None:
    before = Chat()
    person = before.person().enter("ja")
    person.ask("send", room="Garten", text="hi")
    again = Chat(router=before.router)
    assert again.person().texts("garten") == ["hi"]
    again.person().ask("login", user="ja", password="pass")
    gone = tuple(record for record in again.router.records() if record.permanent)
    again.person().ask("wipe")
    again.tell(Evicted(gone))
    assert again.person().refused("login", user="ja", password="pass") == "login"
    assert [room["name"] for room in again.person().items("rooms")] == list(DEFAULT_ROOMS)


# --- The router -----------------------------------------------------------------------------------------


def test_the_router_s_own_operations_pass_through() -> None:
    chat = Chat()
    person = chat.person()
    status = person.ask("status")["status"]
    assert status["router"] == chat.mesh.router.hex()
    chat.person().enter("ja").ask("send", room="Garten", text="hi")
    listed = [{name: room[name] for name in ("name", "messages", "digest")} for room in person.items("rooms")]
    assert person.ask("status")["status"]["rooms"] == listed
    assert [room["name"] for room in listed] == [*DEFAULT_ROOMS, "Garten"]
    assert len({room["digest"] for room in listed}) == 2  # all that are empty have one
    assert all(room["digest"] for room in listed)
    neighbour = Neighbour(chat.router, 2)
    assert [peer["router"] for peer in person.items("peers")] == [neighbour.id.hex()]
    assert "clock" in [finding["what"] for finding in person.items("check")]
    assert person.ask("clock_show")["clock"]["quality"] == "good"
    new_year = "2027-01-01T00:00:00.000Z"
    assert person.ask("clock_set", time=new_year)["clock"]["time"] == new_year
    for absurd in ("1900-01-01", "2026-11-20T23:59:59Z", "2046-11-17", "9999-12-31"):
        assert person.refused("clock_set", time=absurd) == "clock"
    assert person.ask("clock_show")["clock"]["time"] == new_year
    [key] = person.ask("key_new")["keys"]
    assert key["sends"] is True
    assert person.ask("key_add", key=mesh_key_text(MeshKey(bytes(32))))["keys"][0] == key
    assert person.refused("key_use", key="bad") == "config"
    assert len(person.ask("key_show")["keys"]) == 2


# --- Hostile requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_fields",
    [
        {},
        {"do": None},
        {"do": "nothing"},
        {"do": ["login"]},
        {"do": "x" * 9999},
        {"do": "\x1b[2J"},
        {"do": "login"},
        {"do": "login", "user": 1, "password": "x"},
        {"do": "login", "user": None, "password": "x"},
        {"do": "register", "user": "a b", "password": "x"},
        {"do": "history", "room": "1", "limit": True},
        {"do": "history", "room": "1", "limit": 1.5},
        {"do": "history", "room": "1", "since": "\x00"},
        {"do": "history", "room": "\ud800"},
        {"do": "subscribe", "rooms": "1"},
        {"do": "subscribe", "rooms": [1]},
        {"do": "import", "lines": [None]},
        {"do": "clock_set", "time": 5},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(request_fields: dict[str, Any]) -> None:
    chat = Chat()
    answer = chat.service.handle(chat.person().session, request_fields, 0.0)
    assert isinstance(answer, Answer)
    assert answer.result["ok"] is False
    line = str(answer.result["error"])
    assert line.isprintable()
    assert len(line) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
field_names = sorted({name for operation in OPERATIONS.values() for name in operation.fields})


@given(st.sampled_from(sorted(OPERATIONS)), st.dictionaries(st.sampled_from(field_names), json_values))
def test_no_request_raises(do: str, fields: dict[str, Any]) -> None:
    chat = Chat()
    outcome = chat.person().outcome(do, **fields)
    if isinstance(outcome, Work):
        outcome = outcome.finish(outcome.compute(), 0.0)
    list(outcome.items)
    assert isinstance(outcome.result["ok"], bool)


def test_a_stranger_cannot_break_the_tables_with_odd_records() -> None:
    chat = Chat()
    listener = chat.person()
    listener.ask("subscribe")
    for space in (Space.ROOMS, Space.ACCOUNTS, 200, 5):
        for kind in (Kind.ROOM, Kind.ACCOUNT, Kind.RETIREMENT, 250):
            chat.router.take(written(chat.mesh, key(9), "bo", b"", room="", space=space, kind=kind))
    assert [room["name"] for room in listener.items("rooms")] == list(DEFAULT_ROOMS)
    assert listener.items("users") == []
    assert listener.heard() == []
