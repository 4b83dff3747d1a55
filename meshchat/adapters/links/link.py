"""What every kind of link offers to the rest of the router, and asks of the engine."""

from typing import Protocol

from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin


class Link(Protocol):
    """A link in use.

    What it was given to send and has not sent yet is bounded: what is beyond is lost, counted by it, and
    repaired like any other loss. A queue without end would hold a dump back for so long that whoever waits
    for it takes its source for dead.
    """

    @property
    def profile(self) -> LinkProfile:
        """What the engine is told of it."""

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent, with what the kernel needs to keep them."""

    @property
    def lost(self) -> int:
        """Datagrams that it did not take since it is used, most of them because its queue was full."""

    def send(self, data: bytes, to: Origin | None) -> None:
        """Sends a datagram to all who are on it (None), or to whom a datagram came from; raises nothing."""

    def words(self, origin: Origin) -> str:
        """Whom an origin of this link stands for, as people know him."""


class Engine(Protocol):
    """What a link's adapter tells: the node."""

    def link_up(self, profile: LinkProfile) -> None:
        """A link can be used, or has another MTU than before."""

    def link_down(self, name: str) -> None:
        """The link of this name is gone."""

    def receive(self, data: bytes, link: str, origin: Origin) -> None:
        """A datagram came in by the link of this name."""
