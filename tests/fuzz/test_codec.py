"""The codec under datagrams built from true ones: nothing but refusals, and no work out of proportion."""

import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given, target
from hypothesis import strategies as st

from meshchat.errors import Malformed
from meshchat.identity.keys import verify_record
from meshchat.wire.datagram import PlainDatagram, SealedDatagram, decode_datagram
from meshchat.wire.ids import RouterId
from meshchat.wire.packets import Carried, Packet, Records, decode_packets, encode_packet
from meshchat.wire.presence import read_statement
from meshchat.wire.records import Record, decode_record
from tests.fuzz import search
from tests.unit.test_wire import MESH, packets, records

LONGEST = 1472
"""Bytes of a datagram on Ethernet."""
CALLS_A_BYTE = 8
"""Function calls of Python's that a byte may cost: a range of three bytes takes fifteen."""
MEMORY_A_BYTE = 250
"""Bytes of memory that a byte may fill: a range of three bytes is an object with two bounds of 25."""

bodies = st.lists(packets.map(encode_packet), min_size=1, max_size=6)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Packets of true bytes with lies in them: lengths, counts, cuts, other packets inside of packets."""
    body = bytearray(b"".join(draw(bodies)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(body)))
        way = draw(st.integers(0, 5))
        if way == 0:  # a length or a count that lies
            body[at : at + 2] = draw(st.sampled_from([0, 1, len(body), 255, 256, 16_384, 65_535])).to_bytes(
                2, "big"
            )
        elif way == 1:
            body[at : at + 1] = bytes((draw(st.integers(0, 255)),))
        elif way == 2:
            del body[at : at + draw(st.integers(1, 40))]
        elif way == 3:
            body[at:at] = draw(bodies)[0]
        elif way == 4:
            body[at:at] = body[: draw(st.integers(0, 300))]
        else:
            body += body[at:]
        body = body[:LONGEST] or bytearray(1)
    return bytes(body)


def everything(body: bytes) -> list[Packet]:
    """All that a router reads of a datagram before it knows who signed what."""
    found: list[Packet] = []
    with suppress(Malformed):
        datagram = decode_datagram(PlainDatagram(MESH, RouterId(bytes(8)), body).encode())
        assert isinstance(datagram, PlainDatagram)
        found += (packet for packet in decode_packets(datagram.packets) if not isinstance(packet, int))
    for packet in found:
        for item in getattr(packet, "items", ()):
            with suppress(Malformed):
                record = decode_record(MESH, item.data)
                if record.ephemeral:
                    read_statement(record)
    return found


def calls(action: Callable[[], object]) -> int:
    """How many functions were called: work that is the same on every machine."""
    count = 0

    def called(frame: Any, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


@search(400)
@given(damaged())
def test_a_datagram_of_lies_is_refused_or_says_one_thing(body: bytes) -> None:
    """What of it is understood is said again in the same bytes: there are no two readings."""
    understood = everything(body)
    again = b"".join(map(encode_packet, understood))
    assert everything(again) == understood
    assert b"".join(map(encode_packet, everything(again))) == again


@search(150)
@given(damaged())
def test_no_datagram_is_work_or_memory_out_of_proportion(body: bytes) -> None:
    work = calls(lambda: everything(body))
    tracemalloc.start()
    try:
        everything(body)
        _, memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    target(float(work), label="function calls")
    target(float(memory), label="bytes of memory")
    assert work <= 300 + CALLS_A_BYTE * len(body)
    assert memory <= 30_000 + MEMORY_A_BYTE * len(body)


@search(150)
@given(records(), records(), st.data())
def test_a_record_with_bytes_of_another_never_passes_for_signed(
    one: Record, other: Record, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(one.carried)))
    until = data.draw(st.integers(at, len(one.carried)))
    begin = data.draw(st.integers(0, len(other.carried)))
    end = data.draw(st.integers(begin, len(other.carried)))
    spliced = one.carried[:at] + other.carried[begin:end] + one.carried[until:]
    with suppress(Malformed):
        record = decode_record(MESH, spliced)
        assert not verify_record(record) or spliced in (one.carried, other.carried)
        assert everything(encode_packet(Records((Carried(spliced),)))) in ([], [Records((Carried(spliced),))])


@search(300)
@given(st.binary(max_size=80), st.sampled_from([b"", b"m\x01", b"m\x01\x00", b"m\x01\x01", b"m\x02"]))
def test_an_envelope_is_refused_or_is_what_it_says(rest: bytes, start: bytes) -> None:
    with suppress(Malformed):
        datagram = decode_datagram(start + rest)
        assert isinstance(datagram, PlainDatagram | SealedDatagram)
        assert datagram.encode() == start + rest
