"""One interface as the engine sees it: its timers, its queues, its share of the air."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random

from meshchat.constants import NEWS_FRAMES_BURST, NEWS_FRAMES_RATE, PRESENCE_SHARE
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.events import Output, Send
from meshchat.protocol.flooding import InterfaceFlood
from meshchat.protocol.instant import Instant
from meshchat.protocol.source import Source
from meshchat.protocol.trickle import Trickle
from meshchat.state.limits import TokenBucket
from meshchat.state.neighbours import Neighbour
from meshchat.state.store import RecordStore
from meshchat.state.timers import Timers
from meshchat.wire.packets import MAX_NUMBER, Carried, Packet

_BURST_SECONDS = 0.5
"""How much of its share a queue may save up: half a second, a handful of full frames at 1 Mb/s."""


@dataclass(frozen=True)
class AirShare:
    """`rate` is the slowest multicast rate in bits a second; the others are shares of it, 0 to 1."""

    rate: int
    news: float
    repair: float
    talk: float

    def bucket(self, share: float) -> TokenBucket:
        """A bucket of bytes for this share."""
        a_second = self.rate * share / 8
        return TokenBucket(a_second, max(a_second * _BURST_SECONDS, 3000.0))


class Port:
    """An interface, or a configured unicast peer, for which everything is kept apart."""

    def __init__(
        self,
        name: str,
        mtu: int,
        random: Random,
        now: float,
        air: AirShare,
        store: RecordStore,
        carried: Callable[[bytes, Instant], Carried | None],
        *,
        is_peer: bool,
    ) -> None:
        """`mtu` is bytes; `carried` gives a held record by position, with its age by a moment."""
        self.name, self.mtu, self.is_peer = name, mtu, is_peer
        self.trickle = Trickle(random, now)
        self.flood = InterfaceFlood(random, is_peer, store.holds)
        self.news = air.bucket(air.news)
        self.frames = TokenBucket(NEWS_FRAMES_RATE, NEWS_FRAMES_BURST)
        self.repair = air.bucket(air.repair)
        self.talk = air.bucket(air.talk)
        self.tell = air.bucket(PRESENCE_SHARE)
        self.source = Source(store, carried, self.repair.rate)
        self.asks_sent = 0
        self.in_step = False
        self.insisted_at = -1e9
        self.doubt_since: float | None = None
        self.doubted: set[bytes] = set()
        self.number = random.randint(1, MAX_NUMBER)

    def agrees(self, neighbour: Neighbour) -> None:
        """A neighbour said what this router would say, to all who hear it."""
        self.trickle.consistent()
        self.in_step = True
        if self.doubted:
            reach = neighbour.reach
            self.doubted = {one for one in self.doubted if one != neighbour.router and one not in reach}
        if not self.doubted:
            self.doubt_since = None

    def told(self) -> None:
        """This router said what it holds, to all who hear it."""
        self.doubt_since = None
        self.doubted.clear()

    def next_number(self) -> int:
        """The number, 1 to 255, of the next packet by multicast whose loss is to be noticed."""
        self.number = self.number % MAX_NUMBER + 1
        return self.number


class Desk:
    """What the parts of the engine share: the outputs being collected, the timers, the ports, the dice."""

    def __init__(self, random: Random, envelope: Envelope) -> None:
        self.random = random
        self.envelope = envelope
        self.timers = Timers()
        self.ports: dict[str, Port] = {}
        self._out: list[Output] = []

    def emit(self, *outputs: Output) -> None:
        """Adds to what the engine hands back."""
        self._out.extend(outputs)

    def collect(self) -> list[Output]:
        """Everything emitted since the last call."""
        out, self._out = self._out, []
        return out

    def capacity(self, port: Port) -> int:
        """Bytes of packets in one datagram on this port."""
        return self.envelope.capacity(port.mtu)

    def send(self, port: Port, packets: Sequence[Packet], address: tuple[str, int] | None = None) -> int:
        """Sends the packets in one datagram, to the group or to an address; returns its bytes."""
        data = self.envelope.wrap(packets)
        self.emit(Send(port.name, address, data))
        return len(data)

    def hurry(self, port: Port, now: float) -> None:
        """Something differs on this port: its digests start again at the shortest interval."""
        port.trickle.inconsistent(now)
        self.timers.set(("trickle", port.name), port.trickle.deadline)

    def soon(self, key: Hashable, now: float, longest: float) -> None:
        """Sets the timer, unless it is set, to a random moment within `longest` seconds."""
        self.timers.set_if_unset(key, now + self.random.uniform(0, longest))
