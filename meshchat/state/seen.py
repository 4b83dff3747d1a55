"""Records seen lately, and replay windows: bounded tables of what came before."""

from collections import OrderedDict

from meshchat.wire.ids import Position, RecordId, SenderRun, record_id_of

REPLAY_WINDOW = 64
"""Datagrams of one sender that may overtake each other (RFC 6479 uses the same idea)."""


class SeenCache:
    """The positions of the last `limit` records added, by id."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._positions: OrderedDict[RecordId, Position] = OrderedDict()

    def position(self, record_id: RecordId) -> Position | None:
        """The record's position, None where it was not seen lately."""
        return self._positions.get(record_id)

    def add(self, position: Position) -> None:
        """Remembers the record at this position, and forgets the oldest one where there are too many."""
        self._positions[record_id_of(position)] = position
        if len(self._positions) > self._limit:
            self._positions.popitem(last=False)


class ReplayGuard:
    """Which counters of a sealed sender's run were seen; the run not heard for longest is forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: OrderedDict[SenderRun, tuple[int, int]] = OrderedDict()

    def fresh(self, run: SenderRun, counter: int) -> bool:
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
