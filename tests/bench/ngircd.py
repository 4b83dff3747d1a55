"""ngircd on every router of a mesh: IRC servers linked in a chain or a star, and a client on each."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.arrivals import Arrivals
from tests.bench.place import inside
from tests.mesh import namespaces
from tests.mesh.net import Mesh

CHANNEL = "#bench"
PORT = 6667
START_S = 60.0
ASK_S = 1.0
STOP_S = 10.0

_CONF = """[Global]
Name = r{number}.bench
AdminInfo1 = bench
AdminEMail = bench@example.org
Info = bench
Listen = 0.0.0.0
Ports = {port}
MotdPhrase = bench
ServerUID = root
ServerGID = root
[Limits]
ConnectRetry = 5
MaxConnectionsIP = 0
MaxPenaltyTime = 0
[Options]
PAM = no
Ident = no
DNS = no
"""

_LINK = """[Server]
Name = r{other}.bench
Host = {address}
Port = {port}
MyPassword = bench
PeerPassword = bench
Passive = {passive}
"""


def why_not() -> str:
    """Why it cannot be measured here; empty where it can."""
    return "" if shutil.which("ngircd") else "not installed (apt-get install ngircd)"


@contextmanager
def running(mesh: Mesh, links: list[tuple[int, int]]) -> Iterator[None]:
    """A server on each router of a mesh without daemons; the first of each linked pair connects."""
    servers = []
    try:
        for number, site in mesh.sites.items():
            path = _configure(mesh, number, links)
            with path.with_suffix(".log").open("w") as log:
                servers.append(
                    subprocess.Popen(site.within("ngircd", "-n", "-f", str(path)), stdout=log, stderr=log)
                )
        yield
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(STOP_S)


def _configure(mesh: Mesh, number: int, links: list[tuple[int, int]]) -> Path:
    text = _CONF.format(number=number, port=PORT)
    for one, other in links:
        if number in (one, other):
            peer = other if number == one else one
            passive = "no" if number == one else "yes"
            text += _LINK.format(other=peer, address=namespaces.address(peer), port=PORT, passive=passive)
    path = mesh.directory / f"ngircd{number}.conf"
    path.write_text(text)
    return path


class Client:
    """One person on the server of one router. `heard` has the moment at which each text arrived."""

    def __init__(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        arrivals: Arrivals,
    ) -> None:
        self.number, self._reader, self._writer, self.arrivals = number, reader, writer, arrivals
        self.heard: dict[str, float] = {}
        self.members: set[str] = set()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, mesh: Mesh, number: int, arrivals: Arrivals) -> "Client":
        """Logs in on router `number` and joins the channel."""
        deadline = time.monotonic() + START_S
        while True:
            with inside(mesh.sites[number].namespace):
                plain = socket.socket()
            try:
                plain.connect(("127.0.0.1", PORT))
                break
            except ConnectionRefusedError:
                plain.close()
                assert time.monotonic() < deadline, f"ngircd of router {number} does not answer"
                await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection(sock=plain)
        client = cls(number, reader, writer, arrivals)
        name = f"p{number}"
        client._say(f"NICK {name}", f"USER {name} 0 * :{name}", f"JOIN {CHANNEL}")
        return client

    def send(self, text: str) -> None:
        """Writes to the channel."""
        self._say(f"PRIVMSG {CHANNEL} :{text}")

    def ask_members(self) -> None:
        """Has `members` filled with who is in the channel by now."""
        self._say(f"NAMES {CHANNEL}")

    async def close(self) -> None:
        """Leaves."""
        self._reading.cancel()
        self._writer.close()
        await asyncio.wait([self._reading])

    def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def _read(self) -> None:
        while line := await self._reader.readline():
            now = time.monotonic()
            words = line.decode(errors="replace").rstrip("\r\n").split(" ", 3)
            if words[0] == "PING":
                self._say("PONG " + " ".join(words[1:]))
            elif words[1] == "PRIVMSG":
                self.heard[words[3].removeprefix(":")] = now
            elif words[1] == "353":
                self.members.update(words[3].partition(":")[2].replace("@", "").split())
            self.arrivals.tell()


async def gather(mesh: Mesh) -> list[Client]:
    """A client on each router, all of whom see each other in the channel."""
    arrivals = Arrivals()
    clients = [await Client.connect(mesh, number, arrivals) for number in mesh.sites]

    def all_linked() -> bool:
        return all(len(client.members) == len(clients) for client in clients)

    deadline = time.monotonic() + START_S
    while not all_linked():
        assert time.monotonic() < deadline, "the IRC servers did not link"
        for client in clients:
            client.ask_members()
        await arrivals.until(all_linked, ASK_S)
    return clients
