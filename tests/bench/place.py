"""Meshes of real daemons to measure: preloaded histories, the people on them, and their namespaces."""

import ctypes
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mesh.net import Mesh

DAEMON = ("--clock-grade", "good")
"""Options of every daemon: its clock is trusted, as where a router once heard of the time."""

AT_ONCE = 3
"""Daemons started side by side."""

_CLONE_NEWNET = 0x40000000


def start_all(mesh: Mesh, numbers: Iterable[int], logs: Path | None = None) -> None:
    """Starts these routers' daemons, each on a copy of the history in `logs`."""
    numbers = list(numbers)
    if logs is not None:
        for number in numbers:
            shutil.copytree(logs, mesh.sites[number].logs)
    with ThreadPoolExecutor(AT_ONCE) as starters:
        list(starters.map(mesh.start, numbers))


def held(mesh: Mesh, number: int, room: str) -> int:
    """Messages that a router holds of a room."""
    messages: int = mesh.room(number, room)["messages"]
    return messages


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets that this thread opens meanwhile are in `namespace`; they stay there. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(Path("/run/netns", namespace)) as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def multicast_socket(group: str, port: int, address: str) -> socket.socket:
    """A non-blocking UDP socket that hears `group` on the interface with `address`, and sends there."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    membership = socket.inet_aton(group) + socket.inet_aton(address)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    opened.bind(("", port))
    return opened
