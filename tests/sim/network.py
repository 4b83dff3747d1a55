"""The air between simulated routers: loss, duplication, delay, reordering, cuts. Seeded, in virtual time."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

FRAME_HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers on each frame."""

UNICAST_TRIES = 7
"""802.11 repeats a unicast frame that is not acknowledged; multicast is sent once."""

Link = tuple[int, int]


@dataclass
class AirConditions:
    """Of every link: probabilities of loss and duplication, and the longest random delay in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.005


@dataclass
class Air:
    """Who hears whom. A frame of router `a` reaches each neighbour on its own luck."""

    rng: random.Random
    conditions: AirConditions
    links: set[Link] = field(default_factory=set)
    cut: set[Link] = field(default_factory=set)
    frames: Counter[int] = field(default_factory=Counter)
    octets: Counter[int] = field(default_factory=Counter)

    def connect(self, pairs: Iterable[Link]) -> None:
        """Adds links, in both directions."""
        for a, b in pairs:
            self.links |= {(a, b), (b, a)}

    def separate(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Cuts every link between two groups."""
        others = list(others)
        for a in some:
            for b in others:
                self.cut |= {(a, b), (b, a)}

    def heal(self) -> None:
        """Mends all cuts."""
        self.cut.clear()

    def hears(self, sender: int) -> list[int]:
        """The routers in reach of `sender` now."""
        return sorted(b for a, b in self.links - self.cut if a == sender)

    def transmit(
        self, sender: int, to: int | None, data: bytes, deliver: Callable[[int, float], None]
    ) -> None:
        """Puts a frame on the air; `deliver(receiver, delay)` is called for each copy that arrives."""
        size = len(data) + FRAME_HEADERS
        if to is not None:
            self._unicast(sender, to, size, deliver)
            return
        self._count(sender, size)
        for receiver in self.hears(sender):
            if self.rng.random() >= self.conditions.loss:
                deliver(receiver, self._delay())
                if self.rng.random() < self.conditions.duplication:
                    deliver(receiver, self._delay())

    def _unicast(self, sender: int, to: int, size: int, deliver: Callable[[int, float], None]) -> None:
        for attempt in range(UNICAST_TRIES):
            self._count(sender, size)
            if to not in self.hears(sender):
                return
            if self.rng.random() >= self.conditions.loss:
                deliver(to, self._delay() + attempt * 0.002)
                return

    def _count(self, sender: int, size: int) -> None:
        self.octets[sender] += size
        self.frames[sender] += 1

    def _delay(self) -> float:
        return self.rng.uniform(0.0005, max(0.0005, self.conditions.delay))


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
