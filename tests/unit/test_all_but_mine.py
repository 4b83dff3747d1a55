"""Asking for a range less what is here lists no more than there is room for, and asks for nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from meshchat.protocol.repair.reconcile import all_but_mine
from meshchat.state.recordset import Entry, RecordSet
from meshchat.wire.ids import END, START, Salt
from meshchat.wire.packets import Block
from meshchat.wire.records import make_position


@given(
    st.sets(st.integers(0, 2**40), max_size=300),
    st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
    st.integers(0, 250),
)
def test_what_is_here_is_left_out_as_far_as_there_is_room(
    stamps: set[int], bounds: tuple[int, int], most: int
) -> None:
    records = RecordSet()
    for stamp in stamps:
        records.put(Entry(make_position(1, stamp), 1, 0, 0, 0, absent=False))
    inner = Block(make_position(1, min(bounds)), make_position(1, max(bounds) + 1), None)
    for block in (inner, Block(START, END, None)):
        asked = all_but_mine(records, block, Salt(bytes(8)), most)
        assert isinstance(asked, Block)
        assert block.low <= asked.low < asked.high == block.high
        assert asked.ids is None
        assert len(asked.but) <= most
        assert len(asked.but) in (0, records.count(asked.low, asked.high))
