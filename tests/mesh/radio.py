"""Who hears which Ethernet frame: radios within reach of some others, on links that lose frames.

A broadcast or multicast frame goes on the air once and reaches each neighbour of the sender with that
link's own loss; nobody repeats it (IEEE 802.11 acknowledges no group-addressed frame). A unicast frame
is repeated until its receiver has it, seven times at most (dot11ShortRetryLimit's default); the loss of
an acknowledgement would cost air only, since a receiver drops repeated frames, and is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from random import Random

UNICAST_TRIES = 7
GROUP_BIT = 0x01

Pair = tuple[int, int]


class NoSuchLink(Exception):
    """Two routers that are not within each other's reach."""


def line(routers: int) -> list[Pair]:
    """The links of routers 1 to `routers` where each reaches the one before and the one after it."""
    return [(number, number + 1) for number in range(1, routers)]


def cell(routers: int) -> list[Pair]:
    """The links of routers that all reach each other."""
    return [(one, other) for one in range(1, routers + 1) for other in range(one + 1, routers + 1)]


def grid(routers: int) -> list[Pair]:
    """The links of routers in rows of ceil(sqrt(routers)), each reaching those beside, above and below it."""
    width = isqrt(routers - 1) + 1
    beside = [(n, n + 1) for n in range(1, routers) if n % width]
    below = [(n, n + width) for n in range(1, routers - width + 1)]
    return sorted(beside + below)


TOPOLOGIES = {"line": line, "cell": cell, "grid": grid}


@dataclass
class Counters:
    """What one router put on the air and got from it. Bytes are those of Ethernet frames with header."""

    frames: int = 0
    """Frames put on the air: a multicast frame once, a unicast frame each time it was tried."""
    bytes: int = 0
    received: int = 0
    missed: int = 0
    """Frames of a neighbour that were for this router and got lost."""


@dataclass(frozen=True)
class Transmission:
    """What became of one frame: the routers that hear it, and the bytes of air it took."""

    receivers: tuple[int, ...]
    air_bytes: int


@dataclass
class _Link:
    loss: float
    cut: bool = False


class Radio:
    """All routers' radios and the links between them; the same seed loses the same frames."""

    def __init__(self, routers: int, links: Iterable[Pair], loss: float, random: Random) -> None:
        self.counters = {number: Counters() for number in range(1, routers + 1)}
        self._links = {_pair(*ends): _Link(loss) for ends in links}
        self._loss = loss
        self._random = random
        self._owners: dict[bytes, int] = {}

    def links(self) -> list[tuple[int, int, float, bool]]:
        """Every link: its two routers, its loss from 0 to 1, and whether it is cut."""
        return [(*ends, link.loss, link.cut) for ends, link in sorted(self._links.items())]

    def cut(self, one: int, other: int) -> None:
        """Nothing passes between the two any more. Raises `NoSuchLink`."""
        self._link(one, other).cut = True

    def heal(self, one: int, other: int) -> None:
        """Frames pass between the two, as before a cut, or as on any link where there was none."""
        self._check(one, other)
        self._links.setdefault(_pair(one, other), _Link(self._loss)).cut = False

    def set_loss(self, one: int, other: int, loss: float) -> None:
        """From now on the share `loss` of the frames between the two is lost. Raises `NoSuchLink`."""
        self._link(one, other).loss = loss

    def neighbours(self, router: int) -> list[int]:
        """The routers that hear `router`."""
        return sorted(
            sum(ends) - router for ends, link in self._links.items() if router in ends and not link.cut
        )

    def transmit(self, sender: int, frame: bytes) -> Transmission:
        """`sender` puts an Ethernet frame on the air."""
        target, source = frame[:6], frame[6:12]
        self._owners[source] = sender
        if target[0] & GROUP_BIT:
            receivers = tuple(n for n in self.neighbours(sender) if self._passes(sender, n))
            tries = 1
        else:
            receivers, tries = self._unicast(sender, self._owners.get(target))
        counters = self.counters[sender]
        counters.frames += tries
        counters.bytes += tries * len(frame)
        return Transmission(receivers, tries * len(frame))

    def _unicast(self, sender: int, receiver: int | None) -> tuple[tuple[int, ...], int]:
        if receiver is None or receiver not in self.neighbours(sender):
            return (), UNICAST_TRIES
        for tries in range(1, UNICAST_TRIES + 1):
            if self._passes(sender, receiver):
                return (receiver,), tries
        return (), UNICAST_TRIES

    def _passes(self, sender: int, receiver: int) -> bool:
        if self._random.random() < self._links[_pair(sender, receiver)].loss:
            self.counters[receiver].missed += 1
            return False
        self.counters[receiver].received += 1
        return True

    def _link(self, one: int, other: int) -> _Link:
        link = self._links.get(_pair(one, other))
        if link is None:
            raise NoSuchLink(f"Routers {one} and {other} have no radio link.")
        return link

    def _check(self, one: int, other: int) -> None:
        if one == other or not {one, other} <= self.counters.keys():
            raise NoSuchLink(f"Routers {one} and {other} cannot have a radio link.")


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)
