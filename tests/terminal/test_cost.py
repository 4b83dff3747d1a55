"""What the screen costs a router: time to start, memory, and time for a flood of messages."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from meshchat.client.connection import ControlClient
from tests.terminal.tmux import Screen
from tests.unit.fakeserver import FakeDaemon

FLOOD = 2000


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """A process's memory and its share of what it shares with others (PSS), in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def test_the_screen_and_a_flood(tmp_path: Path, measured: Callable[[str], None]) -> None:
    with FakeDaemon(tmp_path) as daemon:
        with ControlClient(daemon.path) as client:
            client.request("register", user="abc", password="secret")
        started = time.monotonic()
        with Screen(tmp_path / "screen", "--socket", str(daemon.path)) as person:
            person.shows("Do you have an account? [Yes/No]")
            asked = time.monotonic() - started
            person.log_in()
            person.shows_status("nobody else here")
            used, memory = cpu_s(person.pid), memory_mb(person.pid)
            for number in range(FLOOD):
                daemon.hear("bob", f"message {number} about the soup at the well at noon")
            person.shows(f"message {FLOOD - 1} about")
            person.say("still here")
            person.shows("abc: still here .")
            flood, after = cpu_s(person.pid) - used, memory_mb(person.pid)
    measured(
        f"first question {asked:.2f} s after the start; screen up with {used:.2f} s of CPU time and "
        f"{memory:.0f} MB; {FLOOD} messages as fast as they come: {flood:.2f} s of CPU time, {after:.0f} MB"
    )
