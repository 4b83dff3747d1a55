"""A login over SSH: Debian's dropbear on a router, whose user `chat` has the front end as login shell.

The machine's own users, shells and logs are neither used nor touched: inside the server's mount namespace
others stand in their places (ip-netns(8) gives each program a mount namespace of its own).
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.mesh import namespaces
from tests.mesh.net import Mesh, wait
from tests.terminal.tmux import Screen

PORT = 2222
KEEPALIVE_S = 1
"""A client that has vanished without a word is given up after three of these (dropbear's `-K`)."""

STANDING_IN = """
mount -t tmpfs none /var/log
: >/var/log/lastlog
for file in passwd shadow shells; do mount --bind {home}/$file /etc/$file; done
if [ -e /run/utmp ]; then mount --bind {home}/utmp /run/utmp; fi
exec dropbear -F -E -B -j -k -K {keepalive} -r {home}/key -P {home}/pid -p {port}
"""
"""`-B`: whoever has no password needs none. Without `-m`, as on a router: the message of the day is shown."""


class SshServer:
    """dropbear on router `number` of `mesh`, in a `with` statement; ends what is left of its sessions."""

    def __init__(self, mesh: Mesh, number: int) -> None:
        self._mesh, self._number = mesh, number
        self._site = mesh.sites[number]
        self._home = mesh.directory / f"ssh{number}"

    def __enter__(self) -> Self:
        self._home.mkdir()
        shell = self._home / "shell"
        exports = "".join(
            f"export {name}={shlex.quote(self._site.environment()[name])}\n"
            for name in ("MESHCHAT_SOCKET", "PYTHONPATH")
        )
        shell.write_text(f"#!/bin/sh\n{exports}exec {sys.executable} -m meshchat\n")
        shell.chmod(0o755)
        (self._home / "passwd").write_text(f"chat:x:0:0::{self._home}:{shell}\n")
        (self._home / "shadow").write_text("chat::19000:0:99999:7:::\n")
        (self._home / "shells").write_text(f"{shell}\n")
        (self._home / "utmp").touch()
        subprocess.run(
            ["dropbearkey", "-t", "ed25519", "-f", str(self._home / "key")], check=True, capture_output=True
        )
        script = STANDING_IN.format(home=self._home, keepalive=KEEPALIVE_S, port=PORT)
        with (self._home / "log").open("wb") as log:
            self._server = subprocess.Popen(
                self._site.within("sh", "-e", "-c", script), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait(lambda: (self._home / "pid").exists(), 30, f"dropbear: {self._said()}")
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)
        self._server.terminate()
        self._server.wait(30)

    def client(self, number: int) -> Screen:
        """A terminal in which somebody on router `number` comes in over SSH; on loopback if it is this."""
        host = "127.0.0.1" if number == self._number else namespaces.address(self._number)
        home = self._mesh.directory / f"client{time.monotonic_ns()}"
        # -y twice: the key of this minute is in no list of known hosts.
        command = ["dbclient", "-y", "-y", "-p", str(PORT), f"chat@{host}"]
        # dbclient closes the terminal before it ends, at which tmux would end it with a signal.
        kept_open = ["sh", "-c", '"$@"; exit $?', "sh", *self._mesh.sites[number].within(*command)]
        return Screen(home, run=kept_open, HOME=str(home))

    def kill_clients(self, number: int) -> None:
        """Ends the clients on router `number` at once, as a crash does."""
        for pid in filter(_is_client, namespaces.programs(self._mesh.sites[number].namespace)):
            os.kill(pid, signal.SIGKILL)

    def running(self) -> list[int]:
        """What runs for those who are logged in, server and front ends; not their clients."""
        own = {self._mesh.pid(self._number), self._server.pid}
        here = namespaces.programs(self._site.namespace)
        return [pid for pid in here if pid not in own and not _is_client(pid)]

    def await_nobody(self) -> None:
        """Returns when nothing of any session is left."""
        wait(lambda: not self.running(), 60, f"an end of {self.running()}")

    def _said(self) -> str:
        return (self._home / "log").read_text(errors="replace")


def _is_client(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dbclient"
    except FileNotFoundError:
        return False
