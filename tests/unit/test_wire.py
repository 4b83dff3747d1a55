"""The wire: what was encoded is decoded to the same, and whatever else comes is refused, nothing worse."""

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.constants import MAX_RECORD, MIN_MTU, SKETCH_CELLS
from meshchat.errors import Malformed
from meshchat.identity.keys import KeySeed, SigningKey, sign_record, verify_record
from meshchat.protocol.envelope import IP_UDP_HEADERS
from meshchat.wire.codec import Reader
from meshchat.wire.datagram import (
    MAGIC,
    PLAIN_OVERHEAD,
    SEALED_OVERHEAD,
    WIRE_VERSION,
    LaterVersion,
    PlainDatagram,
    SealedDatagram,
    decode_datagram,
)
from meshchat.wire.ids import (
    END,
    POSITION_SIZE,
    SHORT_ID_SIZE,
    START,
    AskNonce,
    BootId,
    Bound,
    Cell,
    Fingerprint,
    RecordId,
    RouterId,
    Salt,
    ShortId,
    SketchKey,
    Token,
    View,
)
from meshchat.wire.packets import (
    MIN_PIECE,
    RECORDS_FIELDS,
    Ask,
    Block,
    BySketchKey,
    Carried,
    ClockClaim,
    Confirm,
    Digest,
    Dump,
    Fingerprinted,
    Fragment,
    Having,
    Listed,
    Offer,
    Packet,
    Range,
    Ranges,
    Records,
    Scope,
    Sketch,
    Skip,
    Summary,
    Want,
    Wanted,
    decode_packets,
    encode_packet,
    encoded_range_size,
)
from meshchat.wire.presence import LONGEST_IDLE, Statement, fitting, read_statement
from meshchat.wire.records import (
    MAX_STAMP,
    Grade,
    Kind,
    Record,
    Space,
    decode_record,
    is_name,
    make_position,
    make_stamp,
    mesh_id,
    position_stamp,
    record_id,
    router_id,
    stamp_ms,
)

MESH = mesh_id("tested")
CORPUS = Path(__file__).parent.parent / "corpus"

# --- What can be said -----------------------------------------------------------------------------------

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
eight = st.binary(min_size=8, max_size=8)
positions = st.binary(min_size=POSITION_SIZE, max_size=POSITION_SIZE) | st.builds(
    lambda stratum, stamp: make_position(stratum, stamp), st.integers(0, 1), u64
)
bounds = positions.map(Bound) | st.just(END)
short_ids = st.lists(st.binary(min_size=SHORT_ID_SIZE, max_size=SHORT_ID_SIZE).map(ShortId), max_size=12).map(
    lambda ids: tuple(ids)
)
summaries = st.builds(Summary, u32, st.binary(min_size=16, max_size=16))
claims = st.builds(ClockClaim, st.sampled_from(Grade), u8, u32, st.integers(0, 2**48 - 1))
names = st.text("abcdefXYZ0123456789", min_size=1, max_size=32) | st.sampled_from(
    ["ja", "Ünal", "a-b.c_d", "日本"]
)


@st.composite
def range_lists(draw: st.DrawFn) -> tuple[Bound, tuple[Range, ...]]:
    """A lower bound and ranges that follow on one another."""
    cuts = sorted(draw(st.sets(bounds, min_size=1, max_size=6)))
    parts: list[Range] = []
    for low, high in pairwise(cuts):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            parts.append(Skip(low, high))
        elif kind == 1:
            parts.append(Fingerprinted(low, high, draw(summaries), draw(st.booleans())))
        else:
            parts.append((Listed if kind == 2 else Having)(low, high, draw(short_ids)))
    return cuts[0], tuple(parts)


