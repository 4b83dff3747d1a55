"""What a mesh costs the air while nobody writes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench import alfred, load, ngircd
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer
from tests.bench.place import DAEMON, start_all
from tests.mesh.net import Mesh
from tests.mesh.radio import line

ROUTERS = 10
GOAL = 6.6
"""Bytes a second a router: alfred's without a fact."""


def rows(effort: Effort) -> Iterator[Figure]:
    """All meshes side by side: at rest none needs the processor."""
    count = effort.pick(10_000, 500)
    settle, window = float(effort.pick(60, 20)), float(effort.pick(180, 30))
    with scratch() as home, ThreadPoolExecutor(4) as side_by_side:
        logs = load.write_logs(load.messages(count), home)

        def ours(topology: str) -> float:
            with Mesh(ROUTERS, topology=topology, daemons=[], options=DAEMON) as mesh:
                start_all(mesh, mesh.numbers, logs)
                mesh.await_idle()
                return _at_rest(mesh, settle, window)

        cell = side_by_side.submit(ours, "cell")
        chain = side_by_side.submit(ours, "line")
        facts = side_by_side.submit(_alfred, settle, window)
        chat = side_by_side.submit(_ngircd, settle, window)
        peers = (facts.result(), chat.result())
        note = f"{window:.0f} s, from {settle:.0f} s after all were alike on"
        for name, rate in (("one cell", cell), ("a line", chain)):
            what = f"{ROUTERS} routers in {name} that hold {count} messages"
            yield Figure(what, rate.result(), "B/s a router", goal=GOAL, peers=peers, note=note)


def _at_rest(mesh: Mesh, settle: float, window: float) -> float:
    """Bytes a second a router, over `window` seconds after `settle` seconds."""
    time.sleep(settle)
    started, before = time.monotonic(), mesh.air_bytes()
    time.sleep(window)
    sent = mesh.air_bytes() - before
    return sent / (time.monotonic() - started) / len(mesh.numbers)


def _alfred(settle: float, window: float) -> Peer:
    name = f"alfred, {ROUTERS} in one cell, empty"
    if reason := alfred.why_not():
        return Peer(name, None, reason)
    with Mesh(ROUTERS, topology="cell", daemons=[]) as mesh, alfred.running(mesh):
        return Peer(name, _at_rest(mesh, settle, window))


def _ngircd(settle: float, window: float) -> Peer:
    name = f"ngircd, a chain of {ROUTERS}"
    if reason := ngircd.why_not():
        return Peer(name, None, reason)
    with Mesh(ROUTERS, daemons=[]) as mesh, ngircd.running(mesh, line(ROUTERS)):
        return Peer(name, asyncio.run(_linked(mesh, lambda: _at_rest(mesh, settle, window))))


async def _linked(mesh: Mesh, measure: Callable[[], float]) -> float:
    """What `measure` says of a chain whose servers have linked and whose clients stay on."""
    clients = await ngircd.gather(mesh)
    try:
        return await asyncio.to_thread(measure)
    finally:
        for client in clients:
            await client.close()
