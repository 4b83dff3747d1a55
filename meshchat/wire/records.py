"""The record: the signed, immutable unit that every router keeps and passes on.

A record names its mesh, its log, its author and the router that took it inside the signed bytes, so it
can be neither altered nor moved, and anyone can verify it before its account has arrived. Its id is a
hash of the signed bytes without the signature: two signatures over one text are one record.

All records form one set in one order, that of `Record.position`. It has two strata: stratum 0 is what no
horizon wipes by date (accounts, rooms, and all that was stamped without a trusted clock), stratum 1 is dated
history. People see both in the order of (stamp, id).
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from struct import Struct
from typing import Any

from meshchat.constants import MAX_NAME_BYTES, MAX_NAME_CHARS, MAX_RECORD
from meshchat.errors import Malformed
from meshchat.wire.codec import Reader, text
from meshchat.wire.ids import (
    MESH_ID_SIZE,
    PUBLIC_KEY_SIZE,
    RECORD_ID_SIZE,
    ROUTER_ID_SIZE,
    SIGNATURE_SIZE,
    Bound,
    MeshId,
    Position,
    PublicKey,
    RecordId,
    RouterId,
    Signature,
)

RECORD_VERSION = 1
UNASSIGNED = "Cn"
"""Unicode's category of characters that it may assign in a later version."""

SIGNATURE_CONTEXT = b"meshchat record\x00"
"""Goes before the signed bytes, so that no signature made for another purpose passes for a record."""

STAMP_COUNTER_BITS = 16
MAX_STAMP = 2**64 - 1


EPHEMERAL = 64
"""The first space whose records are passed on and never kept."""

PERMANENT = 128
"""The first space that no wipe touches."""


class Grade(IntEnum):
    """How far a clock is trusted."""

    UNKNOWN = 0
    ADOPTED = 1
    GOOD = 2


class Space(IntEnum):
    """What kind of log a record belongs to. From `PERMANENT` on no wipe touches it.

    From `EPHEMERAL` to there it belongs to none.
    """

    ROOM = 1
    PRESENCE = 64
    ACCOUNTS = 128
    ROOMS = 129


class Kind(IntEnum):
    """What a record's body is. Kinds not listed are kept, relayed and not shown; if ephemeral, dropped."""

    MESSAGE = 1
    ACCOUNT = 2
    RETIREMENT = 3
    ROOM = 4
    PRESENCE = 5


UNKNOWN_GRADE = int(Grade.UNKNOWN)
"""The byte, to compare with another: a member of an enumeration costs six times as much."""
_GRADES = tuple(Grade)
_HEAD = Struct(f">BBBBQ{ROUTER_ID_SIZE}s{PUBLIC_KEY_SIZE}s")
"""Version, kind, space, grade, stamp, router and key: all in front of the names."""
_ORDER = Struct(">BQ")
_LOWEST_ID = RecordId(bytes(RECORD_ID_SIZE))
_UNDATED, _DATED = b"\x00", b"\x01"
_STAMP_SIZE = 8
_FIXED_SIZE = _HEAD.size + 2 + SIGNATURE_SIZE


def mesh_id(name: str) -> MeshId:
    """The 8 bytes by which datagrams and records name the mesh called `name`."""
    digest = hashlib.blake2b(name.encode("utf-8"), digest_size=MESH_ID_SIZE, person=b"meshchat mesh")
    return MeshId(digest.digest())


def router_id(public_key: PublicKey) -> RouterId:
    """The 8 bytes by which a router with this Ed25519 public key is known."""
    digest = hashlib.blake2b(public_key, digest_size=ROUTER_ID_SIZE, person=b"meshchat router")
    return RouterId(digest.digest())


def make_stamp(milliseconds: int, counter: int = 0) -> int:
    """A stamp from UTC milliseconds since 1970 and a counter below 65,536."""
    return milliseconds << STAMP_COUNTER_BITS | counter


def stamp_ms(stamp: int) -> int:
    """UTC milliseconds since 1970 of a stamp."""
    return stamp >> STAMP_COUNTER_BITS


