"""The part of the one order that a router speaks for, asks for and takes in: from a floor to a ceiling."""

from meshchat.constants import AHEAD_MS
from meshchat.protocol.clock import MeshClock
from meshchat.protocol.horizon import Horizon
from meshchat.protocol.instant import Instant
from meshchat.state.store import HISTORY_START, RecordStore
from meshchat.wire.ids import END, START, Bound, Fingerprint, Span
from meshchat.wire.packets import Summary
from meshchat.wire.records import MAX_STAMP, make_position, make_stamp, position_stamp

_LOWEST = make_position(0, 0)
_UNKNOWN = Summary(0, Fingerprint(b""))


class Extent:
    """What digests and ranges speak of."""

    def __init__(self, store: RecordStore, clock: MeshClock, horizon: Horizon) -> None:
        self._store, self._clock, self._horizon = store, clock, horizon
        self._newest_of: tuple[int, Bound, Bound] = (-1, START, START)
        self._summed_of, self._summed_below = (-1, 0), 0
        self._summed = _UNKNOWN, _UNKNOWN

    def ceiling(self, now: Instant) -> int:
        """The lowest stamp that lies too far in the future to be shown or passed on."""
        return make_stamp(max(0, self._clock.now_ms(now) + AHEAD_MS))

    @property
    def floor(self) -> int:
        """The lowest stamp of dated history that this router speaks for, asks for and takes in."""
        return max(self._horizon.stamp, self._store.floor)

    def spans(self, now: Instant, floor: int = 0, ceiling: int | None = None) -> tuple[Span, Span]:
        """The undated and the dated part of what this router speaks for, narrowed by another's floor."""
        top = self.ceiling(now) if ceiling is None else min(ceiling, self.ceiling(now))
        low = make_position(1, max(floor, self.floor))
        undated_top: Bound = make_position(0, top)
        dated_top: Bound = make_position(1, top)
        # Where nothing lies above, the same bound each time lets fingerprints be remembered.
        newest_undated, newest_dated = self._newest()
        if newest_undated < undated_top:
            undated_top = HISTORY_START
        if newest_dated < dated_top:
            dated_top = END
        return (_LOWEST, undated_top), (low, max(low, dated_top))

    def _newest(self) -> tuple[Bound, Bound]:
        """The highest position of the undated part and of all; looked for anew only after a change."""
        records = self._store.records
        if self._newest_of[0] != records.version:
            tops = (records.rank(HISTORY_START), len(records))
            undated, dated = (records.at_rank(top - 1) if top else START for top in tops)
            self._newest_of = (records.version, undated, dated)
        return self._newest_of[1:]

    def summaries(self, now: Instant, until: int = MAX_STAMP) -> tuple[Summary, Summary]:
        """What a digest says of both parts below the stamp `until`.

        Remembered where nothing lies above: it is compared with each digest that is heard.
        """
        records, ceiling = self._store.records, min(until, self.ceiling(now))
        state = records.version, self.floor
        if self._summed_of == state and self._summed_below <= ceiling:
            return self._summed
        undated, dated = self.spans(now, ceiling=ceiling)
        summaries = records.summary(*undated), records.summary(*dated)
        newest = max(map(position_stamp, self._newest()))
        if newest < ceiling:
            self._summed_of, self._summed_below, self._summed = state, newest + 1, summaries
        return summaries
