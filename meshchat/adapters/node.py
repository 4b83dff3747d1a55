"""The engine on its disk: carries out what the router decides, and is the mesh that the application sees.

No sockets and no loop: the daemon feeds it datagrams and deadlines, and so does the simulator, which thereby
runs exactly the store code that a router runs.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from random import Random
from typing import Protocol

from meshchat.adapters.logline import Outline, StoredRecord, decode_line, encode_line
from meshchat.adapters.logstore import AppendFailed, LogStore
from meshchat.adapters.statestore import State, StateStore
from meshchat.chat.cursors import Cursor
from meshchat.chat.names import MAX_STRANGERS
from meshchat.chat.notices import Evicted, Notice, Wiped
from meshchat.chat.ports import Made, MergeResult, RoomSummary
from meshchat.constants import LATE_MS, RELEASED_MS, STATE_EVERY
from meshchat.errors import Malformed, StoreError
from meshchat.identity import Sealer, verify_record
from meshchat.protocol.clock import LATEST_MS
from meshchat.protocol.events import (
    Append,
    Appended,
    MeshState,
    Output,
    Remember,
    Remove,
    Save,
    Send,
    Stored,
)
from meshchat.protocol.horizon import HorizonState
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import LinkProfile
from meshchat.protocol.router import Router, RouterSettings
from meshchat.state.origin import Origin
from meshchat.state.presence import Present
from meshchat.state.recordset import LONGEST_HELD
from meshchat.state.store import HISTORY_START, HistoryRow, StoreLimits
from meshchat.wire.packets import START, Carried
from meshchat.wire.records import (
    MAX_STAMP,
    RECORD_ID_SIZE,
    Grade,
    Record,
    Space,
    position,
    position_stamp,
    stamp_ms,
)

_NO_HASHES: Mapping[bytes, bytes] = {}
_MERGE_BATCH = 64
_RESTORE_BATCH = 256
"""Records that are put into the index at once at the start: what is at hand of them takes 2 MB."""

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Whoever is told what the node does: the daemon, or the simulator."""

    def send(self, send: Send) -> None:
        """Put a datagram on the air."""

    def tell(self, notice: Notice) -> None:
        """Pass on what the application is told."""

    def wake_at(self, deadline: float | None) -> None:
        """Call `tick` at this monotonic time; None: no deadline is set."""


@dataclass(frozen=True)
class NodeSettings:
    """What a node starts with; see `RouterSettings` for the fields of the same name."""

    mesh: bytes
    limits: StoreLimits
    wipe_moment: Callable[[int], int]
    retention_ms: int | None
    boot: bytes
    secret: bytes
    boot_id: str
    synchronised_boot: Callable[[], str] = lambda: ""