@lru_cache(maxsize=1024)
def is_name(name: str) -> bool:
    """Whether `name` may name a user or a room.

    1 to 32 characters in NFC: letters, digits and marks, and `-`, `_` and `.` between them. So a name is a
    safe file name, a safe word on a terminal and never looks like an option. What this reader's Unicode does
    not know yet passes, or routers of different age would hold different records.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARS or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return False
    if not unicodedata.is_normalized("NFC", name):
        return False
    kinds = [unicodedata.category(char) for char in name]
    words = [kind[0] in "LNM" or kind == UNASSIGNED for kind in kinds]
    inside = all(word or char in "-_." for word, char in zip(words, name, strict=True))
    return inside and words[0] and kinds[0][0] != "M" and words[-1]


@dataclass(frozen=True)
class Record:
    """One record. `stamp` is milliseconds << 16 | counter; `router` is the router that took it."""

    mesh: MeshId
    space: int
    log: str
    kind: int
    author: str
    key: PublicKey
    router: RouterId
    stamp: int
    grade: Grade
    body: bytes
    signature: Signature

    @cached_property
    def carried(self) -> bytes:
        """The record as datagrams carry it: the signed bytes less the mesh id, then the signature."""
        return self._unsigned() + self.signature

    @cached_property
    def signed(self) -> bytes:
        """The bytes that the author's key signs."""
        return _signed(self.mesh, self._unsigned())

    def _unsigned(self) -> bytes:
        head = _HEAD.pack(
            RECORD_VERSION, self.kind, self.space, self.grade, self.stamp, self.router, self.key
        )
        return head + text(self.log) + text(self.author) + self.body

    @cached_property
    def id(self) -> RecordId:
        """16 bytes of BLAKE2b over the signed bytes."""
        return _hash(self.signed)

    @property
    def ephemeral(self) -> bool:
        """Whether it is passed on and never kept."""
        return is_ephemeral(self.space)

    @property
    def permanent(self) -> bool:
        """Whether it is no history: an account, a room, or a later permanent space."""
        return self.space >= PERMANENT

    @property
    def dated(self) -> bool:
        """Whether it is history whose stamp can be trusted for the wipe: stratum 1."""
        return is_dated(self.space, self.grade)

    @cached_property
    def position(self) -> Position:
        """Where it stands in the one order: stratum, stamp, id, as 25 bytes that compare as they sort."""
        return make_position(1 if self.dated else 0, self.stamp, self.id)

    @property
    def order(self) -> tuple[int, RecordId]:
        """What people see records sorted by: (stamp, id)."""
        return self.stamp, self.id


def is_ephemeral(space: int) -> bool:
    """Whether records of this space are passed on and never kept."""
    return EPHEMERAL <= space < PERMANENT


def is_dated(space: int, grade: int) -> bool:
    """Whether a record of this space, by a clock of this grade, belongs to stratum 1."""
    return space < EPHEMERAL and grade != UNKNOWN_GRADE


def carried_size(log: str, author: str, body: bytes) -> int:
    """Bytes of a record with these fields as datagrams carry it."""
    return _FIXED_SIZE + len(log.encode("utf-8")) + len(author.encode("utf-8")) + len(body)


def _signed(mesh: MeshId, unsigned: bytes) -> bytes:
    return SIGNATURE_CONTEXT + mesh + unsigned


def _hash(signed: bytes) -> RecordId:
    digest: Any = hashlib.blake2b(signed, digest_size=RECORD_ID_SIZE).digest()
    record_id: RecordId = digest
    return record_id


def record_id(mesh: MeshId, carried: bytes) -> RecordId:
    """The id of a record of mesh `mesh` as carried, without decoding it."""
    return _hash(_signed(mesh, carried[:-SIGNATURE_SIZE]))


def make_position(stratum: int, stamp: int, record_id: RecordId = _LOWEST_ID) -> Position:
    """The position of a record in the one order; with no id, the lowest one at that stamp."""
    return Position(Bound(_ORDER.pack(stratum, stamp) + record_id))


def carried_position(mesh: MeshId, carried: bytes) -> Position:
    """The position of a record of mesh `mesh` as carried, at least 4 bytes of it, without decoding it.

    What is no record yields what is no record's position, for no other bytes have its id.
    """
    stratum = _DATED if is_dated(carried[2], carried[3]) else _UNDATED
    # Not Position(Bound(...)): for each record that comes in, these calls would be a twentieth of the work.
    octets: Any = stratum + carried[4 : 4 + _STAMP_SIZE] + record_id(mesh, carried)
    position: Position = octets
    return position


def position_stamp(position: Bound) -> int:
    """The stamp inside a position, or a bound that is as long as one."""
    return int.from_bytes(position[1:9], "big")


def decode_record(mesh: MeshId, carried: bytes) -> Record:
    """The record of mesh `mesh` in `carried`; its signature is not checked here.

    Raises `Malformed`: "record-version" for a later version, "size", "name" for a log or author name that
    cannot be used as one, "grade", or the reader's reasons.
    """
    if len(carried) > MAX_RECORD:
        raise Malformed("size")
    if carried and carried[0] != RECORD_VERSION:
        raise Malformed("record-version")
    reader = Reader(carried)
    _, kind, space, grade, stamp, router, key = reader.fields(_HEAD)
    if grade >= len(_GRADES):
        raise Malformed("grade")
    log, author = reader.text(), reader.text()
    if not is_name(author) or not (is_name(log) or (log == "" and space != Space.ROOM)):
        raise Malformed("name")
    if reader.remaining() < SIGNATURE_SIZE:
        raise Malformed("truncated")
    body = reader.take(reader.remaining() - SIGNATURE_SIZE)
    signature = Signature(reader.rest())
    record = Record(mesh, space, log, kind, author, key, router, stamp, _GRADES[grade], body, signature)
    # What was read need not be put together again.
    record.__dict__.update(carried=carried, signed=_signed(mesh, carried[:-SIGNATURE_SIZE]))
    return record
