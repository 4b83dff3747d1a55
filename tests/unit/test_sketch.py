"""Sketches of sets: two of them tell where the sets differ, or say that they do not; never anything wrong."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.constants import SKETCH_CELLS
from meshchat.state.recordset import SKETCH_OUTSIDE, Entry, RecordSet
from meshchat.state.sketch import SetSketch
from meshchat.wire.ids import CELL_SIZE, END, START, Bound, Cell, Position, RecordId, sketch_key_of
from meshchat.wire.records import make_position

POSITIONS = st.builds(
    make_position, st.integers(0, 1), st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16)
)
SETS = st.sets(POSITIONS, max_size=60)
EVERYTHING = ((START, END),)


def sketched(places: set[Position]) -> SetSketch:
    sketch = SetSketch()
    for place in places:
        sketch.toggle(place)
    return sketch


def some_positions(rng: Random, count: int) -> list[Position]:
    return [
        make_position(rng.randrange(2), rng.randrange(2**64), RecordId(rng.randbytes(16)))
        for _ in range(count)
    ]


def record_set(places: list[Position]) -> RecordSet:
    records = RecordSet()
    records.put_all(Entry(place, 1, 1, 1, 0, False) for place in places)
    return records


@given(SETS, SETS, SETS, st.integers(1, SKETCH_CELLS))
def test_it_tells_just_what_differs_or_nothing(
    common: set[Position], mine: set[Position], theirs: set[Position], cells: int
) -> None:
    told = sketched(common ^ mine).difference(sketched(common ^ theirs).encoded(0, cells))
    differ = {sketch_key_of(place) for place in mine ^ theirs}
    assert told is None or (set(told) == differ and len(told) == len(differ))


@given(st.lists(POSITIONS, max_size=40), st.randoms(use_true_random=False))
def test_what_came_and_went_leaves_no_trace(places: list[Position], rng: Random) -> None:
    order = [*places, *places]
    rng.shuffle(order)
    sketch = SetSketch()
    for place in order:
        sketch.toggle(place)
    assert sketch.cells == SetSketch().cells


@pytest.mark.parametrize(("differ", "cells"), [(1, 4), (2, 9), (10, 30), (50, 102), (100, 192), (140, 256)])
def test_the_usual_number_of_cells_is_nearly_always_enough(differ: int, cells: int) -> None:
    rng = Random(differ)
    told = 0
    for _ in range(100):
        mine, theirs = SetSketch(), SetSketch()
        for place in some_positions(rng, differ):
            (mine if rng.random() < 0.5 else theirs).toggle(place)
        told += mine.difference(theirs.encoded(0, cells)) is not None
    assert told >= 88


@given(st.lists(st.binary(min_size=CELL_SIZE, max_size=CELL_SIZE).map(Cell), max_size=SKETCH_CELLS), SETS)
def test_cells_of_whatever_content_are_read_to_an_end(cells: list[Cell], mine: set[Position]) -> None:
    told = sketched(mine).difference(cells)
    assert told is None or len(told) <= len(cells)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), POSITIONS), max_size=80), st.integers(0, 70), st.integers(1, 9))
def test_a_set_keeps_its_sketch_whenever_it_was_begun(
    steps: list[tuple[bool, Position]], begin: int, slice_size: int
) -> None:
    records, model = RecordSet(), set[Position]()
    for number, (keep, place) in enumerate(steps):
        place = place if keep or not model else min(model)
        if keep:
            records.put(Entry(place, 1, 1, 1, 0, False))
            model.add(place)
        else:
            records.discard(place)
            model.discard(place)
        if number >= begin:
            records.sketch_on(slice_size)
    more = {make_position(1, number) for number in range(len(steps))}
    records.put_all(Entry(place, 1, 1, 1, 0, True) for place in more)
    while records.sketch_on(slice_size):
        assert records.sketch(EVERYTHING) is None
    records.put(Entry(Position(Bound(min(more, default=START.ljust(25, b"\0")))), 2, 1, 1, 0, False))
    whole = records.sketch(EVERYTHING)
    assert whole is not None
    assert whole.cells == sketched(set(records.positions())).cells


def test_a_sketch_of_ranges_leaves_out_what_lies_outside_of_them() -> None:
    places = [
        make_position(number % 2, 1000 + number // 2, RecordId(bytes([number]) * 16)) for number in range(200)
    ]
    records = record_set(places)
    while records.sketch_on(64):
        pass
    ranges = (make_position(0, 0), make_position(0, 1080)), (make_position(1, 1010), make_position(1, 1090))
    inside = {place for place in places for low, high in ranges if low <= place < high}
    assert len(places) - len(inside) <= SKETCH_OUTSIDE
    sketch, whole = records.sketch(ranges), records.sketch(EVERYTHING)
    assert sketch is not None
    assert whole is not None
    assert sketch.cells == sketched(inside).cells
    assert whole.cells == sketched(set(places)).cells
    assert (
        records.sketch(((make_position(0, 0), make_position(0, 1020)), ranges[1])) is None
    )  # too much outside


@settings(max_examples=50)
@given(st.sets(POSITIONS, min_size=1, max_size=50), POSITIONS)
def test_a_record_is_found_by_its_place(places: set[Position], other: bytes) -> None:
    records = record_set(sorted(places))
    for place in places:
        found = records.find_sketched(sketch_key_of(place))
        assert found is not None
        assert sketch_key_of(found) == sketch_key_of(place)
        assert found in places
    if sketch_key_of(Position(Bound(other))) not in set(map(sketch_key_of, places)):
        assert records.find_sketched(sketch_key_of(Position(Bound(other)))) is None
