"""alfred on every router of a mesh: batman-adv's daemon that spreads small facts among all nodes."""

import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.mesh.net import Mesh, wait

START_S = 20.0
STOP_S = 10.0
POLL_S = 0.1


def why_not() -> str:
    """Why it cannot be measured here; empty where it can."""
    return "" if shutil.which("alfred") else "not installed (apt-get install alfred)"


@contextmanager
def running(mesh: Mesh, numbers: Iterable[int] | None = None) -> Iterator[None]:
    """A primary on the wlan0 of these routers, or all, of a mesh without daemons, over IPv6 as it comes."""
    chosen = list(mesh.sites if numbers is None else numbers)
    daemons = []
    try:
        for number in chosen:
            site = mesh.sites[number]
            # The namespaces have no IPv6; router solicitations are none of alfred's traffic.
            settings = "/proc/sys/net/ipv6/conf/wlan0"
            script = f"echo 0 >{settings}/router_solicitations; echo 0 >{settings}/disable_ipv6"
            subprocess.run(site.within("sh", "-c", script), check=True)
            wait(partial(_has_address, mesh, number), START_S, "an IPv6 address")
            command = ["alfred", "-i", "wlan0", "-b", "none", "-m", "-u", str(_socket(mesh, number))]
            quiet = subprocess.DEVNULL
            daemons.append(subprocess.Popen(site.within(*command), stdout=quiet, stderr=quiet))
        sockets = [_socket(mesh, number) for number in chosen]
        wait(lambda: all(path.exists() for path in sockets), START_S, "alfred's sockets")
        yield
    finally:
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(STOP_S)


def publish(mesh: Mesh, kind: int, fact: bytes, longest_s: float) -> float | None:
    """Seconds until every router knows a fact that router 1 was told; None if that takes longer."""
    first, *others = mesh.sites
    started = time.monotonic()
    tell(mesh, first, kind, fact)
    waiting = set(others)
    while waiting:
        if time.monotonic() - started > longest_s:
            return None
        waiting = {number for number in waiting if fact not in known(mesh, number, kind)}
        time.sleep(POLL_S)
    return time.monotonic() - started


def tell(mesh: Mesh, number: int, kind: int, fact: bytes) -> None:
    """A router's own fact of data type `kind` (64 to 255)."""
    _client(mesh, number, "-s", str(kind), given=fact)


def known(mesh: Mesh, number: int, kind: int) -> bytes:
    """What a router knows of all routers' facts of a data type, as alfred prints it."""
    return _client(mesh, number, "-r", str(kind))


def _client(mesh: Mesh, number: int, *arguments: str, given: bytes = b"") -> bytes:
    command = ["alfred", *arguments, "-u", str(_socket(mesh, number))]
    return subprocess.run(
        mesh.sites[number].within(*command), input=given, capture_output=True, check=False, timeout=STOP_S
    ).stdout


def _socket(mesh: Mesh, number: int) -> Path:
    return mesh.directory / f"alfred{number}.sock"


def _has_address(mesh: Mesh, number: int) -> bool:
    asked = subprocess.run(
        mesh.sites[number].within("ip", "-6", "address", "show", "dev", "wlan0", "scope", "link"),
        capture_output=True,
        text=True,
        check=True,
    )
    return "inet6" in asked.stdout and "tentative" not in asked.stdout
