"""Named deadlines: the engine's only idea of "later"."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

_SLACK = 64
"""Stale entries that may always lie in the heap; beyond that, as many as live ones."""


K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """At most one deadline for each key. Times are seconds, monotonic."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0

    def set(self, key: K, at: float) -> None:
        """Sets or moves the deadline of `key`."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._sweep()

    def _sweep(self) -> None:
        """Takes what was moved or cancelled out of the heap: a flood moves the same deadline for ever."""
        live: dict[K, tuple[float, int, K]] = {}
        for entry in self._heap:
            at, _, key = entry
            if self._at.get(key) == at:
                live.setdefault(key, entry)
        self._heap = list(live.values())
        heapq.heapify(self._heap)

    def set_if_unset(self, key: K, at: float) -> None:
        """Sets the deadline of `key` unless it has one."""
        if key not in self._at:
            self.set(key, at)

    def cancel(self, key: K) -> None:
        """Takes the deadline of `key` away."""
        self._at.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> Iterator[K]:
        """The keys whose deadline is `now` or earlier, in order; each is taken away as it is handed out."""
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                yield key
