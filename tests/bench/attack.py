"""Chat while a stranger in the cell sends garbage and forgeries as fast as he can."""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from random import Random
from threading import Event, Thread

from meshchat.constants import DEFAULT_GROUP, DEFAULT_PORT
from meshchat.wire.ids import Signature
from tests.bench import load
from tests.bench.figures import Effort, Figure, Peer, percentile
from tests.bench.place import DAEMON, inside, multicast_socket, start_all
from tests.bench.publish import USER, publish
from tests.mesh.namespaces import address
from tests.mesh.net import Mesh

HONEST, STRANGER = (1, 2, 3), 4
RATE = 4
ATTACKS_S = 1_000
"""Datagrams a second of the stranger: 200 bytes each are 1.6 Mb/s, all that a slow radio can carry."""

BURST = 20
SETTLE_S = 2.0


def rows(effort: Effort) -> Iterator[Figure]:
    """Three routers and a stranger in one cell: at peace, under garbage, under forged signatures."""
    count = effort.pick(100, 20)
    with Mesh(STRANGER, topology="cell", daemons=[], options=DAEMON) as mesh:
        start_all(mesh, HONEST)
        mesh.register(HONEST[0], USER)
        mesh.await_users(USER)
        mesh.await_idle(routers=HONEST)
        peace = asyncio.run(publish(mesh, count, RATE, HONEST))
        with inside(mesh.sites[STRANGER].namespace):
            stranger = multicast_socket(DEFAULT_GROUP, DEFAULT_PORT, address(STRANGER))
        with stranger:
            for name, datagrams in _attacks().items():
                yield _under(mesh, stranger, name, datagrams, count, peace)


def _attacks() -> dict[str, list[bytes]]:
    random = Random(1)
    forged = [replace(record, signature=Signature(random.randbytes(64))) for record in load.messages(2_000)]
    return {
        "garbage": [random.randbytes(200) for _ in range(2_000)],
        "forged signatures": load.datagrams(forged, 1),
    }


def _under(
    mesh: Mesh, stranger: socket.socket, name: str, datagrams: list[bytes], count: int, peace: list[float]
) -> Figure:
    over = Event()
    attack = _Attack(stranger, datagrams, over)
    attack.start()
    try:
        time.sleep(SETTLE_S)
        took = asyncio.run(publish(mesh, count, RATE, HONEST))
    finally:
        over.set()
        attack.join()
    return Figure(
        f"publish to shown on all, p99, under {name}",
        1000 * percentile(took, 0.99) if len(took) == count else None,
        "ms",
        peers=(Peer("the same at peace", 1000 * percentile(peace, 0.99) if peace else None),),
        note=(
            f"{len(took)} of {count} messages were shown on all; "
            f"the stranger sent {attack.sent / attack.seconds:,.0f} datagrams a second"
        ),
    )


class _Attack(Thread):
    """Sends datagrams, `ATTACKS_S` a second, until it is `over`."""

    def __init__(self, stranger: socket.socket, datagrams: list[bytes], over: Event) -> None:
        super().__init__()
        self._stranger, self._datagrams, self._over = stranger, datagrams, over
        self.sent = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Until it is over."""
        started = time.monotonic()
        for data in cycle(self._datagrams):
            self._stranger.sendto(data, (DEFAULT_GROUP, DEFAULT_PORT))
            self.sent += 1
            self.seconds = time.monotonic() - started
            if self.sent % BURST == 0 and self._over.wait(max(0.0, self.sent / ATTACKS_S - self.seconds)):
                return
