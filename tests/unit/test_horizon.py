"""The wipe horizon: by a good clock to the hour, by anybody else's no faster than the router runs."""

from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import AHEAD_MS, RELEASED_MS
from meshchat.protocol.clock import LATEST_MS
from meshchat.protocol.horizon import Horizon, HorizonState
from meshchat.wire.records import make_stamp

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WIPE_MS = RELEASED_MS + 100 * DAY_MS
NOON_MS = WIPE_MS + 8 * HOUR_MS


def horizon(retention_ms: int | None = DAY_MS, state: HorizonState | None = None) -> Horizon:
    return Horizon(retention_ms, state or HorizonState())


def test_a_good_clock_puts_it_at_the_wipe_less_the_retention() -> None:
    wiping = horizon()
    assert wiping.by_own_clock(NOON_MS, WIPE_MS, 0)
    assert wiping.stamp == make_stamp(WIPE_MS - DAY_MS)
    assert not wiping.by_own_clock(NOON_MS + HOUR_MS, WIPE_MS, 3600)
    assert wiping.by_own_clock(NOON_MS + DAY_MS, WIPE_MS + DAY_MS, 86_400)
    assert wiping.stamp == make_stamp(WIPE_MS)


def test_for_ever_is_for_ever() -> None:
    wiping = horizon(None)
    assert not wiping.by_own_clock(NOON_MS, WIPE_MS, 0)
    assert not wiping.by_running_time(NOON_MS, WIPE_MS, 10**9, 0, adopted=True)
    assert wiping.stamp == 0


def test_what_a_wrong_clock_wiped_may_come_back_when_it_is_set_right() -> None:
    wiping = horizon()
    wiping.by_own_clock(NOON_MS + 1000 * DAY_MS, WIPE_MS + 1000 * DAY_MS, 0)
    assert wiping.by_own_clock(NOON_MS, WIPE_MS, 0)
    assert wiping.stamp == make_stamp(WIPE_MS - DAY_MS)
    # And nobody else's clock jumps back up to where it was.
    later = WIPE_MS + 1000 * DAY_MS
    wiping.by_running_time(later, later, 60, WIPE_MS, adopted=True)
    assert wiping.state.horizon_ms <= NOON_MS - DAY_MS + 60_000


def test_a_clock_that_hesitates_at_the_wipe_brings_nothing_back() -> None:
    wiping = horizon()
    wiping.by_own_clock(WIPE_MS, WIPE_MS, 0)
    assert not wiping.by_own_clock(WIPE_MS - AHEAD_MS, WIPE_MS - DAY_MS, 1)
    assert not wiping.by_running_time(WIPE_MS - AHEAD_MS, WIPE_MS - DAY_MS, 1, None, adopted=True)
    assert wiping.stamp == make_stamp(WIPE_MS - DAY_MS)


def test_a_longer_retention_holds_from_now_on() -> None:
    before = horizon(DAY_MS)
    before.by_own_clock(NOON_MS, WIPE_MS, 0)
    after = horizon(7 * DAY_MS, before.state)
    after.by_own_clock(NOON_MS, WIPE_MS, 0)
    assert after.stamp == make_stamp(WIPE_MS - 7 * DAY_MS)
    never = horizon(None, before.state)
    never.by_own_clock(NOON_MS, WIPE_MS, 0)
    assert never.stamp == 0


def test_only_a_neighbours_good_clock_takes_a_horizon_back_that_a_liar_pushed() -> None:
    pushed = HorizonState(WIPE_MS + 1000 * DAY_MS, WIPE_MS + 1000 * DAY_MS, 0)
    # After a restart, before anyone was heard, mesh time is the floor: that tells nothing.
    unheard = horizon(state=pushed)
    assert not unheard.by_running_time(RELEASED_MS, RELEASED_MS - HOUR_MS, 60, None, adopted=False)
    heard = horizon(state=pushed)
    assert heard.by_running_time(NOON_MS, WIPE_MS, 60, None, adopted=True)
    assert heard.stamp == make_stamp(WIPE_MS - DAY_MS)


