"""A router with chat by SSH: Debian's dropbear, started as the init script says, before the real front end.

It lives in namespaces of its own, where its passwd, shadow and shells lie over the machine's.
"""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from meshchat.terminal.pasting import GOES_ON
from tests.openwrt.router import TOP, Router

_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")
PATIENCE = 30.0
PORT = 2222
CLIENT = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR")


def uncover(*paths: Path) -> list[str]:
    """The commands by which, in a mount namespace, everybody can reach `paths`, whatever they lie in."""
    first, then = ["mount -t tmpfs tmpfs /mnt"], []
    for number, path in enumerate(sorted(set(paths))):
        above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if above:
            first += [f"mkdir /mnt/{number}", f"mount --bind {path} /mnt/{number}"]
            hide = f"mount -t tmpfs -o mode=755 tmpfs {above[0]}"
            then += [hide] * (hide not in then) + [f"mkdir -p {path}", f"mount --bind /mnt/{number} {path}"]
    return [*first, *then]


class SshRouter:
    """`router` in namespaces of its own, running the daemon and dropbear."""

    def __init__(self, router: Router, calls: list[str]) -> None:
        """`calls` are those of its init script's start."""
        self.root = router.root
        self._place = contextlib.ExitStack()
        self._stand_in_for_the_router()
        mounts = uncover(TOP, self.root, Path(sys.prefix), Path(sys.base_prefix))
        mounts += [
            f"mount --bind {self.root}/etc/{name} /etc/{name}" for name in ("passwd", "shadow", "shells")
        ]
        setup = " && ".join(["ip link set lo up", *mounts, "echo ready", "cat", "true"])
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                setup,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._place.callback(self._end)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        (child,) = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self._first = int(child)
        self._start_daemon()
        self._start_dropbear(calls)
        self.at_rest = self.processes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.close()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first, signal.SIGKILL)  # the first of a PID namespace takes all others along
        self._holder.kill()
        self._holder.wait()
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream is not None:
                stream.close()

    def _stand_in_for_the_router(self) -> None:
        """Has the login shell find things where they are here, and the user find his shell."""
        shell = self.root / "usr/bin/meshchat-ssh"
        made = self.root / "var/etc/meshchat/meshchat.toml"
        text = shell.read_text().replace("/usr/bin/python3", sys.executable)
        text = text.replace("/usr/lib/meshchat", str(TOP)).replace('"/var/', f'"{self.root}/var/')
        elsewhere = (
            f"import pathlib, meshchat.config\nmeshchat.config.ROUTER_FILE = pathlib.Path({str(made)!r})\n"
        )
        shell.write_text(text.replace("from meshchat.cli", f"{elsewhere}from meshchat.cli"))
        for name in ("passwd", "shells"):
            file = self.root / "etc" / name
            text = file.read_text().replace("/usr/bin/meshchat-ssh", str(shell))
            file.write_text(text.replace("/usr/share/meshchat", str(self.root)))
        text = made.read_text().replace('"/var/run', f'"{self.root}/var/run')
        text = text.replace('"meshchat-people"', '"8889"')  # which this machine does not know by name
        made.write_text(text.replace("syslog = true", "syslog = false"))

    def within(self, *words: str) -> list[str]:
        """The command line that runs `words` on the router's network, but not as a process of its own."""
        return ["nsenter", "-t", str(self._first), "-m", "-n", *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A service of the router's, ended with it."""
        service = subprocess.Popen([*self.within(), "-p", *words], stderr=subprocess.PIPE, text=True)
        self._place.callback(service.wait)
        self._place.callback(service.kill)
        return service

    def _start_daemon(self) -> None:
        """As procd starts it: as its own user, who is in the group of those who may chat as well."""
        state, running = self.root / "state", self.root / "var/run/meshchat"
        state.mkdir()
        for folder in (state, running):
            os.chown(folder, 8888, 8888)
        user = ("setpriv", "--reuid", "8888", "--regid", "8888", "--groups", "8888,8889")
        program = ("env", f"PYTHONPATH={TOP}", "HOME=/", sys.executable, "-B", "-m", "meshchat", "daemon")
        config = str(self.root / "var/etc/meshchat/meshchat.toml")
        options = ("--config", config, "--interface", "lo", "--logs", str(state), "--state", str(state))
        daemon = self.start(*user, *program, *options)
        assert daemon.stderr is not None
        said = []
        for line in daemon.stderr:
            said.append(line)
            if "serves the mesh" in line:
                return
        raise AssertionError("".join(said))

    def _start_dropbear(self, calls: list[str]) -> None:
        begin = calls.index("procd_open_instance ssh")
        line = next(one for one in calls[begin:] if one.startswith("procd_set_param command "))
        line = line.replace("/usr/bin/meshchat-ssh", f"{self.root}/usr/bin/meshchat-ssh")
        before, _, after = line.partition(" /usr/sbin/dropbear ")
        words = [*_share(calls[begin:]), "sh", "-c", before.partition(" -c ")[2], "dropbear", *after.split()]
        key = self.root / "key"
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
        words[words.index("-P") + 1] = str(self.root / "dropbear.pid")
        words[words.index("-R") : words.index("-R") + 1] = ["-r", str(key), "-E"]
        server = self.start(*words)
        assert server.stderr is not None
        assert any("Not backgrounding" in line for line in iter(server.stderr.readline, ""))

    def processes(self) -> set[int]:
        """What runs on the router, by the machine's process ids."""
        namespace = os.readlink(f"/proc/{self._first}/ns/pid")
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") == namespace:
                    found.add(int(folder.name))
        return found

    def ssh(self, *options: str, to: str = "chat") -> list[str]:
        """The command line of OpenSSH's client on the router itself."""
        asked = [f"-o{option}" for option in CLIENT]
        return self.within("ssh", "-p", str(PORT), *asked, *options, f"{to}@127.0.0.1")

    def run(self, *options: str, command: tuple[str, ...] = (), typed: str = "", to: str = "chat") -> str:
        """What a session without a terminal says on both outputs, after `typed` and the end of input."""
        done = subprocess.run(
            [*self.ssh(*options, to=to), *command],
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout

    def terminal(self, *options: str) -> "Session":
        """Somebody at a terminal."""
        return Session(self.ssh("-tt", *options))


class Session:
    """A person's SSH client in a pseudo-terminal."""

    def __init__(self, words: list[str]) -> None:
        self._shown = ""
        self._end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def say(self, line: str) -> None:
        """Types a line in a room: what comes together with its end is taken for a paste."""
        self.type(line)
        self._await(line, lambda: _in_order(line, _ESCAPE.sub("", self._shown)))
        # A person's pause, in which nothing more is drawn: what follows a paste closely belongs to it.
        while select.select([self._end], [], [], 3 * GOES_ON)[0]:
            self._read(line)
        self._shown = ""
        self.type("\r")

    def until(self, words: str) -> str:
        """What is shown up to `words`; what follows them is kept for the next call."""
        self._await(words, lambda: words in self._shown)
        seen, _, self._shown = self._shown.partition(words)
        return seen + words

    def _await(self, words: str, is_there: Callable[[], bool]) -> None:
        """Takes in what is shown until it `is_there`."""
        deadline = time.monotonic() + PATIENCE
        while not is_there():
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {words!r}, saw {self._shown!r}"
            if select.select([self._end], [], [], left)[0]:
                self._read(words)

    def _read(self, words: str) -> None:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # how the end of a pseudo-terminal reads
            data = b""
        assert data, f"ended while waiting for {words!r}, saw {self._shown!r}"
        self._shown += data.decode(errors="replace")


def _in_order(wanted: str, shown: str) -> bool:
    """Whether the characters are there one behind the other, whatever was drawn between them."""
    left = iter(shown)
    return all(char in left for char in wanted)


def _share(calls: list[str]) -> list[str]:
    """A command line before that of a service, which has it run as procd would: as `nice`, with `limits`."""
    told = {
        line.split()[1]: line.split(maxsplit=2)[2] for line in calls if line.startswith("procd_set_param")
    }
    limits = dict(re.findall(r"(\w+)=(\d+ \d+)", told["limits"]))
    return [
        *("nice", "-n", told["nice"], "prlimit"),
        *(f"--{name}={value.replace(' ', ':')}" for name, value in limits.items()),
    ]


def settle(reached: Callable[[], bool]) -> bool:
    """Whether `reached` becomes true before patience ends; asks again and again."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if reached():
            return True
        select.select([], [], [], 0.05)
    return False


@contextlib.contextmanager
def ssh_router(folder: Path, sessions: int = 4) -> Iterator[SshRouter]:
    """A router on which ssh_login is set; needs root."""
    router = Router.new(folder / "root", ("dash",))
    router.set("ssh_login", "1")
    router.set("ssh_sessions", str(sessions))
    calls = router.init("start")
    for program in ("dropbear", "ssh"):
        assert shutil.which(program), program
    with SshRouter(router, calls) as running:
        yield running
