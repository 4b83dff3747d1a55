"""Random histories of a mesh: new ones each day, and that a failing one would be found and shrunk."""

import os
from dataclasses import replace

import pytest

from tests.sim.plan import decode, make
from tests.sim.seeds import Run, failure, shrink, today
from tests.sim.sharing import shared_work
from tests.sim.world import SimRouter

SEED = today()
SEEDS = int(os.environ.get("MESHCHAT_SEEDS", "24"))


@pytest.mark.parametrize("number", range(SEEDS))
def test_whatever_happens_the_mesh_comes_together_again(number: int) -> None:
    seed = SEED + number
    print(f"python -m tests.sim --replay {seed}")
    with shared_work():
        Run(make(seed)).go()


def test_a_plan_survives_being_written_down() -> None:
    plan = make(1)
    assert decode(plan.encode()) == plan
    assert make(1) == plan != make(2)


def test_the_same_plan_is_the_same_run_whether_routers_share_their_work_or_not() -> None:
    def run() -> tuple[int, list[list[str]]]:
        plan = make(2)
        once = Run(replace(plan, steps=plan.steps[:30]))
        once.go()
        return once.world.air.octets.total(), [router.texts("1") for router in once.honest]

    with shared_work():
        shared = run()
    assert shared == run()


def test_a_fault_is_found_and_shrunk_to_the_steps_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that forgets its disk at a clean stop, and a mesh in which nobody else has what it said."""
    stop = SimRouter.stop

    def stop_and_lose(router: SimRouter) -> None:
        stop(router)
        for other in router.world.routers:
            if other.node is not None:
                other.kill()
            other.lose_logs()

    monkeypatch.setattr(SimRouter, "stop", stop_and_lose)
    plans = (make(seed) for seed in range(20))
    plan, broken = next((plan, broken) for plan in plans if (broken := failure(plan)) is not None)
    assert "lost" in broken
    small = shrink(plan, broken)
    assert failure(small) is not None
    assert {"stop"} <= {step.what for step in small.steps} <= {"say", "burst", "stop"}
    assert len(small.steps) <= 4
