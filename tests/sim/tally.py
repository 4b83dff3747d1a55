"""What a world puts on the air and when people see it, counted from outside: datagrams and deliveries."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from meshchat.wire.datagram import PLAIN_OVERHEAD
from meshchat.wire.packets import PACKET_HEADER, PacketType
from meshchat.wire.records import Record
from tests.sim.network import FRAME_HEADERS
from tests.sim.world import World

_NAMES = {int(kind): kind.name for kind in PacketType}
NEWS = frozenset({PacketType.RECORDS})


def packet_types(data: bytes) -> list[int]:
    """The types of the packets in an open datagram, in order."""
    found, at = [], PLAIN_OVERHEAD
    while at + PACKET_HEADER <= len(data):
        found.append(data[at])
        at += PACKET_HEADER + int.from_bytes(data[at + 1 : at + PACKET_HEADER], "big")
    return found


class Tally:
    """Counts from its making on.

    A datagram counts under the type of its first packet: `datagrams` by type, `octets` with all headers; a
    multicast datagram once, a unicast one once however often a radio repeats it. `news` is datagrams that
    carry new records, to all in reach.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.datagrams: Counter[str] = Counter()
        self.octets: Counter[str] = Counter()
        self.news = 0
        world.taps.append(self._sent)

    def _sent(self, _sender: int, data: bytes) -> None:
        types = packet_types(data)
        first = types[0] if types else 0
        name = _NAMES.get(first, str(first))
        self.datagrams[name] += 1
        self.octets[name] += len(data) + FRAME_HEADERS
        self.news += not NEWS.isdisjoint(types)

    def stop(self) -> None:
        """Counts no more."""
        self._world.taps.remove(self._sent)


class Arrivals:
    """When each message said through it was shown by each router."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._said: dict[bytes, float] = {}
        self._shown: dict[bytes, dict[int, float]] = {}
        world.viewers.append(self._on_shown)

    def say(self, number: int, room: str, text: str) -> Record:
        """Router `number` says it."""
        router = self._world.routers[number]
        record = router.draft(room, text)
        self._said[record.id] = self._world.now
        self._shown[record.id] = {}
        router.submit(record)
        return record

    def _on_shown(self, router: int, record: Record) -> None:
        shown = self._shown.get(record.id)
        if shown is not None:
            shown.setdefault(router, self._world.now - self._said[record.id])

    def reach(self, within: float = math.inf) -> float:
        """The share of all (message, router) pairs, 0 to 1, that came about within so many seconds."""
        reached = sum(wait <= within for shown in self._shown.values() for wait in shown.values())
        return reached / (len(self._said) * len(self._world.alive()))

    def waits(self) -> list[float]:
        """Seconds from saying to showing, for each message and each router that shows it."""
        return sorted(wait for shown in self._shown.values() for wait in shown.values())

    def waits_for_all(self) -> list[float]:
        """For each message the seconds until the last router that shows it did."""
        return sorted(max(shown.values()) for shown in self._shown.values())


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of an ordered series lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(counts: Iterable[tuple[str, int]]) -> str:
    """ "DIGEST 120, RECORDS 40"."""
    return ", ".join(f"{name} {count:,}" for name, count in counts)