@st.composite
def blocks(draw: st.DrawFn) -> Wanted:
    low, high = sorted(draw(st.sets(bounds, min_size=2, max_size=2)))
    ids = draw(st.none() | short_ids)
    if draw(st.booleans()):
        return BySketchKey(
            tuple(draw(st.lists(st.binary(min_size=10, max_size=10).map(SketchKey), max_size=5)))
        )
    return Block(low, high, ids, draw(short_ids) if ids is None else ())


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    total = draw(st.integers(1, SKETCH_CELLS))
    first = draw(st.integers(0, min(total - 1, 255)))
    count = draw(st.integers(1, min(100, total - first)))
    cells = draw(st.lists(st.binary(min_size=12, max_size=12).map(Cell), min_size=count, max_size=count))
    to, token, proof, view = (draw(eight) for _ in range(4))
    return Sketch(
        RouterId(to),
        Token(token),
        Token(proof),
        View(view),
        draw(u64),
        draw(u64),
        draw(u32),
        total,
        first,
        tuple(cells),
    )


@st.composite
def items(draw: st.DrawFn) -> Carried:
    data = draw(st.binary(min_size=4, max_size=300))
    return Carried(data, draw(u32) if data[3] == Grade.UNKNOWN else 0)


@st.composite
def fragments(draw: st.DrawFn) -> Fragment:
    total = draw(st.integers(1, MAX_RECORD))
    offset = draw(st.integers(0, total - 1))
    size = draw(st.integers(min(MIN_PIECE, total - offset), min(1400, total - offset)))
    return Fragment(
        draw(st.booleans()),
        RecordId(draw(st.binary(min_size=16, max_size=16))),
        total,
        offset,
        draw(u32),
        bytes(size),
    )


digests = st.builds(
    Digest,
    eight,
    eight,
    st.binary(min_size=3, max_size=3),
    claims,
    st.sampled_from([Scope.ALL, Scope.UNDATED, Scope.HISTORY, Scope.ALL | Scope.FETCHING, Scope(0)]),
    u64,
    summaries,
    summaries,
    eight,
    u64,
    u8,
)
item_lists = st.lists(items(), max_size=4).map(tuple)
packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Records, item_lists, u8),
    st.builds(Confirm, st.lists(eight, max_size=5).map(tuple), u8),
    digests,
    st.builds(Ask, eight, digests),
    st.builds(Offer, eight, eight, eight, u32, u32, u8),
    st.builds(lambda a, b, c, d, lows: Ranges(a, b, c, d, *lows), eight, eight, eight, eight, range_lists()),
    st.builds(Want, eight, eight, eight, st.lists(blocks(), max_size=4).map(tuple)),
    st.builds(Dump, eight, st.booleans(), bounds, bounds, item_lists),
    fragments(),
    sketches(),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    space = draw(st.sampled_from([Space.ROOM, Space.ACCOUNTS, Space.ROOMS, 7, 200]))
    log = draw(names) if space == Space.ROOM else draw(names | st.just(""))
    return sign_record(
        SigningKey.from_seed(KeySeed(draw(st.binary(min_size=32, max_size=32)))),
        mesh=MESH,
        space=space,
        log=log,
        kind=draw(u8),
        author=draw(names),
        router=RouterId(draw(eight)),
        stamp=draw(u64),
        grade=draw(st.sampled_from(Grade)),
        body=draw(st.binary(max_size=600)),
    )


# --- There and back -------------------------------------------------------------------------------------


@given(st.lists(packets, max_size=5))
def test_packets_come_out_as_they_went_in(sent: list[Packet]) -> None:
    wire = b"".join(map(encode_packet, sent))
    assert list(decode_packets(wire)) == sent


@given(records())
def test_a_record_comes_out_as_it_went_in_and_its_signature_holds(record: Record) -> None:
    again = decode_record(MESH, record.carried)
    assert again == record
    assert (again.id, again.position) == (record.id, record.position)
    assert again.carried == Record(**{f: getattr(again, f) for f in Record.__dataclass_fields__}).carried
    assert record_id(MESH, record.carried) == record.id
    assert position_stamp(record.position) == record.stamp
    assert verify_record(again)


@given(st.integers(0, LONGEST_IDLE), st.lists(names, max_size=3))
def test_a_statement_comes_out_as_it_went_in(idle: int, rooms: list[str]) -> None:
    statement = Statement(idle, tuple(rooms))
    assert Statement.decode(statement.encode()) == statement


