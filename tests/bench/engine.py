"""A node on a real disk that nobody hears, fed by hand: the engine and its store without sockets."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from meshchat.adapters.links.udp import UdpOrigin
from meshchat.adapters.meshview import MeshView
from meshchat.adapters.node import Node, NodeSettings
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.logstore import LogStore
from meshchat.adapters.storage.statestore import StateStore
from meshchat.chat.localtime import Zone, last_wipe
from meshchat.chat.notices import Notice
from meshchat.config import Config
from meshchat.constants import (
    CAP_ACCOUNTS,
    CAP_AUTHOR,
    CAP_ROOM,
    CAP_ROUTER,
    DEFAULT_PORT,
    MAX_MTU,
    NEWS_SHARE,
    TALK_SHARE,
)
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Send
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import LinkProfile
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.ids import BootId, TokenSecret
from tests.bench import load

INTERFACE = "wlan0"
TICK_EVERY = 64
"""Datagrams taken in before deadlines are looked at: what the daemon drains at once."""

LIMITS = StoreLimits(CapLimits(CAP_AUTHOR, CAP_ROOM, CAP_ROUTER), CAP_ACCOUNTS)
"""Those of a daemon with default settings."""


class Deaf:
    """The node's listener: lets everything it is told go, but its next deadline."""

    def __init__(self) -> None:
        self.deadline: float | None = None

    def send(self, send: Send) -> None:
        """Nobody hears it."""

    def tell(self, notice: Notice) -> None:
        """Nobody hears of it."""

    def wake_at(self, deadline: float | None) -> None:
        """Noted for `feed`."""
        self.deadline = deadline


def instant() -> Instant:
    """The machine's clocks, trusted."""
    return Instant(time.monotonic(), int(time.time() * 1000), True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="meshchat-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def running(home: Path) -> Iterator[tuple[Node, Deaf]]:
    """A started node with default settings on the logs and state below `home`, one interface up."""
    with _running(home) as (node, _, listener):
        yield node, listener


@contextmanager
def viewed(home: Path) -> Iterator[MeshView]:
    """The same, as the application sees it."""
    with _running(home) as (node, logs, _):
        yield MeshView(node, logs)


@contextmanager
def _running(home: Path) -> Iterator[tuple[Node, LogStore, Deaf]]:
    config = Config(logs=home / "logs", state=home / "state", socket=home / "socket", people=home / "people")
    zone, random = Zone(), Random(1)
    logs, state = DiskFiles(config.logs), DiskFiles(config.state)
    store = LogStore(logs, state, load.MESH, fsync=config.fsync)
    store.open()
    settings = NodeSettings(
        mesh=load.MESH,
        limits=LIMITS,
        wipe_moment=lambda ms: last_wipe(ms, config.wipe_time, zone),
        retention_ms=None,
        boot=BootId(random.randbytes(8)),
        secret=TokenSecret(random.randbytes(16)),
        boot_id="bench",
    )
    listener = Deaf()
    node = Node(settings, store, StateStore(state), instant, random, listener)
    node.start()
    air = AirShare(config.air_rate, NEWS_SHARE, config.repair_share, TALK_SHARE)
    node.link_up(LinkProfile(INTERFACE, MAX_MTU, is_broadcast=True, air=air))
    try:
        yield node, store, listener
    finally:
        node.close()


def feed(node: Node, listener: Deaf, datagrams: Iterable[bytes], host: int = 2) -> None:
    """Hands the node datagrams of the neighbour 10.77.0.`host`, and its deadlines as they pass."""
    origin = UdpOrigin(f"10.77.0.{host}", DEFAULT_PORT)
    for number, data in enumerate(datagrams):
        node.receive(data, INTERFACE, origin)
        due = listener.deadline
        if number % TICK_EVERY == 0 and due is not None and due <= time.monotonic():
            listener.deadline = None
            node.tick()


def rate(count: int, action: Callable[[], object]) -> tuple[float, float]:
    """`count` over the seconds that `action` took: by the clock on the wall, and by the processor's."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)
