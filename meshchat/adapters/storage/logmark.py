"""The mark that a router puts on each log line of a record whose signature it has checked.

To verify 100,000 signatures takes ten seconds on a PC and minutes on a router, at every start. So each line
ends with `"mark"`, a keyed hash of all that stands before it; where the mark holds, this router itself wrote
these very bytes after it had verified them. The key follows from `router.key` in STATE: whoever can edit the
logs only, or copies them from another router, makes no mark, and a line without one goes through every check.
A mark proves no more than the signature did. It moves with its line, goes with it, and needs no file beside
the log that could be stale, torn or full.
"""

import binascii
import hashlib
from collections.abc import Callable
from dataclasses import replace

from meshchat.adapters.storage.logline import (
    Outline,
    StoredRecord,
    arrival_fields,
    decode_line,
    encode_line,
    outline_line,
)
from meshchat.errors import Malformed
from meshchat.identity.keys import MarkKey
from meshchat.wire.ids import MeshId
from meshchat.wire.records import PERMANENT, Record

_HASH_SIZE = 9
"""Bytes of the hash, 12 characters: who tries lines at random passes one off after 2**71 of them, and can try
only as fast as this router starts and reads its disk."""

_LEAD = b',"mark":"'
_ARRIVAL = b',"arrival":'
"""No text can hold it: a quotation mark inside a string has a backslash before it."""
_END = b'"}'
_HASH_CHARS = 4 * _HASH_SIZE // 3
MARK_SIZE = len(_LEAD) + _HASH_CHARS + len(_END)
"""Bytes at the end of a marked line, its last brace among them."""


class Lines:
    """The lines of one router's logs: writes them with its mark, and reads what it finds by their marks.

    `mesh` is the 8-byte mesh id, `key` 32 secret bytes of this router and this mesh, `verify` says whether a
    record was signed by its author.
    """

    def __init__(self, mesh: MeshId, key: MarkKey, verify: Callable[[Record], bool]) -> None:
        self._mesh = mesh
        self._keyed = hashlib.blake2b(key=key, digest_size=_HASH_SIZE)
        self._verify = verify

    def _mark(self, content: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(content)
        return _LEAD + binascii.b2a_base64(keyed.digest(), newline=False) + _END

    def write(self, item: StoredRecord) -> bytes:
        """The marked line, with its newline, of a record that was verified."""
        line = encode_line(
            item.record,
            age=item.age,
            run=item.run,
            arrival=item.arrival,
            late=item.late,
            once=item.once,
        )
        return self._marked(line[:-2]) + b"\n"

    def _marked(self, content: bytes) -> bytes:
        return content + self._mark(content)

    def is_own(self, line: bytes) -> bool:
        """Whether the line, without its newline, is marked by this router and as it was then."""
        tail = line[-MARK_SIZE:]
        return tail.startswith(_LEAD) and tail == self._mark(line[:-MARK_SIZE])

    def outline(self, line: bytes) -> Outline | StoredRecord:
        """What a line that `is_own` holds: of history the outline, of what is permanent the record."""
        outline = outline_line(line)
        return decode_line(self._mesh, line) if outline.space >= PERMANENT else outline

    def check(self, line: bytes) -> Outline | StoredRecord:
        """The same for any other line. Raises `Malformed` as `decode_line` does, or "signature".

        What it says of its arrival is another router's, or a forger's, and counts for nothing.
        """
        found = self._foreign(line)
        if not self._verify(found.record):
            raise Malformed("signature")
        return found if found.record.permanent else found.outline

    def _foreign(self, line: bytes) -> StoredRecord:
        return replace(decode_line(self._mesh, line), arrival=None, late=False, once=None)

    def renewed(self, line: bytes, arrival: int | None, *, late: bool) -> bytes:
        """A line that was read, without newline, as this router writes it: with its mark, and numbered.

        A line with both is left alone; `arrival` None: it gets no number.
        """
        if not self.is_own(line):
            item = replace(self._foreign(line), arrival=arrival, late=late and arrival is not None)
            return self.write(item)[:-1]
        if arrival is None or _ARRIVAL in line:
            return line
        content = line[:-MARK_SIZE] + arrival_fields(arrival, late=late).encode()
        return self._marked(content)