@given(st.binary(max_size=40))
def test_a_statement_is_refused_or_says_one_thing(body: bytes) -> None:
    with suppress(Malformed):
        assert Statement.decode(body).encode() == body


@given(names, st.lists(names, min_size=1, max_size=30))
def test_what_fits_a_statement_fits_the_smallest_datagram(author: str, rooms: list[str]) -> None:
    fit = fitting(author, rooms)
    assert fit
    record = sign_record(
        SigningKey.from_seed(KeySeed(bytes(32))),
        mesh=MESH,
        space=Space.PRESENCE,
        log="",
        kind=Kind.PRESENCE,
        author=author,
        router=RouterId(bytes(8)),
        stamp=1,
        grade=Grade.UNKNOWN,
        body=Statement(0, fit).encode(),
    )
    assert read_statement(record).rooms == fit == tuple(rooms[: len(fit)])
    sealed = MIN_MTU - IP_UDP_HEADERS - SEALED_OVERHEAD
    assert len(encode_packet(Records((Carried(record.carried),)))) <= sealed


@given(eight, st.binary(max_size=200))
def test_an_open_datagram_comes_out_as_it_went_in(sender: RouterId, body: bytes) -> None:
    sent = PlainDatagram(MESH, sender, body)
    assert decode_datagram(sent.encode()) == sent
    assert len(sent.encode()) == PLAIN_OVERHEAD + len(body)


@given(eight, eight, u64, st.binary(max_size=200))
def test_a_sealed_datagram_comes_out_as_it_went_in(
    sender: RouterId, boot: bytes, counter: int, body: bytes
) -> None:
    sent = SealedDatagram(sender, BootId(boot), counter, body)
    assert decode_datagram(sent.encode()) == sent
    assert len(sent.nonce) == 24


@given(range_lists())
def test_the_size_told_of_a_range_is_what_it_takes(drawn: tuple[bytes, tuple[Range, ...]]) -> None:
    low, parts = drawn
    empty = len(
        encode_packet(
            Ranges(RouterId(bytes(8)), Token(bytes(8)), Salt(bytes(8)), View(bytes(8)), Bound(low), ())
        )
    )
    whole = len(
        encode_packet(
            Ranges(RouterId(bytes(8)), Token(bytes(8)), Salt(bytes(8)), View(bytes(8)), Bound(low), parts)
        )
    )
    assert whole == empty + sum(map(encoded_range_size, parts))


@given(item_lists)
def test_the_size_told_of_a_record_is_what_it_takes(sent: tuple[Carried, ...]) -> None:
    assert len(encode_packet(Records(sent))) == RECORDS_FIELDS + sum(item.size for item in sent)


@given(digests)
def test_every_fixed_packet_fits_the_smallest_mtu_under_a_key(digest: Digest) -> None:
    largest = encode_packet(Ask(AskNonce(bytes(8)), digest))
    assert IP_UDP_HEADERS + SEALED_OVERHEAD + len(largest) <= MIN_MTU


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1))
def test_stamps_sort_by_time_then_counter(milliseconds: int, counter: int) -> None:
    stamp = make_stamp(milliseconds, counter)
    assert stamp_ms(stamp) == milliseconds
    assert stamp <= MAX_STAMP
    assert make_position(0, stamp) < make_position(1, 0)


# --- Whatever else comes --------------------------------------------------------------------------------


def refused_at_worst(decode: Callable[[bytes], object], data: bytes) -> None:
    """Any other exception than the refusal fails the test."""
    with suppress(Malformed):
        decode(data)


def everything(data: bytes) -> None:
    refused_at_worst(decode_datagram, data)
    refused_at_worst(lambda raw: list(decode_packets(raw)), data)
    refused_at_worst(lambda raw: decode_record(MESH, raw), data)


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    everything(data)


