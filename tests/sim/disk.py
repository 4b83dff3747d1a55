"""A disk in memory that forgets what a real one may forget when the power goes.

What was synced stays. Of what was written since, a power cut keeps a part: appends and cuts in their order up
to some point, the last one torn at any byte, sometimes with zeros where the rest would be; bytes overwritten
in place each on their own; a name that was made, moved or removed without syncing its folder may be either as
before or as after.
"""

import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from meshchat.adapters.storage.files import TEMP_SUFFIX, DirectoryInUse
from meshchat.errors import StoreError


class PowerCut(Exception):
    """The machine died in the middle of an operation; call `SimFiles.power_cut` or `kill` and start over."""


@dataclass
class _Append:
    data: bytes


@dataclass
class _Truncate:
    size: int


@dataclass
class _Overwrite:
    offset: int
    data: bytes


_Change = _Append | _Truncate | _Overwrite


def _apply(content: bytearray, change: _Change) -> None:
    match change:
        case _Append(data):
            content += data
        case _Truncate(size):
            del content[size:]
        case _Overwrite(offset, data):
            content[offset : offset + len(data)] = data


def _undone(content: bytearray, change: _Change) -> tuple[int, bytes]:
    """What takes the change back: the offset that it starts at, and the bytes that it replaces."""
    match change:
        case _Append():
            return len(content), b""
        case _Truncate(size):
            return size, bytes(content[size:])
        case _Overwrite(offset, data):
            return offset, bytes(content[offset : offset + len(data)])


