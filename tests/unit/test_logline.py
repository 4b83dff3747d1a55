"""A record as a line: exact both ways, harmless to a terminal, and refused after any edit."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.adapters.storage.logline import MAX_LINE, StoredRecord, decode_line, encode_line
from meshchat.constants import MAX_RECORD
from meshchat.errors import Malformed
from meshchat.identity.keys import KeySeed, SigningKey, sign_record, verify_record
from meshchat.wire.ids import RouterId
from meshchat.wire.records import MAX_STAMP, Grade, Kind, Record, Space, is_name, make_stamp, mesh_id

MESH = mesh_id("test")
SIGNER = SigningKey.from_seed(KeySeed(bytes(range(32))))

names = st.text("abcXYZ0189-_.äßñяنあ", min_size=1, max_size=32).filter(is_name)
bodies = st.one_of(st.text(max_size=300).map(lambda text: text.encode("utf-8")), st.binary(max_size=300))


@st.composite
def records(draw: st.DrawFn) -> Record:
    space = draw(st.sampled_from([0, 1, 1, 1, 7, 128, 129, 255]))
    log = draw(names) if space == Space.ROOM else draw(st.one_of(names, st.just("")))
    return sign_record(
        SIGNER,
        mesh=MESH,
        space=space,
        log=log,
        kind=draw(st.one_of(st.just(int(Kind.MESSAGE)), st.integers(0, 255))),
        author=draw(names),
        router=RouterId(draw(st.binary(min_size=8, max_size=8))),
        stamp=draw(st.one_of(st.integers(0, MAX_STAMP), st.just(make_stamp(1_795_219_200_000)))),
        grade=draw(st.sampled_from(Grade)),
        body=draw(bodies),
    )


def message(text: str, *, room: str = "1", stamp: int = make_stamp(1_795_219_200_000)) -> Record:
    return sign_record(
        SIGNER,
        mesh=MESH,
        space=Space.ROOM,
        log=room,
        kind=Kind.MESSAGE,
        author="ja",
        router=RouterId(bytes(8)),
        stamp=stamp,
        grade=Grade.GOOD,
        body=text.encode("utf-8"),
    )


seconds = st.one_of(st.none(), st.integers(0, 2**53))


@given(records(), seconds, seconds)
def test_a_line_gives_back_exactly_its_record(record: Record, age: int | None, run: int | None) -> None:
    line = encode_line(record, age=age, run=run)
    assert line.endswith(b"\n")
    assert len(line) <= MAX_LINE
    stored = decode_line(MESH, line)
    assert stored == StoredRecord(record, age, run)
    assert stored.record.carried == record.carried
    assert verify_record(stored.record)
    assert decode_line(MESH, line[:-1]) == stored


@given(records())
def test_no_line_can_be_split_or_drive_a_terminal(record: Record) -> None:
    line = encode_line(record).decode("utf-8")[:-1]
    assert not [char for char in line if unicodedata.category(char)[0] == "C"]
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\n",
        "a|b/c!^",
        "\0",
        "\x1b[2J\x1b]0;gone\x07",
        "\u202eright to left",
        "\u2028\u2029\x85",
        "😀" * 2048,
        "\U000e0001 tag, \ue000 private",
        "non\u00a0breaking",
        '"quotes" \\ and',
    ],
)
def test_strange_texts_are_kept_exactly_as_other_programs_read_json(text: str) -> None:
    line = encode_line(message(text))
    assert json.loads(line)["text"] == text
    assert decode_line(MESH, line).record.body.decode("utf-8") == text


def test_the_keys_stand_in_the_order_that_the_protocol_fixes() -> None:
    line = encode_line(message("hi"), age=5, run=7)
    order = "id time room user text space kind grade stamp router key signature age run"
    assert list(json.loads(line)) == order.split()
    assert json.loads(line)["time"] == "2026-11-21T00:00:00.000Z"


def test_the_longest_record_fits_and_a_longer_one_does_not() -> None:
    room = MAX_RECORD - len(message("").carried)
    line = encode_line(message("\0" * room))
    assert len(line) <= MAX_LINE
    assert decode_line(MESH, line).record.body == bytes(room)
    with pytest.raises(Malformed, match="size"):
        decode_line(MESH, encode_line(message("x" * (room + 1))))


def test_keys_of_later_versions_are_passed_over() -> None:
    record = message("hi")
    fields = json.loads(encode_line(record)) | {"mood": [1.5, None, {"deep": True}]}
    assert decode_line(MESH, json.dumps(fields).encode()).record == record


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("text", "bye", "id"),
        ("room", "2", "id"),
        ("room", "../../etc", "name"),
        ("room", "", "name"),
        ("user", "jo", "id"),
        ("user", "\ud800", "name"),
        ("time", "2026-11-21T00:00:00.001Z", "line-time"),
        ("id", "00" * 16, "id"),
        ("id", "zz", "line-field"),
        ("kind", True, "line-field"),
        ("kind", 256, "line-field"),
        ("stamp", -1, "line-field"),
        ("stamp", 1.0, "line-field"),
        ("stamp", 10**30, "line-field"),
        ("space", "1", "line-field"),
        ("grade", "best", "line-field"),
        ("grade", [], "line-field"),
        ("router", "00", "line-field"),
        ("key", "AA==", "line-field"),
        ("signature", "é", "line-field"),
        ("text", "\ud800", "line-field"),
        ("text", 5, "line-field"),
        ("body", "", "line-field"),
        ("age", -1, "line-field"),
        ("age", None, "line-field"),
        ("run", 2**53 + 1, "line-field"),
    ],
)
def test_an_edited_line_is_refused_with_its_reason(key: str, value: object, reason: str) -> None:
    fields = json.loads(encode_line(message("hi"))) | {key: value}
    with pytest.raises(Malformed) as caught:
        decode_line(MESH, json.dumps(fields).encode())
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"[" * 90_000,
        b'{"a":' * 15_000,
        b'{"stamp":' + b"9" * 50_000 + b"}",
        b" " * (MAX_LINE + 1),
        b'{"id":NaN}',
    ],
)
def test_no_junk_raises_anything_but_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        decode_line(MESH, line)


def test_a_line_of_another_mesh_is_refused() -> None:
    with pytest.raises(Malformed, match="id"):
        decode_line(mesh_id("other"), encode_line(message("hi")))


@settings(max_examples=300)
@given(records(), st.data())
def test_whatever_a_vandal_does_to_the_bytes_the_record_is_right_or_refused(
    record: Record, data: st.DataObject
) -> None:
    line = bytearray(encode_line(record, age=3, run=4))
    at = data.draw(st.integers(0, len(line)))
    until = data.draw(st.integers(at, min(len(line), at + 20)))
    line[at:until] = data.draw(st.one_of(st.binary(max_size=20), st.sampled_from([b'"', b"}", b"0", b"\\u"])))
    try:
        found = decode_line(MESH, bytes(line)).record
    except Malformed:
        return
    assert found.signed == record.signed
