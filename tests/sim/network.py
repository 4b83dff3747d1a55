"""What lies between simulated routers: who hears whom, what is counted, and the simplest air of all.

`Air` only loses, doubles and delays frames; `tests.sim.radio` has one that takes time and collides.
"""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

FRAME_HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers on each frame."""

UNICAST_TRIES = 7
"""802.11 repeats a unicast frame that is not acknowledged; multicast is sent once."""

Link = tuple[int, int]


class Timeline(Protocol):
    """Virtual time, and where frames that arrive go: the world."""

    now: float

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Calls `action(*arguments)` at a moment."""

    def arrived(self, receiver: int, sender: int, data: bytes) -> None:
        """A frame of `sender` reached `receiver`."""


@dataclass
class AirConditions:
    """Of every link: probabilities of loss and duplication, the longest random delay in seconds, and how
    often a unicast frame is tried.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.005
    tries: int = UNICAST_TRIES


class Links:
    """Who hears whom. The lists of neighbours are made again only when a link changes."""

    def __init__(self) -> None:
        self._links: set[Link] = set()
        self._cut: set[Link] = set()
        self._near: dict[int, list[int]] | None = None

    def connect(self, pairs: Iterable[Link]) -> None:
        """Adds links, in both directions."""
        for a, b in pairs:
            self._links |= {(a, b), (b, a)}
        self._near = None

    def replace(self, pairs: Iterable[Link]) -> None:
        """These links, in both directions, in place of all there were; cuts stay."""
        self._links = {link for a, b in pairs for link in ((a, b), (b, a))}
        self._near = None

    def separate(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Cuts every link between two groups."""
        others = list(others)
        for a in some:
            for b in others:
                self._cut |= {(a, b), (b, a)}
        self._near = None

    def heal(self) -> None:
        """Mends all cuts."""
        self._cut.clear()
        self._near = None

    def hears(self, sender: int) -> list[int]:
        """The routers in reach of `sender` now, in order."""
        if self._near is None:
            self._near = {}
            for a, b in sorted(self._links - self._cut):
                self._near.setdefault(a, []).append(b)
        return self._near.get(sender, [])


class Medium(Links, ABC):
    """Links that carry frames, and a count of what each router put on the air: a multicast frame once."""

    def __init__(self, rng: random.Random, conditions: AirConditions, time: Timeline) -> None:
        super().__init__()
        self.rng, self.conditions, self.time = rng, conditions, time
        self.frames: Counter[int] = Counter()
        self.octets: Counter[int] = Counter()

    @abstractmethod
    def transmit(self, sender: int, to: int | None, data: bytes) -> None:
        """Puts a frame on the air, for all in reach or for one; each copy that arrives goes to `arrived`."""

    def _count(self, sender: int, size: int) -> None:
        self.octets[sender] += size
        self.frames[sender] += 1


class Air(Medium):
    """A frame reaches each neighbour on its own luck, after a random delay, beside any other frame."""

    def transmit(self, sender: int, to: int | None, data: bytes) -> None:
        size = len(data) + FRAME_HEADERS
        if to is not None:
            self._unicast(sender, to, size, data)
            return
        self._count(sender, size)
        for receiver in self.hears(sender):
            if self.rng.random() >= self.conditions.loss:
                self._deliver(receiver, sender, data)
                if self.rng.random() < self.conditions.duplication:
                    self._deliver(receiver, sender, data)

    def _unicast(self, sender: int, to: int, size: int, data: bytes) -> None:
        for attempt in range(self.conditions.tries):
            self._count(sender, size)
            if to not in self.hears(sender):
                return
            if self.rng.random() >= self.conditions.loss:
                self._deliver(to, sender, data, attempt * 0.002)
                return

    def _deliver(self, receiver: int, sender: int, data: bytes, late: float = 0.0) -> None:
        delay = late + self.rng.uniform(0.0005, max(0.0005, self.conditions.delay))
        self.time.at(self.time.now + delay, self.time.arrived, receiver, sender, data)
