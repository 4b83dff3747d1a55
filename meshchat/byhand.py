"""What people write by hand: text from any editor, and whatever stands where a file should be.

Editors leave byte order marks and Windows' line ends; a path may name a pipe, a device, a folder, a loop of
links. All of it is read with a bound on its size and on the time that it takes, or refused by one line that
names it. Lines end at line feeds only: U+0085 and U+2028 are text (a password may hold them).
"""

import errno
import os
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from meshchat.errors import FileRefused

MAX_FILE = 256 * 1024
"""Bytes of a file that somebody wrote by hand: a hundred times the longest configuration. Against /dev/zero,
and a film that was taken for the password."""

PATIENCE = 5.0
"""Seconds that a pipe may take for all it has to say: `--password-file <(pass show chat)` asks for a key."""

_PIECE = 64 * 1024
_AGAIN = 0.05
_BYTE_ORDER_MARK = "\ufeff"


def read_text(path: Path, limit: int = MAX_FILE) -> str:
    """The text of a file, without a byte order mark, its lines ended by line feeds alone.

    Raises `FileRefused` where it cannot be read, is no UTF-8, or has more than `limit` bytes.
    """
    raw = read_bytes(path, limit)
    try:
        return clean(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileRefused(f"{path} is not UTF-8 text (line {line}): save it as UTF-8.") from None


def clean(text: str) -> str:
    """The text as all systems write it: no byte order mark, and line feeds in place of Windows' line ends."""
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n")


def read_bytes(path: Path, limit: int = MAX_FILE) -> bytes:
    """All of a file, a pipe or a device; raises `FileRefused` as `read_text` does."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to never returns.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return _read(descriptor, path, limit)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}.") from None


def _read(descriptor: int, path: Path, limit: int) -> bytes:
    end = time.monotonic() + PATIENCE
    pieces: list[bytes] = []
    left = limit
    while True:
        if not select.select([descriptor], [], [], max(end - time.monotonic(), 0))[0]:
            raise _silent(path)
        try:
            piece = os.read(descriptor, _PIECE)
        except BlockingIOError:  # another reader was faster
            continue
        if not piece:
            return b"".join(pieces)
        left -= len(piece)
        if left < 0:
            raise FileRefused(f"{path} cannot be used: it has more than {limit} bytes.")
        pieces.append(piece)


def open_input(path: Path) -> BinaryIO:
    """A file, a pipe or a device to read a long text from, piece by piece; raises `FileRefused`."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            raise _silent(path)
        os.set_blocking(descriptor, True)
        return open(descriptor, "rb")
    except (OSError, FileRefused) as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, OSError):
            raise FileRefused(f"{path} cannot be read: {error.strerror}.") from None
        raise


def open_output(path: Path) -> BinaryIO:
    """A pipe or a device to write to; a pipe has to have a reader soon. Raises `OSError`."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                raise
            time.sleep(_AGAIN)
        else:
            os.set_blocking(descriptor, True)
            return open(descriptor, "wb")


def why_not_written(error: OSError, folder: Path) -> str:
    """The reason of `error`, which was raised by writing into `folder`, so that it leads to the cure."""
    if error.errno == errno.ENOSPC and has_no_inodes(folder):
        return NO_INODES
    if error.errno == errno.ENXIO:
        return "nobody reads from it"
    return error.strerror or type(error).__name__


NO_INODES = "there is space, but no more files can be made there (df -i): remove some"


def has_no_inodes(folder: Path | str) -> bool:
    """Whether the file system of `folder` has space, but no inode for one more file (statvfs(3))."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0 and found.f_bavail > 0


def _silent(path: Path) -> FileRefused:
    return FileRefused(f"{path} cannot be read: nobody has written to it for {PATIENCE:.0f} s.")


def lines_of(stream: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a stream, counted from 1, without their ends; None for one of more than `limit` bytes.

    No more than that is ever kept of a line, however long it is.
    """
    number = 0
    while raw := stream.readline(limit + 2):
        number += 1
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) <= limit:
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            continue
        yield number, None
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(_PIECE)
