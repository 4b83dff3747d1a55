"""Seeded runs: a mesh at which everything is thrown at once, then healed, and shrunk where it fails.

Phase 1 carries out a plan while `Safety` watches. Phase 2 mends all and demands that the mesh comes together,
keeps what it acknowledged, and goes quiet. (After TigerBeetle's VOPR; the shrinking is Zeller's ddmin.)
"""

import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from meshchat.adapters.storage.logstore import FsyncPolicy
from meshchat.constants import CAP_ACCOUNTS
from meshchat.errors import MeshchatError
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.records import Record
from tests.sim.actors import Villain
from tests.sim.checkers import assert_converges, assert_idle, assert_kept, disk_holds
from tests.sim.disk import PowerCut
from tests.sim.network import AirConditions, Link
from tests.sim.plan import HOSTILE_ACTS, TRUSTED_MS, Plan, Step
from tests.sim.radio import RadioModel
from tests.sim.safety import Safety
from tests.sim.topology import cell, geometric, grid, line, two_cells
from tests.sim.world import DAY, ClockModel, SimRouter, World

CONVERGENCE = 7200.0
"""Seconds within which a healed mesh agrees: an exchange that failed often is tried again after an hour."""

NEXT_WIPE = DAY
"""Added to that where a day has passed and clocks are unknown: what has no date goes by its age at the daily
wipe, and at a router that restarts at once, so two may differ until the next wipe."""

REST = 3600.0
"""Seconds after which the air is quiet on average over as many. By then what cannot be mended, a difference
between routers that remember different evictions, is looked at once an hour."""

HEALED_LOSS = 0.2
KEPT_FOR = DAY - 3600
"""What was said within this time cannot have been wiped: everything lives a day at least."""

