"""`Files` on a real disk, by the system calls that make it last."""

import contextlib
import errno
import fcntl
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from pathlib import Path

from meshchat.adapters.storage.diskerrors import blaming
from meshchat.adapters.storage.files import TEMP_SUFFIX, DirectoryInUse

MAX_HANDLES = 32
"""Files kept open for appending: the busy rooms of a mesh; OpenWrt allows a process 1,024."""

FILE_MODE = 0o640
PRIVATE_MODE = 0o600


def _open_plain(path: Path, flags: int, mode: int = FILE_MODE) -> int:
    """A descriptor of a plain file, or of one that a link leads to; raises `OSError` where it is anything
    else: a pipe would be waited for without end, and /dev/zero fill the memory.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _no_plain_file()


def _no_plain_file() -> OSError:
    return OSError(errno.EINVAL, "this is no plain file: move it out of the way")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _close(descriptor: int) -> None:
    """Closes it; on a disk that was pulled this is an error, and nothing can be done about it."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain_stat(path: Path) -> os.stat_result | None:
    """What the kernel says of a plain file, None where there is none; raises `OSError` for anything else."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise _no_plain_file()
    return found


def _resemble(descriptor: int, old: os.stat_result) -> None:
    """Gives an open file the mode and the owner of another, as far as the file system and our rights go."""
    with contextlib.suppress(OSError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & ~stat.S_IWOTH)


def _is(entry: "os.DirEntry[str]", wanted: "Callable[[os.DirEntry[str]], bool]") -> bool:
    """Whether an entry of a folder is wanted; a loop of links, which cannot be looked at, is not."""
    try:
        return wanted(entry)
    except OSError:
        return False


@lru_cache(maxsize=64)
def _below(base: Path, name: str) -> Path:
    """The path of a file; kept, for each append looks twice whether its log is where it was."""
    return base / name


class DiskFiles:
    """`Files` in the directory `root` of this machine; `root` is made when it is first needed.

    Once it is locked it stays the same directory, whatever is mounted over it, or taken away, meanwhile: what
    was acknowledged is not hidden by a stick that comes up later.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = self._base = Path(root).absolute()
        self._lock: int | None = None
        self._handles: OrderedDict[str, int] = OrderedDict()
        self._settled: set[str] = set()  # files whose names are known to outlast a power cut

    @property
    def place(self) -> Hashable:
        """The directory's device and inode, or its path while there is none."""
        try:
            found = self._root.stat()
        except OSError:
            return str(self._root)
        return found.st_dev, found.st_ino

    def path(self, name: str) -> str:
        """The absolute path."""
        return f"{self._root}/{name}" if name else str(self._root)

    def lock(self) -> None:
        """Locks the directory itself with flock(2), which works where no lock file could be written."""
        with blaming(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise DirectoryInUse(
                    f"{self._root} is in use by another meshchat daemon: stop that one, "
                    "or give this one directories of its own (--logs, --state)."
                ) from None
            except OSError:
                os.close(descriptor)
                raise
        self._lock = descriptor
        opened = Path(f"/proc/self/fd/{descriptor}")
        if opened.exists():
            self._base = opened

    def _at(self, name: str) -> Path:
        """Where the file `name` is for the kernel; `path` is what to call it."""
        if self._lock is not None and not os.fstat(self._lock).st_nlink:  # somebody has deleted it all
            self._base = self._root
        return _below(self._base, name)

    def close(self) -> None:
        """Closes the handles and the lock."""
        for name in list(self._handles):
            self._drop(name)
        if self._lock is not None:
            _close(self._lock)
            self._lock, self._base = None, self._root

    def another(self) -> "DiskFiles | None":
        """By device and inode: a disk was mounted here, or put back after it was pulled."""
        if self._lock is None:
            return None
        try:
            is_same = os.path.samestat(self._root.stat(), os.fstat(self._lock))
        except OSError:
            return None
        return None if is_same else DiskFiles(self._root)

    def names(self, folder: str = "") -> list[str]:
        """Files and links to files."""
        return self._entries(folder, lambda entry: entry.is_file())

    def folders(self, folder: str = "") -> list[str]:
        """Folders and links to folders."""
        return self._entries(folder, lambda entry: entry.is_dir())

    def _entries(self, folder: str, wanted: Callable[["os.DirEntry[str]"], bool]) -> list[str]:
        with blaming(self.path(folder)):
            try:
                with os.scandir(self._at(folder)) as entries:
                    return sorted(entry.name for entry in entries if _is(entry, wanted))
            except FileNotFoundError:
                return []

    def size(self, name: str) -> int | None:
        """By stat(2)."""
        with blaming(self.path(name)):
            try:
                return self._at(name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes:
        """Raises `StoreError` where there is no such file."""
        with blaming(self.path(name)), open(_open_plain(self._at(name), os.O_RDONLY), "rb") as file:
            file.seek(offset)
            return file.read(count)  # goes on where the kernel gives less at once

    def append(self, name: str, data: bytes) -> int:
        """A write that did not fit is cut off again, so that a full disk leaves no torn line."""
        with blaming(self.path(name)):
            descriptor, start = self._handle(name)
            try:
                _write(descriptor, data)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, start)
                raise
        return start

    def _handle(self, name: str) -> tuple[int, int]:
        """An open descriptor, a new one where somebody has moved, deleted or replaced the file, and its size.

        What is acknowledged must stand where the next start looks for it.
        """
        path = self._at(name)
        descriptor = self._handles.get(name)
        if descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if os.path.samestat(found, os.fstat(descriptor)):
                    self._handles.move_to_end(name)
                    return descriptor, found.st_size
            self._drop(name)
        flags = os.O_WRONLY | os.O_APPEND
        try:
            descriptor = _open_plain(path, flags)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _open_plain(path, flags | os.O_CREAT)
            self._settled.discard(name)
        self._handles[name] = descriptor
        if len(self._handles) > MAX_HANDLES:
            self._drop(next(iter(self._handles)))
        return descriptor, os.fstat(descriptor).st_size

    def _drop(self, name: str) -> None:
        descriptor = self._handles.pop(name, None)
        if descriptor is not None:
            _close(descriptor)

    def truncate(self, name: str, size: int) -> None:
        """By truncate(2)."""
        with blaming(self.path(name)):
            os.truncate(self._at(name), size)

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        """By pwrite(2)."""
        with blaming(self.path(name)), open(_open_plain(self._at(name), os.O_RDWR), "r+b", 0) as file:
            file.seek(offset)
            _write(file.fileno(), data)

    def sync(self, name: str) -> None:
        """By fsync(2) of the file and, the first time, of the folders that lead to it."""
        path = self._at(name)
        with blaming(self.path(name)):
            descriptor = self._handles.get(name)
            if descriptor is not None:
                os.fsync(descriptor)
            else:
                with open(_open_plain(path, os.O_RDONLY), "rb", 0) as file:
                    os.fsync(file.fileno())
            if name not in self._settled:
                self._settle(name, path)

    def _settle(self, name: str, path: Path) -> None:
        for folder in path.parents:
            _sync_folder(folder)
            if folder == self._base:
                break
        self._settled.add(name)

    def replace(self, name: str, pieces: Iterable[bytes], *, private: bool = False) -> None:
        """By a temporary file, fsync(2), rename(2), and fsync(2) of the folder.

        The new file has the old one's owner and, unless it is private, its mode; where a link was, it is what
        that leads to.
        """
        path = self._at(name)
        with blaming(self.path(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                path = Path(os.path.realpath(path))
            old = _plain_stat(path)
            temporary = path.with_name(path.name + TEMP_SUFFIX)
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = _open_plain(temporary, flags, PRIVATE_MODE if private else FILE_MODE)
            try:
                try:
                    for piece in pieces:
                        _write(descriptor, piece)
                    if old is not None:
                        _resemble(descriptor, old)
                    if private:
                        os.fchmod(descriptor, PRIVATE_MODE)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                temporary.rename(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        self._drop(name)
        # The change is made; a folder that cannot be synced can only bring the old file back.
        with contextlib.suppress(OSError):
            self._settle(name, path)

    def remove(self, name: str) -> None:
        """By unlink(2) and fsync(2) of the folder."""
        path = self._at(name)
        self._drop(name)
        self._settled.discard(name)
        with blaming(self.path(name)):
            try:
                path.unlink()
            except FileNotFoundError:
                return
        with contextlib.suppress(OSError):
            _sync_folder(path.parent)
