"""The shapes of meshes: who is in reach of whom, drawn or at random."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.sim.network import Link

Point = tuple[float, float]


def line(count: int) -> list[Link]:
    """0 - 1 - 2 - ..."""
    return [(at, at + 1) for at in range(count - 1)]


def cell(count: int) -> list[Link]:
    """Everybody hears everybody."""
    return [(a, b) for a in range(count) for b in range(a)]


def grid(width: int, height: int) -> list[Link]:
    """Each hears those beside, above and below."""
    across = [(y * width + x, y * width + x + 1) for y in range(height) for x in range(width - 1)]
    down = [(y * width + x, (y + 1) * width + x) for y in range(height - 1) for x in range(width)]
    return across + down


def two_cells(first: int, second: int) -> list[Link]:
    """Two cells, and one link between the last router of the first and the first of the second."""
    others = [(first + a, first + b) for a, b in cell(second)]
    return [*cell(first), (first - 1, first), *others]


@dataclass
class Field:
    """Routers on a square of side 1, each in reach of all within `reach`."""

    places: list[Point]
    reach: float

    def links(self) -> list[Link]:
        """The pairs in reach of one another; the square is looked at in tiles as wide as the reach."""
        tiles: dict[tuple[int, int], list[int]] = {}
        for number, (x, y) in enumerate(self.places):
            tiles.setdefault((int(x / self.reach), int(y / self.reach)), []).append(number)
        found = []
        for (across, down), here in tiles.items():
            around = [
                number
                for right in (-1, 0, 1)
                for below in (-1, 0, 1)
                for number in tiles.get((across + right, down + below), ())
            ]
            found += [(a, b) for a in here for b in around if b < a and self.in_reach(a, b)]
        return sorted(found)

    def in_reach(self, a: int, b: int) -> bool:
        """Whether two routers hear each other."""
        return math.dist(self.places[a], self.places[b]) <= self.reach


def geometric(count: int, degree: float, rng: random.Random) -> Field:
    """Routers at random places, each with `degree` neighbours on average, all of them connected.

    A random geometric graph of this degree mostly has a few strays: each is put elsewhere until it is in
    reach of the largest part.
    """
    places = [(rng.random(), rng.random()) for _ in range(count)]
    distances = sorted(math.dist(a, b) for number, a in enumerate(places) for b in places[:number])
    field = Field(places, distances[min(len(distances) - 1, round(count * degree / 2) - 1)])
    core = max(parts(count, field.links()), key=len)
    for stray in sorted(set(range(count)) - core):
        while not any(math.dist(places[stray], places[one]) <= field.reach for one in core):
            places[stray] = (rng.random(), rng.random())
        core.add(stray)
    return field


def parts(count: int, links: Sequence[Link]) -> list[set[int]]:
    """The connected parts of a mesh of `count` routers."""
    near: list[list[int]] = [[] for _ in range(count)]
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    left = set(range(count))
    found = []
    while left:
        part, edge = set[int](), [min(left)]
        while edge:
            one = edge.pop()
            if one not in part:
                part.add(one)
                edge += near[one]
        left -= part
        found.append(part)
    return found
