"""The log files of a router: which record goes into which file, and finding it again.

History stands under LOGS, `rooms/<room>.log` and `spaces/<n>/<name or _>.log`; what is permanent under STATE,
`accounts.log`, `rooms.log` and `space-<n>.log`. The two may be one directory. A line says itself which record
it is, so it counts wherever it stands.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from meshchat.adapters.storage.arrivals import Arrivals
from meshchat.adapters.storage.files import DAMAGED_SUFFIX, TEMP_SUFFIX, DirectoryInUse, Files
from meshchat.adapters.storage.logfile import LogFile, LogGone
from meshchat.adapters.storage.logindex import MAX_FILES, Arrived, Entry, LogIndex, pack_arrival
from meshchat.adapters.storage.logline import Outline, StoredRecord, decode_line
from meshchat.adapters.storage.logmark import Lines
from meshchat.adapters.storage.oncetable import Made, OnceTable
from meshchat.adapters.storage.smallfile import SmallFile, checked_line, open_line
from meshchat.chat.render import escape
from meshchat.errors import Malformed, StoreError
from meshchat.identity.keys import MarkKey
from meshchat.wire.ids import MeshId, Position
from meshchat.wire.records import PERMANENT, Record, Space, is_name

FsyncPolicy = Literal["always", "interval", "never"]

MESH_FILE = "mesh.id"
"""Says which mesh a directory belongs to: to another mesh every line in it would count as damaged."""

_MAX_MESH_FILE = 64

MAX_NAMED_LOGS = 1024
"""Logs that have a file of their own. A stranger can open a new room with each message, and on a router each
file takes a page of RAM at least; records of further rooms share `spaces/<n>/_.log`."""

_SUFFIX = ".log"
_HISTORY = frozenset(map(str, range(PERMANENT)))
_PERMANENT = range(PERMANENT, 256)
_PERMANENT_NAMES = {int(Space.ACCOUNTS): "accounts", int(Space.ROOMS): "rooms"}


class _AnotherMesh(StoreError):
    """A directory holds records that are not, or not for sure, of this mesh."""


def _another(files: Files, file: SmallFile, found: bytes) -> str:
    """What is wrong with a directory whose mesh id is not this mesh's, in words."""
    if open_line(found) is None:
        return (
            f"{file.path} is damaged: if {files.path('')} is of this mesh, remove that file; "
            "else give this mesh directories of its own (--logs, --state)."
        )
    return (
        f"{files.path('')} holds another mesh: set the old mesh name again, "
        "or give this mesh directories of its own (--logs, --state)."
    )


def _is_nearly(found: bytes, mine: bytes) -> bool:
    """Whether the mesh id or its checksum is this mesh's: nothing but damage makes just one of them so."""
    digits = mine.index(b" ")
    return found[:digits] == mine[:digits] or found[digits + 1 :] == mine[digits + 1 :]


class AppendFailed(StoreError):
    """Part of a batch could not be stored; `stored` are the records that were."""

    def __init__(self, text: str, stored: tuple[StoredRecord, ...]) -> None:
        super().__init__(text)
        self.stored = stored


@dataclass(frozen=True)
class StoreStatus:
    """What the store holds: log files, their bytes, the records in them, and the fsync policy."""

    files: int
    bytes: int
    records: int
    fsync: FsyncPolicy


def _permanent_name(space: int) -> str:
    return _PERMANENT_NAMES.get(space, f"space-{space}") + _SUFFIX


_PERMANENT_LOGS = frozenset(map(_permanent_name, _PERMANENT))


def log_name(space: int, log: str) -> str:
    """The file for a log's records, relative to STATE for a permanent space (from 128 on), else to LOGS."""
    if space in _PERMANENT:
        return _permanent_name(space)
    if space == Space.ROOM and log:
        return f"rooms/{log}{_SUFFIX}"
    return f"spaces/{space}/{log or '_'}{_SUFFIX}"


