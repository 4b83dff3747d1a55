"""What is unread, who is where and what is hidden: the model that every front end shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.localtime import format_rfc3339
from meshchat.client.messages import Message, names
from meshchat.client.model import MAX_LOADED, Model
from meshchat.client.rooms import MAX_ENTRIES, MAX_FRESH, MAX_TEXT_HELD, Mark
from tests.unit.routers import START_MS

ME, MY_KEY, HERE = "ada", "keyofada", "00" * 8


def model(*rooms: str) -> Model:
    made = Model()
    made.user, made.key, made.router = ME, MY_KEY, HERE
    made.know(rooms or ("1", "2", "3", "4", "garden"))
    return made


def message(
    made: Model, number: int, text: str = "hello", room: str = "1", user: str = "bob", ms: int | None = None
) -> Message:
    when = START_MS + number if ms is None else ms
    fields = {"id": f"{number:04x}", "room": room, "user": user, "key": f"keyof{user}", "text": text}
    place = {"time": format_rfc3339(when), "position": f"{when:016x}{number:04x}"}
    return made.read({**fields, **place, "router": HERE, "grade": "good"})


def show(made: Model, name: str, *held: Message) -> None:
    made.room(name).load(list(held), all_there_is=True)
    made.show(name)
    made.seen_all()


# --- Rooms ----------------------------------------------------------------------------------------------


def test_a_room_that_is_a_number_has_it_and_keeps_it() -> None:
    made = model("1", "3", "alpha", "beta", "012", "\u0663")
    assert [room.title for room in made.rooms.values()] == [
        "1",
        "2:alpha",
        "3",
        "4:beta",
        "5:012",
        "6:\u0663",
    ]
    made.know(["2", "aaa"])
    assert made.rooms["alpha"].number == 2
    assert made.find_room("2") is made.rooms["2"]
    assert made.find_room("ALPHA") is made.rooms["alpha"]
    assert made.find_room("9") is None
    assert len({room.number for room in made.rooms.values()}) == len(made.rooms)


@given(st.lists(st.lists(st.one_of(st.integers(0, 12).map(str), st.text("ab0", min_size=1)), max_size=6)))
def test_numbers_tell_rooms_apart_and_never_change(batches: list[list[str]]) -> None:
    made = Model()
    before: dict[str, int] = {}
    for batch in batches:
        made.know(batch)
        after = {name: room.number for name, room in made.rooms.items()}
        assert len(set(after.values())) == len(after)
        assert before.items() <= after.items()
        before = after


def test_only_few_rooms_are_kept_in_memory() -> None:
    names_ = [f"room{number}" for number in range(MAX_LOADED + 2)]
    made = model(*names_)
    for name in names_:
        show(made, name, message(made, 1, room=name))
    assert [made.rooms[name].loaded for name in names_] == [False] * 2 + [True] * MAX_LOADED


# --- What is new ----------------------------------------------------------------------------------------


def test_what_comes_elsewhere_is_counted_until_the_room_is_shown() -> None:
    made = model()
    show(made, "1")
    for number in range(3):
        assert made.take(message(made, number, room="2"))
    made.take(message(made, 3, "Ada!", room="garden"))
    made.take(message(made, 4, "mine", room="3", user=ME))
    assert [(room.name, unread, mentions) for room, unread, mentions in made.elsewhere()] == [
        ("garden", 1, 1),
        ("2", 3, 0),
    ]
    show(made, "2", *(message(made, number, room="2") for number in range(3)))
    assert [room.name for room, *_ in made.elsewhere()] == ["garden"]


def test_what_comes_while_scrolled_back_is_unread_until_the_end_is_seen() -> None:
    made = model()
    show(made, "1", message(made, 1))
    made.at_end = False
    made.take(message(made, 2))
    assert made.seen_all() is None
    assert made.elsewhere()[0][1] == 1
    made.at_end = True
    assert made.seen_all() == Mark("0002", START_MS + 2)
    assert made.elsewhere() == []


def test_new_since_you_left_begins_behind_the_mark() -> None:
    made = model()
    room = made.room("1")
    held = [message(made, number) for number in range(5)]
    room.mark = Mark(held[2].id, held[2].ms)
    room.load(held, all_there_is=True)
    assert made.show("1").new_from is held[3]
    assert made.seen_all() == Mark(held[4].id, held[4].ms)
    assert made.show("1").new_from is None


def test_the_first_visit_has_nothing_new_and_own_messages_are_not_new() -> None:
    made = model()
    show(made, "1", message(made, 1))
    assert made.current is not None
    assert made.current.new_from is None
    made.rooms["2"].mark = Mark("none", START_MS)
    made.rooms["2"].load([message(made, 5, room="2", user=ME)], all_there_is=True)
    assert made.show("2").new_from is None


def test_a_wiped_or_same_moment_mark_still_finds_what_is_new() -> None:
    made = model()
    room = made.room("1")
    held = [message(made, number, ms=START_MS) for number in range(3)]
    room.load(held, all_there_is=True)
    assert room.after(Mark(held[0].id, START_MS)) == held[1:]
    assert room.after(Mark("gone", START_MS - 1)) == held
    assert room.after(Mark("gone", START_MS)) == []


@given(st.permutations(range(30)), st.data())
def test_messages_stand_in_the_order_of_their_times_whatever_came_first(
    order: list[int], data: st.DataObject
) -> None:
    made = model()
    show(made, "1")
    for number in order:
        assert made.take(message(made, number))
        if data.draw(st.booleans()):
            assert not made.take(message(made, number))
    assert made.current is not None
    assert [m.id for m in made.current.messages()] == [f"{number:04x}" for number in range(30)]


def test_what_strangers_send_is_bounded() -> None:
    made = model()
    show(made, "1")
    for number in range(MAX_ENTRIES + 50):
        made.take(message(made, number))
        made.take(message(made, number, "ada", room="2"))
    assert made.current is not None
    assert len(made.current.entries) == MAX_ENTRIES
    assert not made.take(message(made, 3)), "what was dropped does not come back above the rest"
    assert (made.unread(made.rooms["2"]), made.rooms["2"].entries) == (MAX_FRESH, [])
    for number in range(200):
        made.take(message(made, 10_000 + number, "x" * 8192))
    assert sum(len(m.text) for m in made.current.messages()) <= MAX_TEXT_HELD


def test_older_messages_are_let_in_only_when_they_are_asked_for() -> None:
    made = model()
    room = made.room("1")
    room.load([message(made, number) for number in (10, 11)], all_there_is=False)
    made.show("1")
    assert not made.take(message(made, 5))
    assert room.known_from == next(room.messages()).position
    room.extend_back([message(made, number) for number in (5, 10)], all_there_is=True)
    assert [m.id for m in room.messages()] == ["0005", "000a", "000b"]
    assert room.known_from is None


# --- People ---------------------------------------------------------------------------------------------


def wishes(**changed: object) -> dict[str, object]:
    return {"ignored": [], "ignored_keys": [], "bell": "mentions", "times": True, **changed}


def test_ignoring_hides_what_was_and_will_be_written_and_follows_the_key() -> None:
    made = model()
    show(made, "1", message(made, 1))
    made.take(message(made, 2, "ada", room="2"))
    made.remember(wishes(ignored=["bob"], ignored_keys=["keyofbob"]))
    assert made.current is not None
    assert not [m for m in made.current.messages() if made.visible(m)]
    assert made.elsewhere() == []
    made.know_users([{"user": "bob~abcdefgh", "key": "keyofbob"}])
    assert not made.take(message(made, 3))
    made.remember(wishes())
    assert made.visible(made.current.entries[0])
    assert made.mentions(made.rooms["2"]) == 1


def test_who_is_here_on_whatever_router() -> None:
    made = model()
    room = made.show("1")
    made.present("bob", "keyofbob", "r1", ["1", "2"], False)
    made.present("bob", "keyofbob", "r2", ["1"], True)
    made.present("cyd", "keyofcyd", "r2", ["1"], False)
    made.present("dot", "keyofdot", "r2", ["2"], True)
    made.present(ME, MY_KEY, HERE, ["1"], True)
    assert made.here(room) == [("bob", True), ("cyd", False)]
    made.present("bob", "keyofbob", "r2", [], False)
    assert made.here(room) == [("bob", False), ("cyd", False)]


def test_held_only_grows_and_only_for_what_was_made_here() -> None:
    made = model()
    show(made, "1", message(made, 1, user=ME), message(made, 2))
    assert made.held("0001", "1", 2)
    assert not made.held("0001", "1", 1)
    assert not made.held("0002", "1", 1)
    assert not made.held("beef", "nowhere", 1)
    assert made.current is not None
    assert [m.held for m in made.current.messages()] == [2, None]


@pytest.mark.parametrize(
    ("text", "user", "meant"),
    [
        ("hello Ada!", "ada", True),
        ("ADA: come", "ada", True),
        ("\uff21\uff44\uff41", "ada", True),
        ("adamant", "ada", False),
        ("canada", "ada", False),
        ("ada~abcdefgh: you", "ada~abcdefgh", True),
        ("ada, one of you", "ada~abcdefgh", True),
        ("ada~zzzzzzzz: not you", "ada~abcdefgh", False),
        ("d.o.t", "d.o.t", True),
        ("dxoxt", "d.o.t", False),
        ("anything", "", False),
    ],
)
def test_being_named(text: str, user: str, meant: bool) -> None:
    assert names(text, user) is meant