@given(u8, st.binary(max_size=300))
def test_any_body_of_any_packet_type_decodes_or_is_refused(number: int, body: bytes) -> None:
    everything(bytes((number,)) + len(body).to_bytes(2, "big") + body)


@given(packets, st.data())
def test_a_truncated_packet_is_refused(packet: Packet, data: st.DataObject) -> None:
    wire = encode_packet(packet)
    cut = wire[: data.draw(st.integers(1, len(wire) - 1))]
    with pytest.raises(Malformed):
        list(decode_packets(cut))


@given(packets, st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_decodes_or_is_refused(packet: Packet, at: int, flip: int) -> None:
    wire = bytearray(encode_packet(packet))
    wire[at % len(wire)] ^= flip
    everything(bytes(wire))


@given(packets, st.binary(min_size=1, max_size=30))
def test_what_decodes_is_said_again_the_same(packet: Packet, tail: bytes) -> None:
    """Whoever passes on what he understood says the same: there are no two readings of one datagram."""
    wire = encode_packet(packet) + tail
    decoded: list[Packet | int] = []
    try:
        decoded.extend(decode_packets(wire))
    except Malformed:
        return
    known = [one for one in decoded if not isinstance(one, int)]
    assert list(decode_packets(b"".join(map(encode_packet, known)))) == known


@settings(max_examples=50)
@given(records(), st.integers(0, 10**6), st.integers(1, 255))
def test_a_record_of_which_one_byte_was_changed_never_passes_for_the_author_s(
    record: Record, at: int, flip: int
) -> None:
    raw = bytearray(record.carried)
    raw[at % len(raw)] ^= flip
    try:
        again = decode_record(MESH, bytes(raw))
    except Malformed:
        return
    assert not verify_record(again)


@given(records())
def test_a_record_of_another_mesh_does_not_verify_here(record: Record) -> None:
    assert not verify_record(decode_record(mesh_id("another"), record.carried))


@given(records(), st.data())
def test_a_truncated_record_is_refused_or_not_the_author_s(record: Record, data: st.DataObject) -> None:
    cut = record.carried[: data.draw(st.integers(0, len(record.carried) - 1))]
    with suppress(Malformed):
        assert not verify_record(decode_record(MESH, cut))


def test_packets_before_the_one_that_breaks_the_grammar_stand() -> None:
    good = Records((Carried(b"abcdefgh"),))
    reading = decode_packets(encode_packet(good) + b"\x02\x00\x01!")
    assert next(reading) == good
    with pytest.raises(Malformed):
        next(reading)


def test_a_type_not_known_is_passed_over_by_its_length() -> None:
    good = Want(
        RouterId(bytes(8)),
        Token(bytes(8)),
        Salt(bytes(8)),
        (Block(Bound(START.ljust(POSITION_SIZE, b"\0")), END, None),),
    )
    assert list(decode_packets(b"\x30\x00\x05hello" + encode_packet(good))) == [0x30, good]


@pytest.mark.parametrize("size", [0, 3, MAX_RECORD + 1])
def test_a_record_too_short_or_too_long_is_refused(size: int) -> None:
    body = b"\x00" + size.to_bytes(2, "big") + bytes(size)
    with pytest.raises(Malformed, match="size"):
        list(decode_packets(b"\x01" + len(body).to_bytes(2, "big") + body))
    with pytest.raises(Malformed):
        decode_record(MESH, bytes(size))


@pytest.mark.parametrize(
    ("offset", "size", "total"),
    [(0, 0, 10), (0, 11, 10), (5, 6, 10), (0, 300, MAX_RECORD + 1), (0, 1, 2), (0, MIN_PIECE - 1, 5000)],
)
def test_a_piece_that_lies_in_no_record_or_is_a_crumb_is_refused(offset: int, size: int, total: int) -> None:
    with pytest.raises(Malformed, match="fragment"):
        list(
            decode_packets(encode_packet(Fragment(False, RecordId(bytes(16)), total, offset, 0, bytes(size))))
        )


@pytest.mark.parametrize(
    "bounds",
    [(END, END), (make_position(1, 5), make_position(1, 5)), (make_position(1, 5), make_position(0, 9))],
)
def test_bounds_out_of_order_are_refused(bounds: tuple[bytes, bytes]) -> None:
    low, high = bounds
    ranges = Ranges(
        RouterId(bytes(8)),
        Token(bytes(8)),
        Salt(bytes(8)),
        View(bytes(8)),
        Bound(low),
        (Skip(Bound(low), Bound(high)),),
    )
    for packet in (
        ranges,
        Want(RouterId(bytes(8)), Token(bytes(8)), Salt(bytes(8)), (Block(Bound(low), Bound(high), None),)),
    ):
        with pytest.raises(Malformed, match="bound"):
            list(decode_packets(encode_packet(packet)))


def test_a_later_version_is_named() -> None:
    with pytest.raises(LaterVersion) as refusal:
        decode_datagram(bytes((MAGIC, WIRE_VERSION + 1)) + b"whatever")
    assert refusal.value.version == WIRE_VERSION + 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "-a",
        ".a",
        "a.",
        "a/b",
        "..",
        "a\x00",
        "a\x1b[2J",
        "e\u0301",
        "\u202ea",
        "a" * 33,
        "a\u200db",
        "\ud800",
    ],
)
def test_a_name_that_could_harm_is_none(name: str) -> None:
    assert not is_name(name)


