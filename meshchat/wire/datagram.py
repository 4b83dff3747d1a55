"""The envelope of a datagram: magic, version, and the packets in the open or under the mesh key."""

from struct import Struct
from typing import NamedTuple

from meshchat.errors import Malformed
from meshchat.wire.codec import Reader, uint
from meshchat.wire.ids import (
    MESH_ID_SIZE,
    ROUTER_ID_SIZE,
    SEAL_NONCE_SIZE,
    BootId,
    MeshId,
    RouterId,
    SealNonce,
)

WIRE_VERSION = 1
"""Version of the datagram layout. A reader drops, counts and reports datagrams of a later one."""

MAGIC = 0x6D
PLAIN, SEALED = 0, 1
TAG_SIZE = 16
PLAIN_OVERHEAD = 3 + MESH_ID_SIZE + ROUTER_ID_SIZE
SEALED_OVERHEAD = 3 + SEAL_NONCE_SIZE + TAG_SIZE

PLAIN_HEADER = bytes((MAGIC, WIRE_VERSION, PLAIN))
SEALED_HEADER = bytes((MAGIC, WIRE_VERSION, SEALED))
_PLAIN = Struct(f"3x{MESH_ID_SIZE}s{ROUTER_ID_SIZE}s")
_SEALED = Struct(">3x8s8sQ")


class PlainDatagram(NamedTuple):
    """Packets of mesh `mesh` in the open."""

    mesh: MeshId
    sender: RouterId
    packets: bytes

    def encode(self) -> bytes:
        """magic u8, version u8, form u8 = 0, mesh 8, sender 8, packets."""
        return PLAIN_HEADER + self.mesh + self.sender + self.packets


class SealedDatagram(NamedTuple):
    """Packets under the mesh key. The nonce is the sender's id, its boot id and a counter, 8 bytes each.

    The three header bytes and the mesh id, which does not travel, are authenticated with it.
    """

    sender: RouterId
    boot: BootId
    counter: int
    ciphertext: bytes

    @property
    def nonce(self) -> SealNonce:
        """24 bytes, never used twice: the boot id is new at each start, the counter at each datagram."""
        return SealNonce(self.sender + self.boot + uint(self.counter, 8))

    def encode(self) -> bytes:
        """magic u8, version u8, form u8 = 1, nonce 24, ciphertext with its 16-byte tag."""
        return SEALED_HEADER + self.nonce + self.ciphertext


class LaterVersion(Malformed):
    """A datagram of a version this reader does not know."""

    def __init__(self, version: int) -> None:
        super().__init__("version")
        self.version = version


def decode_datagram(data: bytes) -> PlainDatagram | SealedDatagram:
    """The envelope in `data`; raises `Malformed`, or `LaterVersion` where the layout is a later one."""
    reader = Reader(data)
    if data.startswith(PLAIN_HEADER):
        mesh, sender = reader.fields(_PLAIN)
        return PlainDatagram(mesh, sender, reader.rest())
    if data.startswith(SEALED_HEADER):
        sender, boot, counter = reader.fields(_SEALED)
        return SealedDatagram(sender, boot, counter, reader.rest())
    header = reader.take(3)
    if header[0] != MAGIC:
        raise Malformed("magic")
    if header[1] != WIRE_VERSION:
        raise LaterVersion(header[1])
    raise Malformed("form")