@dataclass
class _Inode:
    """A file's bytes; what was done to them since the last sync, and what would undo that, oldest first."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list)
    undo: list[tuple[int, bytes]] = field(default_factory=list)

    def change(self, change: _Change) -> None:
        self.undo.append(_undone(self.content, change))
        _apply(self.content, change)
        self.pending.append(change)

    def sync(self) -> None:
        self.pending.clear()
        self.undo.clear()

    def synced(self) -> bytearray:
        """The bytes as they were at the last sync."""
        content = bytearray(self.content)
        for change, (offset, before) in zip(reversed(self.pending), reversed(self.undo), strict=True):
            if isinstance(change, _Overwrite):
                content[offset : offset + len(change.data)] = before
            else:
                content[offset:] = before
        return content

    def power_cut(self, rng: random.Random) -> None:
        content = self.synced()
        reached = rng.randint(0, len(self.pending))
        for change in self.pending[:reached]:
            if not isinstance(change, _Overwrite) or rng.random() < 0.5:
                _apply(content, change)
        if reached < len(self.pending):
            self._tear(content, self.pending[reached], rng)
        self.content = content
        self.sync()

    @staticmethod
    def _tear(content: bytearray, change: _Change, rng: random.Random) -> None:
        match change:
            case _Append(data):
                kept = rng.randint(0, len(data))
                zeros = rng.randint(0, len(data) - kept) if rng.random() < 0.2 else 0
                content += data[:kept] + bytes(zeros)
            case _Overwrite(offset, data):
                kept = rng.randint(0, len(data))
                content[offset : offset + kept] = data[:kept]
            case _Truncate():
                pass


def _concerns(faulty: set[str], name: str) -> bool:
    """Whether the file, or a folder that it is in, is among those that are faulty."""
    return any(one in ("", name) or name.startswith(f"{one}/") for one in faulty)


class SimFiles:
    """`Files` in memory.

    Faults are set as attributes at any time: `capacity` in bytes (None: endless), `read_only`, `failing`
    (numbers of coming operations that fail with an input/output error), `crash_at` (the operation at which
    `PowerCut` is raised, before or after it took effect). `operations` counts those that write. Of the files
    and folders in `unreadable` reads fail, of those in `short` they end early; "" stands for all. A read
    takes `late` seconds; `waited` are those of all reads. `vanish` takes a folder away until `put_back`.
    """

    def __init__(self, name: str = "/sim") -> None:
        self.name = name
        self.capacity: int | None = None
        self.read_only = False
        self.failing: set[int] = set()
        self.unreadable: set[str] = set()
        self.short: set[str] = set()
        self.late = 0.0
        self.waited = 0.0
        self.crash_at: int | None = None
        self.operations = 0
        self._locked = False
        self._current: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._away: dict[str, _Inode] = {}

    # --- Faults ---------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process dies (SIGKILL): the kernel keeps all that was written."""
        self._locked = False
        self.crash_at = None

    def power_cut(self, rng: random.Random) -> None:
        """The power goes: what was not synced survives in part, as `rng` decides."""
        self.kill()
        survivors: dict[str, _Inode] = {}
        for name in sorted(self._current.keys() | self._durable.keys()):
            inode = (self._current if rng.random() < 0.5 else self._durable).get(name)
            if inode is not None:
                survivors[name] = inode
        for inode in {id(inode): inode for inode in survivors.values()}.values():
            inode.power_cut(rng)
        self._current = survivors
        self._durable = dict(survivors)

    def vanish(self, what: str) -> None:
        """A file, or a folder with all in it, is moved away by somebody."""
        for name in [name for name in self._current if _concerns({what}, name)]:
            self._away[name] = self._current.pop(name)
            self._durable.pop(name, None)

    def put_back(self) -> None:
        """What was moved away is where it was, all of it synced; behind what was made in its place."""
        for name, inode in self._away.items():
            made = self._current.get(name)
            content = bytearray() if made is None else made.content
            if content and not content.endswith(b"\n"):
                content += b"\n"
            self._current[name] = self._durable[name] = _Inode(content + inode.content)
        self._away.clear()

    def copy(self, name: str) -> "SimFiles":
        """Another disk with the same files, all of them synced."""
        other = SimFiles(name)
        for path, inode in self._current.items():
            other._current[path] = other._durable[path] = _Inode(bytearray(inode.content))
        return other

    def used(self) -> int:
        """Bytes in files."""
        return sum(len(inode.content) for inode in self._current.values())

    def _operation(self, growth: int = 0) -> bool:
        """Counts one; raises what is set for it; whether to die right after it took effect."""
        number = self.operations
        self.operations += 1
        if number in self.failing:
            raise StoreError(f"{self.name}: the disk failed.")
        if self.read_only:
            raise StoreError(f"{self.name}: the file system is read-only.")
        if growth > 0 and self.capacity is not None and self.used() + growth > self.capacity:
            raise StoreError(f"{self.name}: the disk is full.")
        if self.crash_at is None or self.operations < self.crash_at:
            return False
        if self.crash_at % 2:
            raise PowerCut
        return True

    def _change(self, inode: _Inode, change: _Change) -> None:
        growth = len(change.data) if isinstance(change, _Append) else 0
        dies = self._operation(growth)
        inode.change(change)
        if dies:
            raise PowerCut

    def _existing(self, name: str) -> _Inode:
        inode = self._current.get(name)
        if inode is None:
            raise StoreError(f"{self.path(name)}: no such file.")
        return inode

    # --- Files ----------------------------------------------------------------------------------------------

    @property
    def place(self) -> Hashable:
        return self.name

    def path(self, name: str) -> str:
        return f"{self.name}/{name}" if name else self.name

    def lock(self) -> None:
        if self._locked:
            raise DirectoryInUse(f"{self.name} is in use by another meshchat daemon.")
        self._locked = True

    def close(self) -> None:
        self._locked = False

    def another(self) -> None:
        return None

    def names(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        rest = [name.removeprefix(prefix) for name in self._current if name.startswith(prefix)]
        return sorted(name for name in rest if "/" not in name)

    def folders(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        rest = [name.removeprefix(prefix) for name in self._current if name.startswith(prefix)]
        return sorted({name.split("/")[0] for name in rest if "/" in name})

    def size(self, name: str) -> int | None:
        inode = self._current.get(name)
        return None if inode is None else len(inode.content)

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes:
        content = self._existing(name).content
        self.waited += self.late
        if _concerns(self.unreadable, name):
            raise StoreError(f"{self.path(name)}: the disk failed.")
        found = bytes(content[offset : None if count is None else offset + count])
        return found[: len(found) // 2] if _concerns(self.short, name) else found

    def append(self, name: str, data: bytes) -> int:
        inode = self._current.get(name) or _Inode()
        start = len(inode.content)
        dies = self._operation(len(data))
        self._current[name] = inode
        inode.change(_Append(data))
        if dies:
            raise PowerCut
        return start

    def truncate(self, name: str, size: int) -> None:
        self._change(self._existing(name), _Truncate(size))

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        self._change(self._existing(name), _Overwrite(offset, data))

    def sync(self, name: str) -> None:
        inode = self._existing(name)
        dies = self._operation()
        inode.sync()
        self._durable[name] = inode
        if dies:
            raise PowerCut

    def replace(self, name: str, pieces: Iterable[bytes], *, private: bool = False) -> None:
        temporary = name + TEMP_SUFFIX
        inode = self._current[temporary] = _Inode()
        try:
            for piece in pieces:
                self._change(inode, _Append(piece))
            if self._operation():
                raise PowerCut
        except StoreError:
            del self._current[temporary]
            raise
        inode.sync()
        self._current[name] = self._current.pop(temporary)
        if self._crashes():
            raise PowerCut
        self._durable[name] = inode
        self._durable.pop(temporary, None)

    def remove(self, name: str) -> None:
        if name not in self._current:
            return
        dies = self._operation()
        del self._current[name]
        if dies or self._crashes():
            raise PowerCut
        self._durable.pop(name, None)

    def _crashes(self) -> bool:
        """Whether to die between a change of names and its sync."""
        self.operations += 1
        return self.crash_at is not None and self.operations >= self.crash_at
