"""How far history is wiped: a moment that only this router's own clock, or its own running time, moves.

A wipe floor that anyone may raise lets anyone wipe. So a router whose clock is good follows its clock; one
whose clock is borrowed or unknown lets the horizon move no faster than it runs itself, from the oldest record
it holds.

It goes back only where a wrong clock had pushed it above what the retention promises; the clock that tells so
is this router's own, or one it adopted: going back wipes nothing.

Running time alone never makes up for the hours that a router is off. So there is a second way for it: what
it has held for a retention of its own running time may go, however fast the borrowed clock went meanwhile.
"""

from dataclasses import dataclass, replace

from meshchat.constants import AHEAD_MS
from meshchat.protocol.clock import LATEST_MS
from meshchat.wire.records import make_stamp, stamp_ms


@dataclass(frozen=True)
class HorizonState:
    """What is kept on flash. Milliseconds are UTC since 1970, seconds are cumulative running time.

    `pace_ms` at running time `pace_run` is where the limit for a router without a good clock starts.
    All dated history that is held below `held_ms` has been held since running time `held_run`.
    """

    horizon_ms: int = 0
    pace_ms: int | None = None
    pace_run: int = 0
    held_ms: int | None = None
    held_run: int = 0


class Horizon:
    """The wipe horizon. History stamped below it goes, and is neither asked for, accepted nor sent."""

    def __init__(self, retention_ms: int | None, state: HorizonState) -> None:
        """`retention_ms` None keeps history for ever.

        A horizon further in the future than any clock is believed is an operator's slip of before a restart.
        """
        self.retention_ms = retention_ms
        self._state = HorizonState() if state.horizon_ms > LATEST_MS else state

    @property
    def state(self) -> HorizonState:
        """What to keep on flash."""
        return self._state

    @property
    def stamp(self) -> int:
        """The lowest stamp that is kept."""
        return make_stamp(self._state.horizon_ms)

    def target(self, wipe_ms: int) -> int:
        """Where the wipe at `wipe_ms` would put the horizon."""
        return 0 if self.retention_ms is None else max(0, wipe_ms - self.retention_ms)

    def _is_too_high(self, now_ms: int) -> bool:
        """Whether something younger than the retention lies below it, by more than clocks are set back."""
        return self._state.horizon_ms > max(0, self.target(now_ms) + AHEAD_MS)

    def by_own_clock(self, now_ms: int, wipe_ms: int, run: int) -> bool:
        """Moves to the target of the wipe at `wipe_ms`, for this router's own clock is good.

        `now_ms` is mesh time, `run` cumulative running seconds. Returns whether the horizon moved. It does
        not where the clock shows what no clock is believed to show: that is a slip, and wipes nothing.
        """
        if now_ms > LATEST_MS:
            return False
        before, target = self._state.horizon_ms, self.target(wipe_ms)
        reached = target if self._is_too_high(now_ms) else max(before, target)
        self._state = HorizonState(reached, max(reached, self.target(now_ms)), run)
        return reached != before

    def by_running_time(
        self, now_ms: int, wipe_ms: int, run: int, oldest_ms: int | None, *, adopted: bool
    ) -> bool:
        """Moves towards the wipe's target, no faster than the router runs. Returns whether it moved.

        `oldest_ms` is the date of the oldest record of dated history held, None where there is none;
        `adopted` tells whether mesh time is that of a neighbour's good clock.
        """
        state, target = self._state, self.target(wipe_ms)
        if adopted and self._is_too_high(now_ms):
            self._state = HorizonState(target, target, run)
            return True
        if state.pace_ms is None:
            if oldest_ms is not None:
                pace_ms = min(oldest_ms, self.target(now_ms))
                self._state = replace(state, pace_ms=pace_ms, pace_run=run)
            return False
        limit = state.pace_ms + max(0, run - state.pace_run) * 1000
        if state.held_ms is None or self._is_retained(state, run):
            limit = max(limit, state.held_ms or 0)
            self._state = state = replace(state, pace_ms=limit, pace_run=run, held_ms=now_ms, held_run=run)
        reached = max(state.horizon_ms, min(target, limit))
        if reached == state.horizon_ms:
            return False
        self._state = replace(state, horizon_ms=reached, pace_ms=limit, pace_run=run)
        return True

    def _is_retained(self, state: HorizonState, run: int) -> bool:
        """Whether what lies below `held_ms` has been here for a retention of running time."""
        return self.retention_ms is not None and (run - state.held_run) * 1000 >= self.retention_ms

    def arrived(self, stamp: int) -> None:
        """Dated history with this stamp has come in only now."""
        held_ms = self._state.held_ms
        if held_ms is not None and stamp_ms(stamp) < held_ms:
            self._state = replace(self._state, held_ms=stamp_ms(stamp))
