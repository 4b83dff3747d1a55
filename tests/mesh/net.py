"""A mesh of real daemons, for tests: `with Mesh(5, loss=0.2) as mesh:`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from meshchat.client.connection import ControlClient
from meshchat.errors import DaemonGone
from tests.mesh import air, namespaces
from tests.mesh.radio import Counters

POLL_S = 0.1
START_S = 30.0
STOP_S = 15.0
COMMAND_S = 120.0
IDLE_WINDOW_S = 10.0
IDLE_BYTES_S = 60.0
"""A digest with its headers is under 200 bytes. At rest a router sends one in 32 s; three in ten seconds
are the last of its Trickle intervals before."""
PASSWORD = "correct horse"
"""Every test user's."""

T = TypeVar("T")
Fields = dict[str, Any]


def wait(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Polls `condition` until it is true, and returns what it said; fails with `what` after `seconds`.

    The only place where tests wait by the clock.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_S)
    return answer


@dataclass(frozen=True)
class Site:
    """Where router `number` lives: its namespace, and its directory for logs, state and socket."""

    number: int
    namespace: str
    home: Path

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.home / "socket"

    @property
    def logs(self) -> Path:
        """The directory of the history."""
        return self.home / "logs"

    @property
    def state(self) -> Path:
        """The directory of what is kept on flash."""
        return self.home / "state"

    @property
    def errors(self) -> Path:
        """What the daemon wrote to standard error, over all its runs."""
        return self.home / "daemon.err"

    def within(self, *command: str) -> list[str]:
        """The command line that runs `command` on this router."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def meshchat(self, *arguments: str) -> list[str]:
        """The command line that runs `meshchat` with these arguments on this router."""
        return self.within(sys.executable, "-m", "meshchat", *arguments)

    def environment(self) -> dict[str, str]:
        """The environment in which `meshchat` finds this router's daemon."""
        path = os.pathsep.join(filter(None, (str(air.TOP), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "MESHCHAT_SOCKET": str(self.socket), "PYTHONPATH": path}

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        """Starts the daemon in the background, with further options; it outlives whoever calls this."""
        self.home.mkdir(parents=True, exist_ok=True)
        places = ("--logs", str(self.logs), "--state", str(self.state), "--socket", str(self.socket))
        with self.errors.open("ab") as errors:
            return subprocess.Popen(
                self.meshchat("daemon", *places, *options),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env=self.environment(),
            )

    def answers(self) -> bool:
        """Whether a daemon answers on the control socket."""
        try:
            with ControlClient(self.socket):
                return True
        except DaemonGone:
            return False

    def await_daemon(self, daemon: "subprocess.Popen[bytes]") -> None:
        """Returns when the daemon just started answers; fails with its last line if it ended instead."""

        def settled() -> bool:
            if daemon.poll() is not None:
                said = self.errors.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise AssertionError(f"the daemon of router {self.number} ended and said: {said[-1]}")
            return self.answers()

        wait(settled, START_S, f"an answer of the daemon of router {self.number}")


class Mesh:
    """`routers` real daemons, numbered from 1, each in its namespace; stops and removes all at the end.

    `loss` is each link's, 0 to 1; `rate` is the radios', in bits a second (None: frames take no time).
    `edges` replaces `topology`. `daemons` are the routers where one is started at once (all, unless
    given), with `options` further daemon options for each. Routers in `without` have no wlan0 until
    `attach`. Leaving it fails if a daemon's standard error holds a traceback.
    """

    def __init__(
        self,
        routers: int,
        *,
        topology: str = "line",
        edges: Iterable[tuple[int, int]] | None = None,
        loss: float = 0.0,
        mtu: int = namespaces.DEFAULT_MTU,
        rate: float | None = None,
        seed: int = 1,
        daemons: Iterable[int] | None = None,
        options: tuple[str, ...] = (),
        without: Iterable[int] = (),
    ) -> None:
        self.numbers = list(range(1, routers + 1))
        self._daemons = list(self.numbers if daemons is None else daemons)
        self._options = options
        self._air_options = ["--routers", str(routers), "--topology", topology, "--loss", str(loss)]
        self._air_options += ["--mtu", str(mtu), "--seed", str(seed)]
        if rate is not None:
            self._air_options += ["--rate", str(rate)]
        if edges is not None:
            self._air_options += ["--edges", ",".join(f"{one}-{other}" for one, other in edges)]
        for number in without:
            self._air_options += ["--without", str(number)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        # A short path: that of a UNIX socket may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="meshchat-"))
        try:
            self._air = air.start(self.directory, *self._air_options, lifeline=True)
            self._control = air.AirControl(self.directory)
            self.sites = {
                number: Site(number, name, self.directory / str(number))
                for number, name in air.planned(self.directory).items()
            }
            self._start_all()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                error.add_note(self._last_words())
            else:
                for number in list(self._running):
                    self.stop(number)
                self._check_errors()
        finally:
            self._remove()

    # --- The routers ------------------------------------------------------------------------------------

    def start(self, number: int, *options: str) -> None:
        """Starts the daemon of a router and waits until it answers."""
        self._running[number] = self.sites[number].start(*self._options, *options)
        self.sites[number].await_daemon(self._running[number])

    def stop(self, number: int) -> None:
        """Ends the daemon of a router as a shutdown does, with SIGTERM; it has to end cleanly."""
        daemon = self._running.pop(number)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(STOP_S) == 0, f"the daemon of router {number} ended with {daemon.returncode}"

    def kill(self, number: int) -> None:
        """Ends the daemon of a router as a power cut does, with SIGKILL."""
        daemon = self._running.pop(number)
        daemon.kill()
        daemon.wait(STOP_S)

    def delete_logs(self, number: int) -> None:
        """A router that kept its history in RAM has lost it; its state on flash stays."""
        shutil.rmtree(self.sites[number].logs)

    def pid(self, number: int) -> int:
        """The process id of a router's daemon."""
        return self._running[number].pid

    # --- The air ----------------------------------------------------------------------------------------

    def cut(self, one: int, other: int) -> None:
        """Nothing passes between two routers."""
        self._control.ask("cut", one=one, other=other)

    def heal(self, one: int, other: int) -> None:
        """Two routers hear each other (again)."""
        self._control.ask("heal", one=one, other=other)

    def loss(self, one: int, other: int, loss: float) -> None:
        """Changes the loss between two routers, 0 to 1."""
        self._control.ask("loss", one=one, other=other, loss=loss)

    def attach(self, number: int) -> None:
        """A router's wlan0 appears."""
        self._control.ask("attach", router=number)

    def detach(self, number: int) -> None:
        """A router's wlan0 vanishes."""
        self._control.ask("detach", router=number)

    def counters(self) -> dict[int, Counters]:
        """What each router put on the air and got so far."""
        return self._control.counters()

    def air_bytes(self) -> int:
        """Bytes that all routers together put on the air so far."""
        return sum(each.bytes for each in self.counters().values())

    # --- People -----------------------------------------------------------------------------------------

    def meshchat(
        self, number: int, *arguments: str, input: str | None = None, status: int | None = 0
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a `meshchat` command on a router; fails unless it ends with `status` (None: any)."""
        done = subprocess.run(
            self.sites[number].meshchat(*arguments),
            input=input,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            env=self.environment(number),
        )
        if status is not None and done.returncode != status:
            raise AssertionError(
                f"meshchat {' '.join(arguments)}: {done.returncode}, {done.stderr}{done.stdout}"
            )
        return done

    def environment(self, number: int) -> dict[str, str]:
        """The environment in which `meshchat` finds a router's daemon and every test user's password."""
        return {**self.sites[number].environment(), "MESHCHAT_PASSWORD": PASSWORD}

    def ask(self, number: int, op: str, **arguments: object) -> Fields:
        """One request to the control socket of a router; the fields of its answer."""
        with ControlClient(self.sites[number].socket) as client:
            return client.request(op, **arguments)

    def register(self, number: int, user: str) -> None:
        """Makes an account on a router."""
        self.meshchat(number, "register", user)

    def send(self, number: int, user: str, room: str, texts: Iterable[str]) -> list[str]:
        """Sends messages from a router; returns their ids, in order."""
        lines = "".join(f"{text}\n" for text in texts)
        return self.meshchat(number, "send", room, "-", "--user", user, input=lines).stdout.split()

    def history(self, number: int, room: str) -> list[Fields]:
        """What `history --json` prints on a router."""
        printed = self.meshchat(number, "history", room, "--json", "--limit", "100000").stdout
        return [json.loads(line) for line in printed.splitlines()]

    def status(self, number: int) -> Fields:
        """What `status --json` prints on a router."""
        status: Fields = json.loads(self.meshchat(number, "status", "--json").stdout)
        return status

    def clock(self, number: int) -> Fields:
        """What a router says of its time: `time`, `quality`, `offset_ms` and more."""
        clock: Fields = self.ask(number, "clock_show")["clock"]
        return clock

    def room(self, number: int, room: str) -> Fields:
        """Name, messages, last and digest of a room on a router; no messages where it has none."""
        with ControlClient(self.sites[number].socket) as client:
            rooms = {each["name"]: each for each in client.stream("rooms")}
        return rooms.get(room, {"name": room, "messages": 0, "last": None, "digest": None})

    def await_users(self, *users: str, seconds: float = 60.0) -> None:
        """Returns when every running router knows these accounts."""

        def known(number: int) -> set[str]:
            with ControlClient(self.sites[number].socket) as client:
                return {each["user"] for each in client.stream("users")}

        wait(lambda: all(set(users) <= known(n) for n in self._running), seconds, f"accounts {users} on all")

    def await_room(
        self, room: str, messages: int, seconds: float, routers: Iterable[int] | None = None
    ) -> None:
        """Returns when these routers (all running, unless given) hold a room alike, with `messages` in it."""
        numbers = list(self._running if routers is None else routers)
        rooms: list[Fields] = []

        def alike() -> bool:
            rooms[:] = [self.room(number, room) for number in numbers]
            return {each["messages"] for each in rooms} == {messages} and len(
                {e["digest"] for e in rooms}
            ) == 1

        try:
            wait(alike, seconds, f"room {room} alike with {messages} messages")
        except AssertionError as error:
            held = ", ".join(f"{n}: {each['messages']}" for n, each in zip(numbers, rooms, strict=True))
            raise AssertionError(f"{error} ({held})") from None

    def await_idle(self, seconds: float = 300.0, routers: Iterable[int] | None = None) -> None:
        """Returns when these routers (all, unless given) put next to nothing on the air any more.

        That is, when in `IDLE_WINDOW_S` each sent less than `IDLE_BYTES_S` on average.
        """
        numbers = list(self.numbers if routers is None else routers)
        seen: list[tuple[float, int]] = []

        def idle() -> bool:
            now, counters = time.monotonic(), self.counters()
            seen.append((now, sum(counters[number].bytes for number in numbers)))
            while seen[0][0] <= now - IDLE_WINDOW_S:
                start, sent = seen.pop(0)
                if seen[-1][1] - sent < IDLE_BYTES_S * len(numbers) * (now - start):
                    return True
            return False

        wait(idle, seconds, "idle traffic")

    @contextmanager
    def following(self, number: int, room: str) -> Iterator[IO[str]]:
        """What `history ROOM --follow --json` prints on a router from now on."""
        command = self.sites[number].meshchat("history", room, "--follow", "--json")
        follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment(number))
        assert follower.stdout is not None
        try:
            yield follower.stdout
        finally:
            follower.kill()
            follower.communicate()

    # --- Beginning and end ------------------------------------------------------------------------------

    def _start_all(self) -> None:
        for number in self._daemons:
            self._running[number] = self.sites[number].start(*self._options)
        for number, daemon in self._running.items():
            self.sites[number].await_daemon(daemon)

    def _errors(self) -> dict[int, str]:
        return {
            number: site.errors.read_text(errors="replace")
            for number, site in self.sites.items()
            if site.errors.exists()
        }

    def _last_words(self) -> str:
        return "\n".join(f"--- router {number}\n{text[-1500:]}" for number, text in self._errors().items())

    def _check_errors(self) -> None:
        for number, text in self._errors().items():
            assert "Traceback" not in text, f"router {number}:\n{text[-3000:]}"

    def _remove(self) -> None:
        process = getattr(self, "_air", None)
        if process is not None:
            if hasattr(self, "_control"):
                self._control.close()
            # The end of its lifeline: the air stops what still runs in its namespaces and removes them.
            process.communicate(timeout=air.ANSWER_S)
        for daemon in self._running.values():
            daemon.wait(STOP_S)
        namespaces.remove(air.planned(self.directory).values())
        shutil.rmtree(self.directory)