class LogStore:
    """The records of one router on its disk.

    `logs` and `state` are the two directories, `mesh` the 8-byte mesh id. `fsync` says when history is
    forced to the disk: "always" before `append` returns, "interval" when the daemon calls `sync_due`,
    "never" when the kernel likes. Permanent records always are at once.

    Call `open`, then exhaust `load`, before anything else.
    """

    def __init__(self, logs: Files, state: Files, mesh: MeshId, *, fsync: FsyncPolicy = "interval") -> None:
        self._history = logs
        self._state = state
        self._mesh = mesh
        self._fsync = fsync
        self._index = LogIndex()
        self._arrivals = Arrivals(logs)
        self._once = OnceTable()
        self._mixed: set[int] = set()
        self._lines: Lines
        self._logs: list[LogFile] = []
        self._by_name: dict[str, LogFile] = {}
        self._damaged: list[Position] = []
        self._unread: dict[LogFile, Position] = {}
        self._unread_at_start: dict[LogFile, StoreError] = {}
        self._report: list[str] = []

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, position: Position) -> bool:
        return position in self._index

    @property
    def report(self) -> tuple[str, ...]:
        """What `open` and `load` found amiss, and did about it: one line for people each."""
        return tuple(self._report)

    # --- Start ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Locks both directories.

        Raises `DirectoryInUse` where another daemon has one of them, and `StoreError` where one belongs to
        another mesh. Any other trouble is only reported: a router whose disk is full or read-only still
        shows and relays what it has.
        """
        same = self._history.place == self._state.place
        directories = [self._history] if same else [self._history, self._state]
        try:
            for files in directories:
                self._lock(files)
        except StoreError:
            for files in directories:
                files.close()
            raise

    def _lock(self, files: Files) -> None:
        mine, file = checked_line(self._mesh.hex()), SmallFile(files, MESH_FILE, _MAX_MESH_FILE)
        try:
            files.lock()
            found = file.read()
            if found == mine:
                return
            if found is not None and not self._is_empty(files):
                if not _is_nearly(found, mine):
                    raise _AnotherMesh(_another(files, file, found))
                self._report.append(f"{file.path} was damaged; it is of this mesh, and is written anew.")
            file.replace(mine)
        except (DirectoryInUse, _AnotherMesh):
            raise
        except StoreError as error:
            self._report.append(str(error))

    def _is_empty(self, files: Files) -> bool:
        """Whether no log is in a directory, so that it may yet become another mesh's: the name is often set
        only after the first start. One that cannot be looked through is not empty.
        """
        folders = []
        if files.place == self._state.place:
            folders.append("")
        try:
            if files.place == self._history.place:
                folders += ["rooms", *(f"spaces/{number}" for number in files.folders("spaces"))]
            logs = [
                f"{folder}/{name}".lstrip("/")
                for folder in folders
                for name in files.names(folder)
                if name.endswith(_SUFFIX) and (folder or name in _PERMANENT_LOGS)
            ]
            return not any(files.size(name) for name in logs)
        except StoreError:
            return False

    def load(self, key: MarkKey, verify: Callable[[Record], bool]) -> Iterator[Outline | StoredRecord]:
        """Every record on the disk, once each, log by log; mends what it finds amiss on the way.

        Of history the outlines, of what is permanent the records. `key` is 32 secret bytes of this router,
        for its marks (`logmark`). A line that has no mark of this key counts only where `verify` says that
        its author signed it. Memory is bounded by a block of a file, not by the records.
        """
        self._lines = Lines(self._mesh, key, verify)
        for name in self._permanent_logs():
            yield from self._load(self._state, name)
        for name in self._history_logs():
            yield from self._load(self._history, name)
        self._once.loaded()
        trouble = self._arrivals.begin(key, self._index.newest)
        if trouble is not None:
            self._report.append(f"{trouble} Front ends read again what they know.")
        for log in self._logs:
            log.renew(self._arrivals.give, self._report)

    def _load(self, files: Files, name: str) -> Iterator[Outline | StoredRecord]:
        log = None
        try:
            log = self._add(files, name)
            home: str | None = None
            for item in log.load(self._report):
                if isinstance(item, Outline):
                    if item.log != home or item.space != Space.ROOM or item.once is not None:
                        self._found(item, log)
                    home = item.log if item.space == Space.ROOM else None
                yield item
        except StoreError as error:
            if log is not None:
                self._unread_at_start[log] = error
            self._report.append(
                f"{error} What could not be read is kept, and fetched from the mesh meanwhile."
            )

    def _found(self, item: Outline, log: LogFile) -> None:
        """History with a key, or of another room than the line before it: for each it would slow a start."""
        if log_name(item.space, item.log) != log.name:
            self._mixed.add(log.number)
        if item.once is not None and item.arrival is not None:
            self._once.found(item.arrival, item.once, Made(item.position, item.log))

    def _permanent_logs(self) -> list[str]:
        return [name for name in self._names(self._state, "") if name in _PERMANENT_LOGS]

    def _history_logs(self) -> Iterator[str]:
        for folder in self._history_folders():
            for last in self._names(self._history, folder):
                stem = last.removesuffix(_SUFFIX)
                if last.endswith(_SUFFIX) and (is_name(stem) or stem == "_"):
                    yield f"{folder}/{last}"
                elif not last.endswith(_SUFFIX + DAMAGED_SUFFIX):
                    path = escape(self._history.path(f"{folder}/{last}"))
                    self._report.append(f"{path}: not a log, left alone.")

    def _history_folders(self) -> list[str]:
        numbers: list[str] = []
        with suppress(StoreError):  # reported for `rooms`
            numbers = self._history.folders("spaces")
        return ["rooms", *(f"spaces/{number}" for number in numbers if number in _HISTORY)]

    def _names(self, files: Files, folder: str) -> list[str]:
        """The files in a folder, less what a crash left half written: that is removed."""
        names = []
        try:
            for name in files.names(folder):
                if name.endswith(TEMP_SUFFIX):
                    with suppress(StoreError):  # it does no harm
                        files.remove(f"{folder}/{name}" if folder else name)
                else:
                    names.append(name)
        except StoreError as error:
            self._report.append(str(error))
        return names

    def _add(self, files: Files, name: str) -> LogFile:
        if len(self._logs) >= MAX_FILES:
            raise StoreError(f"{files.path(name)}: too many log files: remove those of rooms not used.")
        log = LogFile(files, name, len(self._logs), self._index, self._lines)
        self._logs.append(log)
        self._by_name[name] = log
        return log

    # --- Use ------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[StoredRecord]) -> None:
        """Stores records, each log's in one write; they have left this process when it returns.

        Those of history get their arrival numbers, in the order given; where their log is not where it was,
        they go into the log that rooms share, so that it can be put back and nothing is written over.
        One that is stored already is passed over. Raises `AppendFailed` where a log did not take its part:
        of that log's part nothing is kept, and `stored` are the records of the others.
        """
        batches: dict[LogFile, dict[Position, StoredRecord]] = {}
        stored = []
        for item in records:
            if item.record.position in self._index:
                stored.append(item)
            else:
                batches.setdefault(self._log_of(item.record), {})[item.record.position] = item
        failure: StoreError | None = None
        for log, batch in batches.items():
            try:
                try:
                    self._append(log, batch)
                except LogGone:
                    self._append(self._shared_log(next(iter(batch.values())).record), batch)
            except StoreError as error:
                failure = failure or error
            else:
                stored.extend(batch.values())
        if failure is not None:
            raise AppendFailed(str(failure), tuple(stored)) from failure

    def _append(self, log: LogFile, batch: dict[Position, StoredRecord]) -> None:
        permanent = next(iter(batch.values())).record.permanent
        lines = []
        for position, item in batch.items():
            numbered = item if permanent else replace(item, arrival=self._arrivals.give())
            arrival = pack_arrival(numbered.arrival, late=item.late)
            lines.append((position, arrival, self._lines.write(numbered)))
        log.append(lines, sync=permanent or self._fsync == "always")
        for position, item in batch.items():
            if item.once is not None:
                self._once.add(item.once, Made(position, item.record.log))

    def _log_of(self, record: Record) -> LogFile:
        files = self._state if record.permanent else self._history
        name = log_name(record.space, record.log)
        if name not in self._by_name and len(self._logs) >= MAX_NAMED_LOGS and not record.permanent:
            return self._shared_log(record)
        return self._by_name.get(name) or self._add(files, name)

    def _shared_log(self, record: Record) -> LogFile:
        """The log for what has none of its own in the record's space; of what is permanent there is none."""
        if record.permanent:
            return self._log_of(record)
        name = f"spaces/{record.space}/_{_SUFFIX}"
        log = self._by_name.get(name) or self._add(self._history, name)
        self._mixed.add(log.number)
        return log

    def sync_due(self) -> None:
        """Forces to the disk what was written since the last call; nothing under the policy "never".

        Raises `StoreError` where a log cannot be; it is tried again at the next call.
        """
        failure: StoreError | None = None
        for log in self._logs:
            if log.dirty and self._fsync != "never":
                try:
                    log.sync()
                except StoreError as error:
                    failure = error
        if failure is not None:
            raise failure

    def read(self, position: Position) -> Record | None:
        """The record at `position`, or None: never stored, or damaged on the disk since.

        A damaged one counts as not stored from then on, and `take_damaged` names it. Raises `StoreError`
        where the disk does not give it now: then it is stored all the same.
        """
        place = self._index.get(position)
        if place is None:
            return None
        log = self._logs[place.file]
        try:
            line = log.line(place)
        except StoreError:
            self._unread.setdefault(log, position)
            raise
        if line is not None:
            with suppress(Malformed):
                record = decode_line(self._mesh, line).record
                if record.position == position:
                    return record
        log.give_up(position, place)
        self._damaged.append(position)
        return None

    def unread(self) -> Iterator[str]:
        """A line for people for each log of which something cannot be read now, or was not at the start.

        What could not be read before is tried again. A start reads all that can be read.
        """
        for log in self._logs:
            try:
                log.look()
                if log in self._unread:
                    self._try_again(log)
            except StoreError as error:
                yield f"{error} Until then some of its {log.records} records cannot be read."
                continue
            if log in self._unread_at_start:
                yield (
                    f"{self._unread_at_start[log]} So {log.path} was read in part; nothing of it is lost: "
                    "restart meshchat to read the rest."
                )
            elif not log.is_whole:
                yield f"{log.path} was written to by another program: restart meshchat to read that."

    def displaced(self) -> list[str]:
        """The directories in whose place another one is now: these go on to be used until the next start."""
        return [files.path("") for files in (self._history, self._state) if files.another() is not None]

    def is_put_back(self) -> bool:
        """Whether a directory of this mesh is in the place of one that is used: a disk was put back."""
        for files in (self._history, self._state):
            other = files.another()
            if other is not None:
                with suppress(StoreError):
                    if SmallFile(other, MESH_FILE, _MAX_MESH_FILE).read() == checked_line(self._mesh.hex()):
                        return True
        return False

    def _try_again(self, log: LogFile) -> None:
        """Reads what could not be read. Raises `StoreError` where it still cannot be."""
        place = self._index.get(self._unread[log])
        if place is not None and self._logs[place.file] is log:
            log.line(place)
        del self._unread[log]

    # --- Arrival --------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """Of what the arrival numbers are, 16 hex digits; see `Arrivals`."""
        return self._arrivals.epoch

    @property
    def newest_arrival(self) -> int:
        """No record has a higher number, and each that comes gets one."""
        return self._arrivals.newest

    def arrival(self, position: Position) -> int | None:
        """The number of a record of history; None where it is not stored."""
        place = self._index.get(position)
        return None if place is None else place.number

    def arrived(
        self, log: str, after: int, *, since: int | None = None, limit: int | None = None
    ) -> list[Arrived]:
        """What a room's log got after the number `after`, in order of arrival, the first `limit`.

        With `since`, a stamp, only what came late or is stamped so or later. Nothing is read from disk, so
        records of other logs may be among them where a file holds several.
        """
        own = self._by_name.get(log_name(Space.ROOM, log))
        files = self._mixed if own is None else {*self._mixed, own.number}
        return self._index.arrived(after, files, since=since, limit=limit)

    def made(self, once: bytes) -> Made | None:
        """What the request with this hash made here, if that was lately; the record may have gone since."""
        return self._once.get(once)

    # --- Damage and removal ---------------------------------------------------------------------------------

    def take_damaged(self) -> list[Position]:
        """The positions that `read` found damaged since the last call: to be fetched from the mesh again."""
        damaged, self._damaged = self._damaged, []
        return damaged

    def remove(self, positions: Iterable[Position]) -> None:
        """Takes records off the disk, and with them what was set aside as damaged in their logs.

        Emptied logs are unlinked, others rewritten or the lines blanked in place; flash memory may keep old
        blocks until it needs them. Works on a full disk: what frees the most comes first. Raises
        `StoreError` where a log could not be changed; all others are, and those records are still stored.
        """
        victims: dict[LogFile, list[Entry]] = {}
        for position in dict.fromkeys(positions):
            place = self._index.get(position)
            if place is not None:
                victims.setdefault(self._logs[place.file], []).append(Entry(position, place))
        failure: StoreError | None = None
        # Emptied logs first, then those of which least remains: a full disk gets room to rewrite the next.
        for log in sorted(victims, key=lambda log: log.records - len(victims[log])):
            try:
                log.erase(victims[log])
                log.drop_damaged()
                if log.dirty and self._fsync == "always":
                    log.sync()
            except StoreError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def drop_damaged(self, room: str | None = None) -> None:
        """Removes what was set aside as damaged, of one room or of all history; part of every wipe."""
        wanted = None if room is None else log_name(Space.ROOM, room) + DAMAGED_SUFFIX
        for folder in self._history_folders():
            for last in self._history.names(folder):
                name = f"{folder}/{last}"
                if name.endswith(_SUFFIX + DAMAGED_SUFFIX) and wanted in (None, name):
                    self._history.remove(name)

    def describe(self) -> StoreStatus:
        """For `status`."""
        used = [log.size for log in self._logs if log.size]
        return StoreStatus(len(used), sum(used), len(self._index), self._fsync)

    def close(self) -> None:
        """Syncs as the policy says and unlocks the directories. Raises `StoreError` where the sync fails."""
        try:
            self.sync_due()
        finally:
            self._history.close()
            self._state.close()
