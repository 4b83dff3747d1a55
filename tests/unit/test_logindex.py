"""The packed index is a map."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.storage import logindex
from meshchat.adapters.storage.logindex import Arrived, Entry, LogIndex, Place, pack, unpack
from meshchat.wire.ids import Bound, Position
from meshchat.wire.records import make_position, position_stamp

positions = st.integers(0, 300).map(lambda stamp: make_position(stamp % 2, stamp))
places = st.builds(
    Place,
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**48 - 1),
)


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logindex, "CHUNK_ENTRIES", 4)
        yield


@given(st.lists(st.tuples(positions, st.one_of(st.none(), places), st.booleans()), max_size=200))
def test_it_holds_what_a_dictionary_would(steps: list[tuple[bytes, Place | None, bool]]) -> None:
    index, model = LogIndex(), dict[bytes, Place]()
    for key, place, only_new in steps:
        if place is None:
            index.discard(Position(Bound(key)))
            model.pop(key, None)
        elif only_new:
            assert index.add(Position(Bound(key)), place) == (key not in model)
            model.setdefault(key, place)
        else:
            index.put(Position(Bound(key)), place)
            model[key] = place
    assert len(index) == len(model)
    for stamp in range(301):
        key = make_position(stamp % 2, stamp)
        assert index.get(key) == model.get(key)
        assert (key in index) == (key in model)
    for file in range(4):
        wanted = [
            Entry(Position(Bound(key)), place) for key, place in sorted(model.items()) if place.file == file
        ]
        assert [unpack(entry) for entry in index.in_file(file)] == wanted


@given(positions, places)
def test_an_entry_is_packed_and_unpacked(key: bytes, place: Place) -> None:
    assert unpack(pack(Entry(Position(Bound(key)), place))) == Entry(Position(Bound(key)), place)


def test_the_lowest_entries_may_go_and_lower_ones_come() -> None:
    index, place = LogIndex(), Place(0, 0, 1, 2)
    for stamp in range(10, 40):
        index.put(make_position(1, stamp), place)
    for stamp in range(10, 30):
        index.discard(make_position(1, stamp))
    index.put(make_position(1, 5), place)
    wanted = [make_position(1, stamp) for stamp in (5, *range(30, 40))]
    assert [unpack(entry).position for entry in index.in_file(0)] == wanted
    assert index.get(make_position(1, 5)) == place


@given(
    st.dictionaries(positions, places, max_size=60),
    st.sets(positions),
    st.integers(0, 2**47 - 1),
    st.one_of(st.none(), st.integers(0, 300)),
    st.one_of(st.none(), st.integers(1, 10)),
)
def test_it_finds_what_arrived_since(
    model: dict[bytes, Place], gone: set[bytes], after: int, since: int | None, limit: int | None
) -> None:
    index = LogIndex()
    model = {
        key: place._replace(arrival=place.arrival & ~(1023 << 1) | number << 1)
        for number, (key, place) in enumerate(model.items())
    }
    for key, place in model.items():
        index.put(Position(Bound(key)), place)
    for key in gone & model.keys():
        index.discard(Position(Bound(key)))
        del model[key]
    wanted = sorted(
        Arrived(place.number, Position(Bound(key)))
        for key, place in model.items()
        if place.number is not None
        and place.number > after
        and place.file in (0, 2)
        and (since is None or place.late or position_stamp(Bound(key)) >= since)
    )
    assert index.arrived(after, {0, 2}, since=since, limit=limit) == wanted[:limit]
    assert index.newest >= max((place.number or 0 for place in model.values()), default=0)