class Node:
    """One router with its logs. `disk_trouble` is why the last append failed, empty where it did not."""

    def __init__(
        self,
        settings: NodeSettings,
        logs: LogStore,
        state: StateStore,
        clock: Callable[[], Instant],
        random: Random,
        listener: Listener,
    ) -> None:
        """Opens nothing yet: call `start`. `logs` is opened already."""
        self._settings = settings
        self._logs, self._state, self._clock, self._listener = logs, state, clock, listener
        now = clock()
        kept = state.load()
        self.identity = state.identity()
        self.engine = Router(
            RouterSettings(
                mesh=settings.mesh,
                router=self.identity.id,
                boot=settings.boot,
                secret=settings.secret,
                limits=settings.limits,
                wipe_moment=settings.wipe_moment,
                retention_ms=settings.retention_ms,
                horizon=HorizonState(
                    kept.horizon_ms, kept.pace_ms, kept.pace_run, kept.held_ms, kept.held_run
                ),
                run=kept.running_s + _time_off(kept, now),
                clock_floor_ms=kept.floor_ms,
                clock_resume_ms=kept.mesh_ms,
            ),
            Sealer(state.mesh_keys()),
            logs.read,
            random,
            now,
        )
        if kept.clock_offset_ms is not None and kept.boot_id == settings.boot_id:
            self.engine.clock.restore_operator(kept.clock_offset_ms, over_kernel=kept.clock_over_kernel)
        self._saved_at = now.mono
        self.disk_trouble = ""
        self._trouble: StoreError | None = None
        self._failing: dict[str, str] = {}
        self._unremoved: set[bytes] = set()
        self._authors: dict[tuple[str, bytes], None] = {}

    # --- Life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Reads the logs. Lines whose signature does not hold are set aside; what was wiped goes."""
        wiped = frozenset(self._state.wiped())
        self.engine.recall(wiped)
        now = self._clock()
        run = self.engine.keeper.run(now)
        leftover: list[bytes] = []
        rows: list[HistoryRow] = []
        outputs: list[Output] = []
        for item in self._logs.load(self.identity.mark_key(self.mesh), verify_record):
            if item.position in wiped:
                leftover.append(item.position)
            elif isinstance(item, StoredRecord):
                since = run if item.run is None else item.run
                outputs += self.engine.load(item.record, item.age or 0, since, now)
            else:
                self._met(item)
                rows.append(_row(item, run))
                if len(rows) == _RESTORE_BATCH:
                    outputs += self.engine.restore(rows, now)
                    rows.clear()
        outputs += self.engine.restore(rows, now)
        if leftover:
            outputs.append(Remove(tuple(leftover), "hand"))
        self._perform(outputs)
        for line in (*self._logs.report, *self._state.report):
            log.warning("%s", line)
        # If the power goes in a moment, the next start has to know since when the router was off.
        self._save()

    def _met(self, item: Outline) -> None:
        if item.space == Space.ROOM:
            self._authors[item.author, item.key] = None
            if len(self._authors) > MAX_STRANGERS:
                del self._authors[next(iter(self._authors))]

    def close(self) -> None:
        """Saves the state, what was let go included, and lets go of the logs."""
        self._save()
        remembered = list(self.engine.store.remembered_places())
        self._try(lambda: self._state.save_wiped(remembered), "What was let go is not noted")
        self._try(self._logs.close, "The logs could not be written out")

    def receive(self, data: bytes, link: str, origin: Origin) -> None:
        """A datagram came in by the link of this name."""
        self._perform(self.engine.receive(data, link, origin, self._clock()))

    def tick(self) -> None:
        """A deadline passed."""
        now = self._clock()
        self._perform(self.engine.tick(now))
        damaged = self._logs.take_damaged()
        if damaged:
            log.warning("%d records on the disk are damaged and are fetched again.", len(damaged))
            self._perform(self.engine.lost(damaged, now))
        if now.mono - self._saved_at >= STATE_EVERY:
            self._save()

    def instant(self) -> Instant:
        """The machine's clocks by now."""
        return self._clock()

    def sync(self) -> None:
        """Forces the logs onto the disk, where the fsync policy wants it."""
        self._try(self._logs.sync_due, "The logs could not be forced onto the disk")

    def link_up(self, profile: LinkProfile) -> None:
        """A link can be used, or has another MTU than before."""
        self._perform(self.engine.link_up(profile, self._clock()))

    def link_down(self, name: str) -> None:
        """The link of this name is gone."""
        self._perform(self.engine.link_down(name, self._clock()))

    # --- Carrying out -----------------------------------------------------------------------------------

    def _perform(self, outputs: Iterable[Output], once: Mapping[bytes, bytes] = _NO_HASHES) -> list[Appended]:
        """Carries the outputs out in order; what came of those that were to be written.

        `once` has, by the id of a record that a request made, the hash of that request.
        """
        outcomes: list[Appended] = []
        for output in outputs:
            match output:
                case Append(batch):
                    outcomes += self._append(batch, once)
                case Send():
                    self.engine.sent(output)
                    self._listener.send(output)
                case Remove(places, why):
                    self._remove(places, why)
                case Remember(places):
                    self._try(partial(self._state.add_wiped, places), "What was wiped is not noted")
                case Save():
                    self._save()
                case _:
                    self._listener.tell(output)
        self._listener.wake_at(self.engine.next_deadline())
        return outcomes

    def _append(self, batch: tuple[Stored, ...], once: Mapping[bytes, bytes]) -> list[Appended]:
        now = self._clock()
        run = self.engine.keeper.run(now)
        items = []
        for stored in batch:
            undated = stored.record.grade is Grade.UNKNOWN
            # Of what no clock dates, nobody can say that it came in time.
            late = undated or self.engine.clock.now_ms(now) - stamp_ms(stored.record.stamp) > LATE_MS
            age, since = (stored.age, run) if undated else (None, None)
            made_by = once.get(stored.record.id)
            items.append(StoredRecord(stored.record, age, since, late=late, once=made_by))
        outcome = self._write(items)
        if outcome.reason and outcome.reason != self.disk_trouble:
            log.error("%s", outcome.reason)  # once, not for each record
        self.disk_trouble = outcome.reason
        return [outcome, *self._perform(self.engine.appended(outcome, now))]

    def _write(self, items: Sequence[StoredRecord]) -> Appended:
        """Appends the records to the logs, as many of them as these take."""
        ids = tuple(item.record.id for item in items)
        try:
            self._logs.append(items)
        except AppendFailed as failure:
            stored = {item.record.id for item in failure.stored}
            kept = tuple(one for one in ids if one in stored)
            return Appended(kept, tuple(one for one in ids if one not in stored), str(failure))
        return Appended(ids)

    def _remove(self, places: tuple[bytes, ...], why: str) -> None:
        permanent = [record for place in places if (record := self._permanent_record(place)) is not None]
        self._erase(places)
        if permanent:
            self._listener.tell(Evicted(tuple(permanent)))
        if why in ("wipe", "age"):
            log.info("Wiped %d records (%s).", len(places), why)
            self._listener.tell(Wiped(None, len(places)))

    def _erase(self, places: Iterable[bytes]) -> None:
        """Off the disk; what the disk does not let go of is tried again when the state is saved."""
        self._unremoved.update(places)
        pending = tuple(self._unremoved)
        self._try(lambda: self._logs.remove(pending), "Wiped history could not be taken off the disk")
        self._unremoved = {place for place in pending if place in self._logs}

    def _permanent_record(self, place: bytes) -> Record | None:
        record = self._logs.read(place) if place < HISTORY_START else None
        return record if record is not None and record.permanent else None

    def _try(self, action: Callable[[], object], trouble: str) -> None:
        """Does what the router can live without; a failure is a line in the log, once as long as it lasts."""
        try:
            action()
        except StoreError as error:
            self._trouble = error
            if self._failing.get(trouble) != str(error):
                self._failing[trouble] = str(error)
                log.error("%s: %s", trouble, error)
        else:
            self._failing.pop(trouble, None)

    def _save(self) -> None:
        now = self._clock()
        self._saved_at = now.mono
        if self._unremoved:
            self._erase(())
        clock, horizon = self.engine.clock, self.engine.horizon.state
        good = clock.grade(now) is Grade.GOOD
        state = State(
            horizon_ms=horizon.horizon_ms,
            pace_ms=horizon.pace_ms,
            pace_run=horizon.pace_run,
            held_ms=horizon.held_ms,
            held_run=horizon.held_run,
            floor_ms=clock.floor_ms(now),
            mesh_ms=clock.now_ms(now),
            running_s=self.engine.keeper.run(now),
            boot_id=self._settings.boot_id,
            clock_offset_ms=clock.operator_offset_ms,
            clock_over_kernel=clock.operator_over_kernel,
            synchronised_boot=self._settings.synchronised_boot(),
            good_ms=clock.now_ms(now) if good else None,
        )
        self._try(lambda: self._state.save(state), "The state could not be saved")

    # --- The application's mesh (chat/ports.py) ---------------------------------------------------------

    @property
    def mesh(self) -> bytes:
        """The 8-byte mesh id."""
        return self._settings.mesh

    @property
    def router(self) -> bytes:
        """The 8-byte id of this router."""
        return self.identity.id

    def now_ms(self) -> int:
        """Mesh time, UTC milliseconds since 1970."""
        return self.engine.clock.now_ms(self._clock())

    def stamp(self) -> tuple[int, Grade]:
        """The next stamp for a record made here, with the clock's grade."""
        now = self._clock()
        grade = self.engine.clock.grade(now)
        above = 0 if grade is Grade.UNKNOWN else self.engine.horizon.stamp
        return self.engine.clock.stamp(now, above), grade

    def submit(self, record: Record, once: bytes | None = None) -> str | None:
        """Stores and floods a record made here; see `ports.Mesh.submit`."""
        now = self._clock()
        made_by = _NO_HASHES if once is None else {record.id: once}
        for outcome in self._perform(self.engine.submit(record, now), made_by):
            if record.id in outcome.failed:
                raise StoreError(outcome.reason)
        ahead = self.engine.ahead_of(now)
        if ahead:
            return (
                f"This router's clock is ahead of {ahead} of its neighbours: they show this only when its "
                "time comes. Set the clock with `meshchat clock set`."
            )
        if not self.engine.store.holds(record.position):
            return "This did not stay: newer messages fill the space for this author or room."
        return None

    def made(self, once: bytes) -> Made | None:
        """What the request with this hash made, if that was lately; see `ports.Mesh.made`."""
        made = self._logs.made(once)
        if made is None:
            return None
        record = self._logs.read(made.position) if self.engine.store.holds(made.position) else None
        place = made.position
        return Made(
            id=place[-RECORD_ID_SIZE:],
            room=made.log,
            stamp=position_stamp(place),
            body=None if record is None else record.body,
        )

    def announce(self, record: Record) -> None:
        """Floods a statement of who is present on this router."""
        self._perform(self.engine.announce(record, self._clock()))

    def present(self) -> list[Present]:
        """Who is present on which router."""
        return self.engine.presence.view(self._clock())

    def rooms(self) -> list[RoomSummary]:
        """The rooms that hold messages."""
        sums = self.engine.store.room_sums(self.engine.keeper.ceiling(self._clock()))
        return [RoomSummary(name, each.messages, each.newest, each.digest) for name, each in sums]

    def room_names(self) -> Iterable[str]:
        """The rooms in which anything is held."""
        return self.engine.store.room_numbers()

    def _shown(self, since: int = 0, until: int = MAX_STAMP) -> tuple[tuple[bytes, bytes], ...]:
        """Both strata between two stamps, less what lies in the future and is not shown yet."""
        high = min(until, self.engine.keeper.ceiling(self._clock()))
        return tuple((position(stratum, since), position(stratum, high)) for stratum in (0, 1))

    def messages(
        self,
        room: str,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        *,
        before: bytes | None = None,
    ) -> Iterator[Record]:
        """The records of a room by date; see `ports.Mesh.messages`."""
        store = self.engine.store
        shown = self._shown(since or 0, MAX_STAMP if until is None else until)
        if before is not None:
            # People see both strata by (stamp, id).
            shown = tuple((low, min(high, high[:1] + before[1:])) for low, high in shown)
        strata = [store.room_entries(room, low, high, newest_first=True) for low, high in shown if low < high]
        newest = merge(*strata, key=lambda entry: entry.position[1:], reverse=True)
        for place in [entry.position for entry in islice(newest, limit)][::-1]:
            record = self._logs.read(place)
            if record is not None:
                yield record

    def newest(self) -> Cursor:
        """The newest arrival here."""
        return Cursor(self._logs.epoch, self._logs.newest_arrival)

    def cursor(self, record: Record) -> Cursor | None:
        """When a message arrived here; None where it is not held."""
        number = self._logs.arrival(record.position)
        return None if number is None else Cursor(self._logs.epoch, number)

    def arrived(
        self, room: str, after: int, *, since: int | None = None, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """The records of a room in order of arrival; see `ports.Mesh.arrived`."""
        found = self._logs.arrived(room, after, since=since, limit=limit)
        while found:
            for number, place in found:
                record = self._logs.read(place) if self.engine.store.holds(place) else None
                if record is not None and record.space == Space.ROOM and record.log == room:
                    yield number, record
            if limit is None:
                return
            # Some of them may be of another room, or gone, or no message that the caller can show.
            found = self._logs.arrived(room, found[-1].number, since=since, limit=limit)

    def stamp_of(self, room: str, record_id: bytes) -> int | None:
        """The stamp of a record of this room by its id; None where it is not held."""
        entries = self.engine.store.room_entries(room, newest_first=True)
        places = (entry.position for entry in entries if entry.position.endswith(record_id))
        place = next(places, None)
        return None if place is None else position_stamp(place)

    def held_by(self, record_id: bytes, author: bytes) -> int | None:
        """How many neighbours are known to hold a message of this author; None where it is not known here."""
        receipt = self.engine.receipts.get(record_id)
        return receipt.by if receipt is not None and receipt.author == author else None

    def mesh_state(self) -> MeshState:
        """How the mesh looks from here."""
        return self.engine.mesh_state(self._clock())

    def has_room(self, room: str) -> bool:
        """Whether anything in this room is held."""
        return self.engine.store.has_room(room)

    def has_author(self, key: bytes) -> bool:
        """Whether history written with this public key is held."""
        return self.engine.store.has_author(key)

    def authors(self) -> Iterator[tuple[str, bytes]]:
        """The names and public keys that the messages found at the start were written with; told once."""
        authors, self._authors = self._authors, {}
        return ((name, key) for name, key in authors if self.has_author(key))

    def permanent(self, space: int) -> Iterator[Record]:
        """The records of a permanent space."""
        places = [
            entry.position for entry in self.engine.store.held_entries(START, HISTORY_START) if not entry.room
        ]
        for place in places:
            record = self._logs.read(place)
            if record is not None and record.space == space:
                yield record

    def wipe(self, room: str | None) -> int:
        """Deletes the history of a room, or all, on this router alone; says how many records went.

        Raises `StoreError` where the disk does not let go of it or cannot note it: it is not shown any more,
        and deleting is tried again, but after a power cut it might be back.
        """
        self._trouble = None
        before = self.engine.store.held
        self._perform(self.engine.wipe(room, self._clock()))
        self._try(lambda: self._logs.drop_damaged(room), "Damaged lines could not be removed")
        messages = before - self.engine.store.held
        self._listener.tell(Wiped(room, messages))
        if self._trouble is not None:
            raise StoreError(f"Not all of it could be deleted from the disk: {self._trouble}")
        return messages

    def take_in(self, lines: Iterable[str]) -> MergeResult:
        """Merges log lines from a file, each through the same checks as a neighbour's records."""
        now = self._clock()
        refused: Counter[str] = Counter()
        carried = []
        for line in lines:
            try:
                item = decode_line(self.mesh, line.encode("utf-8", "replace"))
                carried.append(Carried(item.record.carried, item.age or 0))
            except Malformed as reason:
                refused[reason.reason] += 1
        before, known = self.engine.store.held, 0
        for at in range(0, len(carried), _MERGE_BATCH):
            some, why, outputs = self.engine.merge(carried[at : at + _MERGE_BATCH], now)
            known += some
            refused += why
            self._perform(outputs)
        return MergeResult(max(0, self.engine.store.held - before), known, dict(refused))

    def export(self, room: str | None) -> Iterator[str]:
        """The log lines (no newline) of a room, or of all there is, accounts and rooms included."""
        store = self.engine.store
        entries = store.held_entries() if room is None else store.room_entries(room)
        for place in [entry.position for entry in entries]:
            record = self._logs.read(place)
            if record is not None:
                undated = record.grade is Grade.UNKNOWN
                age = store.age(place, self.engine.keeper.run(self._clock())) if undated else None
                yield encode_line(record, age=age).decode("utf-8").rstrip("\n")

    def set_retention(self, milliseconds: int | None) -> None:
        """How long history is kept from now on; None: for ever."""
        self.engine.horizon.retention_ms = milliseconds

    def use_keys(self, keys: tuple[bytes, ...]) -> None:
        """The mesh keys from now on: the first one seals, each opens; with none the mesh is open."""
        self.engine.use_sealer(Sealer(keys))

    def set_clock(self, ms: int) -> None:
        """The operator vouches for this time (UTC milliseconds)."""
        self._perform(self.engine.set_clock(ms, self._clock()))
        self._save()


def _row(item: Outline, run: int) -> HistoryRow:
    """A stored record of history for the index; `run` is this router's running seconds by now."""
    since = run if item.run is None else min(run, item.run)
    held = max(since - (item.age or 0), LONGEST_HELD)
    return HistoryRow(item.position, item.size, item.space, item.log, item.key, held)


def _time_off(kept: State, now: Instant) -> int:
    """Seconds that the router was off, as far as a good clock before and after tells.

    One that shows what no clock is believed to show tells nothing: else all without a date would be too old.
    """
    if kept.good_ms is None or not now.trusted:
        return 0
    if kept.good_ms < RELEASED_MS or now.wall_ms > LATEST_MS:
        return 0
    return max(0, (now.wall_ms - kept.good_ms) // 1000)
