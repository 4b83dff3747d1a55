"""The ordered set against the simplest thing that could be right: a sorted list."""

from bisect import bisect_left
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshchat.state.recordset import CHUNK, LEAF, Entry, RecordSet
from meshchat.wire.ids import END, POSITION_SIZE, START, Bound, Position, RecordId, Span
from meshchat.wire.records import make_position

_IDS = st.binary(min_size=16, max_size=16)
_CLOSE_STAMPS = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(2**40, 2**40 + 3))
POSITIONS = st.builds(make_position, st.integers(0, 1), _CLOSE_STAMPS, _IDS)
BOUNDS = st.one_of(
    st.just(START), st.just(END), POSITIONS, st.builds(make_position, st.just(1), _CLOSE_STAMPS)
)


def entry(place: Position, *, size: int = 1, held: int = 0, absent: bool = False) -> Entry:
    return Entry(place, size, 0, 0, held, absent)


def filled(places: list[Position]) -> RecordSet:
    records = RecordSet()
    for place in places:
        records.put(entry(place))
    return records


def numbered(count: int) -> list[Position]:
    """Positions as a busy minute makes them: neighbouring stamps, ids of any kind."""
    return [
        make_position(1, 5000 + at // 3, RecordId((at * 2654435761 % 2**32).to_bytes(16, "big")))
        for at in range(count)
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.booleans(), POSITIONS), max_size=300),
    st.lists(st.tuples(BOUNDS, BOUNDS), min_size=1, max_size=5),
)
def test_it_is_a_sorted_list(steps: list[tuple[bool, Position]], ranges: list[Span]) -> None:
    records = RecordSet()
    model: list[Position] = []
    for keep, place in steps:
        # Half of the removals meet something that is there.
        place = place if keep or not model else model[place[-1] % len(model)]
        if keep:
            records.put(entry(place))
            model = sorted({*model, place})
        else:
            records.discard(place)
            model = [one for one in model if one != place]
        assert len(records) == len(model)
        assert (place in records) is keep
    assert [records.at_rank(rank) for rank in range(len(model))] == model
    with pytest.raises(IndexError):
        records.at_rank(len(model))
    for low, high in ranges:
        inside = [place for place in model if low <= place < high]
        assert records.rank(Bound(low)) == bisect_left(model, low)
        assert records.count(Bound(low), Bound(high)) == len(inside)
        assert list(records.positions(Bound(low), Bound(high))) == inside
        assert [one.position for one in records.entries(Bound(low), Bound(high))] == inside
        assert records.summary(Bound(low), Bound(high)) == filled(inside).summary()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sets(POSITIONS, min_size=1, max_size=3 * LEAF),
    st.sets(POSITIONS, max_size=2 * LEAF),
    st.randoms(use_true_random=False),
    st.tuples(BOUNDS, BOUNDS),
)
def test_equal_sets_have_equal_summaries_however_they_came_about(
    kept: set[Position], passing: set[Position], rng: Random, bounds: Span
) -> None:
    straight = filled(sorted(kept))
    order = sorted(kept | passing)
    rng.shuffle(order)
    winding = RecordSet()
    for place in order:
        winding.put(entry(place, size=7, held=9, absent=place[-1] % 2 == 0))
        winding.summary()  # a fingerprint remembered too long would show
    for place in order:
        if place not in kept:
            winding.discard(place)
            winding.summary(*bounds)
    assert winding.summary() == straight.summary()
    assert winding.summary(*bounds) == straight.summary(*bounds)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(POSITIONS, min_size=1, max_size=3 * LEAF), st.integers(0), POSITIONS)
def test_different_sets_have_different_summaries(places: set[Position], which: int, other: bytes) -> None:
    whole = sorted(places)
    records = filled(whole)
    before = records.summary()
    gone = whole[which % len(whole)]
    records.discard(gone)
    assert records.summary().fingerprint != before.fingerprint
    if other[9:] not in {place[9:] for place in places}:  # an id is a hash of all else: it has one place
        records.put(entry(Position(Bound(other))))
        swapped = records.summary()
        assert swapped.count == before.count
        assert swapped.fingerprint != before.fingerprint
        records.discard(Position(Bound(other)))
    records.put(entry(gone))
    assert records.summary() == before


def test_a_set_of_many_chunks_answers_as_a_small_one() -> None:
    places = numbered(4 * CHUNK + 17)
    forward, backward = filled(sorted(places)), filled(sorted(places, reverse=True))
    order = sorted(places)
    bounds = [START, *order[:: CHUNK // 3], END]
    for low, high in pairwise(bounds):
        inside = [one for one in order if low <= one < high]
        # Asked of a part first, then of more: the fingerprint of the part must not pass for the rest.
        assert forward.summary(Bound(low), Bound(high)) == filled(inside).summary()
        assert forward.summary(Bound(low)) == filled([one for one in order if low <= one]).summary()
        assert list(forward.positions(Bound(low), Bound(high))) == inside
    assert forward.summary() == backward.summary()
    for place in order[1::2]:
        forward.discard(place)
    assert list(forward.positions()) == order[0::2]
    assert forward.summary() == filled(order[0::2]).summary()
    for place in order[0::2]:
        forward.discard(place)
    assert len(forward) == 0
    assert forward.summary() == RecordSet().summary()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(POSITIONS, max_size=200), st.lists(POSITIONS, max_size=200), st.tuples(BOUNDS, BOUNDS))
def test_many_at_once_are_put_as_one_by_one(
    before: list[Position], added: list[Position], bounds: Span
) -> None:
    records, model = filled(before), filled(before)
    records.summary(*bounds)  # a fingerprint remembered too long would show
    again = [entry(place, size=9) for place in [*added, *before[:3]]]
    records.put_all(again)
    for one in again:
        model.put(one)
    assert list(records.entries()) == list(model.entries())
    assert records.summary(*bounds) == model.summary(*bounds)
    assert records.summary() == model.summary()


def test_many_at_once_fill_many_chunks() -> None:
    places = numbered(5 * CHUNK)
    records = filled(places[::3])
    records.put_all(map(entry, places))
    order = sorted(places)
    assert list(records.positions()) == order
    assert [records.at_rank(rank) for rank in range(0, len(order), 97)] == order[::97]
    assert records.summary() == filled(places).summary()
    for place in order[: 2 * CHUNK]:
        records.discard(place)
    assert records.summary() == filled(order[2 * CHUNK :]).summary()


def test_an_entry_comes_back_as_it_was_put() -> None:
    place = make_position(1, 77, RecordId(bytes(16)))
    records = RecordSet()
    largest = Entry(place, 2**16 - 1, 2**20 - 1, 2**27 - 1, -(2**31), True)
    records.put(largest)
    assert records.get(place) == largest
    assert len(place) == POSITION_SIZE
    smaller = Entry(place, 1, 2, 3, 4, False)
    records.put(smaller)
    assert (records.get(place), len(records)) == (smaller, 1)
    assert records.get(make_position(1, 78)) is None