FAILURES = (
    AssertionError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MeshchatError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a run may end with: a broken rule, or a bug of the engine that shows as an exception."""


class Run:
    """One plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.safe: list[tuple[float, Record]] = []
        count = plan.routers
        links = [*shape(plan.shape, count, plan.seed), *((count, number) for number in range(count))]
        conditions = AirConditions(plan.loss, plan.duplication, plan.delay)
        radio = RadioModel() if plan.radio else None
        self.world = World(plan.seed, links, count + 1, conditions, radio)
        for router, clock, fsync in zip(self.honest, plan.clocks, plan.fsync, strict=True):
            router.model.clock = ClockModel(clock.offset_ms, clock.good, clock.drift)
            router.model.fsync = _policy(fsync)
            if plan.caps is not None:
                caps = CapLimits(plan.caps // 4, plan.caps // 2, plan.caps)
                router.model.limits = StoreLimits(caps, CAP_ACCOUNTS)
        self.villain = Villain(self.world, count, plan.seed)
        self.safety = Safety(self.world, count)
        self.world.boot(range(count))

    @property
    def honest(self) -> list[SimRouter]:
        """All but the villain's place."""
        return self.world.routers[: self.plan.routers]

    def go(self) -> None:
        """Both phases; raises one of `FAILURES` where a rule is broken."""
        for step in self.plan.steps:
            router = self.world.routers[step.router]
            _DEEDS[step.what](self, router, step)
            self.world.run(step.wait)
            self.safety.check([router])
        self.settle()
        undated = self.world.now > DAY and not all(clock.good for clock in self.plan.clocks)
        assert_converges(self.world, CONVERGENCE + NEXT_WIPE * undated)
        self.safety.check(self.honest)
        # Where limits are tight, what was said first has gone: that all agree is what is asked then.
        if self.plan.caps is None:
            for router in self.honest:
                assert_kept(router, self.still_safe())
        assert_idle(self.world, settle=REST, watch=REST)
        self.safety.check(self.honest)

    def still_safe(self) -> list[Record]:
        """What was acknowledged, is on a disk that keeps its word, and is too young for any wipe."""
        return [record for said, record in self.safe if self.world.now - said < KEPT_FOR]

    def settle(self) -> None:
        """Everything is mended: all are on and in reach of one another, on whatever way."""
        self.villain.end()
        self.world.air.heal()
        self.world.air.connect(line(self.plan.routers))
        self.world.air.conditions.loss = min(self.world.air.conditions.loss, HEALED_LOSS)
        for router in self.honest:
            mend(router)
            router.logs.crash_at = None
            if router.node is not None and router.up.unread():
                router.kill()  # a start reads what could not be read, as `check` says there
        self.world.boot(range(self.plan.routers))

    # --- Deeds ------------------------------------------------------------------------------------------

    def say(self, router: SimRouter, step: Step) -> None:
        """A message of some length; where the router is off, it comes up instead."""
        if router.node is None:
            router.boot()
            return
        rng = Random(step.number)
        try:
            record = router.say(rng.choice("123"), f"{step.number} " + "x" * rng.choice((0, 20, 300, 3000)))
        except PowerCut:
            router.power_cut()
            return
        if record is not None and router.model.fsync == "always":
            self.safe.append((self.world.now, record))

    def burst(self, router: SimRouter, step: Step) -> None:
        """Many messages at once."""
        for number in range(5 + step.number % 60):
            self.say(router, replace(step, number=step.number + number))

    def part(self, router: SimRouter, step: Step) -> None:
        """The mesh falls into two."""
        numbers = range(self.plan.routers)
        some = Random(step.number).sample(numbers, 1 + self.plan.routers // 3)
        self.world.air.separate(some, [number for number in numbers if number not in some])

    def heal(self, router: SimRouter, step: Step) -> None:
        """The parts meet again."""
        self.world.air.heal()

    def move(self, router: SimRouter, step: Step) -> None:
        """Everybody is somewhere else."""
        count = self.plan.routers
        links = shape("random", count, step.number)
        self.world.air.replace([*links, *((count, number) for number in range(count))])

    def stop(self, router: SimRouter, step: Step) -> None:
        """A clean stop."""
        if router.node is not None:
            router.stop()

    def kill(self, router: SimRouter, step: Step) -> None:
        """kill -9."""
        if router.node is not None:
            router.kill()

    def cut(self, router: SimRouter, step: Step) -> None:
        """The power goes."""
        if router.node is not None:
            router.power_cut()

    def crash(self, router: SimRouter, step: Step) -> None:
        """The power goes at some write to come."""
        router.logs.crash_at = router.logs.operations + 1 + step.number % 30

    def forget(self, router: SimRouter, step: Step) -> None:
        """Logs in RAM, and a reboot: safe is what stands on another disk that is synced."""
        if router.node is not None:
            router.kill()
        router.lose_logs()
        disks = [other.logs for other in self.honest if other.model.fsync == "always"]
        self.safe = [one for one in self.safe if any(disk_holds(disk, one[1].id.hex()) for disk in disks)]

    def full(self, router: SimRouter, step: Step) -> None:
        """The disk is full for a while."""
        router.logs.capacity = router.logs.used() + 100
        self._mended(router, step)

    def broken(self, router: SimRouter, step: Step) -> None:
        """Every write fails for a while."""
        now = router.logs.operations
        router.logs.failing = set(range(now, now + 100_000))
        self._mended(router, step)

    def read_only(self, router: SimRouter, step: Step) -> None:
        """Neither logs nor state can be written for a while."""
        router.logs.read_only = router.state.read_only = True
        self._mended(router, step)

    def unreadable(self, router: SimRouter, step: Step) -> None:
        """Reads fail for a while."""
        router.logs.unreadable.add(Random(step.number).choice(_PLACES))
        self._used_meanwhile(router, step)

    def short(self, router: SimRouter, step: Step) -> None:
        """Reads give less than there is for a while."""
        router.logs.short.add(Random(step.number).choice(_PLACES))
        self._used_meanwhile(router, step)

    def late(self, router: SimRouter, step: Step) -> None:
        """Each read takes long, and the process waits for it."""
        router.logs.late = Random(step.number).uniform(0.01, 0.2)
        self._used_meanwhile(router, step)

    def away(self, router: SimRouter, step: Step) -> None:
        """Logs are moved away, and put back."""
        router.logs.vanish(Random(step.number).choice(_PLACES[1:]))
        self._used_meanwhile(router, step)

    def _used_meanwhile(self, router: SimRouter, step: Step) -> None:
        """People write and read, some pull the plug; then the disk is well again."""
        rng = Random(step.number)
        for _ in range(3):
            self.world.run(rng.uniform(0, 8))
            for number in range(rng.randrange(3)):
                self.say(router, replace(step, number=step.number + number))
            if router.node is not None:
                self.safety.read(router)
                if rng.random() < 0.15:
                    router.kill()
        mend(router)

    def _mended(self, router: SimRouter, step: Step) -> None:
        self.world.run(step.number % 20)
        mend(router)

    def clock(self, router: SimRouter, step: Step) -> None:
        """The kernel steps the clock: by minutes where it trusts it, by anything where it does not."""
        rng = Random(step.number)
        bound = TRUSTED_MS if router.model.clock.good else 10**10
        router.model.clock.offset_ms = rng.randint(-bound, bound)

    def misbehave(self, router: SimRouter, step: Step) -> None:
        """The villain begins to do something."""
        self.villain.begin(HOSTILE_ACTS[step.number % len(HOSTILE_ACTS)])

    def peace(self, router: SimRouter, step: Step) -> None:
        """The villain rests."""
        self.villain.end()

    def wait(self, router: SimRouter, step: Step) -> None:
        """Nothing for some minutes."""
        self.world.run(step.number % 300)

    def day(self, router: SimRouter, step: Step) -> None:
        """A day passes, and with it a wipe."""
        self.villain.end()
        self.world.run(DAY)


_PLACES = ("", "rooms", "rooms/1.log", "rooms/2.log", "spaces")
"""Of the logs' disk; "" is all of it."""

_Deed = Callable[[Run, SimRouter, Step], None]
_DEEDS: dict[str, _Deed] = {
    **{name: getattr(Run, name) for name in ("say", "burst", "part", "heal", "move", "stop", "kill", "cut")},
    **{name: getattr(Run, name) for name in ("crash", "forget", "full", "broken", "read_only", "clock")},
    **{name: getattr(Run, name) for name in ("unreadable", "short", "late", "away")},
    **{"villain": Run.misbehave, "peace": Run.peace, "wait": Run.wait, "day": Run.day},
}


def _policy(name: str) -> FsyncPolicy:
    policies: dict[str, FsyncPolicy] = {"always": "always", "interval": "interval", "never": "never"}
    return policies[name]


def mend(router: SimRouter) -> None:
    """The disks take everything again."""
    router.logs.capacity = None
    router.logs.read_only = router.state.read_only = False
    router.logs.failing = set()
    router.logs.unreadable.clear()
    router.logs.short.clear()
    router.logs.late = 0.0
    router.logs.put_back()


def shape(name: str, count: int, seed: int) -> list[Link]:
    """The links of `count` routers in one of the plan's shapes."""
    match name:
        case "cell":
            return cell(count)
        case "ring":
            return [*line(count), (0, count - 1)]
        case "grid":
            return [link for link in grid(3, (count + 2) // 3) if max(link) < count]
        case "bridge" if count >= 4:
            return two_cells(count // 2, count - count // 2)
        case "random":
            return geometric(count, min(3.0, count - 1), Random(seed)).links()
        case _:
            return line(count)


def today() -> int:
    """The first seed of a run: MESHCHAT_SEED, else the date in UTC as YYYYMMDD000, so new ones each day."""
    return int(os.environ.get("MESHCHAT_SEED") or datetime.now(UTC).strftime("%Y%m%d000"))


# --- Failing and shrinking ------------------------------------------------------------------------------


def failure(plan: Plan) -> str | None:
    """What a run of the plan breaks, with the place it came from in the last line; None where it holds."""
    try:
        Run(plan).go()
    except FAILURES as trouble:
        place = traceback.extract_tb(trouble.__traceback__)[-1]
        return f"{type(trouble).__name__}: {trouble}\nin {place.name}"
    return None


def shrink(plan: Plan, broken: str, tries: int = 150) -> Plan:
    """A plan with fewer steps and routers that breaks at the same place; at most `tries` runs."""
    left = [tries]

    def still(shorter: Plan) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        found = failure(shorter)
        return found is not None and found.splitlines()[-1] == broken.splitlines()[-1]

    size = max(1, len(plan.steps) // 2)
    while left[0] > 0:
        shorter = _fewer(plan, size, still)
        while shorter.routers > 2 and still(shorter.without_router()):
            shorter = shorter.without_router()
        if size == 1 and len(shorter.steps) == len(plan.steps):
            break
        plan, size = shorter, max(1, size // 2)
    for calmer in (replace(plan, radio=False), replace(plan, duplication=0.0), replace(plan, loss=0.0)):
        if still(calmer):
            plan = calmer
    return plan


def _fewer(plan: Plan, size: int, still: Callable[[Plan], bool]) -> Plan:
    """Leaves out runs of `size` steps, as long as it still breaks."""
    at = 0
    while at < len(plan.steps):
        shorter = replace(plan, steps=plan.steps[:at] + plan.steps[at + size :])
        if still(shorter):
            plan = shorter
        else:
            at += size
    return plan
