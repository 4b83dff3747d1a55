"""Reading and writing the primitive fields that packets and records are made of.

All integers are big-endian. A reader never looks past its buffer: a field that does not fit raises
`Malformed("truncated")`, whatever a stranger sent.
"""

import struct
from struct import Struct
from typing import Any

from meshchat.errors import Malformed


class Reader:
    """Takes fields off the front of `data`, in order."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def remaining(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes; raises `Malformed` where there are fewer."""
        end = self._at + count
        if end > len(self._data):
            raise Malformed("truncated")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def fields(self, layout: Struct) -> tuple[Any, ...]:
        """The next fields of fixed size, as `layout` has them: at once, which is several times as fast."""
        at = self._at
        self._at = at + layout.size
        try:
            return layout.unpack_from(self._data, at)
        except struct.error:
            raise Malformed("truncated") from None

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining())

    def uint(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def text(self) -> str:
        """UTF-8 behind a length byte; raises `Malformed("encoding")` where it is not UTF-8."""
        try:
            return self.take(self.uint(1)).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("encoding") from None

    def end(self) -> None:
        """Raises `Malformed("trailing")` unless everything was taken."""
        if self.remaining():
            raise Malformed("trailing")


def uint(value: int, size: int) -> bytes:
    """`value` as an unsigned integer of `size` bytes; a value out of range is a bug (OverflowError)."""
    return value.to_bytes(size, "big")


def text(value: str) -> bytes:
    """`value` as UTF-8 behind a length byte; more than 255 bytes is a bug (OverflowError)."""
    raw = value.encode("utf-8")
    return uint(len(raw), 1) + raw
