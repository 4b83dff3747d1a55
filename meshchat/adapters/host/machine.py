"""What the machine says of its bridges, batman-adv, routes and disks, in /sys and /proc. Nothing is raised.

What cannot be read is as if it were not there: `meshchat check` guesses nothing.
"""

import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meshchat.adapters.links.interfaces import Interface, list_interfaces
from meshchat.adapters.links.routes import main_table

_BATMAN_NAME = re.compile(r"bat\d+", re.ASCII)

_RAM = {"tmpfs", "ramfs", "rootfs"}
_FLASH = {"jffs2", "ubifs", "squashfs", "f2fs"}
"""File systems that a router has on its own flash; f2fs is that of larger ones."""


@dataclass(frozen=True)
class Mount:
    """The file system of a path. `free` and `size` are bytes; `kind` is "ram", "flash" or "disk"."""

    point: Path
    kind: str
    read_only: bool
    free: int
    size: int


class Machine:
    """The machine below `root`, whose interfaces `listing` lists."""

    def __init__(
        self, root: Path = Path("/"), listing: Callable[[], Mapping[str, Interface]] = list_interfaces
    ) -> None:
        self._root, self._listing = root, listing

    # --- Interfaces -------------------------------------------------------------------------------------

    def interfaces(self) -> Mapping[str, Interface]:
        """All interfaces by name; none where they cannot be listed now."""
        try:
            return self._listing()
        except OSError:
            return {}

    def top(self, name: str) -> str:
        """The interface over `name` that has no master itself: the bridge over bat0 over wlan0. Or `name`."""
        listing, passed = self.interfaces(), {name}
        while (one := listing.get(name)) is not None and one.master and one.master not in passed:
            name = one.master
            passed.add(name)
        return name

    def is_batman(self, name: str) -> bool:
        """Whether it is an interface of batman-adv, or a bridge with one in it."""
        ports = self._names(f"sys/class/net/{name}/brif")
        return any(
            _BATMAN_NAME.fullmatch(one)
            or self._there(f"sys/class/net/{one}/mesh")
            or "DEVTYPE=batadv" in self._read(f"sys/class/net/{one}/uevent")
            for one in (name, *ports)
        )

    def snoops_unasked(self, name: str) -> bool:
        """Whether it is a bridge that drops groups nobody reports, and does not ask for reports itself."""
        bridge = f"sys/class/net/{name}/bridge"
        return (
            self._read(f"{bridge}/multicast_snooping") == "1"
            and self._read(f"{bridge}/multicast_querier") == "0"
        )

    def route_to(self, address: str) -> str | None:
        """The interface that the routing table has an IPv4 address leave by, or None."""
        wanted = _number(address)
        matching = [route for route in main_table(self._root) if wanted & route.mask == route.destination]
        best = max(matching, key=lambda route: route.mask.bit_count(), default=None)
        return None if best is None else best.interface

    # --- Disks ------------------------------------------------------------------------------------------

    def mount_of(self, path: Path) -> Mount | None:
        """The file system that `path`, or what is there of the way to it, lies on."""
        while not os.path.exists(path) and path != path.parent:
            path = path.parent
        path = path.resolve()
        mounts = self._mounts()
        points = [point for point in mounts if path == point or point in path.parents]
        try:
            room = os.statvfs(path)
        except OSError:
            return None
        if not points:
            return None
        point = max(points, key=lambda one: len(one.parts))
        system, options = mounts[point]
        if system == "overlay":  # on a router /overlay is what it writes to
            system, options = mounts.get(Path("/overlay"), (system, options))
        kind = "ram" if system in _RAM else "flash" if system in _FLASH else "disk"
        read_only = "ro" in options.split(",")
        return Mount(point, kind, read_only, room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize)

    def _mounts(self) -> dict[Path, tuple[str, str]]:
        """Type and options by mount point; of several at one point, the one that is seen."""
        found = {}
        for row in self._read("proc/mounts").splitlines():
            fields = row.split(" ")
            if len(fields) >= 4:
                point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
                found[Path(point)] = fields[2], fields[3]
        return found

    # --- Reading ----------------------------------------------------------------------------------------

    @property
    def is_openwrt(self) -> bool:
        """Whether this is a router with OpenWrt's way of being set up."""
        return self._there("etc/openwrt_release")

    def _there(self, name: str) -> bool:
        return os.path.exists(self._root / name)

    def _read(self, name: str) -> str:
        try:
            return (self._root / name).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root / folder))
        except OSError:
            return []


def _number(address: str) -> int:
    """An address as /proc/net/route writes it: the bytes in the network's order, read in the machine's."""
    return int(struct.unpack("=I", socket.inet_aton(address))[0])
