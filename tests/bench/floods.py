"""Large meshes: the scenarios of `python -m tests.sim --scale`, real nodes on a simulated radio."""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.bench.figures import Effort, Figure
from tests.sim import scale
from tests.sim.sharing import shared_work
from tests.sim.topology import cell, geometric

DEGREE = 7
WORKERS = 2


@dataclass(frozen=True)
class Shape:
    """A mesh to flood and its goals: data transmissions a router, seconds for p99, B/s a router at rest."""

    name: str
    routers: int
    degree: int | None
    """None: one cell."""
    loss: float
    sent_goal: float | None = None
    p99_goal: float | None = None
    idle_goal: float | None = None


def rows(effort: Effort) -> Iterator[Figure]:
    """Each mesh in a process of its own."""
    messages, many, few = effort.pick(100, 10), effort.pick(200, 30), effort.pick(50, 20)
    wide = f"{many} routers of degree {DEGREE}"
    shapes = [
        Shape(f"{wide}, 0% loss", many, DEGREE, 0.0, 1.0, None, 9.0),
        Shape(f"{wide}, 20% loss", many, DEGREE, 0.2, None, 5.0),
        Shape(f"{wide}, 50% loss", many, DEGREE, 0.5, None, 15.0),
        Shape(f"one cell of {few}, 0% loss", few, None, 0.0, 0.25),
    ]
    with ProcessPoolExecutor(WORKERS) as workers:
        found = workers.map(spread, shapes, [messages] * len(shapes))
        for shape, row in zip(shapes, found, strict=True):
            yield from _figures(shape, row, effort)


def spread(shape: Shape, messages: int) -> scale.Row:
    """What it costs to spread so many messages, one a second, and to rest for an hour afterwards."""
    links = cell(shape.routers)
    if shape.degree is not None:
        links = geometric(shape.routers, shape.degree, random.Random(1)).links()
    with shared_work():
        return next(scale.spread(links, shape.routers, (shape.loss,), messages=messages))


def _figures(shape: Shape, row: scale.Row, effort: Effort) -> Iterator[Figure]:
    def goal(value: float | None) -> float | None:
        return None if value is None else effort.goal(value)

    yield Figure(
        f"reach, {shape.name}",
        100 * float(row["reach"]),
        "%",
        goal=goal(100),
        at_least=True,
        note=f"of {row['messages']} messages at all routers, one a second; {row['collisions']} collisions",
    )
    yield Figure(
        f"p99 until all routers have it, {shape.name}",
        float(row["all_p99_s"]),
        "s",
        goal=goal(shape.p99_goal),
        note=f"p50 {float(row['all_p50_s']):.2f} s; p99 of a single router {float(row['p99_s']):.2f} s",
    )
    yield Figure(
        f"data transmissions, {shape.name}",
        float(row["data_tx"]),
        "a router and message",
        goal=goal(shape.sent_goal),
        note=f"{row['bytes_a_message']:,} B a message over the whole net",
    )
    yield Figure(f"at rest, {shape.name}", float(row["idle_B_s"]), "B/s a router", goal=goal(shape.idle_goal))


def long_rows(effort: Effort) -> Iterator[Figure]:
    """A day of 1,000 routers, and 20,000 messages of 50: a quarter of an hour each, side by side."""
    names = ("day", "history")
    with ProcessPoolExecutor(WORKERS) as workers:
        for name, row in zip(names, workers.map(at_scale, names), strict=True):
            what = next(one.about for one in scale.SCALES if one.name == name)
            yield Figure(
                f"reach, {what}",
                100 * float(row["reach"]),
                "%",
                goal=100,
                at_least=True,
                note=scale.as_line(row),
            )


def at_scale(name: str) -> scale.Row:
    """The one row of a scenario. Raises `AssertionError` where it does not converge."""
    chosen = next(one for one in scale.SCALES if one.name == name)
    with shared_work():
        return next(scale.run(chosen))
