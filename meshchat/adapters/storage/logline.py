"""One record as one line of JSON: the format of the log files and of exports.

`{"id":…,"time":…,"room":…,"user":…,"text":…,"space":…,"kind":…,"grade":…,"stamp":…,"router":…,"key":…,
"signature":…}` and, where a router keeps them, `"age"`, `"run"`, `"arrival"`, `"late"`, `"once"` and its
`"mark"` (`logmark`). A body that is no message text stands in base64 under `"body"` instead of `"text"`.
`time` is for people; the stamp is what counts. The line holds all that is needed to re-create the signed
bytes, and the id proves that it did; the signature is the caller's to check. No character that could split a
line or drive a terminal stands in it unescaped.
"""

import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from meshchat.chat.render import escape
from meshchat.constants import MAX_RECORD, ONCE_SIZE
from meshchat.errors import Malformed
from meshchat.wire.ids import (
    MESH_ID_SIZE,
    PUBLIC_KEY_SIZE,
    ROUTER_ID_SIZE,
    SIGNATURE_SIZE,
    MeshId,
    Position,
    PublicKey,
    RecordId,
    RouterId,
    Signature,
)
from meshchat.wire.records import (
    MAX_STAMP,
    SIGNATURE_CONTEXT,
    Grade,
    Kind,
    Record,
    Space,
    carried_size,
    is_dated,
    is_ephemeral,
    is_name,
    make_position,
    stamp_ms,
)

MAX_LINE = 6 * MAX_RECORD + 1024
"""Bytes of a line: at worst each byte of a body is escaped as `\\u0000`, beside under 1 KiB of fields."""

MAX_SECONDS = 2**53
"""Bound of `age` and `run`: what every JSON reader reads exactly."""

MAX_ARRIVAL = 2**47 - 1
"""Bound of `arrival`: with the bit that says whether it came late it takes 6 bytes of memory a record."""

_GRADES = {"unknown": Grade.UNKNOWN, "adopted": Grade.ADOPTED, "good": Grade.GOOD}
_GRADE_NAMES = {grade: name for name, grade in _GRADES.items()}
_EPOCH = datetime(1970, 1, 1)
_LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: RFC 3339 can say no later time, and shows later stamps as this."""

_encode_json = json.JSONEncoder(ensure_ascii=False).encode
_decode_json = json.JSONDecoder().decode


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as a router keeps it.

    `age` is the seconds that other routers held it before it came here, `run` this router's own running
    seconds when it did; both only for records that no clock dates (`Grade.UNKNOWN`), else None. `arrival` is
    its number in the order of arrival here (`arrivals`), `late` whether it came long after it was written or
    may have, and `once` the hash of the request that made it here, where that had a key.
    """

    record: Record
    age: int | None = None
    run: int | None = None
    arrival: int | None = None
    late: bool = False
    once: bytes | None = None

    @property
    def position(self) -> Position:
        """Where the record stands in the one order."""
        return self.record.position

    @property
    def outline(self) -> "Outline":
        """What the engine has to know of it."""
        record = self.record
        return Outline(
            *(record.position, len(record.carried), record.space, record.log, record.author, record.key),
            *(self.age, self.run, self.arrival, self.late, self.once),
        )


class Outline(NamedTuple):
    """What the engine has to know of a stored record; `size` is bytes as carried, the rest as above."""

    position: Position
    size: int
    space: int
    log: str
    author: str
    key: PublicKey
    age: int | None
    run: int | None
    arrival: int | None = None
    late: bool = False
    once: bytes | None = None


def time_text(milliseconds: int) -> str:
    """UTC milliseconds since 1970 as RFC 3339, `2026-11-21T04:00:00.000Z`."""
    moment = _EPOCH + timedelta(milliseconds=min(milliseconds, _LAST_MS))
    return moment.isoformat(timespec="milliseconds") + "Z"


def _base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode("ascii")


def _content(record: Record) -> str:
    if record.kind == Kind.MESSAGE and record.space == Space.ROOM:
        try:
            return '"text":' + escape(_encode_json(record.body.decode("utf-8")))
        except UnicodeDecodeError:
            pass
    return f'"body":"{_base64(record.body)}"'


def arrival_fields(number: int, *, late: bool) -> str:
    """What a line says of its record's arrival, from the comma before it on."""
    return f',"arrival":{number}' + (',"late":true' if late else "")


def encode_line(
    record: Record,
    *,
    age: int | None = None,
    run: int | None = None,
    arrival: int | None = None,
    late: bool = False,
    once: bytes | None = None,
) -> bytes:
    """The record's line with its newline; the rest as in `StoredRecord`."""
    held = "" if age is None else f',"age":{age}'
    since = "" if run is None else f',"run":{run}'
    arrived = "" if arrival is None else arrival_fields(arrival, late=late)
    made_by = "" if once is None else f',"once":"{once.hex()}"'
    return (
        f'{{"id":"{record.id.hex()}","time":"{time_text(stamp_ms(record.stamp))}"'
        f',"room":{escape(_encode_json(record.log))},"user":{escape(_encode_json(record.author))}'
        f',{_content(record)},"space":{record.space},"kind":{record.kind}'
        f',"grade":"{_GRADE_NAMES[record.grade]}","stamp":{record.stamp},"router":"{record.router.hex()}"'
        f',"key":"{_base64(record.key)}","signature":"{_base64(record.signature)}"'
        f"{held}{since}{arrived}{made_by}}}\n"
    ).encode()


