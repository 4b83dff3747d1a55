"""One log file: a line per record in order of arrival, and beside it what was found damaged.

What can have happened to a log and what `load` makes of it:

| found                                 | done                                                        |
| ------------------------------------- | ----------------------------------------------------------- |
| a last line cut short                 | cut off; one that lacks nothing but its newline gets it     |
| a damaged line                        | moved to `<name>.damaged`; the mesh still has the record    |
| a line whose signature does not hold  | likewise                                                    |
| a line without this router's mark     | checked like a stranger's record, and marked by `renew`     |
| a line without an arrival number      | gets one by `renew`                                         |
| a line twice, or blanked by a wipe    | taken out                                                   |
| lines out of the order (stamp, id)    | sorted; a log in order is left alone                        |
| bytes that the disk does not give     | left alone, with all the rest of the file                   |

A read that failed proves nothing about a line: only bytes that were read can be damaged. A file is rewritten
or removed only while every byte in it was read, or written, by this process; else lines are blanked in place.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from meshchat.adapters.storage.files import DAMAGED_SUFFIX, Files
from meshchat.adapters.storage.logindex import MAX_OFFSET, Entry, LogIndex, Place, pack, pack_arrival, unpack
from meshchat.adapters.storage.logline import MAX_LINE, Outline, StoredRecord
from meshchat.adapters.storage.logmark import Lines
from meshchat.chat.render import escape
from meshchat.errors import Malformed, StoreError
from meshchat.wire.ids import POSITION_SIZE, Position

MAX_DAMAGED = 2 * MAX_LINE
"""Bytes of a `.damaged` file: enough to see what happened; what is beyond is dropped."""

COMPACT_SHARE = 8
"""A log is rewritten once an eighth of it was removed; until then lines are blanked in place. Where the
oldest message makes room for each new one, the flash must not take a whole log each time."""

SMALL_LOG = 16 * 1024
"""A log of at most so many bytes is always rewritten: that costs no more than a few blocks."""

_BLOCK = 64 * 1024
_ORDER = slice(1, POSITION_SIZE)


class LogGone(StoreError):
    """The file, or a part of it, is not where it was: nothing can be added to it."""


class _Line(NamedTuple):
    """A line as found. Of one that is too long for a record, `content` is only the beginning."""

    offset: int
    length: int
    content: bytes
    ended: bool  # by a newline


@dataclass
class _Findings:
    """What a look through the file brought to light."""

    damaged: list[tuple[int, int]] = field(default_factory=list)
    reason: str = ""
    last: bytes = b""
    unsorted: bool = False
    superfluous: bool = False
    doubled: bool = False
    torn: int | None = None
    unended: bool = False

    def met(self, position: Position) -> None:
        """A record's line, the next one in the file."""
        order = position[_ORDER]
        self.unsorted |= order < self.last
        self.last = order


def _end(place: Place) -> int:
    return place.offset + place.length + 1


