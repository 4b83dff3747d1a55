"""Datagrams in and out of their envelope: in the open, or under the mesh key and safe from replay."""

from collections.abc import Sequence

from meshchat.constants import MAX_MTU, MIN_MTU
from meshchat.errors import Malformed
from meshchat.identity.meshkey import Sealer
from meshchat.state.seen import ReplayGuard
from meshchat.wire.datagram import (
    PLAIN_OVERHEAD,
    SEALED_HEADER,
    SEALED_OVERHEAD,
    PlainDatagram,
    SealedDatagram,
    decode_datagram,
)
from meshchat.wire.ids import BootId, MeshId, RouterId, SenderRun
from meshchat.wire.packets import Packet, encode_packet

IP_UDP_HEADERS = 28
"""Bytes of IPv4 and UDP header that an interface's MTU has to hold beside the datagram."""

_MAX_RUNS = 1024


class Envelope:
    """Wraps and unwraps the datagrams of one mesh for one router."""

    def __init__(self, mesh: MeshId, router: RouterId, boot: BootId, sealer: Sealer) -> None:
        """`boot` is 8 random bytes, new at each start: with the counter it makes nonces unique."""
        self._mesh, self._router, self._boot = mesh, router, boot
        self._counter = 0
        self._replays = ReplayGuard(_MAX_RUNS)
        self.sealer = sealer

    def capacity(self, mtu: int) -> int:
        """Bytes of packets that fit into a datagram on an interface with this MTU."""
        overhead = SEALED_OVERHEAD if self.sealer else PLAIN_OVERHEAD
        return max(MIN_MTU, min(mtu, MAX_MTU)) - IP_UDP_HEADERS - overhead

    def wrap(self, packets: Sequence[Packet]) -> bytes:
        """The datagram that carries the packets."""
        body = b"".join(encode_packet(packet) for packet in packets)
        if not self.sealer:
            return PlainDatagram(self._mesh, self._router, body).encode()
        self._counter += 1
        draft = SealedDatagram(self._router, self._boot, self._counter, b"")
        sealed = self.sealer.seal(draft.nonce, SEALED_HEADER + self._mesh, body)
        return draft.encode() + sealed

    def unwrap(self, data: bytes) -> tuple[RouterId, bytes]:
        """(sender's id, packets' bytes) of a datagram of this mesh.

        Raises `Malformed`: "own" for this router's own, "mesh" for another mesh's, "unsealed" for an open
        one where a mesh key is set, "sealed" where no key fits, "replay", or the decoder's reasons.
        """
        datagram = decode_datagram(data)
        if datagram.sender == self._router:
            raise Malformed("own")
        if isinstance(datagram, PlainDatagram):
            if datagram.mesh != self._mesh:
                raise Malformed("mesh")
            if self.sealer:
                raise Malformed("unsealed")
            return datagram.sender, datagram.packets
        body = self.sealer.open(datagram.nonce, SEALED_HEADER + self._mesh, datagram.ciphertext)
        if body is None:
            raise Malformed("sealed")
        if not self._replays.fresh(SenderRun(datagram.sender + datagram.boot), datagram.counter):
            raise Malformed("replay")
        return datagram.sender, body
