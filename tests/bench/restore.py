"""A router comes back empty among nine that hold everything."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from meshchat.constants import AIR_RATE, REPAIR_SHARE
from meshchat.protocol.envelope import IP_UDP_HEADERS
from tests.bench import alfred, first_generation, load
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer
from tests.bench.place import DAEMON, held, start_all
from tests.mesh.net import Mesh, wait

ROUTERS = 10
GOALS = {0.0: 1.15, 0.2: 1.45, 0.5: None}
"""By loss: bytes on the air over those of the records as signed."""

TIME_GOAL = 1.5
"""Over what the paced rate allows for the records alone."""

PACE = AIR_RATE * REPAIR_SHARE / 8
"""Bytes a second."""

POLL_S = 0.5
TAIL_S = 5.0
"""Seconds counted after all is there: the digests that follow."""

ETHERNET = 14
FIRST_KIND = 64
FACT_BYTES = 1000
ALFRED_LONGEST_S = 60.0


@dataclass(frozen=True)
class _Run:
    """What came of one restore."""

    sent: int
    seconds: float
    messages: int
    alike: bool


def rows(effort: Effort) -> Iterator[Figure]:
    """Three meshes side by side, one for each loss: at the paced rate they leave the processor time."""
    count = effort.pick(10_000, 500)
    records = load.messages(count)
    signed = load.signed_bytes(records)
    longest = 60 + 6 * signed / PACE
    text = "".join(f"{first_generation.line_of(record)}\n" for record in records)
    whole = first_generation.restore_bytes(text, ROUTERS - 1, ETHERNET + IP_UDP_HEADERS)
    peers = (
        Peer("first generation, over signed records: nine whole logs, unsigned", whole / signed),
        _alfred(effort),
    )
    with scratch() as home, ThreadPoolExecutor(len(GOALS)) as side_by_side:
        logs = load.write_logs(records, home)
        runs = {loss: side_by_side.submit(_restore, loss, logs, count, longest) for loss in GOALS}
        for loss, goal in GOALS.items():
            run = runs[loss].result()
            yield from _figures(loss, None if goal is None else effort.goal(goal), run, count, signed, peers)


def _figures(
    loss: float, goal: float | None, run: _Run, count: int, signed: int, peers: Sequence[Peer]
) -> Iterator[Figure]:
    complete = run.messages == count and run.alike
    state = "" if complete else f"; only {run.messages} of {count} were there after {run.seconds:.0f} s"
    allowed = signed / PACE
    yield Figure(
        f"bytes, {loss:.0%} loss",
        run.sent / signed if complete else None,
        "x the records as signed",
        goal=goal,
        peers=tuple(peers),
        note=f"{count} messages, {signed:,} B as signed, {run.sent:,} B on the air of all{state}",
    )
    yield Figure(f"messages there, {loss:.0%} loss", run.messages, f"of {count}", goal=count, at_least=True)
    yield Figure(
        f"time, {loss:.0%} loss",
        run.seconds / allowed if complete else None,
        "x what the paced rate allows",
        goal=TIME_GOAL,
        note=f"{run.seconds:.1f} s from exec, of {allowed:.1f} s for the records alone at {PACE:,.0f} B/s",
    )


def _restore(loss: float, logs: Path, count: int, longest: float) -> _Run:
    """Starts router 10 without logs among nine at rest, and counts until it holds what they hold."""
    empty = ROUTERS
    others = range(1, ROUTERS)
    with Mesh(ROUTERS, topology="cell", loss=loss, daemons=[], options=DAEMON) as mesh:
        start_all(mesh, others, logs)
        mesh.await_idle(routers=others)
        before, started = mesh.air_bytes(), time.monotonic()
        mesh.start(empty)
        while held(mesh, empty, load.ROOM) < count and time.monotonic() < started + longest:
            time.sleep(POLL_S)
        seconds = time.monotonic() - started
        time.sleep(TAIL_S)
        sent = mesh.air_bytes() - before
        ends = [mesh.room(number, load.ROOM) for number in (1, empty)]
    return _Run(sent, seconds, ends[1]["messages"], ends[0]["digest"] == ends[1]["digest"])


def _alfred(effort: Effort) -> Peer:
    """The same with facts: bytes over those of the facts until the tenth router knows all of nine others."""
    name = "alfred, over the facts alone, 0% loss"
    if reason := alfred.why_not():
        return Peer(name, None, reason)
    others = range(1, ROUTERS)
    facts = {
        (number, FIRST_KIND + turn): f"fact {turn} of {number} ".ljust(FACT_BYTES, "x").encode()
        for number in others
        for turn in range(effort.pick(10, 2))
    }
    kinds = sorted({kind for _, kind in facts})
    with Mesh(ROUTERS, topology="cell", daemons=[]) as mesh, alfred.running(mesh, others):
        for (number, kind), fact in facts.items():
            alfred.tell(mesh, number, kind, fact)

        def knows_all(number: int) -> bool:
            heard = b"".join(alfred.known(mesh, number, kind) for kind in kinds)
            return all(fact in heard for fact in facts.values())

        try:
            wait(lambda: all(map(knows_all, others)), ALFRED_LONGEST_S, "facts known to nine")
            before, started = mesh.air_bytes(), time.monotonic()
            with alfred.running(mesh, [ROUTERS]):
                wait(lambda: knows_all(ROUTERS), ALFRED_LONGEST_S, "facts known to the tenth")
                seconds = time.monotonic() - started
            sent = mesh.air_bytes() - before
        except AssertionError as late:
            return Peer(name, None, str(late))
    size = sum(map(len, facts.values()))
    return Peer(name, sent / size, f"{size:,} B of facts, {sent:,} B on the air of all, {seconds:.1f} s")