def decode_line(mesh: MeshId, line: bytes) -> StoredRecord:
    """The record of mesh `mesh` (its id) in a line, with or without the newline.

    Keys it does not know are passed over. Raises `Malformed`, and nothing else whatever the bytes are:
    "line-size", "line-syntax", "line-field" for a field that is missing, of another type or out of range,
    "line-time" where `time` contradicts the stamp, "name", "ephemeral" for what no log holds, "size", and
    "id" where the id is not the hash of the rest, as after any edit. The signature is not checked.
    """
    if len(line) > MAX_LINE:
        raise Malformed("line-size")
    try:
        fields = _decode_json(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed("line-syntax") from None
    if type(fields) is not dict:
        raise Malformed("line-syntax")
    log, author = _string(fields, "room"), _string(fields, "user")
    space, stamp = _uint(fields, "space", 255), _uint(fields, "stamp", MAX_STAMP)
    if not is_name(author) or not (is_name(log) or (log == "" and space != Space.ROOM)):
        raise Malformed("name")
    if is_ephemeral(space):
        raise Malformed("ephemeral")
    if _string(fields, "time") != time_text(stamp_ms(stamp)):
        raise Malformed("line-time")
    grade = _GRADES.get(_string(fields, "grade"))
    if grade is None:
        raise Malformed("line-field")
    record = Record(
        mesh,
        space,
        log,
        _uint(fields, "kind", 255),
        author,
        PublicKey(_octets(fields, "key", PUBLIC_KEY_SIZE)),
        RouterId(_hex(fields, "router", ROUTER_ID_SIZE)),
        stamp,
        grade,
        _body(fields),
        Signature(_octets(fields, "signature", SIGNATURE_SIZE)),
    )
    if len(record.signed) - len(SIGNATURE_CONTEXT) - MESH_ID_SIZE + SIGNATURE_SIZE > MAX_RECORD:
        raise Malformed("size")
    if _hex(fields, "id", len(record.id)) != record.id:
        raise Malformed("id")
    return StoredRecord(
        record,
        age=_optional(fields, "age", MAX_SECONDS),
        run=_optional(fields, "run", MAX_SECONDS),
        arrival=_optional(fields, "arrival", MAX_ARRIVAL),
        late=_flag(fields, "late"),
        once=_hex(fields, "once", ONCE_SIZE) if "once" in fields else None,
    )


def outline_line(line: bytes) -> Outline:
    """What the engine has to know of the record in a line that `encode_line` wrote: nothing is checked."""
    fields = _decode_json(line.decode("utf-8"))
    space, log, author, stamp = fields["space"], fields["room"], fields["user"], fields["stamp"]
    text = fields.get("text")
    body = binascii.a2b_base64(fields["body"]) if text is None else text.encode("utf-8")
    stratum = 1 if is_dated(space, _GRADES[fields["grade"]]) else 0
    return Outline(
        make_position(stratum, stamp, RecordId(bytes.fromhex(fields["id"]))),
        carried_size(log, author, body),
        space,
        log,
        author,
        PublicKey(binascii.a2b_base64(fields["key"])),
        fields.get("age"),
        fields.get("run"),
        fields.get("arrival"),
        "late" in fields,
        bytes.fromhex(fields["once"]) if "once" in fields else None,
    )


def _string(fields: dict[str, object], key: str) -> str:
    value = fields.get(key)
    if type(value) is not str:
        raise Malformed("line-field")
    return value


def _uint(fields: dict[str, object], key: str, most: int) -> int:
    value = fields.get(key)
    # `True` is an int to isinstance, not here.
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed("line-field")
    return value


def _optional(fields: dict[str, object], key: str, most: int) -> int | None:
    return _uint(fields, key, most) if key in fields else None


def _flag(fields: dict[str, object], key: str) -> bool:
    if fields.get(key, True) is not True:
        raise Malformed("line-field")
    return key in fields


def _hex(fields: dict[str, object], key: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(_string(fields, key))
    except ValueError:
        raise Malformed("line-field") from None
    if len(value) != size:
        raise Malformed("line-field")
    return value


def _octets(fields: dict[str, object], key: str, size: int | None = None) -> bytes:
    try:
        value = binascii.a2b_base64(_string(fields, key), strict_mode=True)
    except ValueError:
        raise Malformed("line-field") from None
    if size is not None and len(value) != size:
        raise Malformed("line-field")
    return value


def _body(fields: dict[str, object]) -> bytes:
    if ("text" in fields) == ("body" in fields):
        raise Malformed("line-field")
    if "body" in fields:
        return _octets(fields, "body")
    try:
        return _string(fields, "text").encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed("line-field") from None
