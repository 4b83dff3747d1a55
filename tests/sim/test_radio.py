"""The simulated radio keeps the rules of the air that the engine has to live with."""

import heapq
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from tests.sim.network import AirConditions, Link
from tests.sim.radio import Radio, RadioModel
from tests.sim.topology import cell, geometric, grid, line, parts, two_cells

MODEL = RadioModel()


class Bench:
    """A radio by itself, with a note of all that arrives."""

    def __init__(
        self,
        links: Sequence[Link],
        count: int,
        *,
        seed: int = 1,
        model: RadioModel = MODEL,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.heard: list[tuple[float, int, int, bytes]] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        conditions = AirConditions(loss, duplication, delay)
        self.radio = Radio(random.Random(seed), conditions, self, model, count)
        self.radio.connect(links)

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (moment, self._order, action, arguments))

    def arrived(self, receiver: int, sender: int, data: bytes) -> None:
        self.heard.append((self.now, receiver, sender, data))

    def send(self, moment: float, sender: int, data: bytes = bytes(200), to: int | None = None) -> None:
        self.at(moment, self.radio.transmit, sender, to, data)

    def run(self) -> None:
        while self._events:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)

    def receivers(self, sender: int) -> list[int]:
        return [receiver for _, receiver, who, _ in self.heard if who == sender]


def test_a_frame_takes_its_time_and_reaches_all_in_reach_at_once() -> None:
    bench = Bench(line(4), 4)
    bench.send(1.0, 1)
    bench.run()
    assert bench.receivers(1) == [0, 2]
    moment = bench.heard[0][0]
    assert moment - 1.0 == pytest.approx(50e-6 + 192e-6 + (200 + 64) * 8e-6)
    assert bench.radio.airtime[1] == pytest.approx(192e-6 + (200 + 64) * 8e-6)
    assert bench.radio.octets[1] == 242, "a multicast frame is counted once"


def test_who_hears_a_transmission_waits_for_its_end() -> None:
    bench = Bench(cell(10), 10)
    for number in range(10):
        bench.send(1.0 + number * 50e-6, number)
    bench.run()
    moments = sorted({moment for moment, *_ in bench.heard})
    frame = MODEL.airtime(200, unicast=False)
    assert all(later - sooner > frame for sooner, later in pairwise(moments))
    # All ten would need 23 ms; two that chose the same slot are lost at everybody.
    assert len(bench.heard) == 9 * len(moments) >= 9 * 6


def test_hidden_terminals_collide_where_both_are_heard() -> None:
    bench = Bench(line(3), 3)
    bench.send(1.0, 0)
    bench.send(1.001, 2)
    bench.run()
    assert bench.heard == []
    assert bench.radio.collisions[1] == 1


def test_a_receiver_may_keep_the_frame_that_came_first() -> None:
    bench = Bench(line(3), 3, model=RadioModel(capture=1.0))
    bench.send(1.0, 0)
    bench.send(1.001, 2)
    bench.run()
    assert bench.receivers(0) == [1]
    assert bench.receivers(2) == []


def test_two_who_begin_in_the_same_instant_do_not_hear_each_other() -> None:
    bench = Bench(cell(3), 3)
    bench.send(1.0, 0)
    bench.send(1.0, 1)
    bench.run()
    assert bench.heard == []


def test_frames_wait_in_a_queue_that_ends() -> None:
    bench = Bench(line(2), 2, model=RadioModel(queue=5))
    for number in range(9):
        bench.send(1.0, 0, bytes((number,)))
    bench.run()
    assert [data[0] for *_, data in bench.heard] == [0, 1, 2, 3, 4]
    assert bench.radio.overflows[0] == 4


def test_unicast_is_repeated_until_acknowledged_and_faster() -> None:
    bench = Bench(line(2), 2, loss=0.5)
    for number in range(200):
        bench.send(number * 1.0, 0, number.to_bytes(2, "big"), to=1)
    bench.run()
    arrived = [data for *_, data in bench.heard]
    assert len(arrived) == len(set(arrived)), "a repetition of what arrived is not handed up again"
    # Of seven tries each has half a chance: one in 128 is lost.
    assert 194 <= len(arrived) <= 200
    assert bench.radio.frames[0] > 500
    assert MODEL.airtime(1000, unicast=True) < MODEL.airtime(1000, unicast=False) / 3


def test_multicast_is_lost_for_each_receiver_on_its_own() -> None:
    bench = Bench(cell(5), 5, loss=0.2, duplication=0.1, delay=0.01)
    for number in range(1000):
        bench.send(number * 1.0, 0, number.to_bytes(2, "big"))
    bench.run()
    for receiver in range(1, 5):
        got = [data for _, who, _, data in bench.heard if who == receiver]
        assert 750 <= len(set(got)) <= 850
        assert 1.05 <= len(got) / len(set(got)) <= 1.15


def test_a_late_frame_overtakes_none_without_delay_and_some_with_it() -> None:
    for delay, in_order in ((0.0, True), (0.05, False)):
        bench = Bench(line(2), 2, delay=delay)
        for number in range(50):
            bench.send(1.0, 0, number.to_bytes(1, "big"))
        bench.run()
        order = [data[0] for *_, data in bench.heard]
        assert (order == sorted(order)) is in_order
        assert sorted(order) == list(range(50))


def test_the_same_seed_is_the_same_air() -> None:
    def run(seed: int) -> list[tuple[float, int, int, bytes]]:
        bench = Bench(grid(5, 5), 25, seed=seed, loss=0.3)
        for number in range(200):
            bench.send(number * 0.001, number % 25)
        bench.run()
        return bench.heard

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(("count", "degree"), [(5, 3.0), (50, 7.0), (200, 7.0)])
def test_a_random_mesh_is_connected_and_as_dense_as_asked_for(count: int, degree: float) -> None:
    field = geometric(count, degree, random.Random(count))
    links = field.links()
    assert len(parts(count, links)) == 1
    assert degree * 0.9 <= 2 * len(links) / count <= degree * 1.2
    brute = [(a, b) for a in range(count) for b in range(a) if field.in_reach(a, b)]
    assert links == brute


def test_two_cells_hang_together_by_one_link() -> None:
    links = two_cells(4, 6)
    assert len(links) == 6 + 15 + 1
    assert len(parts(10, links)) == 1
    assert len(parts(10, [link for link in links if link != (3, 4)])) == 2
