"""The machine's tables of time zones (TZif, RFC 9636): each change of the clocks, past and foreseen.

The rule at a table's end holds only after its last change. Before that a government may change clocks as it
likes: Morocco does for Ramadan, by the moon, and its table has each of those changes up to 2087.
"""

import struct
from typing import NamedTuple

MAX_ZONE_FILE = 64 * 1024
"""Bytes of a table; the longest have 4 KiB. Against /etc/localtime being something else."""

_HEADER = struct.Struct(">4sc15x6I")
_TYPE = struct.Struct(">i?B")


class Change(NamedTuple):
    """From the UTC second `moment` on clocks are `offset` seconds ahead of UTC, and it is called `name`."""

    moment: int
    offset: int
    name: str


class ZoneTable(NamedTuple):
    """What a file holds: how it began, the changes in order, and the POSIX rule for afterwards or empty."""

    first: Change
    changes: tuple[Change, ...]
    rule: str


class _Counts(NamedTuple):
    in_utc: int
    standard: int
    leaps: int
    times: int
    types: int
    chars: int

    def size(self, time_size: int) -> int:
        """Bytes of the block behind the header."""
        return (
            self.times * (time_size + 1)
            + self.types * _TYPE.size
            + self.chars
            + self.leaps * (time_size + 4)
            + self.standard
            + self.in_utc
        )


def parse_zone_file(content: bytes) -> ZoneTable:
    """The table in a TZif file of any version; raises `ValueError` where it is none."""
    try:
        version, counts = _header(content, 0)
        start, time_size = _HEADER.size, 4
        if version != b"\0":  # the same once more, with times of 64 bits
            start += counts.size(4)
            _, counts = _header(content, start)
            start, time_size = start + _HEADER.size, 8
        first, changes = _block(content, start, counts, time_size)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"no table of a time zone: {error}") from None
    footer = content[start + counts.size(time_size) :]
    rule = footer.strip(b"\n") if footer.startswith(b"\n") and footer.endswith(b"\n") else b""
    return ZoneTable(first, changes, rule.decode("ascii", "replace"))


def _header(content: bytes, at: int) -> tuple[bytes, _Counts]:
    magic, version, *counts = _HEADER.unpack_from(content, at)
    if magic != b"TZif":
        raise ValueError("no table of a time zone")
    return version, _Counts(*counts)


def _block(content: bytes, at: int, counts: _Counts, size: int) -> tuple[Change, tuple[Change, ...]]:
    if not counts.types or counts.size(size) > len(content) - at:
        raise ValueError("a table of a time zone that was cut off")
    moments = struct.unpack_from(f">{counts.times}{'q' if size == 8 else 'i'}", content, at)
    at += counts.times * size
    indexes = content[at : at + counts.times]
    at += counts.times
    names_at = at + counts.types * _TYPE.size
    names = content[names_at : names_at + counts.chars]
    kinds = []
    for number in range(counts.types):
        offset, _, start = _TYPE.unpack_from(content, at + number * _TYPE.size)
        if not -90_000 < offset < 93_600:  # RFC 9636, 3.2: -24:59:59 to +25:59:59
            raise ValueError("a time zone further from UTC than any")
        kinds.append((offset, names[start:].partition(b"\0")[0].decode("ascii")))
    if list(moments) != sorted(moments):
        raise ValueError("a table of a time zone in disorder")
    changes = tuple(Change(moment, *kinds[kind]) for moment, kind in zip(moments, indexes, strict=True))
    return Change(-(2**63), *kinds[0]), changes
