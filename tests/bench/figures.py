"""What a row of the bench hands back, and the arithmetic over it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A baseline or a limit of the same call: its value in the figure's unit, or why there is none."""

    name: str
    value: float | None
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ours` is None where nothing came of it; `note` then says why."""

    what: str
    ours: float | None
    unit: str
    goal: float | None = None
    at_least: bool = False
    """Whether the goal is a lower bound, as for a rate; else it is an upper one."""
    peers: tuple[Peer, ...] = ()
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is no goal."""
        if self.goal is None:
            return None
        if self.ours is None:
            return False
        return self.ours >= self.goal if self.at_least else self.ours <= self.goal

    @property
    def ratio(self) -> float | None:
        """Ours over the goal."""
        return ratio(self.ours, self.goal)


@dataclass(frozen=True)
class Effort:
    """How much work a run does: `quick` takes smaller sizes, `long` adds what takes tens of minutes."""

    quick: bool = False
    long: bool = False

    def pick(self, full: int, quick: int) -> int:
        """The size to use."""
        return quick if self.quick else full

    def goal(self, value: float) -> float | None:
        """A goal that was set for the full size: none at a smaller one."""
        return None if self.quick else value


def ratio(value: float | None, base: float | None) -> float | None:
    """`value` over `base`; None where one of them is missing or the base is nothing."""
    return None if value is None or not base else value / base


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of them do not exceed: nearest rank, nothing between.

    So p99 of fewer than 100 values is the largest. Raises `ValueError` where there are none.
    """
    if not values:
        raise ValueError("no values")
    rank = math.ceil(share * len(values))
    return sorted(values)[max(0, rank - 1)]


def median(values: Sequence[float]) -> float:
    """The 50th percentile."""
    return percentile(values, 0.5)
