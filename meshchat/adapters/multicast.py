"""The one UDP socket: multicast on each interface, unicast to neighbours and configured peers.

Groups are joined, and datagrams sent, by interface index (ip(7): `ip_mreqn`, `IP_PKTINFO`), so that neither
a multicast route nor a default route is needed. A datagram that the kernel does not take is counted and
otherwise lost like any other: the protocol repairs losses, and a socket error must never stop a router.
"""

import contextlib
import errno
import socket
import struct
import sys
from collections import Counter
from typing import NamedTuple

from meshchat.constants import MAX_MTU
from meshchat.errors import ConfigError

Address = tuple[str, int]
"""IPv4 address in dotted decimals, UDP port."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes the kernel may hold while the router is busy with its flash: half a second of a 6 Mbit/s radio,
whose short datagrams count more than double. An ordinary user may be granted less (rmem_max)."""

_DATAGRAM = 2048
"""Bytes read of a datagram: more than `MAX_MTU` lets through, so that what is cut off here is not ours."""
assert _DATAGRAM > MAX_MTU

# Linux's numbers, which Python's socket module names only in later versions.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_IP_MULTICAST_ALL = 49
_SO_RCVBUFFORCE = 33
_SO_RXQ_OVFL = 40
_MSG_TRUNC = int(socket.MSG_TRUNC)  # plain: with an enumeration each test costs half a recvmsg

_PKTINFO = struct.Struct("=i4s4s")
"""`struct in_pktinfo`: interface index, local address, destination in the header."""


class Received(NamedTuple):
    """A datagram as it came: from `address`, on the interface `ifindex`, to the group or to us alone."""

    data: bytes
    address: Address
    ifindex: int
    multicast: bool


class MulticastPort:
    """The socket. Not asynchronous: the event loop watches `fileno` and calls `drain`.

    `errors` counts what failed by the kernel's name for it (`ENETUNREACH`), prefixed by what was tried
    (`send`, `receive`, `join`, `leave`), and `receive TRUNCATED` and `receive OVERRUN` (datagrams that came
    faster than they were read).
    """

    def __init__(self, group: str, port: int) -> None:
        """Opens UDP `port` for `group`, joined nowhere yet.

        Raises `ConfigError` where the port is reserved, or taken: it is never shared, for each of two daemons
        would miss unicast meant for it.
        """
        self.errors: Counter[str] = Counter()
        self._group = socket.inet_aton(group)
        self._joined: set[int] = set()
        self._overruns = 0
        self._socket = _open(port)
        self._group_address = (group, self.port)

    @property
    def port(self) -> int:
        """The UDP port."""
        return int(self._socket.getsockname()[1])

    @property
    def joined(self) -> frozenset[int]:
        """The indexes of the interfaces on which the group has been joined."""
        return frozenset(self._joined)

    def fileno(self) -> int:
        """For `loop.add_reader`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leaves every group and frees the port."""
        self._joined.clear()
        self._socket.close()

    # --- Groups -----------------------------------------------------------------------------------------

    def join(self, ifindex: int) -> bool:
        """Listens for the group on an interface; returns whether it does now.

        An interface that was removed and made anew has another index: leave the old one, join the new one.
        """
        if ifindex not in self._joined and self._membership("join", socket.IP_ADD_MEMBERSHIP, ifindex):
            self._joined.add(ifindex)
        return ifindex in self._joined

    def leave(self, ifindex: int) -> None:
        """Stops listening on an interface, which may have gone already."""
        if ifindex in self._joined:
            self._joined.discard(ifindex)
            self._membership("leave", socket.IP_DROP_MEMBERSHIP, ifindex)

    def _membership(self, what: str, option: int, ifindex: int) -> bool:
        request = struct.pack("=4s4si", self._group, bytes(4), ifindex)
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, option, request)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # joined already
                return True
            self._count(what, error)
            return False
        return True

    # --- Sending ----------------------------------------------------------------------------------------

    def send_group(self, data: bytes, ifindex: int) -> bool:
        """Multicasts a datagram on one interface; returns whether the kernel took it."""
        return self.send_to(data, self._group_address, ifindex)

    def send_to(self, data: bytes, address: Address, ifindex: int = 0) -> bool:
        """Sends a datagram to `address`; returns whether the kernel took it.

        With an `ifindex` it leaves by that interface: a neighbour's address need not be in any route, and the
        route to it may lead elsewhere.
        """
        pinned = []
        if ifindex:
            pinned.append((socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(ifindex, bytes(4), bytes(4))))
        try:
            self._socket.sendmsg([data], pinned, 0, address)
        except OSError as error:
            self._count("send", error)
            return False
        return True

    # --- Receiving --------------------------------------------------------------------------------------

    def drain(self, limit: int = 64) -> list[Received]:
        """The datagrams that wait, at most `limit` so that a flood cannot starve the event loop."""
        datagrams = []
        for _ in range(limit):
            try:
                data, ancillary, flags, address = self._socket.recvmsg(_DATAGRAM, 128)
            except BlockingIOError:
                break
            except OSError as error:
                self._count("receive", error)
                continue
            ifindex, multicast = self._arrival(ancillary)
            if flags & _MSG_TRUNC:
                self.errors["receive TRUNCATED"] += 1
            else:
                datagrams.append(Received(data, address, ifindex, multicast))
        return datagrams

    def _arrival(self, ancillary: list[tuple[int, int, bytes]]) -> tuple[int, bool]:
        """The interface that a datagram came in by, and whether it was sent to more than us."""
        ifindex, multicast = 0, False
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                ifindex, local, destination = _PKTINFO.unpack_from(value)
                multicast = local != destination
            elif (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                total = int.from_bytes(value[:4], sys.byteorder)
                self.errors["receive OVERRUN"] += (total - self._overruns) % 2**32
                self._overruns = total
        return ifindex, multicast

    def _count(self, what: str, error: OSError) -> None:
        self.errors[f"{what} {errno.errorcode.get(error.errno or 0, 'UNKNOWN')}"] += 1


def _open(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for level, option, value in (
        (socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0),  # only groups that this socket has joined
        (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
        (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1),
        (socket.IPPROTO_IP, _IP_PKTINFO, 1),
        # Tunnels often swallow the ICMP that path MTU discovery lives on; routers may fragment for us.
        (socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT),
        (socket.SOL_SOCKET, _SO_RXQ_OVFL, 1),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER),
    ):
        opened.setsockopt(level, option, value)
    with contextlib.suppress(PermissionError):  # only root may exceed rmem_max
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    try:
        opened.bind(("", port))
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"Port {port} is in use: a meshchat daemon or another program has it already. "
                "Stop that one, or give every router of the mesh another port with --port."
            )
        elif error.errno == errno.EACCES:
            reason = f"Port {port} is reserved for root: choose one above 1023 with --port."
        else:
            reason = f"UDP port {port} cannot be opened: {error.strerror}."
        raise ConfigError(reason) from None
    return opened