def test_a_record_with_a_name_that_could_harm_is_refused() -> None:
    signer = SigningKey.from_seed(KeySeed(bytes(32)))
    for log, author in (("../../etc/passwd", "ann"), ("1", "a\x1b[2J"), ("", "ann")):
        record = sign_record(
            signer,
            mesh=MESH,
            space=Space.ROOM,
            log=log,
            kind=Kind.MESSAGE,
            author=author,
            router=router_id(signer.public),
            stamp=1,
            grade=Grade.GOOD,
            body=b"hello",
        )
        with pytest.raises(Malformed, match="name"):
            decode_record(MESH, record.carried)


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(Malformed, match="encoding"):
        Reader(b"\x02\xff\xfe").text()


def test_a_hundred_thousand_mutations_of_true_packets() -> None:
    """Blunter than hypothesis, and many more: pieces of true packets, cut, joined and bent."""
    rng = random.Random(7)
    claim = ClockClaim(Grade.GOOD, 0, 0, 1_800_000_000_000)
    digest = Digest(
        BootId(bytes(8)),
        BootId(bytes(8)),
        bytes(3),
        claim,
        Scope.ALL,
        0,
        Summary(0, Fingerprint(bytes(16))),
        Summary(5, Fingerprint(bytes(16))),
    )
    low, high = make_position(1, 0), make_position(1, 2**60)
    true = [
        encode_packet(packet)
        for packet in (
            digest,
            Ask(AskNonce(bytes(8)), digest),
            Offer(RouterId(bytes(8)), AskNonce(bytes(8)), Token(bytes(8)), 1, 2, 3),
            Ranges(
                RouterId(bytes(8)),
                Token(bytes(8)),
                Salt(bytes(8)),
                View(bytes(8)),
                low,
                (Listed(low, high, (ShortId(b"123456"),)), Skip(high, END)),
            ),
            Want(
                RouterId(bytes(8)),
                Token(bytes(8)),
                Salt(bytes(8)),
                (Block(low, high, (ShortId(b"123456"),)), Block(low, END, None)),
            ),
            Dump(RouterId(bytes(8)), True, low, high, (Carried(b"\x01\x01\x01\x00" + bytes(200), 5),)),
            Fragment(True, RecordId(bytes(16)), 5000, 0, 0, bytes(400)),
        )
    ]
    for _ in range(100_000):
        data = bytearray(rng.choice(true))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))] + rng.choice(true)
        refused_at_worst(lambda raw: list(decode_packets(raw)), bytes(data))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.hex")), ids=lambda path: path.stem)
def test_what_once_broke_it_decodes_or_is_refused(path: Path) -> None:
    everything(bytes.fromhex(path.read_text().partition("\n")[2]))
