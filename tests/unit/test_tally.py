"""What people are shown of the rooms: counts, newest stamps and digests, whatever came and went before."""

import hashlib
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from meshchat.state.caps import CapLimits
from meshchat.state.store import HistoryRow, RecordStore, StoreLimits
from meshchat.wire.ids import RECORD_ID_SIZE, PublicKey, RecordId
from meshchat.wire.records import MAX_STAMP, Space, make_position, make_stamp

START_MS = 1_795_219_200_000
ROOMS = ["1", "2", "Café-2"]
Shown = dict[str, tuple[int, int, str]]


def row(number: int, *, spread: int = 300_000) -> HistoryRow:
    """Message `number`, `spread` milliseconds after the one before; every fifth has no date."""
    stamp = make_stamp(START_MS + spread * number)
    identity = hashlib.blake2b(bytes([number]), digest_size=RECORD_ID_SIZE).digest()
    place = make_position(0 if number % 5 == 0 else 1, stamp, RecordId(identity))
    return HistoryRow(place, 100, Space.ROOM, ROOMS[number % 3], PublicKey(bytes([number % 4]) * 32), 0)


def store_of(rows: Iterable[HistoryRow], room_limit: int = 10**6) -> RecordStore:
    store = RecordStore(StoreLimits(CapLimits(10**6, room_limit, 10**6), 10**6))
    for each in rows:
        store.add_history([each])
    return store


def shown(store: RecordStore, ceiling: int = MAX_STAMP) -> Shown:
    return {name: (each.messages, each.newest, each.digest) for name, each in store.room_sums(ceiling)}


NUMBERS = st.lists(st.integers(0, 60), max_size=40)


@given(NUMBERS, st.lists(st.tuples(st.integers(0, 60), st.booleans())), NUMBERS, st.booleans())
def test_the_same_messages_show_the_same_whatever_came_and_went(
    first: list[int], gone: list[tuple[int, bool]], then: list[int], asked: bool
) -> None:
    store = store_of(map(row, first))
    if asked:
        shown(store)
    for number, remember in gone:
        store.forget(row(number).position, remember=remember)
    if asked:
        shown(store)
    store.add_history(map(row, then))
    held = {entry.position for entry in store.held_entries()}
    kept = [row(number) for number in reversed(range(61)) if row(number).position in held]
    assert shown(store) == shown(store_of(kept))
    for name in ROOMS:
        stamps = [int.from_bytes(each.position[1:9], "big") for each in kept if each.log == name]
        assert shown(store).get(name, (0, 0, ""))[:2] == (len(stamps), max(stamps, default=0))


@given(NUMBERS, st.integers(0, 60))
def test_what_lies_in_the_future_is_not_counted(numbers: list[int], border: int) -> None:
    ceiling = make_stamp(START_MS + 300_000 * border)
    store = store_of(map(row, numbers))
    below = store_of(row(number) for number in numbers if number < border)
    assert shown(store, ceiling) == shown(below)
    assert shown(store, MAX_STAMP) == shown(store_of(map(row, sorted(numbers))))


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_rooms_show_equal_only_where_they_hold_the_same(mine: set[int], yours: set[int]) -> None:
    ours, theirs = shown(store_of(map(row, mine))), shown(store_of(map(row, yours)))
    for number, name in enumerate(ROOMS):
        same = {n for n in mine if n % 3 == number} == {n for n in yours if n % 3 == number}
        assert (ours.get(name) == theirs.get(name)) is same


@given(NUMBERS)
def test_what_the_limits_let_go_is_not_counted(numbers: list[int]) -> None:
    store = store_of(map(row, numbers), room_limit=300)
    assert all(messages <= 3 for messages, _, _ in shown(store).values())


@given(NUMBERS, st.integers(0, 60), st.integers(0, 60))
def test_a_room_is_read_from_either_end(numbers: list[int], low: int, high: int) -> None:
    store = store_of(map(row, numbers))
    bounds = sorted((row(low).position, row(high).position))
    expected = sorted(
        {row(n).position for n in numbers if n % 3 == 2 and bounds[0] <= row(n).position < bounds[1]}
    )
    assert [entry.position for entry in store.room_entries("Café-2", *bounds)] == expected
    backwards = store.room_entries("Café-2", *bounds, newest_first=True)
    assert [entry.position for entry in backwards] == expected[::-1]
