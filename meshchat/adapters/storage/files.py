"""The small part of a file system that the stores need.

`Files` is what the stores see: a directory, and files in it by relative name (`rooms/1.log`). Two things
implement it: `diskfiles.DiskFiles`, and the simulator's disk, which cuts the power. Whatever goes wrong is a
`StoreError` whose text names the path and the cure.
"""

from collections.abc import Hashable, Iterable
from typing import Protocol

from meshchat.errors import StoreError

TEMP_SUFFIX = ".meshchat-new"
"""A file with this ending was being written when the daemon or the power died: it may be removed."""

DAMAGED_SUFFIX = ".damaged"
"""A file with this ending holds what was found damaged in the file of the name before it."""


class DirectoryInUse(StoreError):
    """Another daemon has locked the directory."""


class Files(Protocol):
    """One directory. Names are relative, with `/` between parts; folders appear as they are needed."""

    @property
    def place(self) -> Hashable:
        """Equal for two `Files` of one directory."""

    def path(self, name: str) -> str:
        """What to call the file `name` in a line for people; "" is the directory itself."""

    def lock(self) -> None:
        """Keeps others off the directory until `close`; raises `DirectoryInUse` where one is there."""

    def close(self) -> None:
        """Gives up the lock and every open handle. Nothing is synced."""

    def another(self) -> "Files | None":
        """The directory that is at this place now, where that is not the one that was locked."""

    def names(self, folder: str = "") -> list[str]:
        """The files in `folder`, by their last part, sorted; none where it does not exist."""

    def folders(self, folder: str = "") -> list[str]:
        """The folders in `folder`, likewise."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None where there is none."""

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes:
        """`count` bytes (None: all) from `offset` on; fewer where the file ends before."""

    def append(self, name: str, data: bytes) -> int:
        """Hands `data` to the kernel at the file's end, all or nothing; the offset where it begins."""

    def truncate(self, name: str, size: int) -> None:
        """Cuts the file to `size` bytes."""

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        """Writes over bytes that are there; a crash may leave part of it done."""

    def sync(self, name: str) -> None:
        """Returns when the file, its bytes and its name, outlasts a power cut."""

    def replace(self, name: str, pieces: Iterable[bytes], *, private: bool = False) -> None:
        """Makes `pieces` the file's whole content: durable, and at no moment anything but old or new.

        `private` files can be read by their owner only. Where it raises, the old file is untouched.
        """

    def remove(self, name: str) -> None:
        """Unlinks a file, durably; one that is not there is no error."""
