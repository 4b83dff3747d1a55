"""Bounded tables: buckets, seen ids, neighbours, deadlines. Whatever strangers send, they stay small."""

import random
import tracemalloc
from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_NEIGHBOURS, NEIGHBOUR_LIFETIME
from meshchat.state.backoff import EXCHANGE_RETRY, EXCHANGE_RETRY_MAX, Backoff
from meshchat.state.limits import BucketTable, TokenBucket
from meshchat.state.neighbours import Neighbours
from meshchat.state.seen import SeenCache
from meshchat.state.timers import Timers
from meshchat.wire.ids import RecordId, RouterId
from meshchat.wire.records import make_position

HERE = ("10.0.0.1", 8888)


# --- Buckets --------------------------------------------------------------------------------------------


@given(
    st.floats(0.5, 1e6),
    st.floats(1, 1e5),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.5, 2000)), max_size=60),
)
def test_no_more_passes_than_the_rate_and_the_burst(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    bucket, now, passed = TokenBucket(rate, burst), 1000.0, 0.0
    for wait, amount in asked:
        now += wait
        if bucket.take(now, amount):
            passed += amount
    assert passed <= burst + rate * (now - 1000.0 + 1e-3)


@given(st.floats(0.5, 1e6), st.floats(1, 1e9), st.floats(1, 5000), st.floats(1, 3000))
def test_whoever_waits_as_long_as_told_may_go_on(rate: float, now: float, debt: float, amount: float) -> None:
    """Told to come back at this very moment, a timer would never let go of the processor again."""
    bucket = TokenBucket(rate, 3000.0)
    bucket.take(now, 3000.0)
    bucket.spend(now, debt)
    for _ in range(3):
        wait = bucket.ready_in(now, amount)
        if not wait:
            break
        assert now + wait > now
        now += wait
    assert bucket.take(now, amount)


def test_time_that_runs_backwards_gives_nothing() -> None:
    bucket = TokenBucket(1.0, 5.0)
    assert bucket.take(100.0, 5.0)
    assert not bucket.take(50.0)
    assert not bucket.take(50.5)
    assert bucket.take(51.6)


def test_each_key_has_a_bucket_of_its_own_and_the_table_is_bounded() -> None:
    table: BucketTable[int] = BucketTable(1.0, 2.0, 10)
    assert [table.take(1, 0.0) for _ in range(3)] == [True, True, False]
    assert table.take(2, 0.0)
    for other in range(3, 11):
        table.take(other, 0.0)
    assert not table.take(1, 0.0)
    for other in range(100, 110):
        table.take(other, 0.0)
    assert table.take(1, 0.0), "the key not used for longest was to be forgotten"


# --- Seen records ---------------------------------------------------------------------------------------


def test_the_last_records_are_remembered_and_no_more() -> None:
    cache = SeenCache(3)
    ids = [bytes([number]) * 16 for number in range(5)]
    places = [make_position(1, number, RecordId(record_id)) for number, record_id in enumerate(ids)]
    for place in places:
        cache.add(place)
    assert [cache.position(RecordId(record_id)) for record_id in ids] == [None, None, *places[2:]]


# --- Neighbours -----------------------------------------------------------------------------------------


def test_invented_routers_do_not_fill_the_memory() -> None:
    table = Neighbours()
    for number in range(5000):
        table.heard(RouterId(number.to_bytes(8, "big")), "wlan0", HERE, number / 1000)
        table.heard(RouterId(b"honest!!"), "wlan0", HERE, number / 1000)
    alive = list(table.alive(5.0))
    assert len(alive) == MAX_NEIGHBOURS
    assert table.get(RouterId(b"honest!!"), "wlan0") in alive


def test_a_neighbour_not_heard_for_long_starts_afresh() -> None:
    table = Neighbours()
    first = table.heard(RouterId(b"router-a"), "wlan0", HERE, 0.0)
    assert table.heard(RouterId(b"router-a"), "wlan0", HERE, NEIGHBOUR_LIFETIME) is first
    assert not list(table.alive(2 * NEIGHBOUR_LIFETIME + 1))
    assert table.heard(RouterId(b"router-a"), "wlan0", HERE, 2 * NEIGHBOUR_LIFETIME + 1) is not first


def test_a_router_on_two_interfaces_is_two_neighbours() -> None:
    table = Neighbours()
    for interface in ("wlan0", "eth0"):
        table.heard(RouterId(b"router-a"), interface, HERE, 0.0)
    assert len(list(table.alive(0.0))) == 2
    table.forget_link("wlan0")
    assert [one.link for one in table.alive(0.0)] == ["eth0"]


def full_exchanges(seconds: float) -> int:
    """How many full exchanges are begun in a time with a neighbour that always differs."""
    backoff, now, begun = Backoff(), 0.0, 0
    while now < seconds:
        if backoff.allows_full(now):
            backoff.started_full(now)
            begun += 1
        now += 0.1
    return begun


def test_an_exchange_that_moves_nothing_grows_rare() -> None:
    assert full_exchanges(60.0) < 12
    assert full_exchanges(86_400.0) < 12 + 14 + 86_400 / EXCHANGE_RETRY_MAX


@given(st.integers(0, 2**32))
def test_no_change_of_state_brings_exchanges_faster_than_the_shortest_wait(seed: int) -> None:
    rng, backoff, now, begun = random.Random(seed), Backoff(), 0.0, 0
    for _ in range(300):
        now += rng.uniform(0, 0.2)
        if backoff.allows_recent(now, rng.random()):
            backoff.started_recent(now)
            begun += 1
    assert begun <= now / EXCHANGE_RETRY + 1


def test_the_newest_are_compared_until_the_other_side_has_nothing_to_add() -> None:
    backoff = Backoff()
    for now in (10.0, 10.5, 11.5):
        assert backoff.allows_recent(now, "one")
        backoff.started_recent(now)
        assert not backoff.allows_recent(now + 0.4, "one")
    backoff.agreed()
    assert not backoff.allows_recent(10_000.0, "one")
    assert backoff.allows_recent(10_000.0, "two")


# --- Deadlines ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("smcd"), st.integers(0, 20)), max_size=300))
def test_deadlines_are_those_of_a_plain_table(steps: list[tuple[int, str, int]]) -> None:
    timers, model, now = Timers[int](), dict[int, float](), 0.0
    for key, what, at in steps:
        if what == "s":
            timers.set(key, float(at))
            model[key] = float(at)
        elif what == "m":
            timers.set_if_unset(key, float(at))
            model.setdefault(key, float(at))
        elif what == "c":
            timers.cancel(key)
            model.pop(key, None)
        else:
            now = max(now, float(at))
            due = list(timers.due(now))
            assert sorted(map(str, due)) == sorted(str(key) for key, at in model.items() if at <= now)
            moments = [model.pop(int(str(key))) for key in due]
            assert moments == sorted(moments)
        assert timers.next() == min(model.values(), default=None)


def test_a_deadline_moved_without_end_does_not_fill_the_memory() -> None:
    timers = Timers[Hashable]()
    tracemalloc.start()
    for number in range(100_000):
        timers.set("digest", 1e9 - number)
        timers.set(("ranges", number % 50), 1e9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    assert len(list(timers.due(1e9))) == 51