class LogFile:
    """The log `name` of `files`; its records stand in the shared `index` under `number`."""

    def __init__(self, files: Files, name: str, number: int, index: LogIndex, lines: Lines) -> None:
        self.files = files
        self.name = name
        self.size = 0
        self.records = 0
        self.dirty = False
        self.number = number
        self._index = index
        self._lines = lines
        self._blank = 0
        self._ragged = False  # the last byte is no newline, and cannot be mended now
        self._doubled = False  # a line may stand twice, and cannot be taken out now
        self._unmarked = False
        self._unnumbered = False
        self._settled = False  # all of it was read, and what was amiss is mended
        self._whole = (
            True  # all that was in it at the start was read, and nobody else has written into it since
        )

    @property
    def path(self) -> str:
        """What to call it in a line for people."""
        return escape(self.files.path(self.name))

    # --- Loading --------------------------------------------------------------------------------------------

    def load(self, report: list[str]) -> Iterator[Outline | StoredRecord]:
        """All that can be relied on in the file and that the index does not hold yet, in the file's order.

        Of history the outlines, of what is permanent the records. Mends the file at the end and adds to
        `report` a line for people on each thing it did. Raises `StoreError` where the file cannot be read.
        """
        findings = _Findings()
        self._whole, self._ragged = False, True
        for line in self._found():
            self.size = line.offset + line.length + line.ended
            known = self._judge(line, findings)
            if known is not None:
                yield known
        self._whole, self._ragged = True, False
        self.dirty = self.size > 0  # what a killed daemon wrote last may be in the kernel only
        self._doubled = findings.doubled
        self._mend(findings, report)

    def _judge(self, line: _Line, findings: _Findings) -> Outline | StoredRecord | None:
        """What the line holds if it is new; else what is the matter goes into `findings`."""
        if not line.content or line.content[:1] == b" ":  # blanked, or half blanked when the power went
            findings.superfluous = True
            findings.unended |= not line.ended
            return None
        is_own = self._lines.is_own(line.content)
        try:
            known = self._lines.outline(line.content) if is_own else self._lines.check(line.content)
        except Malformed as error:
            if line.ended:
                findings.damaged.append((line.offset, line.length))
                findings.reason = error.reason
            else:
                findings.torn = line.offset
            return None
        findings.unended |= not line.ended
        arrival = pack_arrival(known.arrival, late=known.late)
        place = Place(self.number, line.offset, line.length, zlib.crc32(line.content), arrival)
        if not self._index.add(known.position, place):
            findings.superfluous = findings.doubled = True
            return None
        self.records += 1
        findings.met(known.position)
        self._unmarked |= not is_own
        self._unnumbered |= not arrival and isinstance(known, Outline)
        return known

    def _found(self) -> Iterator[_Line]:
        """The file's lines, in memory for one block and the longest line."""
        rest, start, length = b"", 0, 0  # the unfinished line: its beginning, its offset, its bytes so far
        offset, size = 0, min(self.files.size(self.name) or 0, MAX_OFFSET)
        while offset < size:
            block = self._given(offset, min(_BLOCK, size - offset))
            offset += len(block)
            *ended, tail = block.split(b"\n")
            for piece in ended:
                content = rest + piece if rest else piece
                yield _Line(start, length + len(piece), content, True)
                start += length + len(piece) + 1
                rest, length = b"", 0
            length += len(tail)
            rest = (rest + tail)[: MAX_LINE + 1]
        if length:
            yield _Line(start, length, rest, False)

    def _mend(self, findings: _Findings, report: list[str]) -> None:
        try:
            if findings.torn is not None:
                report.append(f"{self.path}: the last line was cut short (power cut?) and is removed.")
                self._ragged = True
                self.files.truncate(self.name, findings.torn)
                self.size = findings.torn
            elif findings.unended:
                self._ragged = True
                self.files.append(self.name, b"\n")
                self.size += 1
            self._ragged = False
            if findings.damaged:
                report.append(
                    f"{self.path}: {len(findings.damaged)} damaged lines ({findings.reason}) "
                    f"are set aside in {self.name}{DAMAGED_SUFFIX}; the mesh may still have the records."
                )
                self._set_aside(findings.damaged)
            if findings.damaged or findings.superfluous or findings.unsorted:
                self._rewrite(sorted(self._index.in_file(self.number), key=lambda entry: entry[_ORDER]))
            self._settled = True
        except StoreError as error:
            report.append(f"{self.path} could not be mended and is used as it is. {error}")

    def renew(self, next_arrival: Callable[[], int], report: list[str]) -> None:
        """Marks and numbers the lines that lack it, once all logs are loaded.

        Those without a number get the next ones, in the file's order, and count as late: since when they are
        here nobody knows. On a disk that takes no such file the numbers hold until the next start.
        """
        if not self._unmarked and not self._unnumbered:
            return
        entries = self._in_file_order()
        if self._unnumbered:
            for position, place in map(unpack, entries):
                if not place.arrival:
                    arrival = pack_arrival(next_arrival(), late=True)
                    self._index.put(position, place._replace(arrival=arrival))
            entries = self._in_file_order()
        if not self._settled:
            return
        try:
            self._rewrite(entries)
        except StoreError as error:
            report.append(f"{self.path} could not be renewed and is used as it is. {error}")

    def _in_file_order(self) -> list[bytes]:
        entries = self._index.in_file(self.number)
        return sorted(entries, key=lambda entry: unpack(entry).place.offset)

    def _set_aside(self, lines: Iterable[tuple[int, int]]) -> None:
        """Copies (offset, length) into the `.damaged` file, made safe for a terminal."""
        name = self.name + DAMAGED_SUFFIX
        room = MAX_DAMAGED - (self.files.size(name) or 0)
        for offset, length in lines:
            raw = self._given(offset, min(length, MAX_LINE))
            line = escape(raw.decode("utf-8", "backslashreplace")).encode() + b"\n"
            room -= len(line)
            if room < 0:
                break
            self.files.append(name, line)

    def _rewrite(self, entries: Sequence[bytes]) -> None:
        """Makes the file just these packed entries' lines, in this order, or raises and changes nothing."""
        if not entries:
            self._unlink()
            return
        moved: list[bytes] = []
        self.files.replace(self.name, self._copied(entries, moved))
        for position, place in map(unpack, moved):
            self._index.put(position, place)
        last = unpack(moved[-1]).place
        self.size = _end(last)
        self._blank = 0
        self._ragged = self._doubled = self.dirty = False

    def _copied(self, entries: Iterable[bytes], moved: list[bytes]) -> Iterator[bytes]:
        """The lines' bytes; neighbours in the old file, most of a log, are read in one go.

        Their entries for where they stand now go into `moved`.
        """
        run: list[Entry] = []
        for position, place in map(unpack, entries):
            if run and (place.offset != _end(run[-1].place) or place.offset - run[0].place.offset >= _BLOCK):
                yield self._marked(run, moved)
                run = []
            run.append(Entry(position, place))
        yield self._marked(run, moved)

    def _marked(self, run: Sequence[Entry], moved: list[bytes]) -> bytes:
        """The lines of a run, each with this router's mark and its number."""
        data = self._read_run([place for _, place in run])
        start = run[0].place.offset
        offset = _end(unpack(moved[-1]).place) if moved else 0
        pieces = []
        for position, place in run:
            found = data[place.offset - start : place.offset - start + place.length]
            line = self._lines.renewed(found, place.number, late=place.late)
            if line is not found:
                place = place._replace(length=len(line), crc=zlib.crc32(line))
            moved.append(pack(Entry(position, place._replace(offset=offset))))
            offset += len(line) + 1
            pieces.append(line + b"\n")
        return b"".join(pieces)

    def _read_run(self, run: Sequence[Place]) -> bytes:
        """Lines that follow each other. Raises where somebody changed them: offsets mean nothing then."""
        start = run[0].offset
        data = self._given(start, _end(run[-1]) - start)
        for place in run:
            at = place.offset - start
            if zlib.crc32(data[at : at + place.length]) != place.crc:
                raise self._changed()
        return data

    def _unlink(self) -> None:
        self.files.remove(self.name)
        self.size = self.records = self._blank = 0
        self._ragged = self._doubled = self.dirty = False

    # --- Reading --------------------------------------------------------------------------------------------

    def _given(self, offset: int, count: int) -> bytes:
        """Just these bytes. Raises `StoreError` where the disk does not give all of them."""
        try:
            data = self.files.read(self.name, offset, count)
        except StoreError:
            self.look()
            raise
        if len(data) < count:
            self.look()
            raise StoreError(f"{self.path}: the disk gave {len(data)} of {count} bytes: check it (`dmesg`).")
        return data

    def look(self) -> None:
        """Raises `LogGone` where the file is not there, or lacks a part of what was read and written here."""
        if not self.records:
            return
        size = self.files.size(self.name)
        if size is None:
            raise LogGone(
                f"{self.path} is not there: put it back, or, if it is gone for good, restart meshchat."
            )
        if size < self.size:
            raise LogGone(
                f"{self.path} is shorter than it was: put back what was there, or, if it is gone for good, "
                "restart meshchat."
            )

    @property
    def is_whole(self) -> bool:
        """Whether all that was in it at the start was read, and nobody else has written into it since."""
        return self._whole

    def _changed(self) -> StoreError:
        return StoreError(f"{self.path} was changed by another program: restart meshchat to read it.")

    def line(self, place: Place) -> bytes | None:
        """The line at `place`; None where other bytes stand in it than were written.

        Raises `StoreError` where the disk does not give it, and where the line may stand elsewhere by now.
        """
        line = self._given(place.offset, place.length)
        if zlib.crc32(line) == place.crc:
            return line
        before = self._given(place.offset - 1, 1) if place.offset else b"\n"
        if before + self._given(place.offset + place.length, 1) != b"\n\n":
            raise self._changed()
        return None

    # --- Use ------------------------------------------------------------------------------------------------

    def append(self, lines: Sequence[tuple[Position, int, bytes]], *, sync: bool) -> None:
        """Adds lines, (position, packed arrival, line with newline), in one write.

        With `sync` they are on the disk after it.

        Raises `StoreError`, and then none of them is kept: `LogGone` where it is the file that is missing.
        """
        self.look()
        lead = b"\n" if self._ragged else b""
        data = lead + b"".join(line for *_, line in lines)
        try:
            if self.size + len(data) > MAX_OFFSET:
                raise StoreError(f"{self.path} is full at 4 GiB: wipe the room.")
            start = self.files.append(self.name, data)
        except StoreError:
            # Where a part could not be cut off again, the next line must not run into it.
            self._ragged |= (self.files.size(self.name) or 0) != self.size
            raise
        self.dirty = True
        if sync:
            try:
                self.sync()
            except StoreError:
                self.files.truncate(self.name, start)
                raise
        if start != self.size and not self._ragged:
            self._whole = False
        self._ragged = False
        self.size = start + len(data)
        offset = start + len(lead)
        for position, arrival, line in lines:
            place = Place(self.number, offset, len(line) - 1, zlib.crc32(line[:-1]), arrival)
            self._index.put(position, place)
            offset += len(line)
        self.records += len(lines)

    def sync(self) -> None:
        """Forces to the disk what was written; `dirty` says whether there is anything."""
        self.files.sync(self.name)
        self.dirty = False

    def give_up(self, position: Position, place: Place) -> None:
        """Takes a record whose line is damaged out of the index; it may be appended again.

        What is left of the line is kept beside the log, as far as the disk takes it.
        """
        with suppress(StoreError):
            self._set_aside([(place.offset, place.length)])
        self._index.discard(position)
        self.records -= 1

    def erase(self, entries: Sequence[Entry]) -> None:
        """Takes lines out of the file: by removing it, rewriting it, or blanking them in place.

        A power cut leaves each line there or gone. On a full disk, where there is no room to rewrite, lines
        are blanked and the rest moved up. Raises `StoreError` where that fails too, or the disk does not give
        them; then the records are still there. Rewritten files are synced; after blanking the log is `dirty`.
        """
        self.look()
        self._whole &= self._ragged or self.files.size(self.name) in (None, self.size)
        erased = sum(place.length + 1 for _, place in entries)
        if not self._whole:
            self._overwrite(entries)
        elif len(entries) == self.records:
            self._unlink()
        elif self._doubled or self.size <= SMALL_LOG or COMPACT_SHARE * (self._blank + erased) >= self.size:
            self._compact(entries)
        else:
            self._overwrite(entries)
        for position, _ in entries:
            self._index.discard(position)
        self.records = max(0, self.records - len(entries))

    def _compact(self, entries: Sequence[Entry]) -> None:
        kept = self._others(entries)
        doubled = self._doubled
        try:
            self._rewrite(kept)
        except StoreError:
            self._overwrite(entries)
            try:
                self._move_up(kept)
            except StoreError:
                # The room may be had another time; but of a doubled line the other copy must go now.
                if doubled:
                    raise

    def _others(self, entries: Iterable[Entry]) -> list[bytes]:
        """The packed entries of the log's other lines, in the file's order."""
        gone = {position for position, _ in entries}
        return [entry for entry in self._in_file_order() if entry[:POSITION_SIZE] not in gone]

    def _move_up(self, entries: Sequence[bytes]) -> None:
        """Closes the gaps before these lines, all that count, within the file: for a disk with no room.

        At no moment is the only copy of a line overwritten: as many lines as fit into a gap are copied into
        it and synced, and where they stood becomes part of the next gap. `load` drops what is twice. A gap
        that is too small for the next line is left blank.
        """
        self._doubled = True
        end = at = 0
        while at < len(entries):
            gap = unpack(entries[at]).place.offset - end
            moved, data = self._fitting(entries, at, gap)
            if gap:
                left = gap - len(data)
                blank = b" " * (left - 1) + b"\n" if left else b""
                self.files.overwrite(self.name, end, data + blank)
                self.files.sync(self.name)
            if not moved:
                end = _end(unpack(entries[at]).place)
                at += 1
                continue
            for position, place in moved:
                self._index.put(position, place._replace(offset=end))
                end += place.length + 1
            at += len(moved)
        self.files.truncate(self.name, end)
        self.size = end
        self._blank = end - sum(unpack(entry).place.length + 1 for entry in entries)
        self._ragged = self._doubled = False

    def _fitting(self, entries: Sequence[bytes], at: int, room: int) -> tuple[list[Entry], bytes]:
        """The lines from number `at` on that fit into `room` bytes together, and those bytes."""
        moved, data = [], bytearray()
        for number in range(at, len(entries)):
            entry = unpack(entries[number])
            if len(data) + entry.place.length + 1 > room:
                break
            data += self._read_run([entry.place])
            moved.append(entry)
        return moved, bytes(data)

    def _overwrite(self, entries: Iterable[Entry]) -> None:
        """Blanks lines in place. `load` passes over what begins with a blank, so half a blanking suffices."""
        for _, place in entries:
            if self.line(place) is not None:
                self.files.overwrite(self.name, place.offset, b" " * place.length)
                self._blank += place.length + 1
                self.dirty = True

    def drop_damaged(self) -> None:
        """Removes the `.damaged` file: what was set aside may hold wiped text."""
        self.files.remove(self.name + DAMAGED_SUFFIX)
