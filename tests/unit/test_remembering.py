"""What a front end is told of deliveries and of the mesh, and what the router remembers for it."""

from meshchat.protocol.events import Held, MeshState
from meshchat.wire.records import Grade
from tests.unit.fakes import Chat, FakeMesh, Person, key, written


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
    record = bytes.fromhex(say(author, "soup"))
    account = chat.mesh.records[record].key
    for person in (author, other, again):
        person.heard()
    chat.events += chat.service.held(Held(record, "1", account, 2, 3))
    event = {"event": "held", "record": record.hex(), "room": "1", "by": 2, "of": 3}
    assert author.heard() == again.heard() == [event]
    assert other.heard() == deaf.heard() == []


def test_history_and_events_say_who_holds_what_was_written_here_and_no_other() -> None:
    chat = Chat()
    person = chat.person().enter("ja")
    person.ask("subscribe")
    here = say(person, "here")
    chat.mesh.take(written(FakeMesh(2), key(5), "far", "there", stamp=chat.mesh.stamp()[0]))
    held = [event["message"].get("held") for event in person.heard() if event["event"] == "message"]
    assert held == [0, None]
    chat.mesh.holders[bytes.fromhex(here)] = 2
    assert [item.get("held") for item in person.items("history", room="1")] == [2, None]
    asked = [here, "00" * 16, "no hex", "00", here]
    assert person.items("held", records=asked) == [{"record": here, "by": 2, "of": 3}]


def test_the_state_of_the_mesh_is_told_and_can_be_asked_for() -> None:
    chat = Chat()
    person = chat.person()
    assert person.ask("mesh") == {"neighbours": 3, "in_step": True, "clock": "good"}
    chat.events += chat.service.mesh_changed(MeshState(1, False, Grade.UNKNOWN))
    assert person.heard() == []
    person.ask("subscribe")
    chat.events += chat.service.mesh_changed(MeshState(1, False, Grade.UNKNOWN))
    assert person.heard() == [{"event": "mesh", "neighbours": 1, "in_step": False, "clock": "unknown"}]
