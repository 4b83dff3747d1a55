"""A network interface as a link: all are reached by the group, one neighbour by his address."""

from meshchat.adapters.links.interfaces import Interface
from meshchat.adapters.links.udp import UdpOrigin, UdpPort, UdpSocket
from meshchat.constants import MAX_MTU
from meshchat.protocol.air import AirShare
from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin


class InterfaceLink:
    """An interface in use, with its own socket."""

    def __init__(self, interface: Interface, socket: UdpSocket, port: UdpPort, air: AirShare) -> None:
        """`socket` has joined the group of `port` on the interface; it is closed by `close`."""
        self.interface, self.socket = interface, socket
        self._port, self._air = port, air

    @property
    def profile(self) -> LinkProfile:
        """What the engine is told of it."""
        mtu = min(self.interface.mtu, MAX_MTU)
        return LinkProfile(self.interface.name, mtu, is_broadcast=True, air=self._air)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self.socket.queued

    @property
    def lost(self) -> int:
        """Datagrams that the kernel did not take."""
        return self.socket.lost

    def send(self, data: bytes, to: Origin | None) -> None:
        """To the group, or to a neighbour, by this interface wherever routes lead."""
        if isinstance(to, UdpOrigin):
            self.socket.send(data, to.address, self.interface.index, to.local)
        else:
            self.socket.send(data, self._port.group, self.interface.index)

    def words(self, origin: Origin) -> str:
        """A neighbour's IPv4 address."""
        return origin.host if isinstance(origin, UdpOrigin) else str(origin)

    def close(self) -> None:
        """Leaves the group."""
        self.socket.close()
