"""Ids seen lately, and replay windows: bounded tables of what came before."""

from collections import OrderedDict

REPLAY_WINDOW = 64
"""Datagrams of one sender that may overtake each other (RFC 6479 uses the same idea)."""


class SeenCache:
    """The last `limit` ids added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._ids

    def add(self, record_id: bytes) -> None:
        """Remembers the id, and forgets the oldest one where there are too many."""
        self._ids[record_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)

    def discard(self, record_id: bytes) -> None:
        """Forgets the id."""
        self._ids.pop(record_id, None)


class ReplayGuard:
    """Which counters of a sealed sender's run were seen; the run not heard for longest is forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def fresh(self, run: bytes, counter: int) -> bool:
        """Whether datagram number `counter` of `run` (sender and boot id) is new; remembers it."""
        highest, window = self._runs.pop(run, (-1, 0))
        if counter > highest:
            # No shift beyond the window: a counter that leaps by 2**63 must not cost as many bits.
            ahead = min(counter - highest, REPLAY_WINDOW)
            window = (window << ahead | 1) & ((1 << REPLAY_WINDOW) - 1)
            highest, is_fresh = counter, True
        else:
            bit = 1 << (highest - counter) if highest - counter < REPLAY_WINDOW else 0
            is_fresh = bool(bit) and not window & bit
            window |= bit
        self._runs[run] = (highest, window)
        if len(self._runs) > self._limit:
            self._runs.popitem(last=False)
        return is_fresh
