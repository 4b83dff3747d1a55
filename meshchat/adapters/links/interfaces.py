"""The machine's network interfaces: what they are, which ones to use, and when they change.

Flags and sizes come from the kernel by ioctl (netdevice(7)), so they are true in whatever network namespace
the daemon runs in. Addresses come from netifaces where it is installed (0.11 and netifaces2 agree on all
that is used here) and else by ioctl, which tells only an interface's first address.
"""

import contextlib
import errno
import fcntl
import importlib
import os
import socket
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshchat.adapters.links.routes import main_table, ways_out
from meshchat.constants import MIN_MTU

netifaces: Any  # typed in netifaces2, not in 0.11
try:
    netifaces = importlib.import_module("netifaces")
except ImportError:  # OpenWrt 25.12 has no package of it
    netifaces = None

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFMTU = 0x8921
_SIOCGIFINDEX = 0x8933

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_MULTICAST = 0x1000

_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV4_ROUTE = 0x40
_RTMGRP_IPV4_RULE = 0x80


@dataclass(frozen=True)
class Interface:
    """One interface. `addresses` are IPv4, `mtu` bytes, `master` the bridge or bat0 it is enslaved to.

    `default_route`: it holds one, or the Internet is reached by it through whatever routes. A name that is no
    UTF-8 has surrogates, as `os.fsdecode` makes them.
    """

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
    """Every interface of the machine by name. One that vanishes meanwhile is left out.

    Raises `OSError` where no more file may be opened: nothing is known then, not even that there are none.
    """
    listing = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in _names():
            with contextlib.suppress(OSError):
                listing[name] = _interface(probe, name)
    holders = {route.interface for route in main_table() if not route.destination and not route.mask}
    out = ways_out({address: one.index for one in listing.values() for address in one.addresses})
    for name, one in listing.items():
        if name in holders or one.index in out:
            listing[name] = replace(one, default_route=True)
    return listing


def _names() -> list[str]:
    """The names of all interfaces; where the kernel grants no netlink, as /proc has them."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
    try:
        rows = Path("/proc/net/dev").read_bytes().splitlines()[2:]
    except OSError:
        return []
    return [os.fsdecode(row.partition(b":")[0].strip()) for row in rows]


def choose(configured: Collection[str], listing: Mapping[str, Interface]) -> set[str]:
    """The names of the interfaces to send and listen on.

    Those `configured`, as far as they are there and up. With none configured: every interface that is up, can
    multicast and has an IPv4 address, except loopback, the one that holds the default route, and those
    enslaved to a bridge or bat0, which is the one to join on. An interface without an address would send
    under another one's, for which OpenWrt (arp_ignore=1) answers no ARP there: only a person chooses that.
    """
    if configured:
        return {name for name in configured if name in listing and listing[name].up}
    return {name for name, interface in listing.items() if not why_not(interface)}


def reasons_not(listing: Mapping[str, Interface]) -> str:
    """Why each interface that is up is not used unless named: "eth0 leads to the Internet, wlan0 ..."."""
    up = [one for one in listing.values() if one.up and not one.loopback and one.master is None]
    return ", ".join(f"{one.name} {why_not(one)}" for one in up if why_not(one))


def why_not(interface: Interface) -> str:
    """Why an interface is not used unless somebody names it, as what follows its name; empty where it is."""
    reasons = {
        "is the machine itself": interface.loopback,
        "is down": not interface.up,
        f"belongs to {interface.master}": interface.master is not None,
        "leads to the Internet": interface.default_route,
        "has no IPv4 address": not interface.addresses,
        "cannot multicast": not interface.multicast,
        f"takes no {MIN_MTU} bytes at once": interface.mtu < MIN_MTU,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _interface(probe: socket.socket, name: str) -> Interface:
    """What the kernel says about one interface; raises OSError where it has gone."""
    (index,) = struct.unpack_from("=i", _ask(probe, _SIOCGIFINDEX, name), 16)
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
        default_route=False,
        master=_master(index, name),
    )


def _ask(probe: socket.socket, request: int, name: str) -> bytes:
    """The answer to an ioctl about an interface: `struct ifreq`, a name of 16 bytes and then the value."""
    return fcntl.ioctl(probe, request, struct.pack("=16s24x", os.fsencode(name)))


def _addresses(probe: socket.socket, name: str) -> tuple[str, ...]:
    if netifaces is not None:
        # ValueError: a name that is no UTF-8, or netifaces 0.11 where the interface has just gone. OSError:
        # no netlink is granted. The kernel tells at least the first address.
        with contextlib.suppress(ValueError, OSError):
            found = netifaces.ifaddresses(name).get(netifaces.AF_INET, [])
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
        netlink.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV4_RULE))
    except OSError:
        netlink.close()
        return None
    return InterfaceWatch(netlink)
