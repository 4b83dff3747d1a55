"""The limits on size: what stays follows from the set alone, and a flood evicts only the flooder's own."""

from collections import defaultdict
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.state.caps import CapLimits
from meshchat.state.store import RecordStore, StoreLimits
from meshchat.wire.ids import Position, PublicKey, RouterId
from meshchat.wire.packets import MAX_AGE
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, mesh_id

MESH = mesh_id("caps")
KEYS = [SigningKey.from_seed(KeySeed(bytes([number]) * 32)) for number in range(4)]
OVERHEAD = 117
"""About what a record takes beside its text."""


def record(author: int, room: str, stamp: int, size: int = 0, grade: Grade = Grade.GOOD) -> Record:
    return sign_record(
        KEYS[author],
        mesh=MESH,
        space=Space.ROOM,
        log=room,
        kind=Kind.MESSAGE,
        author=f"user{author}",
        router=RouterId(bytes(8)),
        stamp=stamp,
        grade=grade,
        body=b"x" * size,
    )


def account(number: int) -> Record:
    return sign_record(
        KEYS[number % 4],
        mesh=MESH,
        space=Space.ACCOUNTS,
        log="",
        kind=Kind.ACCOUNT,
        author=f"user{number}",
        router=RouterId(bytes(8)),
        stamp=7,
        grade=Grade.GOOD,
        body=b"",
    )


def kept(limits: CapLimits, records: list[Record]) -> set[Position]:
    """What a store holds after the records came in this order."""
    store = RecordStore(StoreLimits(limits, 10**6))
    for one in records:
        store.add_all([(one, 0)], 0)
    return {entry.position for entry in store.held_entries()}


def rule(limits: CapLimits, records: list[Record]) -> set[Position]:
    """The rule in one breath: a record stays while less than each limit lies above it."""
    authors: dict[tuple[str, PublicKey], int] = defaultdict(int)
    stay: set[Position] = set()

    def in_room(room: str) -> int:
        own = sum(min(limits.author, size) for (name, _), size in authors.items() if name == room)
        return min(limits.room, own)

    for one in sorted(records, key=lambda each: each.position, reverse=True):
        mine = authors[one.log, one.key]
        router = sum(in_room(room) for room in {name for name, _ in authors})
        if mine < limits.author and in_room(one.log) < limits.room and router < limits.router:
            stay.add(one.position)
        authors[one.log, one.key] += len(one.carried)
    return stay


RECORDS = st.builds(
    record,
    st.integers(0, 3),
    st.sampled_from(["1", "2", "3"]),
    st.integers(0, 60),
    st.integers(0, 400),
    st.sampled_from([Grade.GOOD, Grade.UNKNOWN]),
)
SETS = st.lists(RECORDS, max_size=30, unique_by=lambda one: one.id)
LIMITS = st.builds(CapLimits, st.integers(1, 1500), st.integers(1, 2500), st.integers(1, 4000))


@settings(max_examples=150, deadline=None)
@given(LIMITS, SETS, st.randoms(use_true_random=False))
def test_what_stays_follows_from_the_set_alone(limits: CapLimits, records: list[Record], rng: Random) -> None:
    shuffled = list(records)
    rng.shuffle(shuffled)
    assert kept(limits, shuffled) == rule(limits, records)


@settings(max_examples=150, deadline=None)
@given(LIMITS, SETS, st.lists(st.integers(0, 4), max_size=3), st.integers(0, 10))
def test_many_at_once_leave_what_one_by_one_would(
    limits: CapLimits, records: list[Record], permanent: list[int], split: int
) -> None:
    accounts = [account(number) for number in permanent]
    one_by_one, at_once = RecordStore(StoreLimits(limits, 10**6)), RecordStore(StoreLimits(limits, 10**6))
    for one in [*records, *dict.fromkeys(accounts)]:
        one_by_one.add_all([(one, 0)], 3)
    batches = [*records[split:], *accounts], records[: split + 2]  # some come twice
    gone = [place for batch in batches for place in at_once.add_all([(one, 0) for one in batch], 3)]
    assert {one.position for one in at_once.held_entries()} == {
        one.position for one in one_by_one.held_entries()
    }
    assert (at_once.held, at_once.bytes_held) == (one_by_one.held, one_by_one.bytes_held)
    assert at_once.room_numbers().keys() == one_by_one.room_numbers().keys()
    assert gone or at_once.records.summary() == one_by_one.records.summary()
    for entry in list(at_once.held_entries()):
        at_once.forget(entry.position, remember=False)
    assert (at_once.held, at_once.bytes_held) == (0, 0)


@settings(max_examples=150, deadline=None)
@given(LIMITS, SETS, SETS)
def test_merging_what_was_already_cut_is_merging_all(
    limits: CapLimits, some: list[Record], others: list[Record]
) -> None:
    everything = list({one.id: one for one in (*some, *others)}.values())
    survivors = [one for one in some if one.position in kept(limits, some)]
    merged = list({one.id: one for one in (*survivors, *others)}.values())
    assert kept(limits, merged) == kept(limits, everything)


def test_a_flood_evicts_only_the_flooders_own() -> None:
    limits = CapLimits(author=3000, room=100_000, router=200_000)
    others = [record(author, "1", 100 + author, 200) for author in (1, 2, 3)]
    flood = [record(0, "1", 1000 + at, 200) for at in range(200)]
    stays = kept(limits, [*others, *flood])
    assert {one.position for one in others} <= stays
    assert len(stays) - len(others) <= 3000 // 300 + 1
    assert flood[-1].position in stays
    assert flood[0].position not in stays


def test_a_flooded_room_leaves_the_other_rooms_alone() -> None:
    limits = CapLimits(author=2000, room=4000, router=50_000)
    elsewhere = [record(author, "2", 1, 300) for author in range(4)]
    flood = [record(at % 4, "1", 1000 + at, 200) for at in range(400)]
    assert {one.position for one in elsewhere} <= kept(limits, [*elsewhere, *flood])


def test_what_was_evicted_is_accounted_for_and_what_goes_frees_its_place() -> None:
    limits = CapLimits(author=1000, room=1000, router=1000)
    store = RecordStore(StoreLimits(limits, 10**6))
    records = [record(0, "1", at, 300) for at in range(8)]
    gone = [place for one in records for place in store.add_all([(one, 0)], 0)]
    assert gone
    assert not any(store.holds(place) for place in gone)
    assert all(store.accounts_for(place) for place in gone)
    for place in [entry.position for entry in store.held_entries()]:
        store.forget(place, remember=False)
    assert (store.bytes_held, store.held) == (0, 0)
    assert store.room_numbers() == {}


def test_any_age_that_fits_the_wire_can_be_kept() -> None:
    store = RecordStore(StoreLimits(CapLimits(10**6, 10**6, 10**6), 10**6))
    old = record(0, "1", make_stamp(1), grade=Grade.UNKNOWN)
    store.add_all([(old, MAX_AGE)], 5)
    assert store.age(old.position, 5) >= 2**31 - 1
    assert store.age(old.position, 2**31 - 1) > 0
