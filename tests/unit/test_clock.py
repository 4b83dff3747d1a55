"""Mesh time and its stamps: the hybrid logical clock's promises, and whom a router believes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import AHEAD_MS, RELEASED_MS
from meshchat.protocol.clock import CLOCK_SETTLE_MS, LATEST_MS, Heard, MeshClock
from meshchat.protocol.instant import Instant
from meshchat.wire.ids import RouterId
from meshchat.wire.packets import ClockClaim
from meshchat.wire.records import Grade, make_stamp, stamp_ms

NOW_MS = RELEASED_MS + 100 * 86_400_000
HOUR_MS = 3_600_000


def at(mono: float, wall_ms: int = 0, *, trusted: bool = False) -> Instant:
    return Instant(mono, wall_ms, trusted)


def good(mono: float) -> Instant:
    return Instant(mono, NOW_MS + int(mono * 1000), True)


def claim(time_ms: int, grade: Grade = Grade.GOOD, *, name: int = 1, hops: int = 0, age: int = 0) -> Heard:
    return Heard(RouterId(bytes([name]) * 8), ClockClaim(grade, hops, age, time_ms), 0.0)


# --- Stamps ---------------------------------------------------------------------------------------------

CLOCK_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 100_000)),
        st.tuples(st.just("step"), st.integers(-10_000_000, 10_000_000)),
        st.tuples(st.just("show"), st.integers(-AHEAD_MS, AHEAD_MS)),
        st.tuples(st.just("stamp"), st.just(0)),
    ),
    max_size=60,
)


@given(CLOCK_STEPS)
def test_a_stamp_is_above_all_that_was_shown_and_near_mesh_time(steps: list[tuple[str, int]]) -> None:
    """Kulkarni et al. 2014, theorem 1 and corollary 1: order, and the distance from physical time."""
    clock = MeshClock(good(0), 0)
    mono, offset = 0.0, 0
    highest = latest_ms = 0
    for what, value in steps:
        mono += value / 1000 if what == "pass" else 0.001
        offset += value if what == "step" else 0
        now = Instant(mono, NOW_MS + int(mono * 1000) + offset, True)
        latest_ms = max(latest_ms, now.wall_ms)
        if what == "show":
            other = make_stamp(now.wall_ms + value)
            assert not clock.is_ahead(now, other)
            clock.shown(other)
            highest = max(highest, other)
        elif what == "stamp":
            stamp = clock.stamp(now, 0)
            assert stamp > highest
            assert stamp >= make_stamp(now.wall_ms)
            assert stamp_ms(stamp) <= latest_ms + AHEAD_MS
            highest = stamp


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=40),
    st.lists(st.integers(-600, 600), min_size=3, max_size=3),
)
def test_a_reply_sorts_after_what_it_answers_whatever_the_clocks(turns: list[int], skews: list[int]) -> None:
    clocks = [MeshClock(good(0), 0) for _ in skews]
    last = 0
    for turn, who in enumerate(turns):
        now = Instant(turn * 0.01, NOW_MS + turn * 10 + skews[who] * 1000, True)
        stamp = clocks[who].stamp(now, 0)
        assert stamp > last
        last = stamp
        for clock in clocks:
            clock.shown(stamp)


def test_stamps_are_not_below_the_horizon() -> None:
    assert MeshClock(at(0), 0).stamp(at(0), make_stamp(NOW_MS)) == make_stamp(NOW_MS)


def test_stamps_start_again_from_a_clock_that_was_set_back() -> None:
    clock = MeshClock(at(0), 0)
    clock.set_by_operator(at(1), NOW_MS + 1000 * HOUR_MS)
    assert stamp_ms(clock.stamp(at(1), 0)) == NOW_MS + 1000 * HOUR_MS
    clock.set_by_operator(at(2), NOW_MS)
    assert stamp_ms(clock.stamp(at(2), 0)) == NOW_MS
    # A small step back goes unnoticed instead: the counter carries on.
    before = clock.stamp(at(2), 0)
    clock.set_by_operator(at(3), NOW_MS - HOUR_MS // 10)
    assert clock.stamp(at(3), 0) == before + 1


def test_stamps_start_again_when_the_kernel_tells_a_borrowed_time_wrong() -> None:
    clock = MeshClock(at(0), 0)
    clock.follow(at(1), [claim(NOW_MS + 48 * HOUR_MS)])
    clock.stamp(at(2), 0)
    assert clock.follow(good(3), [])
    clock.forget_stamps(good(3))
    assert stamp_ms(clock.stamp(good(3), 0)) == NOW_MS + 3000


# --- The operator ---------------------------------------------------------------------------------------


def test_what_the_operator_set_ends_when_the_kernel_synchronises() -> None:
    clock = MeshClock(at(0), 0)
    clock.set_by_operator(at(1), NOW_MS + HOUR_MS)
    clock.follow(at(2), [claim(NOW_MS)])
    assert (clock.now_ms(at(60)), clock.grade(at(60))) == (NOW_MS + HOUR_MS + 59_000, Grade.GOOD)
    assert clock.follow(good(60), [])
    assert (clock.now_ms(good(61)), clock.grade(good(61))) == (NOW_MS + 61_000, Grade.GOOD)
    assert clock.operator_offset_ms is None


def test_what_the_operator_set_over_the_kernel_holds_until_it_synchronises_anew() -> None:
    clock = MeshClock(good(0), 0)
    clock.set_by_operator(good(1), NOW_MS + HOUR_MS)
    clock.follow(good(10), [])
    offset_ms = clock.operator_offset_ms
    assert offset_ms is not None
    again = MeshClock(good(11), 0)
    again.restore_operator(offset_ms, over_kernel=clock.operator_over_kernel)
    again.follow(good(12), [])
    assert again.now_ms(good(12)) == NOW_MS + HOUR_MS + 11_000
    again.follow(at(20), [])
    assert again.now_ms(at(20)) == NOW_MS + HOUR_MS + 19_000
    again.follow(good(30), [])
    assert again.now_ms(good(30)) == NOW_MS + 30_000


# --- Whose time -----------------------------------------------------------------------------------------


def test_a_wall_clock_that_nobody_vouches_for_is_not_read() -> None:
    for wall_ms in (0, 2 * NOW_MS):
        clock = MeshClock(at(5, wall_ms), 0)
        assert clock.now_ms(at(65, wall_ms)) == RELEASED_MS + 60_000
        assert clock.grade(at(65, wall_ms)) is Grade.UNKNOWN


def test_time_goes_on_from_the_floor_on_flash() -> None:
    assert MeshClock(at(7), NOW_MS).now_ms(at(8)) == NOW_MS + 1000
    assert MeshClock(at(7), RELEASED_MS - 1).now_ms(at(7)) == RELEASED_MS


def test_a_floor_that_no_clock_is_believed_to_show_is_forgotten() -> None:
    assert MeshClock(at(0), LATEST_MS).now_ms(at(0)) == LATEST_MS
    assert MeshClock(at(0), LATEST_MS + 1).now_ms(at(0)) == RELEASED_MS


def test_borrowed_time_goes_on_after_a_restart_until_a_better_clock_is_heard() -> None:
    clock = MeshClock(at(7), 0, NOW_MS)
    assert (clock.now_ms(at(8)), clock.grade(at(8))) == (NOW_MS + 1000, Grade.UNKNOWN)
    assert clock.floor_ms(at(8)) == RELEASED_MS + 1000
    clock.follow(at(0), [claim(NOW_MS - 1000 * HOUR_MS, Grade.UNKNOWN)])
    assert clock.now_ms(at(8)) == NOW_MS + 1000
    clock.follow(at(0), [claim(NOW_MS - 1000 * HOUR_MS)])
    assert clock.now_ms(at(8)) == NOW_MS - 1000 * HOUR_MS + 8000
    assert MeshClock(at(0), 0, LATEST_MS + 1).now_ms(at(0)) == RELEASED_MS


def test_a_clock_that_was_good_leaves_its_time_behind() -> None:
    clock = MeshClock(good(0), 0)
    clock.follow(good(60), [])
    assert (clock.now_ms(at(61)), clock.grade(at(61))) == (NOW_MS + 61_000, Grade.UNKNOWN)
    wrong = MeshClock(at(0), 0)
    wrong.follow(at(0, LATEST_MS + 1, trusted=True), [])
    assert wrong.now_ms(at(1)) == RELEASED_MS + 1000


def test_a_good_clock_follows_nobody() -> None:
    clock = MeshClock(good(0), 0)
    assert not clock.follow(good(1), [claim(NOW_MS + HOUR_MS), claim(NOW_MS + HOUR_MS, name=2)])
    assert (clock.now_ms(good(1)), clock.grade(good(1))) == (NOW_MS + 1000, Grade.GOOD)
    assert clock.followed() is None


def test_the_best_grade_is_followed_then_the_majority_then_the_smaller_jump() -> None:
    def followed(*claims: Heard) -> int:
        clock = MeshClock(at(0), 0)
        clock.follow(at(0), claims)
        return clock.now_ms(at(0))

    adopted, unknown = Grade.ADOPTED, Grade.UNKNOWN
    assert followed(claim(NOW_MS), claim(NOW_MS + 5 * HOUR_MS, adopted, name=2)) == NOW_MS
    assert followed(claim(NOW_MS, adopted), claim(NOW_MS + 5 * HOUR_MS, unknown, name=2)) == NOW_MS
    later = [claim(NOW_MS + 5 * HOUR_MS, name=2), claim(NOW_MS + 5 * HOUR_MS + 1000, name=3)]
    assert followed(claim(NOW_MS), *later) >= NOW_MS + 5 * HOUR_MS
    assert followed(claim(NOW_MS), later[0]) == NOW_MS
    assert followed(claim(LATEST_MS + HOUR_MS), claim(NOW_MS, unknown, name=2)) == NOW_MS
    assert followed(claim(RELEASED_MS - HOUR_MS)) == RELEASED_MS


def test_with_no_good_clock_the_latest_is_followed() -> None:
    clock = MeshClock(at(0), 0)
    claims = [claim(NOW_MS, Grade.UNKNOWN), claim(NOW_MS + HOUR_MS, Grade.UNKNOWN, name=2)]
    assert clock.follow(at(0), claims)
    assert (clock.now_ms(at(0)), clock.grade(at(0))) == (NOW_MS + HOUR_MS, Grade.UNKNOWN)
    # One who was only behind is no reason to go back.
    assert not clock.follow(at(0), claims[:1])


def test_a_liars_time_does_not_survive_a_restart() -> None:
    clock = MeshClock(at(0), NOW_MS)
    clock.follow(at(0), [claim(NOW_MS + 1000 * HOUR_MS)])
    assert clock.now_ms(at(60)) == NOW_MS + 1000 * HOUR_MS + 60_000
    assert clock.floor_ms(at(60)) == NOW_MS + 60_000


def test_an_adopted_clock_runs_on_when_its_source_is_gone_and_tells_its_age() -> None:
    clock = MeshClock(at(0), 0)
    clock.follow(at(10), [replace(claim(NOW_MS, hops=2, age=5), at=10.0)])
    clock.follow(at(70), [])
    told = clock.claim(at(70))
    assert told == ClockClaim(Grade.ADOPTED, 3, 65, NOW_MS + 60_000)


@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=40))
def test_two_routers_that_follow_each_other_grow_old_together(pauses: list[float]) -> None:
    """Without a good clock left, nobody's word makes the time fresh again."""
    clocks = [MeshClock(at(0), 0) for _ in range(2)]
    for clock in clocks:
        clock.follow(at(0), [claim(NOW_MS, name=9)])
    now = 0.0
    for turn, pause in enumerate(pauses):
        now += pause
        speaker, listener = clocks[turn % 2], clocks[1 - turn % 2]
        heard = Heard(RouterId(bytes([turn % 2]) * 8), speaker.claim(at(now)), now)
        listener.follow(at(now + 0.002), [heard])
    for clock in clocks:
        told = clock.claim(at(now + 1))
        assert told.age >= int(now)
        assert told.hops == 1
        assert abs(told.time_ms - NOW_MS - int((now + 1) * 1000)) <= CLOCK_SETTLE_MS
