"""What the parts of the engine share.

That is what is held, the links and who is heard on them, the timers, the dice, and the outputs so far.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from meshchat.protocol.clock import MeshClock
from meshchat.protocol.deadlines import Deadline, LinkDue, OfLink
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.events import Output, Send
from meshchat.protocol.extent import Extent
from meshchat.protocol.horizon import Horizon
from meshchat.protocol.link import Link
from meshchat.state.neighbours import Neighbours
from meshchat.state.origin import Origin
from meshchat.state.store import RecordStore
from meshchat.state.timers import Timers
from meshchat.wire.ids import MeshId, RouterId
from meshchat.wire.packets import Packet


@dataclass
class Context:
    """Where the parts look things up, and leave what is to be done."""

    mesh: MeshId
    router: RouterId
    """This router's id."""

    random: Random
    envelope: Envelope
    clock: MeshClock
    store: RecordStore
    horizon: Horizon
    extent: Extent
    """What of the store this router speaks for."""

    neighbours: Neighbours = field(default_factory=Neighbours)
    links: dict[str, Link] = field(default_factory=dict)
    """The links that can be used, by name."""

    timers: Timers[Deadline] = field(default_factory=Timers)
    drops: Counter[str] = field(default_factory=Counter)
    """What was refused, by reason."""

    _out: list[Output] = field(default_factory=list)

    def emit(self, *outputs: Output) -> None:
        """Adds to what the engine hands back."""
        self._out.extend(outputs)

    def collect(self) -> list[Output]:
        """Everything emitted since the last call."""
        out, self._out = self._out, []
        return out

    def capacity(self, link: Link) -> int:
        """Bytes of packets in one datagram on this link."""
        return self.envelope.capacity(link.profile.mtu)

    def send(self, link: Link, packets: Sequence[Packet], to: Origin | None = None) -> int:
        """Sends the packets in one datagram, to all on the link or to one; returns its bytes."""
        data = self.envelope.wrap(packets)
        self.emit(Send(link.name, to, data))
        return len(data)

    def hurry(self, link: Link, now: float) -> None:
        """Something differs on this link: its digests start again at the shortest interval."""
        link.trickle.inconsistent(now)
        self.timers.set(OfLink(LinkDue.TRICKLE, link.name), link.trickle.deadline)

    def soon(self, deadline: Deadline, now: float, longest: float) -> None:
        """Sets the timer, unless it is set, to a random moment within `longest` seconds."""
        self.timers.set_if_unset(deadline, now + self.random.uniform(0, longest))
