"""What a front end is told of deliveries and of the mesh, and what the router remembers for it."""

from meshchat.chat.names import key_tag
from meshchat.constants import MAX_OPEN_ROOMS
from meshchat.protocol.router import HELD_WAIT, MESH_STATE_WAIT
from tests.unit.chats import Chat, Person, written
from tests.unit.routers import Neighbour, key

NOTHING = {"marks": {}, "ignored": [], "ignored_keys": [], "bell": "mentions", "rooms": [], "times": True}


def login(chat: Chat, user: str) -> Person:
    person = chat.person()
    person.ask("login", user=user, password="pass")
    return person


def say(person: Person, text: str, room: str = "1") -> str:
    record = person.ask("send", room=room, text=text)["record"]
    assert isinstance(record, str)
    return record


# --- Deliveries and the mesh ----------------------------------------------------------------------------


def test_an_author_is_told_on_all_his_screens_and_nobody_else_is() -> None:
    chat = Chat()
    author, other = chat.person().enter("ja"), chat.person().enter("bo")
    again, deaf = login(chat, "ja"), login(chat, "ja")
    for person in (author, other, again):
        person.ask("subscribe", rooms=[])
    neighbours = [Neighbour(chat.router, number) for number in range(3)]
    record = say(author, "soup")
    for neighbour in neighbours[:2]:
        neighbour.confirms(chat.router.record(record))
    for person in (author, other, again):
        person.heard()
    chat.let_pass(HELD_WAIT)
    event = {"event": "held", "record": record, "room": "1", "by": 2, "of": 3, "sessions": [0]}
    assert author.heard() == again.heard() == [event]
    assert other.heard() == deaf.heard() == []


def test_history_says_to_the_author_alone_who_holds_what_was_written_here() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    other = chat.person().enter("bo")
    here = say(person, "here")
    chat.router.take(written(Chat(2).mesh, key(5), "far", "there", stamp=chat.mesh.stamp()[0]))
    neighbours = [Neighbour(chat.router, number) for number in range(3)]
    for neighbour in neighbours[:2]:
        neighbour.confirms(chat.router.record(here))
    assert [item.get("held") for item in person.items("history", room="1")] == [2, None]
    asked = [here, "00" * 16, "no hex", "00", here]
    assert person.items("held", records=asked) == [{"record": here, "by": 2, "of": 3}]
    assert [item.get("held") for item in other.items("history", room="1")] == [None, None]
    assert other.items("held", records=asked) == []


def test_the_state_of_the_mesh_is_told_and_can_be_asked_for() -> None:
    chat = Chat()
    person = chat.person()
    assert person.ask("mesh") == {"neighbours": 0, "in_step": True, "clock": "good"}
    neighbour = Neighbour(chat.router, 2)
    chat.let_pass(MESH_STATE_WAIT)
    assert person.heard() == []
    person.ask("subscribe")
    neighbour.differs()
    chat.let_pass(MESH_STATE_WAIT)
    assert person.heard() == [{"event": "mesh", "neighbours": 1, "in_step": False, "clock": "good"}]


# --- What is remembered ---------------------------------------------------------------------------------


def test_each_user_has_his_own_and_needs_a_login() -> None:
    chat = Chat()
    for do, fields in (("personal", {}), ("mark", {"room": "1", "record": "00"}), ("prefer", {})):
        assert chat.person().refused(do, **fields) == "not-logged-in"
    ja, bo = chat.person().enter("ja"), chat.person().enter("bo")
    assert ja.ask("personal") == NOTHING
    changed = ja.ask("prefer", bell="all", times=False, rooms=["2", "new", "2"])
    assert changed == {**NOTHING, "bell": "all", "times": False, "rooms": ["2", "new"]}
    assert login(chat, "ja").ask("personal") == changed
    assert bo.ask("personal") == NOTHING
    assert ja.refused("prefer", bell="loud") == "usage"
    assert ja.refused("prefer", bell="off", rooms=["../etc"]) == "name"
    assert ja.ask("personal") == changed, "all or nothing"
    many = [f"r{number}" for number in range(MAX_OPEN_ROOMS + 4)]
    assert ja.ask("prefer", rooms=many)["rooms"] == many[:MAX_OPEN_ROOMS]


def test_a_mark_moves_forward_only_and_outlives_its_message() -> None:
    chat = Chat()
    ja = chat.person().enter("ja")
    first, second = say(ja, "one"), say(ja, "two")
    assert ja.ask("mark", room="1", record=second)["record"] == second
    assert ja.ask("mark", room="1", record=first)["record"] == second
    assert ja.refused("mark", room="2", record=second) == "usage"
    assert ja.refused("mark", room="1", record="zz") == "usage"
    assert ja.refused("mark", room="nowhere", record=second) == "name"
    item = ja.items("history", room="1")[-1]
    ja.ask("wipe", room="1")
    assert ja.ask("personal")["marks"] == {"1": {"id": second, "time": item["time"]}}


def test_who_is_ignored_stays_ignored_whatever_he_is_called() -> None:
    here, there = Chat(1), Chat(2)
    ja, bo = here.person().enter("ja"), here.person().enter("bo")
    assert ja.refused("prefer", ignore="nobody") == "name"
    assert ja.refused("prefer", ignore="ja") == "name"
    assert ja.refused("prefer", unignore="bo") == "name"
    ignoring = ja.ask("prefer", ignore="BO")
    assert ignoring["ignored"] == ["bo"]
    (tag,) = ignoring["ignored_keys"]
    assert tag == next(user["key"] for user in ja.items("users") if user["user"] == "bo")
    there.person().enter("bo", "other")
    here.meet(there)
    assert ja.ask("personal")["ignored"] == [f"bo~{tag}"], "the name has become that of two"
    assert ja.refused("prefer", ignore="bo") == "name", "which one?"
    other = next(user["user"] for user in ja.items("users") if user["user"] not in ("ja", f"bo~{tag}"))
    assert ja.ask("prefer", ignore=other)["ignored"] == [f"bo~{tag}", other]
    assert ja.ask("prefer", unignore=f"bo~{tag}")["ignored"] == [other]
    assert ja.ask("prefer", unignore="bo")["ignored"] == []
    assert bo.ask("personal") == NOTHING


def test_somebody_without_an_account_here_can_be_ignored() -> None:
    chat = Chat()
    ja = chat.person().enter("ja")
    stranger = written(Chat(2).mesh, key(9), "far", "hello", stamp=chat.mesh.stamp()[0])
    chat.router.take(stranger)
    assert ja.ask("prefer", ignore="far") == {
        **NOTHING,
        "ignored": ["far"],
        "ignored_keys": [key_tag(key(9).public)],
    }


def test_who_leaves_having_changed_something_has_it_written_soon() -> None:
    chat = Chat()
    ja, reader = chat.person().enter("ja"), chat.person().enter("bo")
    ja.ask("prefer", bell="off")
    reader.ask("personal")
    reader.leave()
    assert not chat.personal.is_due
    ja.ask("logout")
    assert chat.personal.is_due
