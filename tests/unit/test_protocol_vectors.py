"""PROTOCOL.md against the program: its vectors, both ways, and its tables of values.

A vector is a fenced block `vector NAME` of `field = value` lines; an indented line goes on with the value
before it. Values are hex, decimal numbers, or JSON strings in quotes.
"""

import ast
import hashlib
import importlib
import json
import pkgutil
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import TypeVar

import nacl.bindings
import nacl.pwhash.argon2id
import pytest

import meshchat
from meshchat import errors
from meshchat.adapters.storage.logline import StoredRecord, decode_line, encode_line
from meshchat.adapters.storage.logmark import Lines
from meshchat.adapters.storage.smallfile import checked_line, checked_object, open_line
from meshchat.adapters.storage.statestore import STATE_VERSION, State
from meshchat.chat.accounts import decode_account, encode_account
from meshchat.chat.requests import OPERATIONS
from meshchat.identity.keys import KeySeed, RouterIdentity, SigningKey, sign_record, verify_record
from meshchat.identity.meshkey import MeshKey, Sealer, mesh_key_text, parse_mesh_key
from meshchat.identity.passwords import PasswordSalt, SealedKey, open_key
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.repair.reconcile import short_id
from meshchat.state.recordset import Entry, RecordSet
from meshchat.wire.codec import Reader
from meshchat.wire.datagram import PlainDatagram, SealedDatagram, decode_datagram
from meshchat.wire.ids import (
    END,
    START,
    AskNonce,
    BootId,
    Bound,
    Cell,
    ConfirmKey,
    Fingerprint,
    HearsFilter,
    MeshId,
    Position,
    PublicKey,
    RecordId,
    RouterId,
    Salt,
    ShortId,
    SketchKey,
    Token,
    View,
)
from meshchat.wire.packets import (
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
    PacketType,
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
)
from meshchat.wire.presence import Statement
from meshchat.wire.records import (
    Grade,
    Kind,
    Record,
    Space,
    decode_record,
    make_position,
    mesh_id,
    record_id,
    router_id,
)

PACKAGES = ("constants", "protocol", "state", "wire")
"""Where the numbers of the protocol are."""

