"""Where the kernel sends IPv4: its main table as /proc shows it, and its own answer for an address.

The answer heeds all tables and rules, so it is true of VPNs that take the Internet by a table of their own or
by two half routes beside the default one. Nothing is sent or raised: what cannot be asked is unknown.
"""

import contextlib
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_RTF_UP = 0x1
_RTF_REJECT = 0x200

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST = 1
_RTA_DST, _RTA_OIF = 1, 4
_NLMSGHDR = struct.Struct("=IHHII")
"""`struct nlmsghdr` of netlink(7): length, type, flags, sequence number, port."""
_RTMSG = struct.Struct("=BBBBBBBBI")
"""`struct rtmsg` of rtnetlink(7): family, lengths of prefixes, tos, table, protocol, scope, type, flags."""
_RTATTR = struct.Struct("=HH")
_ANSWER_S = 1.0

SOMEWHERE = (
    *("9.9.9.9", "45.33.32.156", "80.67.169.12", "104.16.0.1"),
    *("140.82.112.3", "163.172.0.1", "193.0.14.129", "208.67.222.222"),
)
"""One address in each eighth of the Internet. A mesh may route some block of public addresses of its own."""

LEADS_OUT = 2
"""Of those, by how many an interface has to be the way, to count as one to the Internet."""


class Route(NamedTuple):
    """A row of the main table that is up; numbers as /proc has them, bytes in the network's order."""

    interface: str
    destination: int
    mask: int


def main_table(root: Path = Path("/")) -> Iterator[Route]:
    """The rows of /proc/net/route that lead somewhere. Names of interfaces need not be UTF-8."""
    try:
        # As bytes: a name may hold what text is split at, such as U+0085.
        rows = (root / "proc/net/route").read_bytes().splitlines()[1:]
    except OSError:
        return
    for row in rows:
        with contextlib.suppress(ValueError):
            name, destination, _, flags, _, _, _, mask, *_ = row.split()
            if int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP:
                yield Route(os.fsdecode(name), int(destination, 16), int(mask, 16))


def ways_out(owners: Mapping[str, int]) -> frozenset[int]:
    """The indexes of the interfaces by which the Internet is reached now.

    `owners` are the indexes of the interfaces by their addresses: where the kernel grants no netlink, an
    interface is known by the address that would be sent from.
    """
    asked = _by_netlink()
    if asked is None:
        asked = [owners[source] for source in map(_source, SOMEWHERE) if source in owners]
    return frozenset(index for index, count in Counter(asked).items() if count >= LEADS_OUT)


def _by_netlink() -> list[int] | None:
    """The interface that each address of `SOMEWHERE` is reached by, if it is; None where nobody answers."""
    found = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(_ANSWER_S)
            for address in SOMEWHERE:
                netlink.send(_question(address))
                found.append(_way(netlink.recv(8192)))
    except OSError:
        return None
    return [index for index in found if index]


def _question(address: str) -> bytes:
    attribute = _RTATTR.pack(8, _RTA_DST) + socket.inet_aton(address)
    route = _RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    size = _NLMSGHDR.size + len(route) + len(attribute)
    return _NLMSGHDR.pack(size, _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0) + route + attribute


def _way(answer: bytes) -> int:
    """The outgoing interface's index in an answer; 0 where there is no way."""
    size, kind, _, _, _ = _NLMSGHDR.unpack_from(answer)
    if kind != _RTM_NEWROUTE:
        return 0
    at = _NLMSGHDR.size + _RTMSG.size
    while at + _RTATTR.size <= min(size, len(answer)):
        length, kind = _RTATTR.unpack_from(answer, at)
        if kind == _RTA_OIF:
            return int(struct.unpack_from("=I", answer, at + _RTATTR.size)[0])
        at += max(length + 3 & ~3, _RTATTR.size)
    return 0


def _source(address: str) -> str:
    """The address that would be sent from, by the routes; empty where none leads there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # of UDP: nothing is sent
        return str(probe.getsockname()[0])
    return ""
