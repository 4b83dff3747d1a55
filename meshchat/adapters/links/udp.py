"""UDP as interfaces and unicast peers use it: sockets of one UDP port, each with a queue of its own.

Groups are joined, and datagrams sent, by interface index (ip(7): `ip_mreqn`, `IP_PKTINFO`), so that neither
a multicast route nor a default route is needed. A datagram that the kernel does not take is counted and
otherwise lost like any other: the protocol repairs losses, and a socket error must never stop a router.
"""

import contextlib
import errno
import fcntl
import socket
import struct
import sys
import termios
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from meshchat.constants import MAX_MTU
from meshchat.errors import ConfigError

Address = tuple[str, int]
"""IPv4 address in dotted decimals, UDP port."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes the kernel may hold while the router is busy with its flash: half a second of a 6 Mbit/s radio,
whose short datagrams count more than double. An ordinary user may be granted less (rmem_max)."""

SEND_BUFFER = 64 * 1024
"""Bytes of datagrams that may wait on one link, which the kernel doubles for what it needs to keep them: some
55 full frames, half a second of a radio at 1 Mb/s. What comes later than that misleads."""

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

_NOT_OURS = (errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
"""What Linux says, by its version, of a source address that this machine has no more."""

_PKTINFO = struct.Struct("=i4s4s")
"""`struct in_pktinfo`: interface index, local address, destination in the header."""
_ANY = bytes(4)


@dataclass(frozen=True, slots=True)
class UdpOrigin:
    """Whom a datagram came from. Ports cost nothing, so one host is one sender whatever its port.

    How it is answered rides along: its UDP `port`, and `local`, the address of this router that it asked,
    empty where it spoke to a group.
    """

    host: str
    port: int = field(compare=False)
    local: str = field(compare=False, default="")

    def __hash__(self) -> int:
        return hash(self.host)

    @property
    def address(self) -> Address:
        """Where an answer goes."""
        return self.host, self.port


_origin = lru_cache(maxsize=1024)(UdpOrigin)
"""Datagrams come by the hundred from the same few."""


class Received(NamedTuple):
    """A datagram as it came: from whom, on the interface `ifindex`, to a group or to us alone."""

    data: bytes
    origin: UdpOrigin
    ifindex: int
    multicast: bool


class UdpSocket:
    """One socket. Not asynchronous: the event loop watches `fileno` and calls `drain`.

    `errors` counts what failed by the kernel's name for it (`ENETUNREACH`), prefixed by what was tried
    (`send`, `receive`, `join`), and `receive TRUNCATED` and `receive OVERRUN` (datagrams that came faster
    than they were read); `lost` counts what was to be sent and was not.
    """

    def __init__(self, opened: socket.socket, errors: Counter[str]) -> None:
        """`errors` may be shared by sockets."""
        self._socket, self.errors = opened, errors
        self.lost = 0
        self._overruns = 0

    def fileno(self) -> int:
        """For `loop.add_reader`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leaves its group, where it has joined one."""
        self._socket.close()

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent (udp(7), SIOCOUTQ), with what the kernel needs to keep them."""
        answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    # --- Sending ----------------------------------------------------------------------------------------

    def send(self, data: bytes, address: Address, ifindex: int = 0, source: str = "") -> bool:
        """Sends a datagram to `address`; returns whether the kernel took it.

        With an `ifindex` it leaves by that interface: a neighbour's address need not be in any route, and the
        route to it may lead elsewhere. With a `source` it leaves under this address of ours, as long as we
        have it.
        """
        pinned = []
        if ifindex or source:
            local = socket.inet_aton(source) if source else _ANY
            pinned.append((socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(ifindex, local, _ANY)))
        try:
            self._socket.sendmsg([data], pinned, 0, address)
        except OSError as error:
            if source and error.errno in _NOT_OURS:
                return self.send(data, address, ifindex)
            self.lost += 1
            self._count("send", error)
            return False
        return True

    # --- Receiving --------------------------------------------------------------------------------------

    def drain(self, limit: int = 64) -> list[Received]:
        """The datagrams that wait, at most `limit` so that a flood cannot starve the event loop."""
        datagrams = []
        for _ in range(limit):
            try:
                data, ancillary, flags, (host, port) = self._socket.recvmsg(_DATAGRAM, 128)
            except BlockingIOError:
                break
            except OSError as error:
                self._count("receive", error)
                continue
            ifindex, local = self._arrival(ancillary)
            if flags & _MSG_TRUNC:
                self.errors["receive TRUNCATED"] += 1
            else:
                datagrams.append(Received(data, _origin(host, port, local), ifindex, not local))
        return datagrams

    def _arrival(self, ancillary: list[tuple[int, int, bytes]]) -> tuple[int, str]:
        """The interface that a datagram came in by, and our address that it was sent to, if to us alone."""
        ifindex, asked = 0, ""
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                ifindex, local, destination = _PKTINFO.unpack_from(value)
                asked = socket.inet_ntoa(local) if local == destination else ""
            elif (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                total = int.from_bytes(value[:4], sys.byteorder)
                self.errors["receive OVERRUN"] += (total - self._overruns) % 2**32
                self._overruns = total
        return ifindex, asked

    def _count(self, what: str, error: OSError) -> None:
        self.errors[f"{what} {errno.errorcode.get(error.errno or 0, 'UNKNOWN')}"] += 1


class UdpPort:
    """The UDP port of this router: a socket for unicast, and one for each interface with the group.

    A socket joins the group on one interface only and is bound to the group: so there is no limit to their
    number (net.ipv4.igmp_max_memberships is 20 a socket), a datagram comes once, unicast comes to the one
    socket that is for it, and a radio that is busy fills nobody else's queue.
    """

    def __init__(self, group: str, port: int) -> None:
        """Opens UDP `port` for `group`, joined nowhere yet.

        Raises `ConfigError` where the port is reserved, or taken: it is never shared, for each of two daemons
        would miss unicast meant for it.
        """
        self.errors: Counter[str] = Counter()
        self._group = group
        self._exclusive = _open_exclusively(port)
        self.unicast = UdpSocket(self._exclusive, self.errors)

    @property
    def number(self) -> int:
        """The UDP port's number."""
        return int(self._exclusive.getsockname()[1])

    @property
    def group(self) -> Address:
        """Where multicast goes."""
        return self._group, self.number

    def close(self) -> None:
        """Frees the port, once the sockets of the interfaces are closed as well."""
        self.unicast.close()

    def join(self, ifindex: int) -> UdpSocket | None:
        """A socket on which the group is heard by this interface; None where the kernel refuses that.

        An interface that was removed and made anew has another index: close the old socket, and join anew.
        """
        opened = None
        try:
            opened = _new_socket()
            with self._shared():
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind(self.group)
            request = struct.pack("=4s4si", socket.inet_aton(self._group), _ANY, ifindex)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            if opened is not None:
                opened.close()
            self.errors[f"join {errno.errorcode.get(error.errno or 0, 'UNKNOWN')}"] += 1
            return None
        return UdpSocket(opened, self.errors)

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        """Lets other sockets have the port meanwhile; after that it is refused to whoever asks, as before."""
        self._exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            yield
        finally:
            self._exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _new_socket() -> socket.socket:
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
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
    ):
        opened.setsockopt(level, option, value)
    with contextlib.suppress(PermissionError):  # only root may exceed rmem_max
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    return opened


def _open_exclusively(port: int) -> socket.socket:
    opened = _new_socket()
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
