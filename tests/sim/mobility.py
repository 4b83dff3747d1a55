"""Routers that are carried about: the random waypoint model."""

import math
from random import Random

from tests.sim.topology import Field
from tests.sim.world import World


class Wanderers:
    """Some routers of a field walk to a random place, stay there for a while, and walk on.

    `speed` is in sides of the square a second, `pause` the longest stay in seconds. Links change in steps.
    """

    def __init__(
        self,
        world: World,
        field: Field,
        who: list[int],
        *,
        speed: float,
        pause: float = 60.0,
        step: float = 5.0,
    ) -> None:
        self._world, self._field, self._who = world, field, who
        self._speed, self._pause, self._step = speed, pause, step
        self._rng = Random(world.rng.randrange(2**63))
        self._goals = {one: field.places[one] for one in who}
        self._leaves = {one: world.now + self._rng.uniform(0, pause) for one in who}
        self._walking = True
        world.at(world.now + step, self._walk)

    def stop(self) -> None:
        """Everybody stays where he is."""
        self._walking = False

    def _walk(self) -> None:
        if not self._walking:
            return
        for one in self._who:
            if self._world.now >= self._leaves[one]:
                self._advance(one)
        self._world.air.replace(self._field.links())
        self._world.at(self._world.now + self._step, self._walk)

    def _advance(self, one: int) -> None:
        (x, y), (to_x, to_y) = self._field.places[one], self._goals[one]
        left, stride = math.dist((x, y), (to_x, to_y)), self._speed * self._step
        if left <= stride:
            self._field.places[one] = (to_x, to_y)
            self._goals[one] = (self._rng.random(), self._rng.random())
            self._leaves[one] = self._world.now + self._rng.uniform(0, self._pause)
        else:
            share = stride / left
            self._field.places[one] = (x + (to_x - x) * share, y + (to_y - y) * share)
