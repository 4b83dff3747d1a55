"""The routers' machines: one network namespace each, with one TAP interface called wlan0.

A namespace has no default route and no IPv6. Its wlan0 lives as long as the file descriptor of its TAP
is open, and disappears from the router when that is closed, like a radio that is unplugged.
"""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from select import poll

TUN_DEVICE = Path("/dev/net/tun")
INTERFACE = "wlan0"
NETWORK = "10.77.0"
DEFAULT_MTU = 1500
STOP_MS = 5_000
"""How long a program in a namespace that goes away has to stop by itself."""

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


class NamespaceError(Exception):
    """A namespace or an interface that the machine would not make; the text is one line."""


def why_not() -> str | None:
    """What keeps this machine from running routers in namespaces, in one line; None if nothing does."""
    if os.geteuid() != 0:
        return "not root"
    if not TUN_DEVICE.exists():
        return f"no {TUN_DEVICE}"
    try:
        _ip("-V")
    except (NamespaceError, FileNotFoundError):
        return "no `ip` command (package iproute2)"
    if shutil.which("nft") is None:
        return "no `nft` command (package nftables)"
    if shutil.which("tmux") is None:
        return "no `tmux` command (package tmux)"
    if shutil.which("dropbear") is None:
        return "no `dropbear` command (package dropbear-bin)"
    return None


def address(number: int) -> str:
    """The IPv4 address of router `number`, which is 1 to 254."""
    return f"{NETWORK}.{number}"


def create(name: str) -> None:
    """A new namespace with its loopback up. Raises `NamespaceError`."""
    _ip("netns", "add", name)
    quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $f ] || echo 1 >$f; done"
    _ip("netns", "exec", name, "sh", "-c", quiet)
    _ip("-n", name, "link", "set", "lo", "up")


def open_tap(namespace: str, number: int, mtu: int) -> int:
    """Gives router `number` its wlan0; returns the non-blocking descriptor of the other end.

    Raises `NamespaceError`.
    """
    tap = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Made here under the namespace's name, which is unique on the machine, and moved afterwards.
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", namespace.encode(), _IFF_TAP | _IFF_NO_PI))
        _ip("link", "set", namespace, "netns", namespace, "name", INTERFACE)
        # Neighbours would not answer each other's ARP after a change of MAC: a router keeps its own.
        mac = f"02:00:00:00:00:{number:02x}"
        _ip("-n", namespace, "link", "set", INTERFACE, "address", mac, "mtu", str(mtu), "up")
        _ip("-n", namespace, "address", "add", f"{address(number)}/24", "dev", INTERFACE)
    except OSError as error:
        os.close(tap)
        raise NamespaceError(f"{TUN_DEVICE}: {error.strerror}") from error
    except NamespaceError:
        os.close(tap)
        raise
    return tap


def programs(name: str) -> list[int]:
    """The process ids of what runs in namespace `name`; nothing where there is no such namespace."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def remove(names: Iterable[str]) -> None:
    """Stops what runs in these namespaces, by process id, and removes them; missing ones are no error."""
    present = [name for name in names if Path("/run/netns", name).exists()]
    running = [pid for name in present for pid in programs(name)]
    _stop(running)
    for name in present:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _stop(pids: list[int]) -> None:
    handles = [handle for pid in pids if (handle := _handle(pid)) is not None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for handle in handles:
            _send(handle, number)
        handles = [handle for handle in handles if not _ended(handle)]
    for handle in handles:
        os.close(handle)


def _handle(pid: int) -> int | None:
    # A pidfd names this very process, even after its number went to another one.
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _ended(handle: int) -> bool:
    waiting = poll()
    waiting.register(handle)
    if not waiting.poll(STOP_MS):
        return False
    os.close(handle)
    return True


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["failed"]
        raise NamespaceError(f"ip {' '.join(arguments[:4])}: {said[0]}")
