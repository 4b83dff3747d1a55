"""From the request to send until every router shows it, and what that costs the air."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

from meshchat.client.connection import AsyncControlClient
from meshchat.constants import DEFAULT_GROUP
from tests.bench import alfred, load, ngircd
from tests.bench.arrivals import Arrivals
from tests.bench.figures import Effort, Figure, Peer, percentile
from tests.bench.place import DAEMON, inside, multicast_socket, start_all
from tests.mesh.namespaces import address
from tests.mesh.net import PASSWORD, Mesh
from tests.mesh.radio import cell

ROUTERS = 10
GOALS: dict[float, tuple[float | None, float]] = {0.0: (5, 50), 0.2: (None, 750), 0.5: (None, 3000)}
"""By loss: milliseconds at most for the median and for 99%."""

RATE = 4
"""Messages a second: slow enough that one is through before the next."""

LONGEST_S = 60.0
"""What is not shown everywhere by then counts as lost."""

ECHO_PORT = 9999
ECHO_BYTES = 250
ECHO_LONGEST_S = 1.0
ECHO_RATE, IRC_RATE = 20, 10
USER = "ann"
ALFRED_TRIES = 2


def rows(effort: Effort) -> Iterator[Figure]:
    """One mesh of ours after the other, then the peers in meshes of the same kind."""
    count = effort.pick(200, 40)
    irc = _ngircd(count) if not ngircd.why_not() else {}
    raw, fact = _echo(count), _alfred(effort)
    with Mesh(ROUTERS, topology="cell", daemons=[], options=DAEMON) as mesh:
        start_all(mesh, mesh.numbers)
        mesh.register(1, USER)
        mesh.await_users(USER)
        for loss, goals in GOALS.items():
            _set_loss(mesh, loss)
            mesh.await_idle()
            took = asyncio.run(publish(mesh, count, RATE))
            peers = {"ngircd, a star": irc.get(loss, [])}
            if not loss:
                peers["raw UDP multicast"] = raw
            yield from _figures(loss, took, count, goals, peers, fact if not loss else ())


def _figures(
    loss: float,
    took: Sequence[float],
    count: int,
    goals: tuple[float | None, float],
    peers: dict[str, list[float]],
    more: tuple[Peer, ...],
) -> Iterator[Figure]:
    reach = f"{count} messages, {RATE} a second, of all {ROUTERS} in turn; {len(took)} were shown on all"
    for name, share, goal in (("p50", 0.5, goals[0]), ("p99", 0.99, goals[1])):
        beside = tuple(Peer(peer, _ms(values, share), _why(peer, values)) for peer, values in peers.items())
        yield Figure(
            f"{name}, {loss:.0%} loss",
            _ms(took, share) if len(took) == count else None,
            "ms",
            goal=goal,
            peers=beside + (more if name == "p50" else ()),
            note=reach,
        )


def _why(peer: str, values: Sequence[float]) -> str:
    return "" if values else (ngircd.why_not() if "ngircd" in peer else "nothing arrived everywhere")


def _ms(values: Sequence[float], share: float) -> float | None:
    return 1000 * percentile(values, share) if values else None


def _set_loss(mesh: Mesh, loss: float) -> None:
    for one, other in cell(ROUTERS):
        mesh.loss(one, other, loss)


# --- Ours -----------------------------------------------------------------------------------------------


async def publish(mesh: Mesh, count: int, rate: float, routers: Iterable[int] | None = None) -> list[float]:
    """Has all routers, or these, send `count` messages in turn, `rate` a second.

    Returns for each message that was shown everywhere the seconds until the last of them showed it.
    """
    arrivals = Arrivals()
    people = [await _Person.connect(mesh, number, arrivals) for number in routers or mesh.sites]
    try:
        sent: dict[str, float] = {}

        async def send(turn: int) -> None:
            asked = time.monotonic()
            sent[await people[turn % len(people)].send(load.text(turn))] = asked

        await at_rate(count, rate, send)
        await arrivals.until(lambda: all(sent.keys() <= one.shown.keys() for one in people), LONGEST_S)
        return [
            max(one.shown[message] for one in people) - asked
            for message, asked in sent.items()
            if all(message in one.shown for one in people)
        ]
    finally:
        for one in people:
            await one.close()


async def at_rate(count: int, rate: float, send: Callable[[int], Awaitable[None]]) -> None:
    """Calls `send` with 0, 1, ... `count` - 1, each at its time, whatever became of those before."""
    started = time.monotonic()
    sending = []
    for turn in range(count):
        await asyncio.sleep(max(0.0, started + turn / rate - time.monotonic()))
        sending.append(asyncio.ensure_future(send(turn)))
    await asyncio.gather(*sending)


class _Person:
    """A front end on one router. `shown` has the moment at which each message was shown there, by id."""

    def __init__(self, client: AsyncControlClient, arrivals: Arrivals) -> None:
        self._client, self._arrivals = client, arrivals
        self.shown: dict[str, float] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, mesh: Mesh, number: int, arrivals: Arrivals) -> "_Person":
        client = await AsyncControlClient.connect(mesh.sites[number].socket)
        await client.request("login", user=USER, password=PASSWORD)
        await client.request("subscribe")
        return cls(client, arrivals)

    async def send(self, text: str) -> str:
        """Sends; returns the message's id."""
        answer = await self._client.request("send", room=load.ROOM, text=text)
        return str(answer.fields["record"])

    async def close(self) -> None:
        self._reading.cancel()
        await self._client.close()

    async def _read(self) -> None:
        while True:
            event = await self._client.next_event()
            if event["event"] == "message":
                self.shown[event["message"]["id"]] = time.monotonic()
                self._arrivals.tell()


