"""What the parts of the engine share: the outputs being collected, the timers, the links, the dice."""

from collections.abc import Sequence
from random import Random

from meshchat.protocol.deadlines import Deadline, LinkDue, OfLink
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.events import Output, Send
from meshchat.protocol.link import Link
from meshchat.state.origin import Origin
from meshchat.state.timers import Timers
from meshchat.wire.packets import Packet


class Desk:
    """Where they leave what is to be done."""

    def __init__(self, random: Random, envelope: Envelope) -> None:
        self.random = random
        self.envelope = envelope
        self.timers: Timers[Deadline] = Timers()
        self.links: dict[str, Link] = {}
        self._out: list[Output] = []

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
