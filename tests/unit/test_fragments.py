"""Records in pieces: what was cut up is put together, in bounded memory, whoever else sends what."""

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_RECORD
from meshchat.protocol.pieces import fragments
from meshchat.state.fragments import MAX_REASSEMBLIES, REASSEMBLY_LIFETIME, Reassembly
from meshchat.wire.ids import RecordId, RouterId
from meshchat.wire.packets import MIN_PIECE, Carried, Fragment

ANN, BEN = b"router-a", b"router-b"


def piece(record: int, offset: int, total: int, data: bytes) -> Fragment:
    return Fragment(False, RecordId(record.to_bytes(16, "big")), total, offset, 0, data)


def cut(record: int, data: bytes, capacity: int = 600) -> list[Fragment]:
    return fragments(RecordId(record.to_bytes(16, "big")), Carried(data), capacity, repair=False)


def some_bytes(seed: int, size: int = 5000) -> bytes:
    return b"\x01\x01\x01\x02" + random.Random(seed).randbytes(size - 4)


def feed(table: Reassembly, sender: RouterId, pieces: list[Fragment], now: float = 0.0) -> list[bytes]:
    whole = [table.add(sender, one, now) for one in pieces]
    return [one for one in whole if one is not None]


@given(st.integers(4, MAX_RECORD), st.integers(505, 1429), st.randoms(use_true_random=False))
def test_pieces_in_any_order_and_doubled_make_the_record(
    size: int, capacity: int, order: random.Random
) -> None:
    data, table = some_bytes(size, size), Reassembly()
    pieces = cut(1, data, capacity)
    assert all(len(one.data) >= MIN_PIECE for one in pieces[:-1])
    doubled = pieces + pieces[:-1]
    order.shuffle(doubled)
    assert feed(table, RouterId(ANN), doubled)[0] == data


def test_a_second_sending_with_another_mtu_fills_the_gaps() -> None:
    data, table = some_bytes(1), Reassembly()
    first = cut(1, data, 600)
    del first[3]
    assert feed(table, RouterId(ANN), first) == []
    assert feed(table, RouterId(ANN), cut(1, data, 1000)) == [data]


def test_nobody_spoils_another_s_record() -> None:
    data, table = some_bytes(1), Reassembly()
    for one in cut(1, data):
        assert table.add(RouterId(BEN), piece(1, one.offset, one.total, bytes(len(one.data))), 0.0) in (
            None,
            bytes(5000),
        )
        whole = table.add(RouterId(ANN), one, 0.0)
    assert whole == data


def test_a_sender_s_flood_costs_only_his_own() -> None:
    data, table = some_bytes(1), Reassembly()
    for count, one in enumerate(cut(1, data)):
        for other in range(100):
            table.add(RouterId(BEN), piece(1000 * count + other, 0, MAX_RECORD, bytes(400)), 0.0)
        whole = table.add(RouterId(ANN), one, 0.0)
    assert whole == data
    assert len(table) <= MAX_REASSEMBLIES


def test_what_is_never_finished_makes_room_after_a_minute() -> None:
    table = Reassembly()
    first, last = cut(1, some_bytes(1, 800))
    assert table.add(RouterId(ANN), first, 0.0) is None
    assert table.add(RouterId(ANN), last, REASSEMBLY_LIFETIME + 1) is None


def test_another_length_is_another_record() -> None:
    table = Reassembly()
    assert table.add(RouterId(ANN), piece(1, 0, 600, b"a" * 300), 0.0) is None
    assert table.add(RouterId(ANN), piece(1, 300, 700, b"b" * 400), 0.0) is None
    assert table.add(RouterId(ANN), piece(1, 0, 700, b"c" * 300), 0.0) == b"c" * 300 + b"b" * 400


@given(
    st.lists(
        st.tuples(st.sampled_from([ANN, BEN]), st.integers(0, 40), st.integers(0, 3000), st.integers(1, 900))
    )
)
def test_any_pieces_at_all_give_records_of_the_length_they_claim(
    sent: list[tuple[bytes, int, int, int]],
) -> None:
    table = Reassembly()
    for sender, record, offset, size in sent:
        total = 2000 + record % 3 * 500
        if offset + size <= total:
            whole = table.add(RouterId(sender), piece(record, offset, total, bytes(size)), 0.0)
            assert whole is None or len(whole) == total
        assert len(table) <= MAX_REASSEMBLIES


def test_the_memory_is_bounded_whatever_is_sent() -> None:
    rng, table = random.Random(1), Reassembly()
    tracemalloc.start()
    for number in range(30_000):
        offset = rng.randrange(MAX_RECORD - 300)
        sender = rng.choice([ANN, BEN, number.to_bytes(8, "big")])
        table.add(RouterId(sender), piece(rng.randrange(64), offset, MAX_RECORD, bytes(256)), number / 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) <= MAX_REASSEMBLIES
    assert peak < 1.25 * MAX_REASSEMBLIES * MAX_RECORD + 100_000
