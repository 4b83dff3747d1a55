"""The numbers of arrival: in which order records came to this router, by whatever door.

A number is in the record's log line, so it outlives restarts and goes wherever the line goes. It only grows,
and is never used for two records, though a power cut may take lines away whose numbers were told to somebody:
before any number below a *limit* is given, that limit is on the disk, in `LOGS/arrivals.id`, and a start
goes on from it. The file also holds the random *epoch* of the logs, without which a number says nothing:
where the file was lost with the logs, both begin anew.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import NamedTuple

from meshchat.adapters.storage.files import Files
from meshchat.adapters.storage.smallfile import SmallFile, checked_line, open_line
from meshchat.errors import StoreError
from meshchat.identity.keys import MarkKey

ARRIVALS_FILE = "arrivals.id"
"""One line: the epoch, 16 hex digits, a space, the limit; a checksum, without which a lower limit would give
numbers twice."""

RESERVED = 2**20
"""Numbers from one limit to the next. A start takes as many, so 2**26 starts, one a minute for 127 years, use
up half of all numbers (`MAX_ARRIVAL`, itself far below the 2**53 that JSON keeps exact). A new limit is
written at a start, and while the daemon runs after a million records: some GB of log lines."""

_LAST_LIMIT = 2**46
"""A limit above it is no honest one: whoever can edit the file cannot use the numbers up."""

EPOCH_SIZE = 8
"""Bytes: two logs have one epoch by chance once in 2**64, and nothing is secured by it."""

_MAX_FILE = 64


class _Saved(NamedTuple):
    epoch: bytes
    limit: int


class Arrivals:
    """Gives the numbers of one router's logs; call `begin` once all numbers in use are known.

    `files` is LOGS; `new_epoch` makes `EPOCH_SIZE` random bytes.
    """

    def __init__(
        self, files: Files, new_epoch: Callable[[], bytes] = lambda: secrets.token_bytes(EPOCH_SIZE)
    ) -> None:
        self._files = files
        self._new_epoch = new_epoch
        self._key = b""
        self._epoch = b""
        self._next = 1
        self._limit = 1

    def begin(self, key: MarkKey, highest: int) -> StoreError | None:
        """Goes on above every number that was ever given; returns why it could not, or could not save that.

        `key` is 32 secret bytes of this router, `highest` the highest number in its logs, 0 for none. Where a
        line has a number above the limit, the file is not of these logs as they are: then the epoch is new.
        """
        self._key = key
        saved, trouble = None, None
        try:
            saved = self._read()
        except StoreError as error:
            trouble = error
        if saved is not None and saved.limit > highest:
            self._epoch, self._next = saved
        else:
            self._epoch, self._next = self._new_epoch(), highest + 1
        return self._reserve() or trouble

    def _read(self) -> _Saved | None:
        """What the file holds. Raises `StoreError` where it cannot be read or is damaged."""
        file = SmallFile(self._files, ARRIVALS_FILE, _MAX_FILE)
        raw = file.read()
        if raw is None:
            return None
        try:
            epoch, limit = (open_line(raw) or "").split()
            saved = _Saved(bytes.fromhex(epoch), int(limit))
        except ValueError:
            raise StoreError(f"{file.path} is damaged and begun anew.") from None
        return saved if len(saved.epoch) == EPOCH_SIZE and 0 < saved.limit <= _LAST_LIMIT else None

    def _reserve(self) -> StoreError | None:
        """Makes room for the next numbers; on a disk that does not note it, in an epoch that ends with us."""
        self._limit = self._next + RESERVED
        try:
            self._files.replace(ARRIVALS_FILE, [checked_line(f"{self._epoch.hex()} {self._limit}")])
        except StoreError as error:
            self._epoch = self._new_epoch()
            return error
        return None

    @property
    def epoch(self) -> str:
        """The epoch as others are told it, 16 hex digits: another one where another router has these logs."""
        return hashlib.blake2b(self._epoch, key=self._key, digest_size=EPOCH_SIZE).hexdigest()

    @property
    def newest(self) -> int:
        """No number above it was given yet, and none up to it will be given again."""
        return self._next - 1

    def give(self) -> int:
        """The next number."""
        if self._next == self._limit:
            self._reserve()
        self._next += 1
        return self._next - 1
