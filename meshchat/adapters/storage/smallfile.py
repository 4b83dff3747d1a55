"""Small files that are read at a start and replaced as a whole: a few hundred bytes each, with a checksum.

A bit that a worn flash turned over would make another router of a key, or another mesh of a name, and nobody
would be told. So each such file carries a checksum of its bytes: a line ends with it, a JSON object has it as
its last key. What does not fit it is damaged, and said to be.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from meshchat.adapters.storage.files import DAMAGED_SUFFIX, TEMP_SUFFIX, Files
from meshchat.errors import StoreError

CHECK_SIZE = 4
"""Bytes of a checksum: of 2**32 damaged files one passes. It stands against chance, not against a forger."""

_KEY = b',"check":"'
_END = b'"}\n'


def _check(content: bytes) -> bytes:
    digest = hashlib.blake2b(content, digest_size=CHECK_SIZE, person=b"meshchat check")
    return digest.hexdigest().encode("ascii")


def checked_line(text: str) -> bytes:
    """`text`, a space, its checksum and a newline."""
    content = text.encode("ascii")
    return content + b" " + _check(content) + b"\n"


def open_line(raw: bytes) -> str | None:
    """The text that `checked_line` wrote; None where a byte of it is another one."""
    content, _, check = raw.rpartition(b" ")
    return content.decode("ascii", "replace") if check == _check(content) + b"\n" else None


def checked_object(fields: Mapping[str, object]) -> bytes:
    """The fields as one JSON object on a line, the checksum its last key."""
    content = json.dumps(fields, separators=(",", ":")).encode("ascii").removesuffix(b"}")
    return content + _KEY + _check(content) + _END


def open_object(raw: bytes) -> dict[str, Any]:
    """The fields that `checked_object` wrote, `check` among them.

    Raises `ValueError` where a byte is another one.
    """
    content, _, check = raw.rpartition(_KEY)
    if check != _check(content) + _END:
        raise ValueError("the checksum does not fit")
    fields = json.loads(raw)
    if not isinstance(fields, dict):
        raise ValueError("no object")
    return fields


class SmallFile:
    """The file `name` of `files`, of which `most` bytes are read; a `private` one is its owner's only.

    What could not be read is never replaced: a disk that failed once may have it again at the next start.
    """

    def __init__(self, files: Files, name: str, most: int, *, private: bool = False) -> None:
        self._files, self._name, self._most, self._private = files, name, most, private
        self._unread = False

    @property
    def path(self) -> str:
        """What to call it in a line for people."""
        return self._files.path(self._name)

    def read(self) -> bytes | None:
        """All of it, or None where there is no such file. Raises `StoreError` where not all was read."""
        self._unread = True
        raw = None
        size = self._files.size(self._name)
        if size is not None:
            raw = self._files.read(self._name, 0, self._most)
            if len(raw) < min(size, self._most):
                raise StoreError(
                    f"{self.path}: the disk gave {len(raw)} of {size} bytes: check it (`dmesg`)."
                )
        self._unread = False
        return raw

    def replace(self, data: bytes) -> None:
        """Makes `data` its content, durable when this returns. Raises `StoreError`; then it is as before."""
        if self._unread:
            raise StoreError(f"{self.path} could not be read and is left as it is: restart meshchat.")
        self._files.replace(self._name, [data], private=self._private)

    def clean_up(self) -> None:
        """Removes what a power cut left half written. Raises `StoreError`."""
        if self._files.size(self._name + TEMP_SUFFIX) is not None:
            self._files.remove(self._name + TEMP_SUFFIX)

    def set_aside(self, raw: bytes) -> None:
        """Keeps the damaged content for who may mend it, and removes the file. Raises `StoreError`."""
        self._files.replace(self._name + DAMAGED_SUFFIX, [raw], private=self._private)
        self._files.remove(self._name)
