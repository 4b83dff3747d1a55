"""Network namespaces for the tests of one adapter; the real meshes are in tests/mesh."""

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    """Runs ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def namespaces(*labels: str) -> Iterator[list[str]]:
    """New namespaces, gone afterwards. Needs root: mark the test `mesh`."""
    names = [f"meshchat-{label}-{os.getpid()}" for label in labels]
    try:
        for name in names:
            ip("netns", "add", name)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def wait_for_carrier(namespace: str, interface: str) -> None:
    """Returns when the kernel lets frames through: it drops them until its link watch has run."""
    deadline = time.monotonic() + 30
    show = ["ip", "-n", namespace, "link", "show", interface, "up"]
    while b"state UP" not in subprocess.run(show, check=True, capture_output=True).stdout:
        assert time.monotonic() < deadline, f"{interface} in {namespace} has no carrier"


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets opened meanwhile live in the namespace, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as home, (Path("/run/netns") / namespace).open() as away:
        assert libc.setns(away.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), _CLONE_NEWNET) == 0
