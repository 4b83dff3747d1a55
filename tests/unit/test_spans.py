"""Ranges that are wanted, against sets of numbers; and the shortest bound between two positions."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshchat.protocol.repair.spans import Spans, after, between
from meshchat.wire.ids import END, POSITION_SIZE, Bound, Position, Span
from meshchat.wire.packets import bound_size
from meshchat.wire.records import make_position

LIMIT = 40


def place(number: int) -> Position:
    return make_position(1, number)


def numbers(spans: list[Span]) -> set[int]:
    return {number for number in range(LIMIT) for low, high in spans if low <= place(number) < high}


pairs = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT))
ranges = pairs.map(lambda pair: (place(min(pair)), place(max(pair))))


@given(st.lists(ranges, max_size=8), st.lists(ranges, max_size=8), ranges)
def test_spans_are_the_set_of_what_they_cover(
    given_spans: list[Span], removed: list[Span], window: Span
) -> None:
    spans, left = Spans(given_spans), numbers(given_spans)
    assert numbers(list(spans)) == left
    for low, high in removed:
        gone = numbers([(low, high)])
        assert spans.remove(low, high) == bool(left & gone)
        left -= gone
        assert numbers(list(spans)) == left
    assert {number for number in range(LIMIT) if place(number) in spans} == left
    assert numbers(spans.common(*window)) == left & numbers([window])
    listed = list(spans)
    assert all(low < high for low, high in listed)
    assert all(one[1] < other[0] for one, other in pairwise(listed))
    assert spans.ending_by(window[1]) == sum(high <= window[1] for _, high in listed)
    assert len(spans) == len(listed)


positions = st.binary(min_size=POSITION_SIZE, max_size=POSITION_SIZE)


@given(positions, positions)
def test_the_bound_between_two_positions_parts_them_in_the_fewest_bytes(one: bytes, other: bytes) -> None:
    low, high = min(one, other), max(one, other)
    if low == high:
        return
    bound = between(Bound(low), Bound(high))
    assert low < bound <= high
    same = next(at for at in range(POSITION_SIZE) if low[at] != high[at])
    assert bound_size(bound) <= 1 + same + 1
    assert between(Bound(low), END) == END
    assert low < after(Bound(low)) <= high
