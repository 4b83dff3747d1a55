"""Bytes on the air for one message of 100 bytes, everything counted: headers, relays, digests, repairs."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench import load, ngircd
from tests.bench.figures import Effort, Figure, Peer
from tests.bench.place import DAEMON, start_all
from tests.bench.publish import USER, chat, publish
from tests.mesh.net import Mesh
from tests.mesh.radio import line
from tests.sim.network import FRAME_HEADERS

ROUTERS = 10
HOPS = ROUTERS - 1
TAIL_S = 2.0
"""Seconds counted after the last message: its relays and the first digests after it."""


def rows(effort: Effort) -> Iterator[Figure]:
    """Four meshes side by side: bytes do not depend on the processor's load."""
    slow, fast = effort.pick(60, 15), effort.pick(1200, 100)
    with ThreadPoolExecutor(4) as side_by_side:
        cell = side_by_side.submit(_ours, "cell", slow, 1)
        chain = side_by_side.submit(_ours, "line", slow, 1)
        busy = side_by_side.submit(_ours, "line", fast, 20)
        irc = side_by_side.submit(_ngircd, slow, 1)
        others = irc.result()
        whole = Peer(f"ngircd, a chain of {ROUTERS}, whole net", others[0], others[1])
        hop = Peer(f"ngircd, a chain of {ROUTERS}", _per_hop(others[0]), others[1])
        alone = Peer(
            "a frame with the record alone", len(load.datagrams(load.messages(1))[0]) + FRAME_HEADERS
        )
        signed = Peer("the record as signed, without any header", load.signed_bytes(load.messages(1)))
        peers = (hop, alone, signed)
        yield _figure("one cell, 1 a second, whole net", cell.result(), 1, 1000, (whole, alone))
        yield _figure("a chain, 1 a second, each hop", chain.result(), HOPS, 300, peers)
        yield _figure("a chain, 20 a second in one room, each hop", busy.result(), HOPS, 240, peers)


def _figure(
    what: str, found: tuple[int, int, int], hops: int, goal: float, peers: tuple[Peer, ...]
) -> Figure:
    sent, count, reached = found
    note = f"{count} messages of {ROUTERS} routers in turn; {reached} were shown on all"
    cost = sent / count / hops if reached == count else None
    return Figure(f"{ROUTERS} routers in {what}", cost, "B a message", goal=goal, peers=peers, note=note)


def _per_hop(value: float | None) -> float | None:
    return None if value is None else value / HOPS


def _ours(topology: str, count: int, rate: float) -> tuple[int, int, int]:
    """Bytes on the air, messages sent, and messages shown on all."""
    with Mesh(ROUTERS, topology=topology, daemons=[], options=DAEMON) as mesh:
        start_all(mesh, mesh.numbers)
        mesh.register(1, USER)
        mesh.await_users(USER)
        mesh.await_idle()
        before = mesh.air_bytes()
        reached = len(asyncio.run(publish(mesh, count, rate)))
        time.sleep(TAIL_S)
        return mesh.air_bytes() - before, count, reached


def _ngircd(count: int, rate: float) -> tuple[float | None, str]:
    """Bytes a message over the whole net, or why there are none."""
    if reason := ngircd.why_not():
        return None, reason
    with Mesh(ROUTERS, daemons=[]) as mesh, ngircd.running(mesh, line(ROUTERS)):

        async def measure() -> tuple[int, int]:
            clients = await ngircd.gather(mesh)
            await asyncio.sleep(TAIL_S)
            before = mesh.air_bytes()
            reached = len(await chat(clients, count, rate))
            await asyncio.sleep(TAIL_S)
            sent = mesh.air_bytes() - before
            for client in clients:
                await client.close()
            return sent, reached

        sent, reached = asyncio.run(measure())
    return sent / count, f"{reached} of {count} arrived everywhere"
