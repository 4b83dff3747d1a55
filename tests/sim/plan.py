"""What happens in one seeded run, as a list that can be kept, shortened and run again.

Every step carries its own random choices, so that leaving one out changes nothing in the others.
"""

import json
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

HOSTILE_ACTS = ("forge", "replay", "garble", "lie", "promise", "flood")
SHAPES = ("line", "cell", "ring", "grid", "random", "bridge")
_STEPS = 70

TRUSTED_MS = 400_000
"""How far a trusted clock may be beside the truth: two of them stay within the 15 minutes beyond which a
record waits in quarantine."""

_WEIGHTS = {
    "say": 45,
    "burst": 4,
    "part": 3,
    "heal": 4,
    "stop": 2,
    "kill": 2,
    "cut": 3,
    "crash": 2,
    "forget": 2,
    "full": 1,
    "broken": 1,
    "read_only": 1,
    "unreadable": 1.5,
    "short": 1,
    "late": 1,
    "away": 2,
    "clock": 3,
    "villain": 4,
    "peace": 2,
    "move": 2,
    "wait": 3,
    "day": 0.3,
}


@dataclass(frozen=True)
class Step:
    """One thing that happens to one router, and the seconds that pass after it."""

    what: str
    router: int
    number: int
    wait: float


@dataclass(frozen=True)
class Clock:
    """A router's clock: milliseconds beside the truth, drift as a share, and whether the kernel trusts it."""

    offset_ms: int
    drift: float
    good: bool


@dataclass(frozen=True)
class Plan:
    """A mesh and what happens in it. `caps` is bytes for the router's history, None for the usual limits."""

    seed: int
    shape: str
    clocks: tuple[Clock, ...]
    fsync: tuple[str, ...]
    radio: bool
    loss: float
    duplication: float
    delay: float
    caps: int | None
    steps: tuple[Step, ...]

    @property
    def routers(self) -> int:
        """How many honest routers there are; a villain's place comes after them."""
        return len(self.clocks)

    def without_router(self) -> "Plan":
        """The same without the last router, and without what happens to it."""
        left = self.routers - 1
        steps = tuple(step for step in self.steps if step.router < left)
        return replace(self, clocks=self.clocks[:left], fsync=self.fsync[:left], steps=steps)

    def encode(self) -> str:
        """As JSON; a step is a line."""
        head = {key: value for key, value in asdict(self).items() if key != "steps"}
        steps = ",\n".join("  " + json.dumps(list(asdict(step).values())) for step in self.steps)
        return json.dumps(head)[:-1] + ', "steps": [\n' + steps + "\n]}"


def decode(text: str) -> Plan:
    """The plan that `encode` wrote."""
    data: dict[str, Any] = json.loads(text)
    data["steps"] = tuple(Step(*step) for step in data["steps"])
    data["clocks"] = tuple(Clock(**clock) for clock in data["clocks"])
    data["fsync"] = tuple(data["fsync"])
    return Plan(**data)


def make(seed: int) -> Plan:
    """The plan of a seed. Clocks that are trusted lie within some minutes of the truth; others anywhere."""
    rng = Random(seed)
    count = rng.randint(2, 7)
    steps = tuple(_step(rng, count) for _ in range(_STEPS))
    return Plan(
        seed=seed,
        shape=rng.choice(SHAPES),
        clocks=tuple(_clock(rng) for _ in range(count)),
        # One disk at least keeps its word.
        fsync=("always", *(rng.choice(("always", "always", "interval", "never")) for _ in range(count - 1))),
        radio=rng.random() < 0.4,
        loss=rng.uniform(0, 0.4),
        duplication=rng.uniform(0, 0.2),
        delay=rng.uniform(0, 0.05),
        caps=rng.choice((None, None, None, 30_000)),
        steps=steps,
    )


def _clock(rng: Random) -> Clock:
    if rng.random() < 0.7:
        return Clock(
            rng.randint(-600_000, 600_000) if rng.random() < 0.5 else 0, rng.uniform(-1e-4, 1e-4), True
        )
    return Clock(rng.choice((-(10**12), -(10**9), 0, 10**9, 10**11)), rng.uniform(-1e-3, 1e-3), False)


def _step(rng: Random, count: int) -> Step:
    what = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    return Step(what, rng.randrange(count), rng.randrange(2**32), round(rng.expovariate(0.5), 2))
