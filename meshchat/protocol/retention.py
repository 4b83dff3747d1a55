"""What is kept and what goes: a record leaves by the horizon, by age, by a wipe by hand, or by the limits on
size. What is ahead of mesh time waits in quarantine.
"""

from collections.abc import Callable, Sequence

from meshchat.protocol.context import Context
from meshchat.protocol.events import Output, Remember, Remove, Save
from meshchat.protocol.instant import Instant
from meshchat.state.quarantine import Quarantine
from meshchat.state.store import HistoryRow
from meshchat.wire.ids import Position
from meshchat.wire.records import (
    Grade,
    Record,
    make_stamp,
    position_stamp,
    stamp_ms,
)

MAX_WIPED_ROOMS = 1024
"""Rooms of which it is known when they were wiped by hand."""


class Retention:
    """What one router keeps, and for how long."""

    def __init__(
        self,
        context: Context,
        *,
        wipe_moment: Callable[[int], int],
        run_at_start: int,
        now: Instant,
    ) -> None:
        """`wipe_moment` gives the last daily wipe at or before a mesh time (both milliseconds);
        `run_at_start` is how many seconds this router had run before, in all.
        """
        self._store, self._clock, self._extent = context.store, context.clock, context.extent
        self.horizon = context.horizon
        self._wipe_moment = wipe_moment
        self._run_at_start, self._started_at = run_at_start, now.mono
        self.quarantine = Quarantine()
        self._wiped: dict[str | None, int] = {}
        self._last_wipe_ms = -1

    # --- Time -------------------------------------------------------------------------------------------

    def run(self, now: Instant) -> int:
        """Cumulative seconds that this router has run."""
        return self._run_at_start + int(now.mono - self._started_at)

    # --- In ---------------------------------------------------------------------------------------------

    def let_go(self, record: Record) -> bool:
        """Whether the limits leave no room, or it was wiped by hand and had only not come here before."""
        return self._store.is_beneath_limits(record) or self._was_wiped(record)

    def _was_wiped(self, record: Record) -> bool:
        if record.permanent:
            return False
        wiped = max(self._wiped.get(None, 0), self._wiped.get(record.log, 0))
        return record.stamp < wiped

    def is_too_old(self, record: Record, age: int, now: Instant) -> bool:
        """Whether the last daily wipe would have taken it, had it been here; `age` is seconds."""
        retention = self.horizon.retention_ms
        if record.permanent or record.grade is not Grade.UNKNOWN or retention is None:
            return False
        now_ms = self._clock.now_ms(now)
        return age * 1000 - (now_ms - self._wipe_moment(now_ms)) > retention

    @property
    def quarantined(self) -> int:
        """How many records wait for their time."""
        return len(self.quarantine)

    def store_records(self, records: Sequence[tuple[Record, int]], now: Instant) -> list[Output]:
        """The records, each with its age, are on disk: from now on they are held. Returns what has to go."""
        for record, _ in records:
            if not self._clock.is_ahead(now, record.stamp):
                self._clock.shown(record.stamp)
        return self._let_go(self._store.add_all(records, self.run(now)))

    def restore(self, rows: Sequence[HistoryRow], now: Instant) -> list[Output]:
        """The same for history that this router had stored and verified before it started."""
        ceiling = self._extent.ceiling(now)
        stamps = [position_stamp(row.position) for row in rows]
        self._clock.shown(max((stamp for stamp in stamps if stamp < ceiling), default=0))
        return self._let_go(self._store.add_history(rows))

    def _let_go(self, gone: Sequence[Position]) -> list[Output]:
        if self._store.remembers_too_much:
            self._store.trim_remembered()
        return [Remove(tuple(gone), "limit")] if gone else []

    # --- Out --------------------------------------------------------------------------------------------

    def housekeep(self, now: Instant) -> list[Output]:
        """The daily wipe, by date and by age, where its time has come."""
        out: list[Output] = []
        wipe_ms = self._wipe_moment(self._clock.now_ms(now))
        if self._move_horizon(now, wipe_ms):
            below = self._store.below(self.horizon.stamp)
            for position in below:
                self._store.forget(position, remember=False)
            self._store.drop_remembered_below(self.horizon.stamp)
            if below:
                out += [Save(), Remove(tuple(below), "wipe")]
        out.extend(self._wipe_aged(now, wipe_ms))
        return out

    def _move_horizon(self, now: Instant, wipe_ms: int) -> bool:
        now_ms, grade, run = self._clock.now_ms(now), self._clock.grade(now), self.run(now)
        if grade is Grade.GOOD:
            return self.horizon.by_own_clock(now_ms, wipe_ms, run)
        oldest = self._store.oldest_history()
        oldest_ms = None if oldest is None else stamp_ms(oldest)
        adopted = grade is Grade.ADOPTED
        return self.horizon.by_running_time(now_ms, wipe_ms, run, oldest_ms, adopted=adopted)

    def _wipe_aged(self, now: Instant, wipe_ms: int) -> list[Output]:
        """At each daily wipe, and once after the start: what has no date and was held too long."""
        is_new, self._last_wipe_ms = wipe_ms != self._last_wipe_ms, wipe_ms
        if self.horizon.retention_ms is None or not is_new:
            return []
        aged = self._store.aged(self.horizon.retention_ms // 1000, self.run(now))
        for position in aged:
            self._store.forget(position, remember=True)
        return [Remember(tuple(aged)), Remove(tuple(aged), "age")] if aged else []

    def wipe(self, room: str | None, now: Instant) -> list[Output]:
        """Deletes a room's history, or all, by hand; none of it is fetched again, nor spread as a wipe.

        Until the next restart that holds for what was written before and had not come here yet, too.
        """
        self._wiped[room] = make_stamp(self._clock.now_ms(now))
        if len(self._wiped) > MAX_WIPED_ROOMS:
            self._wiped.pop(next(iter(self._wiped)))
        if room is None:
            positions = [entry.position for entry in self._store.held_entries() if entry.room]
        else:
            positions = [entry.position for entry in self._store.room_entries(room)]
        for position in positions:
            self._store.forget(position, remember=True)
        waiting = self.quarantine.take(lambda record: not record.permanent and room in (None, record.log))
        for one in waiting:
            self._store.remember(one.record.position)
        gone = (*positions, *(one.record.position for one in waiting))
        return [Remember(gone), Remove(tuple(positions), "hand")] if gone else []

    def reset_stamps(self, now: Instant) -> None:
        """After mesh time was set back: stamps go on above the newest record that can still be shown."""
        self._clock.forget_stamps(now)
        for low, high in self._extent.spans(now):
            rank = self._store.records.rank(high)
            if rank and (newest := self._store.records.at_rank(rank - 1)) >= low:
                self._clock.shown(position_stamp(newest))
