"""Records stamped in the future, waiting for their time in bounded memory."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from meshchat.wire.ids import RecordId
from meshchat.wire.records import Record

MAX_QUARANTINE = 1024 * 1024
"""Bytes of records waiting in quarantine; the one furthest in the future goes first."""


@dataclass(frozen=True)
class Waiting:
    """A record that waits since a moment (monotonic seconds), with the age in seconds it came with."""

    record: Record
    age: int
    since: float

    def age_by(self, now: float) -> int:
        """Its age by now: it ages while it waits."""
        return self.age + int(now - self.since)


class Quarantine:
    """At most `MAX_QUARANTINE` bytes of records; the one furthest in the future goes first."""

    def __init__(self) -> None:
        self._waiting: dict[RecordId, Waiting] = {}
        self._latest: list[tuple[int, RecordId]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, record_id: RecordId) -> bool:
        return record_id in self._waiting

    def get(self, record_id: RecordId) -> Waiting:
        """The record with this id, which waits."""
        return self._waiting[record_id]

    def pop(self, record_id: RecordId) -> Waiting:
        """Takes out the record with this id, which waits."""
        waiting = self._waiting[record_id]
        self._drop(record_id)
        return waiting

    def add(self, waiting: Waiting) -> None:
        """Takes a record in; others, or it itself, may have to go for it."""
        record = waiting.record
        self._waiting[record.id] = waiting
        self._bytes += len(record.carried)
        heapq.heappush(self._latest, (-record.stamp, record.id))
        while self._bytes > MAX_QUARANTINE:
            _, furthest = heapq.heappop(self._latest)
            self._drop(furthest)

    def take(self, chosen: Callable[[Record], bool]) -> list[Waiting]:
        """Takes out the records for which `chosen` holds."""
        taken = [waiting for waiting in self._waiting.values() if chosen(waiting.record)]
        for waiting in taken:
            self._drop(waiting.record.id)
        if not self._waiting:
            self._latest.clear()
        return taken

    def _drop(self, record_id: RecordId) -> None:
        waiting = self._waiting.pop(record_id, None)
        if waiting is not None:
            self._bytes -= len(waiting.record.carried)
