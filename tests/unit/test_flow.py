"""What is on its way: nothing that came within `FLOW` is left out, nothing older than twice that counts."""

from hypothesis import given
from hypothesis import strategies as st

from meshchat.state.flow import FLOW, Flow


@given(st.lists(st.tuples(st.floats(0, 3 * FLOW), st.integers(0, 2**64 - 1)), max_size=30))
def test_the_lowest_of_what_came_lately(arrivals: list[tuple[float, int]]) -> None:
    flow, now = Flow(), 0.0
    came: list[tuple[float, int]] = []
    for later, stamp in arrivals:
        now += later
        flow.arrived(stamp, now)
        came.append((now, stamp))
        surely = [stamp for at, stamp in came if now - at < FLOW * 0.999]
        perhaps = [stamp for at, stamp in came if now - at < 2 * FLOW * 1.001]
        lowest = flow.lowest(now)
        assert lowest is not None
        assert min(perhaps) <= lowest <= min(surely)
    assert flow.lowest(now + 2.001 * FLOW) is None
