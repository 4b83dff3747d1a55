"""The mesh as the application sees it: what the node's engine holds, with the bodies from the logs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

from meshchat.adapters.node import Node
from meshchat.adapters.storage.logline import decode_line, encode_line
from meshchat.adapters.storage.logstore import LogStore
from meshchat.chat.cursors import Cursor
from meshchat.chat.ports import Made, MergeResult, RoomSummary
from meshchat.errors import Malformed, StoreError
from meshchat.protocol.events import MeshState
from meshchat.state.presence import Present
from meshchat.wire.ids import MeshId, Position, PublicKey, RecordId, RouterId, record_id_of
from meshchat.wire.packets import Carried
from meshchat.wire.records import MAX_STAMP, Grade, Record, Space, position_stamp


class MeshView:
    """See `chat.ports.Mesh`: each method here says only what is added to that."""

    def __init__(self, node: Node, logs: LogStore) -> None:
        """`logs` are those of the node."""
        self._node, self._engine, self._logs = node, node.engine, logs
        self._held = node.engine.holdings

    @property
    def mesh(self) -> MeshId:
        """The 8-byte mesh id."""
        return self._node.mesh

    @property
    def router(self) -> RouterId:
        """The 8-byte id of this router."""
        return self._node.router

    def now_ms(self) -> int:
        """Mesh time."""
        return self._engine.time_ms(self._node.instant())

    # --- What is made here ------------------------------------------------------------------------------

    def stamp(self) -> tuple[int, Grade]:
        """The next stamp."""
        return self._engine.stamp(self._node.instant())

    def submit(self, record: Record, once: bytes | None = None) -> str | None:
        """Through the node, onto the disk and the air."""
        self._node.submit(record, once)
        ahead = self._engine.ahead_of(self._node.instant())
        if ahead:
            return (
                f"This router's clock is ahead of {ahead} of its neighbours: they show this only when its "
                "time comes. Set the clock with `meshchat clock set`."
            )
        if not self._held.holds(record.position):
            return "This did not stay: newer messages fill the space for this author or room."
        return None

    def made(self, once: bytes) -> Made | None:
        """From the logs, which keep the hash in the record's own line."""
        made = self._logs.made(once)
        if made is None:
            return None
        place = made.position
        record = None
        with suppress(StoreError):  # that it was made is known all the same
            record = self._read(place)
        return Made(
            id=record_id_of(place),
            room=made.log,
            stamp=position_stamp(place),
            body=None if record is None else record.body,
        )

    def announce(self, record: Record) -> None:
        """Through the node, onto the air."""
        self._node.announce(record)

    # --- Who and how ------------------------------------------------------------------------------------

    def present(self) -> list[Present]:
        """As the engine has heard."""
        return self._engine.present(self._node.instant())

    def mesh_state(self) -> MeshState:
        """By now."""
        return self._engine.mesh_state(self._node.instant())

    def held_by(self, record_id: RecordId, author: PublicKey) -> int | None:
        """As the engine has heard."""
        return self._held.holders(record_id, author)

    # --- Rooms ------------------------------------------------------------------------------------------

    def rooms(self) -> list[RoomSummary]:
        """Summed up as messages come and go."""
        sums = self._held.rooms(self._node.instant())
        return [RoomSummary(name, each.messages, each.newest, each.digest) for name, each in sums]

    def room_names(self) -> Iterable[str]:
        """From the index."""
        return self._held.room_names()

    def has_room(self, room: str) -> bool:
        """From the index."""
        return self._held.has_room(room)

    def has_author(self, key: PublicKey) -> bool:
        """From the index."""
        return self._held.has_author(key)

    def authors(self) -> Iterator[tuple[str, PublicKey]]:
        """Those met when the logs were read at the start; told once."""
        return ((name, key) for name, key in self._node.take_authors() if self.has_author(key))

    def messages(
        self,
        room: str,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        *,
        before: Position | None = None,
    ) -> Iterator[Record]:
        """Chosen in the index at the first draw, read one by one."""
        places = self._held.messages(
            room,
            self._node.instant(),
            since=since or 0,
            until=MAX_STAMP if until is None else until,
            limit=limit,
            before=before,
        )
        yield from self._bodies(places)

    def stamp_of(self, room: str, record_id: RecordId) -> int | None:
        """From the index."""
        place = self._held.message(room, record_id)
        return None if place is None else position_stamp(place)

    def newest(self) -> Cursor:
        """From the logs' numbers of arrival."""
        return Cursor(self._logs.epoch, self._logs.newest_arrival)

    def cursor(self, record: Record) -> Cursor | None:
        """From the logs' numbers of arrival."""
        number = self._logs.arrival(record.position)
        return None if number is None else Cursor(self._logs.epoch, number)

    def arrived(
        self, room: str, after: int, *, since: int | None = None, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """Page by page from the logs' numbers of arrival."""
        found = self._logs.arrived(room, after, since=since, limit=limit)
        while found:
            for number, place in found:
                record = self._read(place)
                if record is not None and record.space == Space.ROOM and record.log == room:
                    yield number, record
            if limit is None:
                return
            # Some of them may be of another room, or gone, or no message that the caller can show.
            found = self._logs.arrived(room, found[-1].number, since=since, limit=limit)

    # --- All of it --------------------------------------------------------------------------------------

    def permanent(self, space: int) -> Iterator[Record]:
        """Chosen in the index, read one by one."""
        with suppress(StoreError):  # the others count, and `check` says what the disk does not give
            for record in self._bodies(self._held.permanent()):
                if record.space == space:
                    yield record

    def wipe(self, room: str | None) -> int:
        """Raises `StoreError` where the disk does not let go of it; see `Node.wipe`."""
        return self._node.wipe(room)

    def take_in(self, lines: Iterable[str]) -> MergeResult:
        """Through the node, by the door of a neighbour's records."""
        refused: Counter[str] = Counter()
        carried = []
        for line in lines:
            try:
                item = decode_line(self.mesh, line.encode("utf-8", "replace"))
                carried.append(Carried(item.record.carried, item.age or 0))
            except Malformed as reason:
                refused[reason.reason] += 1
        before = self._held.count
        known, why = self._node.merge(carried)
        return MergeResult(max(0, self._held.count - before), known, dict(refused + why))

    def export(self, room: str | None) -> Iterator[str]:
        """Undated records with the age that they have by now."""
        for record in self._bodies(self._held.all(room)):
            undated = record.grade is Grade.UNKNOWN
            age = self._held.age(record.position, self._node.instant()) if undated else None
            yield encode_line(record, age=age).decode("utf-8").rstrip("\n")

    # --- Bodies -----------------------------------------------------------------------------------------

    def _read(self, place: Position) -> Record | None:
        """None where it has gone, or the disk lost it; raises `StoreError` where it does not give it now."""
        return self._logs.read(place) if self._held.holds(place) else None

    def _bodies(self, places: Iterable[Position]) -> Iterator[Record]:
        """What has gone meanwhile is skipped. Raises `StoreError` after the last where some were not read."""
        asked, unread, first = 0, 0, None
        for place in places:
            asked += 1
            try:
                record = self._logs.read(place)
            except StoreError as error:
                unread, first = unread + 1, first or error
                continue
            if record is not None:
                yield record
        if first is not None:
            self._node.cannot_read(first)
            raise StoreError(f"{unread} of {asked} records could not be read. {first}")
