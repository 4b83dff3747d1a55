"""What an idle daemon, and an idle front end, takes of the processor: wake-ups and time."""

import os
import pty
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import alfred, load
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer
from tests.bench.place import DAEMON, start_all
from tests.mesh import namespaces
from tests.mesh.net import PASSWORD, Mesh

GOAL_WAKES = 2.0
GOAL_SHARE = 0.2
"""Wake-ups a second, and percent of a core, of an idle daemon."""

ALONE, NEIGHBOUR, TALKED_TO = 3, 2, 1
"""Router 3 hears nobody; 1 and 2 hear each other, and at 1 a person has logged in."""

DIALOGUE = (
    (b"account", "Yes"),
    (b"sername", "ann"),
    (b"assword", PASSWORD),
    (b"umber", load.ROOM),
    (b"/help", ""),
)
"""What the front end asks, and what is typed then."""


@dataclass(frozen=True)
class _Usage:
    """Of a process so far: times that it woke up, and seconds of processor time."""

    wakes: int
    seconds: float


def rows(effort: Effort) -> Iterator[Figure]:
    """Daemons with and without a neighbour and a person, and alfred, side by side."""
    count = effort.pick(10_000, 500)
    settle, window = float(effort.pick(90, 10)), float(effort.pick(60, 10))
    with scratch() as home, ThreadPoolExecutor(2) as side_by_side:
        logs = load.write_logs(load.messages(count), home)
        alfreds = side_by_side.submit(_alfred, settle, window)
        used = side_by_side.submit(_ours, logs, settle, window).result()
        wakes, share = alfreds.result()
    note = f"{window:.0f} s, {settle:.0f} s after the start, {count} messages held"
    for who, (woken, percent) in used.items():
        goals = (None, None) if who == "the front end" else (GOAL_WAKES, GOAL_SHARE)
        yield Figure(f"{who}: wake-ups", woken, "a second", goal=goals[0], peers=(wakes,), note=note)
        yield Figure(f"{who}: processor", percent, "% of a core", goal=goals[1], peers=(share,), note=note)


def _ours(logs: Path, settle: float, window: float) -> Mapping[str, tuple[float, float]]:
    with Mesh(3, edges=[(TALKED_TO, NEIGHBOUR)], daemons=[], options=DAEMON) as mesh:
        start_all(mesh, mesh.numbers, logs)
        mesh.register(TALKED_TO, "ann")
        with _logged_in(mesh, TALKED_TO) as front:
            time.sleep(settle)
            return _over(
                {
                    "alone": mesh.pid(ALONE),
                    "with a neighbour": mesh.pid(NEIGHBOUR),
                    "with a neighbour and a person": mesh.pid(TALKED_TO),
                    "the front end": front,
                },
                window,
            )


def _alfred(settle: float, window: float) -> tuple[Peer, Peer]:
    name = "alfred with a neighbour, empty"
    if reason := alfred.why_not():
        return Peer(name, None, reason), Peer(name, None, reason)
    with Mesh(2, daemons=[]) as mesh, alfred.running(mesh):
        time.sleep(settle)
        (pid,) = namespaces.programs(mesh.sites[1].namespace)
        woken, percent = _over({name: pid}, window)[name]
    return Peer(name, woken), Peer(name, percent)


@contextmanager
def _logged_in(mesh: Mesh, number: int) -> Iterator[int]:
    """A person on a terminal, in a room: the process id of his front end."""
    command = mesh.sites[number].meshchat("--plain")
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, mesh.environment(number))
    try:
        for asked, typed in DIALOGUE:
            said = b""
            while asked not in said:
                said += os.read(terminal, 4096)
            if typed:
                os.write(terminal, f"{typed}\n".encode())
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        os.close(terminal)


def _over(pids: Mapping[str, int], window: float) -> dict[str, tuple[float, float]]:
    """Wake-ups a second, and percent of a core, of processes over a time."""
    started, before = time.monotonic(), {name: _usage(pid) for name, pid in pids.items()}
    time.sleep(window)
    after, seconds = {name: _usage(pid) for name, pid in pids.items()}, time.monotonic() - started
    return {
        name: (
            (after[name].wakes - before[name].wakes) / seconds,
            100 * (after[name].seconds - before[name].seconds) / seconds,
        )
        for name in pids
    }


def _usage(pid: int) -> _Usage:
    """By /proc: how often each thread gave up the processor to wait, and how long they all had it."""
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    lines = [line for thread in threads for line in (thread / "status").read_text().splitlines()]
    waits = [int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")]
    ran = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    return _Usage(sum(waits), ran / 1e9)
