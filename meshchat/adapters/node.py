"""The engine on its disk: carries out what the router decides, on the logs, the state and the air.

No sockets and no loop: the daemon feeds it datagrams and deadlines, and so does the simulator, which thereby
runs exactly the store code that a router runs.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from meshchat.adapters.storage.logline import Outline, StoredRecord
from meshchat.adapters.storage.logstore import AppendFailed, LogStore
from meshchat.adapters.storage.statestore import State, StateStore
from meshchat.chat.names import MAX_STRANGERS
from meshchat.chat.notices import Evicted, Notice, Wiped
from meshchat.constants import LATE_MS, RELEASED_MS, STATE_EVERY
from meshchat.errors import StoreError
from meshchat.identity.keys import verify_record
from meshchat.identity.meshkey import MeshKey, Sealer
from meshchat.protocol.clock import LATEST_MS
from meshchat.protocol.events import (
    Append,
    Appended,
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
from meshchat.state.recordset import LONGEST_HELD
from meshchat.state.store import HISTORY_START, HistoryRow, StoreLimits
from meshchat.wire.ids import BootId, MeshId, Position, PublicKey, RecordId, RouterId, TokenSecret
from meshchat.wire.packets import Carried
from meshchat.wire.records import (
    Grade,
    Record,
    Space,
    stamp_ms,
)

_NO_HASHES: Mapping[RecordId, bytes] = {}
_MERGE_BATCH = 64
_STATE_EVERY_MS = int(STATE_EVERY * 1000)
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

    mesh: MeshId
    limits: StoreLimits
    wipe_moment: Callable[[int], int]
    retention_ms: int | None
    boot: BootId
    secret: TokenSecret
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
            self._at_hand,
            random,
            now,
        )
        if kept.clock_offset_ms is not None and kept.boot_id == settings.boot_id:
            self.engine.restore_clock(kept.clock_offset_ms, over_kernel=kept.clock_over_kernel)
        self._saved_at = now.mono
        self._saved_ms = kept.mesh_ms
        self.disk_trouble = ""
        self._trouble: StoreError | None = None
        self._failing: dict[str, str] = {}
        self._unread = ""
        self._unremoved: set[Position] = set()
        self._authors: dict[tuple[str, PublicKey], None] = {}

    @property
    def mesh(self) -> MeshId:
        """The 8-byte mesh id."""
        return self._settings.mesh

    @property
    def router(self) -> RouterId:
        """The 8-byte id of this router."""
        return self.identity.id

    # --- Life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Reads the logs. Lines whose signature does not hold are set aside; what was wiped goes."""
        wiped = frozenset(self._state.wiped())
        self.engine.recall(wiped)
        now = self._clock()
        run = self.engine.running_s(now)
        leftover: list[Position] = []
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
        remembered = self.engine.holdings.let_go()
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

    def troubles(self) -> list[str]:
        """What cannot be written now, a line for people each."""
        failing = [f"{what}: {why}" for what, why in self._failing.items()]
        return [*filter(None, [self.disk_trouble]), *failing]

    def unread(self) -> list[str]:
        """What cannot be read now, or was not at the start, a line for people each."""
        return list(self._logs.unread())

    def displaced(self) -> list[str]:
        """The directories in use in whose place another one is now."""
        return self._logs.displaced()

    def is_disk_back(self) -> bool:
        """Whether a disk that failed was put back, so that a start would find it again."""
        return self._logs.is_put_back() and bool(self.troubles() or self.unread())

    # --- Carrying out -----------------------------------------------------------------------------------

    def _perform(
        self, outputs: Iterable[Output], once: Mapping[RecordId, bytes] = _NO_HASHES
    ) -> list[Appended]:
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

    def _append(self, batch: tuple[Stored, ...], once: Mapping[RecordId, bytes]) -> list[Appended]:
        now = self._clock()
        if self.engine.time_ms(now) - self._saved_ms > _STATE_EVERY_MS:
            # Mesh time jumped, and a restart would go on from before that: these would lie ahead of it.
            self._save()
        run = self.engine.running_s(now)
        items = []
        for stored in batch:
            undated = stored.record.grade is Grade.UNKNOWN
            # Of what no clock dates, nobody can say that it came in time.
            late = undated or self.engine.time_ms(now) - stamp_ms(stored.record.stamp) > LATE_MS
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

    def _remove(self, places: tuple[Position, ...], why: str) -> None:
        permanent = [record for place in places if (record := self._permanent_record(place)) is not None]
        self._erase(places)
        if permanent:
            self._listener.tell(Evicted(tuple(permanent)))
        if why in ("wipe", "age"):
            log.info("Wiped %d records (%s).", len(places), why)
            self._listener.tell(Wiped(None, len(places)))

    def _erase(self, places: Iterable[Position]) -> None:
        """Off the disk; what the disk does not let go of is tried again when the state is saved."""
        self._unremoved.update(places)
        pending = tuple(self._unremoved)
        self._try(lambda: self._logs.remove(pending), "Wiped history could not be taken off the disk")
        self._unremoved = {place for place in pending if place in self._logs}

    def _permanent_record(self, place: Position) -> Record | None:
        record = self._at_hand(place) if place < HISTORY_START else None
        return record if record is not None and record.permanent else None

    def _at_hand(self, place: Position) -> Record | None:
        """A record, or None where it has gone or the disk does not give it now."""
        try:
            return self._logs.read(place)
        except StoreError as error:
            self.cannot_read(error)
            return None

    def cannot_read(self, error: StoreError) -> None:
        """A line in the log, once as long as it is the same."""
        if self._unread != str(error):
            self._unread = str(error)
            log.error("Some of the history cannot be read now: %s", error)

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
        lasting = self.engine.lasting(now)
        state = State(
            horizon_ms=lasting.horizon.horizon_ms,
            pace_ms=lasting.horizon.pace_ms,
            pace_run=lasting.horizon.pace_run,
            held_ms=lasting.horizon.held_ms,
            held_run=lasting.horizon.held_run,
            floor_ms=lasting.floor_ms,
            mesh_ms=lasting.time_ms,
            running_s=lasting.running_s,
            boot_id=self._settings.boot_id,
            clock_offset_ms=lasting.operator_offset_ms,
            clock_over_kernel=lasting.operator_over_kernel,
            synchronised_boot=self._settings.synchronised_boot(),
            good_ms=lasting.time_ms if lasting.good else None,
        )

        def save() -> None:
            self._state.save(state)
            self._saved_ms = state.mesh_ms

        self._try(save, "The state could not be saved")

    # --- What the application and the operator have it do -----------------------------------------------

    def submit(self, record: Record, once: bytes | None = None) -> None:
        """Stores and floods a record made here; `once` is the hash of the request that made it.

        Raises `StoreError` where the disk does not take it; then it was not sent either.
        """
        made_by = _NO_HASHES if once is None else {record.id: once}
        for outcome in self._perform(self.engine.submit(record, self._clock()), made_by):
            if record.id in outcome.failed:
                raise StoreError(outcome.reason)

    def announce(self, record: Record) -> None:
        """Floods a statement of who is present on this router."""
        self._perform(self.engine.announce(record, self._clock()))

    def merge(self, carried: Sequence[Carried]) -> tuple[int, Counter[str]]:
        """Records from a file, by the door of a neighbour's; how many were known, and refused by reason."""
        now = self._clock()
        known, refused = 0, Counter[str]()
        for at in range(0, len(carried), _MERGE_BATCH):
            some, why, outputs = self.engine.merge(carried[at : at + _MERGE_BATCH], now)
            known += some
            refused += why
            self._perform(outputs)
        return known, refused

    def wipe(self, room: str | None) -> int:
        """Deletes the history of a room, or all, on this router alone; says how many records went.

        Raises `StoreError` where the disk does not let go of it or cannot note it: it is not shown any more,
        and deleting is tried again, but after a power cut it might be back.
        """
        self._trouble = None
        before = self.engine.holdings.count
        self._perform(self.engine.wipe(room, self._clock()))
        self._try(lambda: self._logs.drop_damaged(room), "Damaged lines could not be removed")
        messages = before - self.engine.holdings.count
        self._listener.tell(Wiped(room, messages))
        trouble = self._trouble or next(self._logs.unread(), None)
        if trouble is not None:
            raise StoreError(f"Not all of it could be deleted from the disk: {trouble}")
        return messages

    def take_authors(self) -> list[tuple[str, PublicKey]]:
        """The names and public keys that the messages found at the start were written with; told once."""
        authors, self._authors = self._authors, {}
        return list(authors)

    def set_retention(self, milliseconds: int | None) -> None:
        """How long history is kept from now on; None: for ever."""
        self.engine.set_retention(milliseconds)

    def use_keys(self, keys: tuple[MeshKey, ...]) -> None:
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