# --- Beside it ------------------------------------------------------------------------------------------


def _echo(count: int) -> list[float]:
    """Seconds until the last of nine bare sockets has a multicast datagram: the limit of this air."""
    with Mesh(ROUTERS, topology="cell", daemons=[]) as mesh, ExitStack() as open_sockets:
        sockets = []
        for number, site in mesh.sites.items():
            with inside(site.namespace):
                opened = multicast_socket(DEFAULT_GROUP, ECHO_PORT, address(number))
            sockets.append(open_sockets.enter_context(opened))
        return asyncio.run(_send_and_wait(sockets, count))


async def _send_and_wait(sockets: Sequence[socket.socket], count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    arrived: dict[bytes, list[float]] = {}
    arrivals = Arrivals()

    def read(one: socket.socket) -> None:
        arrived.setdefault(one.recv(2048), []).append(time.monotonic())
        arrivals.tell()

    for one in sockets:
        loop.add_reader(one, read, one)
    sent = {}

    async def send(turn: int) -> None:
        data = load.text(turn).encode().ljust(ECHO_BYTES)
        sent[data] = time.monotonic()
        sockets[turn % len(sockets)].sendto(data, (DEFAULT_GROUP, ECHO_PORT))

    await at_rate(count, ECHO_RATE, send)
    everywhere = len(sockets) - 1
    await arrivals.until(
        lambda: all(len(arrived.get(data, ())) == everywhere for data in sent), ECHO_LONGEST_S
    )
    for one in sockets:
        loop.remove_reader(one)
    return [max(arrived[data]) - at for data, at in sent.items() if len(arrived.get(data, ())) == everywhere]


def _ngircd(count: int) -> dict[float, list[float]]:
    """Seconds until all clients have each text, by loss: nine servers linked to the first."""
    links = [(number, 1) for number in range(2, ROUTERS + 1)]
    found: dict[float, list[float]] = {}
    with Mesh(ROUTERS, topology="cell", daemons=[]) as mesh, ngircd.running(mesh, links):

        async def measure() -> None:
            clients = await ngircd.gather(mesh)
            for loss in GOALS:
                _set_loss(mesh, loss)
                found[loss] = await chat(clients, count, IRC_RATE, start=len(found) * count)
            for client in clients:
                await client.close()

        asyncio.run(measure())
    return found


async def chat(clients: Sequence[ngircd.Client], count: int, rate: float, start: int = 0) -> list[float]:
    """The same as `publish`, over IRC; the texts are those from `start` on."""
    sent = {}

    async def send(turn: int) -> None:
        text = load.text(start + turn)
        sent[text] = (time.monotonic(), clients[turn % len(clients)])
        sent[text][1].send(text)

    await at_rate(count, rate, send)

    def others(sender: ngircd.Client) -> list[ngircd.Client]:
        return [client for client in clients if client is not sender]

    def arrived(text: str) -> bool:
        return all(text in client.heard for client in others(sent[text][1]))

    await clients[0].arrivals.until(lambda: all(map(arrived, sent)), LONGEST_S)
    return [
        max(client.heard[text] for client in others(sender)) - at
        for text, (at, sender) in sent.items()
        if arrived(text)
    ]


def _alfred(effort: Effort) -> tuple[Peer, ...]:
    name = f"alfred, the slower of {ALFRED_TRIES} facts"
    if reason := alfred.why_not():
        return (Peer(name, None, reason),)
    longest = float(effort.pick(60, 30))
    with Mesh(ROUTERS, topology="cell", daemons=[]) as mesh, alfred.running(mesh):
        took = [
            alfred.publish(mesh, 64 + turn, f"fact {turn}".ljust(load.TEXT_BYTES, "x").encode(), longest)
            for turn in range(ALFRED_TRIES)
        ]
    known = [seconds for seconds in took if seconds is not None]
    if len(known) < ALFRED_TRIES:
        return (Peer(name, None, f"not everywhere within {longest:.0f} s"),)
    return (Peer(name, 1000 * max(known)),)
