"""What the kernel refuses about a file, in words: the path, what is wrong, and the cure."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshchat.byhand import NO_INODES, has_no_inodes
from meshchat.errors import StoreError

_CURES = {
    errno.ENOENT: "it is not there: put it back",
    errno.ENOSPC: "the disk is full: free some space there, or choose another directory",
    errno.EDQUOT: "the disk quota is used up: free some space there, or choose another directory",
    errno.EROFS: "the file system is read-only: remount it writable, or choose another directory",
    errno.EACCES: "permission denied: give the user that runs meshchat access to it",
    errno.EPERM: "permission denied: give the user that runs meshchat access to it",
    errno.EIO: "the disk failed: check it (`dmesg`), and replace it or choose another directory",
    errno.EMFILE: "too many open files: raise the limit (`ulimit -n`)",
}


def takes_nothing(error: StoreError) -> bool:
    """Whether it is the file system that is full or read-only, and not this file or this user's rights."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def store_error(error: OSError, path: str) -> StoreError:
    """The line for people about an `OSError` at `path`."""
    cure = _CURES.get(error.errno or 0, error.strerror or type(error).__name__)
    if error.errno == errno.ENOSPC and has_no_inodes(os.path.dirname(path)):
        cure = NO_INODES
    return StoreError(f"{path}: {cure}.")


@contextlib.contextmanager
def blaming(path: Path | str) -> Iterator[None]:
    """Makes an `OSError` that leaves the block a `StoreError` about `path`."""
    try:
        yield
    except OSError as error:
        raise store_error(error, str(path)) from error