DOCUMENT = (Path(meshchat.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")

T = TypeVar("T")


@dataclass(frozen=True)
class Vector:
    """One block; a field may stand several times."""

    line: int
    pairs: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def octets(self, name: str) -> bytes:
        return bytes.fromhex(self.one(name))

    def number(self, name: str) -> int:
        return int(self.one(name))

    def text(self, name: str) -> str:
        value = json.loads(self.one(name))
        assert isinstance(value, str)
        return value


def _vectors(name: str) -> list[Vector]:
    """The blocks of this name; there has to be one."""
    found = []
    for match in re.finditer(rf"^```vector {name}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL):
        joined = re.sub(r"\n  ", "", match[1])
        pairs = (line.partition(" =") for line in joined.splitlines())
        line = DOCUMENT.count("\n", 0, match.start()) + 1
        found.append(Vector(line, tuple((key, value.strip()) for key, _, value in pairs)))
    assert found, f"PROTOCOL.md has no vector {name}"
    return found


def _named(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", _vectors(name), ids=lambda vector: f"line{vector.line}")


def test_every_vector_of_the_document_is_tested() -> None:
    names = set(re.findall(r"^```vector (\S+)$", DOCUMENT, re.MULTILINE))
    tested = set(re.findall(r'_named\("(\S+)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert names == tested


# --- Ids and records ------------------------------------------------------------------------------------


@_named("mesh-id")
def test_mesh_id(vector: Vector) -> None:
    assert mesh_id(vector.text("name")) == vector.octets("mesh")


@_named("router-id")
def test_router_id(vector: Vector) -> None:
    key = SigningKey.from_seed(KeySeed(vector.octets("seed")))
    assert key.public == vector.octets("public")
    assert router_id(key.public) == vector.octets("router")


def _record(vector: Vector) -> Record:
    """The record that the fields of the vector describe, signed anew."""
    return sign_record(
        SigningKey.from_seed(KeySeed(vector.octets("seed"))),
        mesh=MeshId(vector.octets("mesh")),
        space=vector.number("space"),
        log=vector.text("log"),
        kind=vector.number("kind"),
        author=vector.text("author"),
        router=RouterId(vector.octets("router")),
        stamp=vector.number("stamp"),
        grade=Grade(vector.number("grade")),
        body=vector.octets("body"),
    )


@_named("record")
def test_record(vector: Vector) -> None:
    made = _record(vector)
    for name in ("key", "signed", "signature", "carried", "id", "position"):
        assert getattr(made, name) == vector.octets(name), name
    read = decode_record(MeshId(vector.octets("mesh")), vector.octets("carried"))
    assert read == made
    assert verify_record(read)
    assert record_id(MeshId(vector.octets("mesh")), vector.octets("carried")) == vector.octets("id")


@_named("statement")
def test_statement(vector: Vector) -> None:
    rooms = tuple(json.loads(room) for room in vector.all("room"))
    statement = Statement(vector.number("idle"), rooms)
    assert statement.encode() == vector.octets("body")
    assert Statement.decode(vector.octets("body")) == statement


@_named("sealed-key")
def test_sealed_key(vector: Vector) -> None:
    sealed = SealedKey(
        vector.number("operations"),
        vector.number("memory"),
        PasswordSalt(vector.octets("salt")),
        vector.octets("nonce"),
        vector.octets("ciphertext"),
    )
    assert sealed.encode() == vector.octets("encoded")
    assert SealedKey.decode(Reader(vector.octets("encoded"))) == sealed
    assert encode_account(vector.number("sequence"), sealed) == vector.octets("body")
    assert decode_account(vector.octets("body")) == (vector.number("sequence"), sealed)
    opened = open_key(sealed, PublicKey(vector.octets("public")), vector.text("password"))
    assert opened == SigningKey.from_seed(KeySeed(vector.octets("seed")))
    assert open_key(sealed, PublicKey(vector.octets("public")), "another") is None


@_named("sealed-key")
def test_sealed_key_is_made_as_the_document_says(vector: Vector) -> None:
    password = vector.text("password").encode("utf-8")
    key = nacl.pwhash.argon2id.kdf(
        32, password, vector.octets("salt"), vector.number("operations"), vector.number("memory")
    )
    assert key == vector.octets("password-key")
    ciphertext = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        vector.octets("seed"), vector.octets("public"), vector.octets("nonce"), key
    )
    assert ciphertext == vector.octets("ciphertext")


# --- The set --------------------------------------------------------------------------------------------


def _synthetic(count: int) -> list[bytes]:
    """The positions of the document's synthetic records, in order."""
    places = []
    for number in range(count):
        name = hashlib.blake2b(number.to_bytes(4, "big"), digest_size=16).digest()
        places.append(make_position(number % 2, (1_800_000_000_000 + number) * 65_536, RecordId(name)))
    return sorted(places)


def _fingerprint(places: list[bytes]) -> bytes:
    """Section 7's words, word for word and slow."""
    if len(places) <= 32:
        return hashlib.blake2b(b"\x00" + b"".join(place[9:] for place in places), digest_size=16).digest()
    bits = [f"{int.from_bytes(place, 'big'):0200b}" for place in places]
    first = next(at for at in range(200) if bits[0][at] != bits[-1][at])
    halves = [[p for p, b in zip(places, bits, strict=True) if b[first] == side] for side in "01"]
    return hashlib.blake2b(b"\x01" + b"".join(map(_fingerprint, halves)), digest_size=16).digest()


@_named("fingerprint")
def test_fingerprint(vector: Vector) -> None:
    places = _synthetic(vector.number("count"))
    assert hashlib.blake2b(b"".join(places), digest_size=16).digest() == vector.octets("positions")
    records = RecordSet()
    for place in places:
        records.put(Entry(Position(Bound(place)), 1, 1, 1, 0, False))
    assert records.summary() == Summary(len(places), Fingerprint(vector.octets("fingerprint")))
    assert _fingerprint(places) == vector.octets("fingerprint")


def _cells(places: list[bytes]) -> list[bytes]:
    """The words on sketches, word for word and slow."""
    cells = [bytes(12)] * 256
    for place in places:
        mix = hashlib.blake2b(place[1:11], digest_size=26, person=b"meshchat sketch").digest()
        into = {0}
        for octave in range(8):
            a, b, c = mix[2 + 3 * octave : 5 + 3 * octave]
            if a >= 77:
                into |= {2**octave + b % 2**octave, 2**octave + c % 2**octave}
        for cell in into:
            cells[cell] = bytes(x ^ y for x, y in zip(cells[cell], place[1:11] + mix[:2], strict=True))
    return cells


@_named("sketch")
def test_sketch(vector: Vector) -> None:
    places = _synthetic(vector.number("count"))
    records = RecordSet()
    records.put_all(Entry(Position(Bound(place)), 1, 1, 1, 0, False) for place in places)
    while records.sketch_on(100):
        pass
    sketch = records.sketch([(START, END)])
    assert sketch is not None
    cells = sketch.encoded(0, 256)
    assert list(cells) == _cells(places)
    assert b"".join(cells[:4]) == vector.octets("first")
    assert hashlib.blake2b(b"".join(cells), digest_size=16).digest() == vector.octets("cells")


@_named("short-id")
def test_short_id(vector: Vector) -> None:
    assert short_id(Salt(vector.octets("salt")), RecordId(vector.octets("id"))) == vector.octets("short")


# --- Packets --------------------------------------------------------------------------------------------


def _both_ways(vector: Vector, packet: Packet) -> None:
    assert encode_packet(packet) == vector.octets("packet")
    assert list(decode_packets(vector.octets("packet"))) == [packet]


def _items(vector: Vector) -> tuple[Carried, ...]:
    split = [value.split() for value in vector.all("item")]
    return tuple(Carried(bytes.fromhex(record), int(age)) for record, age in split)


def _bound(written: str) -> Bound:
    return Bound(END if written == "end" else bytes.fromhex(written))


def _summary(written: str) -> Summary:
    count, fingerprint = written.split()
    return Summary(int(count), Fingerprint(bytes.fromhex(fingerprint)))


def _ids(kind: Callable[[bytes], T], written: list[str]) -> tuple[T, ...]:
    return tuple(kind(bytes.fromhex(one)) for one in written)


def _digest(vector: Vector) -> Digest:
    claim = ClockClaim(
        Grade(vector.number("grade")),
        vector.number("hops"),
        vector.number("clock-age"),
        vector.number("time"),
    )
    return Digest(
        BootId(vector.octets("boot")),
        BootId(vector.octets("echo")),
        vector.octets("release"),
        claim,
        Scope(vector.number("scope")),
        vector.number("floor"),
        _summary(vector.one("undated")),
        _summary(vector.one("history")),
        HearsFilter(vector.octets("hears")),
        vector.number("until"),
        vector.number("number"),
    )


def _parts(vector: Vector) -> Iterator[Range]:
    low = _bound(vector.one("low"))
    for written in vector.all("part"):
        mode, bound, *rest = written.split()
        high = _bound(bound)
        match mode:
            case "skip":
                yield Skip(low, high)
            case "fingerprint" | "open":
                yield Fingerprinted(low, high, _summary(" ".join(rest)), mode == "open")
            case "list":
                held, _, gone = " ".join(rest).partition("gone")
                yield Listed(low, high, _ids(ShortId, held.split()), _ids(ShortId, gone.split()))
            case _:
                yield Having(low, high, _ids(ShortId, rest))
        low = high


def _blocks(vector: Vector) -> Iterator[Wanted]:
    for written in vector.all("block"):
        mode, *rest = written.split()
        if mode == "keys":
            yield BySketchKey(_ids(SketchKey, rest))
            continue
        low, high, *ids = rest
        wanted, but = (_ids(ShortId, ids), ()) if mode == "listed" else (None, _ids(ShortId, ids))
        yield Block(_bound(low), _bound(high), wanted, but)


@_named("packet-records")
def test_records_packet(vector: Vector) -> None:
    _both_ways(vector, Records(_items(vector), vector.number("number")))


@_named("packet-confirm")
def test_confirm_packet(vector: Vector) -> None:
    _both_ways(vector, Confirm(_ids(ConfirmKey, vector.all("key")), vector.number("number")))


@_named("packet-digest")
def test_digest_packet(vector: Vector) -> None:
    _both_ways(vector, _digest(vector))


@_named("packet-ask")
def test_ask_packet(vector: Vector) -> None:
    _both_ways(vector, Ask(AskNonce(vector.octets("nonce")), _digest(vector)))


@_named("packet-offer")
def test_offer_packet(vector: Vector) -> None:
    sizes = vector.number("records"), vector.number("bytes"), vector.number("streams")
    _both_ways(
        vector,
        Offer(
            RouterId(vector.octets("to")),
            AskNonce(vector.octets("nonce")),
            Token(vector.octets("token")),
            *sizes,
        ),
    )


@_named("packet-ranges")
def test_ranges_packet(vector: Vector) -> None:
    to, token, salt, view = (vector.octets(name) for name in ("to", "token", "salt", "view"))
    _both_ways(
        vector,
        Ranges(
            RouterId(to),
            Token(token),
            Salt(salt),
            View(view),
            Bound(_bound(vector.one("low"))),
            tuple(_parts(vector)),
        ),
    )


@_named("packet-want")
def test_want_packet(vector: Vector) -> None:
    to, token, salt = (vector.octets(name) for name in ("to", "token", "salt"))
    _both_ways(vector, Want(RouterId(to), Token(token), Salt(salt), tuple(_blocks(vector))))


@_named("packet-dump")
def test_dump_packet(vector: Vector) -> None:
    low, high = _bound(vector.one("low")), _bound(vector.one("high"))
    _both_ways(
        vector,
        Dump(
            RouterId(vector.octets("to")),
            bool(vector.number("last")),
            Bound(low),
            Bound(high),
            _items(vector),
        ),
    )


@_named("packet-sketch")
def test_sketch_packet(vector: Vector) -> None:
    to, token, proof, view = (vector.octets(name) for name in ("to", "token", "proof", "view"))
    floor, ceiling, count = (vector.number(name) for name in ("floor", "ceiling", "count"))
    total, first, cells = (
        vector.number("cells-in-all"),
        vector.number("first"),
        _ids(Cell, vector.all("cell")),
    )
    _both_ways(
        vector,
        Sketch(
            RouterId(to), Token(token), Token(proof), View(view), floor, ceiling, count, total, first, cells
        ),
    )


@_named("packet-fragment")
def test_fragment_packet(vector: Vector) -> None:
    sizes = vector.number("total"), vector.number("offset"), vector.number("age")
    fragment = Fragment(
        bool(vector.number("repair")), RecordId(vector.octets("id")), *sizes, vector.octets("data")
    )
    _both_ways(vector, fragment)


# --- Datagrams and lines --------------------------------------------------------------------------------


@_named("datagram-plain")
def test_plain_datagram(vector: Vector) -> None:
    made = PlainDatagram(
        MeshId(vector.octets("mesh")), RouterId(vector.octets("sender")), vector.octets("packets")
    )
    assert made.encode() == vector.octets("datagram")
    assert decode_datagram(vector.octets("datagram")) == made


@_named("datagram-sealed")
def test_sealed_datagram(vector: Vector) -> None:
    key = MeshKey(vector.octets("mesh-key"))
    assert mesh_key_text(key) == vector.text("mesh-key-text")
    assert parse_mesh_key(vector.text("mesh-key-text")) == key
    mesh, sender, boot = vector.octets("mesh"), vector.octets("sender"), vector.octets("boot")
    ours = Envelope(MeshId(mesh), RouterId(sender), BootId(boot), Sealer((key,)))
    packets = [packet for packet in decode_packets(vector.octets("packets")) if not isinstance(packet, int)]
    made = [ours.wrap(packets) for _ in range(vector.number("counter"))]
    assert made[-1] == vector.octets("datagram")
    theirs = Envelope(MeshId(mesh), RouterId(bytes(8)), BootId(bytes(8)), Sealer((key,)))
    assert theirs.unwrap(vector.octets("datagram")) == (sender, vector.octets("packets"))


@_named("datagram-sealed")
def test_sealed_datagram_is_made_as_the_document_says(vector: Vector) -> None:
    read = decode_datagram(vector.octets("datagram"))
    assert isinstance(read, SealedDatagram)
    assert read.nonce == vector.octets("nonce")
    assert read.nonce == vector.octets("sender") + vector.octets("boot") + read.counter.to_bytes(8, "big")
    assert vector.octets("associated") == b"\x6d\x01\x01" + vector.octets("mesh")
    person = b"meshchat seal"
    key = hashlib.blake2b(vector.octets("mesh-key"), digest_size=32, person=person).digest()
    assert key == vector.octets("sealing-key")
    opened = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        read.ciphertext, vector.octets("associated"), read.nonce, key
    )
    assert opened == vector.octets("packets")


@_named("checked-line")
def test_checked_line(vector: Vector) -> None:
    assert checked_line(vector.text("text")) == vector.one("line").encode() + b"\n"
    assert open_line(vector.one("line").encode() + b"\n") == vector.text("text")


@_named("checked-object")
def test_checked_object(vector: Vector) -> None:
    made = checked_object(json.loads(vector.one("fields")))
    assert made == vector.one("line").encode() + b"\n"


@_named("log-line")
def test_log_line(vector: Vector) -> None:
    record = decode_record(mesh_id("meshchat"), vector.octets("carried"))
    held = {name: int(value) for name, value in vector.pairs if name in ("age", "run", "arrival")}
    given = dict(vector.pairs)
    kept = StoredRecord(
        record,
        held.get("age"),
        held.get("run"),
        held.get("arrival"),
        late="late" in given,
        once=bytes.fromhex(given["once"]) if "once" in given else None,
    )
    line = vector.one("line").encode("utf-8") + b"\n"
    stored = decode_line(mesh_id("meshchat"), line)
    assert stored == kept
    made = encode_line(
        record,
        age=kept.age,
        run=kept.run,
        arrival=kept.arrival,
        late=kept.late,
        once=kept.once,
    )
    assert made == line
    if any(name == "marked" for name, _ in vector.pairs):
        key = RouterIdentity(SigningKey.from_seed(KeySeed(vector.octets("seed")))).mark_key(
            mesh_id("meshchat")
        )
        marked = vector.one("marked").encode("utf-8")
        lines = Lines(mesh_id("meshchat"), key, verify_record)
        assert lines.write(stored) == marked + b"\n"
        assert lines.is_own(marked)


# --- Tables of values -----------------------------------------------------------------------------------


def _table(marker: str) -> list[list[str]]:
    """The cells of the first table from `marker` on, its header and rule left out."""
    assert DOCUMENT.count(f"\n{marker}") == 1, marker
    table = re.compile(r"(?:^\|.*\n)+", re.MULTILINE).search(DOCUMENT, DOCUMENT.index(f"\n{marker}"))
    assert table is not None
    return [re.split(r" *\| *", row[1:-1].strip()) for row in table[0].splitlines()[2:]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(
    ("heading", "enum"),
    [
        ("| packet | type | way | from whom to whom |", PacketType),
        ("| grade | value | meaning |", Grade),
        ("| space | value | logs in it |", Space),
        ("| kind | value | body |", Kind),
        ("| scope | value | meaning |", Scope),
    ],
)
def test_values_on_the_wire(heading: str, enum: type[IntEnum] | type[IntFlag]) -> None:
    written = {_code(row[0])[0]: int(row[1]) for row in _table(heading)}
    assert written == {name: int(value) for name, value in enum.__members__.items()}


def _numbers() -> dict[str, set[object]]:
    """The constants of the engine by name, with every value that one of its modules has for it."""
    found: dict[str, set[object]] = defaultdict(set)
    for module in pkgutil.walk_packages(meshchat.__path__, "meshchat."):
        if module.name.split(".")[1] in PACKAGES:
            for name, value in vars(importlib.import_module(module.name)).items():
                if name.isupper() and isinstance(value, int | float | tuple | str):
                    found[name].add(value)
    return found


@pytest.mark.parametrize(("name", "value"), [row[:2] for row in _table("| name | value | what |")])
def test_numbers(name: str, value: str) -> None:
    assert _numbers()[name.strip("`")] == {ast.literal_eval(value)}


def test_operations_of_the_control_socket() -> None:
    written = {
        _code(operation)[0]: (right, dict(re.findall(r"`(\w+)`(\??)", fields_cell)))
        for operation, right, fields_cell, *_ in _table("| operation | right | fields | answer |")
    }
    assert written == {
        name: (
            operation.right.value,
            {field: "" if rule.required else "?" for field, rule in operation.fields.items()},
        )
        for name, operation in OPERATIONS.items()
    }


def test_error_codes() -> None:
    written = {_code(row[0])[0] for row in _table("| code | when |")}
    raised = [error for error in vars(errors).values() if isinstance(error, type)]
    codes = {error.code for error in raised if issubclass(error, errors.MeshchatError)}
    assert written == codes | {"busy"}


def test_keys_of_a_log_line() -> None:
    written = [name for row in _table("**A log line**") for name in _code(row[0])]
    pairs = [pair for vector in _vectors("log-line") for pair in vector.pairs]
    lines = [json.loads(value) for name, value in pairs if name in ("line", "marked")]
    for line in lines:
        assert list(line) == [name for name in written if name in line]
    assert set(written) == {name for line in lines for name in line}


def test_keys_of_the_state() -> None:
    table = _table("**`state.json`**")
    written = [name for row in table for name in _code(row[0])]
    assert written == ["version", *(field.name for field in fields(State)), "check"]
    assert table[0][1] == str(STATE_VERSION)


def test_reasons_for_dropping() -> None:
    written = {reason for row in _table("| reason | of |") for reason in _code(row[0])}
    sources = "".join(path.read_text("utf-8") for path in Path(meshchat.__file__).parent.rglob("*.py"))
    found = re.findall(r'(?:Malformed\(|drops\[|super\(\).__init__\()"([a-z-]+)"', sources)
    assert written == set(found)
