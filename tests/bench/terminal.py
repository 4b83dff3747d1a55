"""The front end at a terminal: its start, its memory, and its work while much arrives."""

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshchat.client.connection import ControlClient
from tests.bench import load
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer, median
from tests.bench.footprint import STARTS, process_memory, program_memory, program_seconds, running_daemon
from tests.bench.machine import TOP

TOOLKIT = "import asyncio, prompt_toolkit"
HISTORY = 500
QUESTION, ROOM = "[Yes/No]", load.text(HISTORY - 1)[:12]
"""What shows that the first question, and the room, are drawn."""

RATE = 200
"""Messages a second."""

LONGEST_S = 60.0
SETTLE_S = 1.0
USER, OTHER, PASSWORD = "ann", "ben", "correct horse"
LATEST = {False: "\u2588" * 8, True: "\u2593" * 8}
"""Characters that nothing else has: a screen is sent only what has changed, cell by cell."""

TICKS = os.sysconf("SC_CLK_TCK")


def rows(effort: Effort) -> Iterator[Figure]:
    """One person on a daemon that is alone and holds `HISTORY` messages."""
    with scratch() as home:
        load.write_logs(load.messages(HISTORY), home)
        with running_daemon(home) as (pid, _), ControlClient(home / "socket") as client:
            for user in (USER, OTHER):
                client.request("register", user=user, password=PASSWORD)
            client.request("login", user=OTHER, password=PASSWORD)
            yield _start(home)
            yield _entered(home)
            yield _memory(home, pid)
            yield from _flood(home, client, effort.pick(10, 2))


def _start(home: Path) -> Figure:
    times = {plain: median([_first_question(home, plain) for _ in range(STARTS)]) for plain in (False, True)}
    return Figure(
        "first question after exec",
        times[False],
        "s",
        goal=0.5,
        peers=(
            Peer("line by line (--plain)", times[True]),
            Peer("python with prompt_toolkit, start to end", program_seconds(TOOLKIT)),
        ),
        note=f"median of {STARTS}; the daemon is up",
    )


def _first_question(home: Path, plain: bool) -> float:
    started = time.monotonic()
    with _terminal(*_front_end(home, plain)) as person:
        person.await_text(QUESTION)
        return time.monotonic() - started


def _entered(home: Path) -> Figure:
    took = []
    for _ in range(STARTS):
        with _terminal(*_front_end(home, False)) as person:
            person.log_in()
            started = time.monotonic()
            person.enter()
            took.append(time.monotonic() - started)
    return Figure(
        "room drawn after its number is typed",
        median(took),
        "s",
        peers=(Peer("python with prompt_toolkit, start to end", program_seconds(TOOLKIT)),),
        note=f"median of {STARTS}, with {HISTORY} messages in the room; the screen is loaded in this time",
    )


def _memory(home: Path, daemon_pid: int) -> Figure:
    before = process_memory(daemon_pid)["Pss"]
    shares = []
    with _terminal(*_front_end(home, True)) as person:
        person.log_in()
        person.type("1")
        person.await_text("--- Room 1 ---")
        time.sleep(SETTLE_S)
        plain = process_memory(person.pid)["Pss"]
    with _terminal(*_front_end(home, False)) as first, _terminal(*_front_end(home, False)) as second:
        for person in (first, second):
            person.log_in()
            person.enter()
            time.sleep(SETTLE_S)
            shares.append(process_memory(person.pid)["Pss"])
        grown = process_memory(daemon_pid)["Pss"] - before
    return Figure(
        "memory of one person's session (PSS)",
        shares[0],
        "MB",
        goal=25,
        peers=(
            Peer("line by line (--plain)", plain),
            Peer("python with prompt_toolkit", program_memory(TOOLKIT, "Pss")),
            _irssi(),
        ),
        note=f"a second one adds {shares[1]:.1f} MB of its own share; both add {grown:.1f} MB to the daemon",
    )


def _irssi() -> Peer:
    if not shutil.which("irssi"):
        return Peer("irssi", None, "not installed (apt-get install irssi)")
    with scratch() as home, _terminal("irssi", f"--home={home}") as person:
        person.await_text("irssi")
        time.sleep(SETTLE_S)
        return Peer("irssi, not connected", process_memory(person.pid)["Pss"])


def _flood(home: Path, client: ControlClient, seconds: int) -> Iterator[Figure]:
    count = RATE * seconds
    shares, late = {}, {}
    for plain in (False, True):
        with _terminal(*_front_end(home, plain)) as person:
            person.log_in()
            if plain:
                person.type("1")
                person.await_text("--- Room 1 ---")
            else:
                person.enter()
            before, started = _cpu_s(person.pid), time.monotonic()
            for number in range(count):
                client.request("send", room="1", text=load.text(number))
                time.sleep(max(0.0, started + number / RATE - time.monotonic()))
            sent = time.monotonic()
            client.request("send", room="1", text=LATEST[plain])
            person.await_text(LATEST[plain])
            late[plain] = time.monotonic() - sent
            shares[plain] = 100 * (_cpu_s(person.pid) - before) / (time.monotonic() - started)
            if not plain:
                pressed = time.monotonic()
                person.write("#")
                person.await_text("#")
                key = time.monotonic() - pressed
    yield Figure(
        f"of one core while {RATE} messages a second arrive",
        shares[False],
        "%",
        peers=(Peer("line by line (--plain)", shares[True]),),
        note=f"{count} messages of {load.TEXT_BYTES} bytes in {seconds} s, to a terminal of 80 by 24",
    )
    yield Figure(
        "the latest of them shown after it was sent",
        late[False] * 1000,
        "ms",
        peers=(Peer("line by line (--plain)", late[True] * 1000),),
        note=f"a key typed then is echoed after {key * 1000:.0f} ms",
    )


# --- A terminal -----------------------------------------------------------------------------------------


class _Person:
    """Who sits at a terminal; what is shown is read all the time, as terminals do."""

    def __init__(self, pid: int, end: int) -> None:
        self.pid, self._end = pid, end
        self._shown = bytearray()
        self._arrived = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def write(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def type(self, line: str) -> None:
        self.write(f"{line}\r")

    def await_text(self, text: str) -> None:
        """Returns when the text is shown, after what was awaited last."""
        wanted = text.encode()
        with self._arrived:
            there = self._arrived.wait_for(lambda: wanted in self._shown, LONGEST_S)
            assert there, f"{text!r} was not shown"
            del self._shown[: self._shown.index(wanted) + len(wanted)]

    def log_in(self) -> None:
        """Answers all questions but the last, for the room."""
        for question, answer in ((QUESTION, "y"), ("Username:", USER), ("Password:", PASSWORD)):
            self.await_text(question)
            self.type(answer)
        self.await_text("Room Number [")

    def enter(self) -> None:
        """Goes to room 1, and waits for the screen."""
        self.type("1")
        self.await_text(ROOM)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._end, 65_536)
            except OSError:  # the program has ended and closed the other end
                return
            with self._arrived:
                self._shown += data
                self._arrived.notify_all()


@contextmanager
def _terminal(*command: str) -> Iterator[_Person]:
    end, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(TOP), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield _Person(process.pid, end)
        finally:
            process.send_signal(signal.SIGKILL)
    os.close(end)


def _front_end(home: Path, plain: bool) -> list[str]:
    words = [sys.executable, "-m", "meshchat", "--socket", str(home / "socket")]
    return [*words, "--plain"] if plain else words


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