def test_a_horizon_that_no_clock_is_believed_to_reach_is_forgotten() -> None:
    assert horizon(state=HorizonState(LATEST_MS, LATEST_MS, 5)).state.horizon_ms == LATEST_MS
    assert horizon(state=HorizonState(LATEST_MS + 1, LATEST_MS + 1, 5)).state == HorizonState()


def test_a_clock_that_no_clock_is_believed_to_show_moves_nothing() -> None:
    wiping = horizon()
    wiping.by_own_clock(NOON_MS, WIPE_MS, 0)
    before = wiping.state
    assert not wiping.by_own_clock(LATEST_MS + 1, LATEST_MS, 60)
    assert wiping.state == before
    assert wiping.by_own_clock(LATEST_MS, LATEST_MS, 60)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 50_000),  # seconds
        st.integers(RELEASED_MS, LATEST_MS),  # the time that somebody claims
        st.integers(RELEASED_MS, LATEST_MS),  # the stamp of what comes in
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS, st.integers(RELEASED_MS, LATEST_MS))
def test_claims_move_it_no_faster_than_the_router_runs_or_over_what_it_held_for_a_retention(
    steps: list[tuple[int, int, int, bool, bool]], oldest_ms: int
) -> None:
    wiping = horizon()
    run, allowed_ms = 0, oldest_ms
    came: list[tuple[int, int]] = []
    for pause, now_ms, stamped_ms, adopted, restarts in steps:
        run += pause
        wipe_ms = now_ms - now_ms % DAY_MS
        wiping.by_running_time(now_ms, wipe_ms, run, oldest_ms, adopted=adopted)
        allowed_ms += pause * 1000
        if run * 1000 >= DAY_MS:
            new = (stamp for at, stamp in came if (run - at) * 1000 < DAY_MS)
            allowed_ms = max(allowed_ms, min(new, default=LATEST_MS))
        assert wiping.state.horizon_ms <= allowed_ms
        if restarts:
            wiping = horizon(state=wiping.state)
        if stamped_ms >= wiping.state.horizon_ms:
            wiping.arrived(make_stamp(stamped_ms))
            came.append((run, stamped_ms))


def test_one_that_is_off_half_of_each_day_does_not_fall_behind_for_ever() -> None:
    wiping = horizon()
    for day in range(30):
        for hour in range(12):
            now_ms = NOON_MS + day * DAY_MS + hour * HOUR_MS
            wipe_ms = now_ms - (now_ms - WIPE_MS) % DAY_MS
            run = (day * 12 + hour) * 3600
            wiping.by_running_time(now_ms, wipe_ms, run, NOON_MS, adopted=True)
            wiping = horizon(state=wiping.state)
            assert now_ms - max(wiping.state.horizon_ms, NOON_MS) <= 3.5 * DAY_MS
            assert wiping.state.horizon_ms <= wipe_ms - DAY_MS


def test_what_came_late_is_held_for_a_retention_of_running_time_too() -> None:
    began_ms = NOON_MS + 10 * DAY_MS

    def run_on(late: bool) -> int:
        wiping = horizon()
        wiping.by_running_time(NOON_MS, WIPE_MS, 0, NOON_MS, adopted=True)
        wiping.by_running_time(began_ms, began_ms, 0, NOON_MS, adopted=True)
        if late:
            wiping.arrived(make_stamp(began_ms - HOUR_MS))
        after = 40 * DAY_MS
        wiping.by_running_time(NOON_MS + after, WIPE_MS + after, 86_400, NOON_MS, adopted=True)
        return wiping.state.horizon_ms

    assert run_on(late=False) == began_ms
    assert run_on(late=True) == began_ms - HOUR_MS


def test_borrowed_time_wipes_every_day_while_the_router_runs() -> None:
    wiping = horizon()
    oldest_ms = NOON_MS
    for hour in range(24 * 10):
        now_ms = NOON_MS + hour * HOUR_MS
        wipe_ms = now_ms - (now_ms - WIPE_MS) % DAY_MS
        wiping.by_running_time(now_ms, wipe_ms, hour * 3600, oldest_ms, adopted=True)
        if hour >= 48:
            assert wiping.state.horizon_ms == wipe_ms - DAY_MS
