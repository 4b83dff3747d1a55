"""What the application asks of the engine and of the router it runs on: the only interfaces to them.

`adapters.meshview` implements the one over the node, `adapters.operator` the other over node and network.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from meshchat.chat.cursors import Cursor
from meshchat.protocol.events import MeshState
from meshchat.state.presence import Present
from meshchat.wire.ids import MeshId, Position, PublicKey, RecordId, RouterId
from meshchat.wire.records import Grade, Record

DIGEST_SIZE = 16
NO_RECORDS = hashlib.blake2b(digest_size=DIGEST_SIZE).hexdigest()
"""The digest of a room that holds nothing: one value on every router, so that digests can be compared."""


@dataclass(frozen=True)
class RoomSummary:
    """A room. `last` is the newest stamp, None in an empty one; equal `digest` (hex), equal content."""

    name: str
    messages: int
    last: int | None
    digest: str


@dataclass(frozen=True)
class MergeResult:
    """What became of records from a file: new here, held already, and refused by reason."""

    added: int
    known: int
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What a request made: a record's id, room and stamp, and its body, None where it has gone since."""

    id: RecordId
    room: str
    stamp: int
    body: bytes | None


class Mesh(Protocol):
    """The engine and its store, as the application sees them.

    Stamps are milliseconds << 16 | counter. Iterators may be drained slowly while records come and go:
    what has gone meanwhile is skipped. Whatever becomes stored, by whatever door, is told to
    `Service.tell` before the call that stored it returns. All may raise `StoreError`.
    """

    @property
    def mesh(self) -> MeshId:
        """The 8-byte mesh id."""

    @property
    def router(self) -> RouterId:
        """The 8-byte id of this router."""

    def now_ms(self) -> int:
        """Mesh time, UTC milliseconds since 1970."""

    def stamp(self) -> tuple[int, Grade]:
        """The next stamp for a record made here, with the clock's grade. Each call gives a later one."""

    def submit(self, record: Record, once: bytes | None = None) -> str | None:
        """Stores and floods a record made here. Returns when it is on disk as the fsync policy has it.

        `once` is a 16-byte hash of the request that made it, kept here in the same write.
        A returned line is for the author: his record is kept, but waits (quarantine) or may not last.
        Raises `StoreError` where the disk does not take it; then it was not sent either.
        """

    def made(self, once: bytes) -> Made | None:
        """What the request with this hash made, if it was among the last 1,024 that had one, over restarts
        too as long as the record is held.
        """

    def announce(self, record: Record) -> None:
        """Floods a statement of who is present on this router, made here; it is not stored."""

    def present(self) -> list[Present]:
        """Who is present on which router, in any order. Each change is told to `Service.tell`."""

    def rooms(self) -> list[RoomSummary]:
        """The rooms that hold messages, in any order."""

    def room_names(self) -> Iterable[str]:
        """The rooms in which anything is held, in any order. Cheap."""

    def messages(
        self,
        room: str,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        *,
        before: Position | None = None,
    ) -> Iterator[Record]:
        """The records of a room with since <= stamp < until, oldest first; of many, the newest `limit`.

        With `before`, a position, only what people see above it. Raises `StoreError` after the last where the
        disk did not give some of them.
        """

    def newest(self) -> Cursor:
        """The newest arrival here: what arrives from now on has a higher number. Nothing is read."""

    def cursor(self, record: Record) -> Cursor | None:
        """When a message arrived here; None where it is not held. Nothing is read from disk."""

    def arrived(
        self, room: str, after: int, *, since: int | None = None, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """The records of a room with a higher arrival number than `after`, in order of arrival, each with its
        number.

        With `since`, a stamp, only those stamped so or later and those that came more than `LATE_MS` after
        they were written, or may have. `limit` is how many the caller will draw, None: all. To find that
        nothing is new is cheap. Raises `StoreError` at the first that the disk does not give.
        """

    def stamp_of(self, room: str, record_id: RecordId) -> int | None:
        """The stamp of a record of this room; None where it is not held. Nothing is read from disk."""

    def held_by(self, record_id: RecordId, author: PublicKey) -> int | None:
        """How many neighbours are known to hold a message of this author (his public key); None where this
        is not watched: it is another's, or was not written on this router, or not since it started, or long
        ago. Cheap.
        """

    def mesh_state(self) -> MeshState:
        """How the mesh looks from here."""

    def has_room(self, room: str) -> bool:
        """Whether anything in this room is held. Cheap: nothing is read from disk."""

    def has_author(self, key: PublicKey) -> bool:
        """Whether history written with this public key is held. Cheap: nothing is read from disk."""

    def authors(self) -> Iterable[tuple[str, PublicKey]]:
        """Each name and public key that history is held of, for `Service` at its start. Nothing is read."""

    def permanent(self, space: int) -> Iterator[Record]:
        """The records of a permanent space (`Space.ACCOUNTS`, `Space.ROOMS`)."""

    def wipe(self, room: str | None) -> int:
        """Deletes the history of a room, or all, on this router alone; says how many records went."""

    def take_in(self, lines: Iterable[str]) -> MergeResult:
        """Merges log lines from a file, each through the same checks as a neighbour's records."""

    def export(self, room: str | None) -> Iterator[str]:
        """The log lines (no newline) of a room, or of all there is, accounts and rooms included.

        Raises `StoreError` after the last where the disk did not give some of them.
        """


class Operator(Protocol):
    """What only the operator may see and do: how the router does, its clock, its mesh keys."""

    def status(self) -> Mapping[str, object]:
        """The `status` object of the control socket."""

    def peers(self) -> list[Mapping[str, object]]:
        """The neighbours, as the control socket shows them."""

    def check(self) -> list[Mapping[str, object]]:
        """Findings about this router's set-up: level, what, text, cure."""

    def clock(self) -> Mapping[str, object]:
        """Mesh time and how far it is trusted: time, quality, offset_ms, ..."""

    def set_clock(self, ms: int) -> None:
        """The operator vouches for this time (UTC milliseconds): the clock's grade becomes good."""

    def keys(self) -> list[Mapping[str, object]]:
        """The mesh keys: key, sends."""

    def change_keys(self, do: str, key: str | None) -> None:
        """Changes the mesh keys: `do` is new, add, use or drop. Raises `ConfigError` for a bad key."""
