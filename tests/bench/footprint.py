"""The daemon as a process: memory, and the time from exec until it answers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from meshchat.client.connection import ControlClient
from meshchat.errors import DaemonGone
from tests.bench import load
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer, median
from tests.bench.machine import TOP

GOAL_COUNT = 10_000
GOALS_MB = {GOAL_COUNT: 28.0, 100_000: 36.0}
STARTS = 5
READY_LONGEST_S = 300.0
SETTLE_S = 2.0
STOP_S = 30.0
POLL_S = 0.002

BARE = "import asyncio"
DEPENDENCIES = "import asyncio, click, dateutil.parser, dateutil.tz, netifaces, nacl.bindings, nacl.pwhash"


def rows(effort: Effort) -> Iterator[Figure]:
    """At rest, alone, with so many records on disk that it has verified in an earlier run."""
    bare = Peer("python with asyncio", program_memory(BARE, "Pss"))
    limit = Peer("python with asyncio and the dependencies", program_memory(DEPENDENCIES, "Pss"))
    for count in (effort.pick(GOAL_COUNT, 1_000), *([100_000] if effort.long else [])):
        with scratch() as home:
            records = load.messages(count)
            load.write_logs(records, home)
            del records
            with running_daemon(home) as (_, first_s):
                pass
            readied, memory = [], {}
            for _ in range(STARTS):
                with running_daemon(home) as (pid, ready_s):
                    readied.append(ready_s)
                    time.sleep(SETTLE_S)
                    memory = process_memory(pid)
                    assert _held(home) == count
        yield Figure(
            f"memory (PSS) with {count} records",
            memory["Pss"],
            "MB",
            goal=GOALS_MB.get(count),
            peers=(bare, limit),
            note=f"{memory['Rss']:.1f} MB resident; measured {SETTLE_S:g} s after it was ready",
        )
        yield Figure(
            f"ready after exec with {count} records on disk",
            median(readied),
            "s",
            goal=0.5 if count == GOAL_COUNT else None,
            peers=(
                Peer("python with the dependencies, start to end", program_seconds(DEPENDENCIES)),
                Peer("the very first start, which verifies all", first_s),
            ),
            note=f"median of {STARTS}, the slowest {max(readied):.2f} s",
        )


@contextmanager
def running_daemon(home: Path) -> Iterator[tuple[int, float]]:
    """A daemon on the files below `home`, alone: its process id, and seconds until it answered."""
    path = home / "socket"
    command = [sys.executable, "-m", "meshchat", "daemon", "--interface", "none", "--port", str(_free_port())]
    command += ["--logs", str(home / "logs"), "--state", str(home / "state"), "--socket", str(path)]
    command += ["--clock-grade", "good"]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: compiled by the first start
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as daemon:
        try:
            _await_answer(daemon, path, started + READY_LONGEST_S)
            yield daemon.pid, time.monotonic() - started
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=STOP_S)


def _await_answer(daemon: "subprocess.Popen[bytes]", path: Path, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            with ControlClient(path):
                return
        except DaemonGone:
            assert daemon.poll() is None, f"the daemon ended with {daemon.returncode}"
            time.sleep(POLL_S)
    raise AssertionError(f"the daemon did not answer within {READY_LONGEST_S:.0f} s")


def _held(home: Path) -> int:
    with ControlClient(home / "socket") as client:
        return sum(room["messages"] for room in client.stream("rooms"))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


def process_memory(pid: int) -> dict[str, float]:
    """Resident and proportional memory of a process, in MB of 1,000,000 bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.findall(r"^(Rss|Pss):\s+(\d+) kB$", rollup, re.MULTILINE)
    return {name: int(kib) * 1024 / 1e6 for name, kib in found}


def program_memory(program: str, kind: str) -> float:
    wait = "; print('ready', flush=True); input()"
    command = [sys.executable, "-c", program + wait]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        memory = process_memory(process.pid)
        process.communicate("\n", timeout=STOP_S)
    return memory[kind]


def program_seconds(program: str) -> float:
    times: list[float] = []
    command: Sequence[str] = [sys.executable, "-c", program]
    for _ in range(STARTS):
        started = time.monotonic()
        subprocess.run(command, check=True, timeout=READY_LONGEST_S)
        times.append(time.monotonic() - started)
    return median(times)
