"""The machine's network interfaces: what they are, which ones to use, and when they change.

Flags and sizes come from the kernel by ioctl (netdevice(7)), so they are true in whatever network namespace
the daemon runs in. Addresses come from netifaces where it is installed (0.11 and netifaces2 agree on all
that is used here) and else by ioctl, which tells only an interface's first address.
"""

import contextlib
import errno
import fcntl
import importlib
import socket
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshchat.constants import MIN_MTU

netifaces: Any  # typed in netifaces2, not in 0.11
try:
    netifaces = importlib.import_module("netifaces")
except ImportError:  # OpenWrt 25.12 has no package of it
    netifaces = None

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFMTU = 0x8921

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_MULTICAST = 0x1000

_RTF_UP = 0x1
_RTF_REJECT = 0x200

_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV4_ROUTE = 0x40


@dataclass(frozen=True)
class Interface:
    """One interface. `addresses` are IPv4, `mtu` bytes, `master` the bridge or bat0 it is enslaved to."""

    name: str
    index: int
    mtu: int
    addresses: tuple[str, ...]
    up: bool
    multicast: bool
    loopback: bool
    default_route: bool
    master: str | None


def list_interfaces() -> dict[str, Interface]:
    """Every interface of the machine by name. One that vanishes meanwhile is left out; nothing is raised."""
    with_default_route = _default_routes()
    listing = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                listing[name] = _interface(probe, index, name, name in with_default_route)
    return listing


def choose(configured: Collection[str], listing: Mapping[str, Interface]) -> set[str]:
    """The names of the interfaces to send and listen on.

    Those `configured`, as far as they are there and up. With none configured: every interface that is up, can
    multicast and has an IPv4 address, except loopback, the one that holds the default route, and those
    enslaved to a bridge or bat0, which is the one to join on. An interface without an address would send
    under another one's, for which OpenWrt (arp_ignore=1) answers no ARP there: only a person chooses that.
    """
    if configured:
        return {name for name in configured if name in listing and listing[name].up}
    return {
        name
        for name, interface in listing.items()
        if interface.up
        and interface.multicast
        and interface.addresses
        and interface.mtu >= MIN_MTU
        and not interface.loopback
        and not interface.default_route
        and interface.master is None
    }


def _interface(probe: socket.socket, index: int, name: str, default_route: bool) -> Interface:
    """What the kernel says about one interface; raises OSError where it has gone."""
    (flags,) = struct.unpack_from("=H", _ask(probe, _SIOCGIFFLAGS, name), 16)
    (mtu,) = struct.unpack_from("=i", _ask(probe, _SIOCGIFMTU, name), 16)
    return Interface(
        name=name,
        index=index,
        mtu=mtu,
        addresses=_addresses(probe, name),
        up=bool(flags & _IFF_UP),
        multicast=bool(flags & _IFF_MULTICAST),
        loopback=bool(flags & _IFF_LOOPBACK),
        default_route=default_route,
        master=_master(index, name),
    )


def _ask(probe: socket.socket, request: int, name: str) -> bytes:
    """The answer to an ioctl about an interface: `struct ifreq`, a name of 16 bytes and then the value."""
    return fcntl.ioctl(probe, request, struct.pack("=16s24x", name.encode()))


def _addresses(probe: socket.socket, name: str) -> tuple[str, ...]:
    if netifaces is not None:
        try:
            found = netifaces.ifaddresses(name).get(netifaces.AF_INET, [])
        except ValueError:  # netifaces 0.11 where the interface has just gone
            return ()
        return tuple(entry["addr"] for entry in found if "addr" in entry)
    try:
        answer = _ask(probe, _SIOCGIFADDR, name)
    except OSError:
        return ()
    return (socket.inet_ntoa(answer[20:24]),)


def _master(index: int, name: str) -> str | None:
    """The interface that `name` is enslaved to, by sysfs, which may show another namespace's interfaces."""
    shown = Path("/sys/class/net") / name
    try:
        if int((shown / "ifindex").read_text()) == index:
            return (shown / "master").readlink().name
    except (OSError, ValueError):
        pass
    return None


def _default_routes() -> frozenset[str]:
    """The interfaces that hold an IPv4 default route, gateway or not.

    Read from /proc because netifaces knows only routes with a gateway, which a PPP line has none of.
    """
    try:
        rows = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return frozenset()
    found = set()
    for row in rows:
        name, destination, _gateway, flags, _, _, _, mask, *_ = row.split()
        if destination == mask == "00000000" and int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP:
            found.add(name)
    return frozenset(found)


class InterfaceWatch:
    """A wake-up for the event loop whenever a link, an IPv4 address or a route changes (rtnetlink(7)).

    Use `watch_interfaces` to make one. `fileno` is readable after a change; `drain` then makes it quiet.
    """

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink

    def fileno(self) -> int:
        """For `loop.add_reader`."""
        return self._netlink.fileno()

    def drain(self) -> bool:
        """Forgets what was reported; returns whether anything was. A new listing tells what changed."""
        changed = False
        while True:
            try:
                self._netlink.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # that one means more changes than the buffer held
                    return changed
            changed = True

    def close(self) -> None:
        """Ends the watch."""
        self._netlink.close()


def watch_interfaces() -> InterfaceWatch | None:
    """A watch, or None where the kernel grants none: then new listings, now and then, have to do."""
    try:
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
    except OSError:
        return None
    try:
        netlink.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_ROUTE))
    except OSError:
        netlink.close()
        return None
    return InterfaceWatch(netlink)
