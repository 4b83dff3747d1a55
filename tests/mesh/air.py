"""The air: one process that owns every router's radio and moves frames between them.

    python -m tests.mesh.air DIRECTORY --routers 5 --topology line --loss 0.2

makes the namespaces, writes their names to DIRECTORY/air.json, answers on the UNIX socket DIRECTORY/air.sock,
prints `ready`, and removes everything again when it is told to stop, by a signal or by a request, or, with
`--lifeline`, when its standard input ends: that is, also when whoever started it is killed.

A request is a JSON object on a line, and so is its answer: {"ok": true, ...} or {"ok": false, "error": ...}.

| do | arguments | answer |
| --- | --- | --- |
| cut, heal | one, other | |
| loss | one, other, loss (0 to 1) | |
| attach, detach | router | its wlan0 appears, vanishes |
| links | | links: [[one, other, loss, cut], ...] |
| counters | | routers: {number: {frames, bytes, received, missed}} |
| stop | | the connection ends when all is removed |
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import click

from tests.mesh import namespaces
from tests.mesh.radio import TOPOLOGIES, Counters, NoSuchLink, Radio, Transmission

FRAMES_AT_ONCE = 64
"""Frames taken from one radio before the others have their turn."""

ANSWER_S = 60.0
"""How long a request may take; only `stop` takes longer than a moment."""

TOP = Path(__file__).resolve().parents[2]
"""The checkout: the directory that holds `tests` and `meshchat`."""

Answer = dict[str, Any]


class AirError(Exception):
    """A request that the air refused, or an air that does not answer; the text is one line."""


class Air:
    """Moves frames between the TAPs of the routers, as `radio` decides.

    With a `rate` in bits a second, a frame occupies the channel of its sender and of all who hear that
    sender for as long as it takes at that rate; without one it takes no time.
    """

    def __init__(self, radio: Radio, names: dict[int, str], mtu: int, rate: float | None) -> None:
        self._radio = radio
        self._names = names
        self._mtu = mtu
        self._rate = rate
        self._taps: dict[int, int] = {}
        self._free_at = dict.fromkeys(names, 0.0)
        self._stopped = asyncio.Event()
        self._requests: dict[str, Callable[..., Answer | None]] = {
            "cut": radio.cut,
            "heal": radio.heal,
            "loss": radio.set_loss,
            "attach": self.attach,
            "detach": self.detach,
            "links": lambda: {"links": radio.links()},
            "counters": lambda: {"routers": {str(n): asdict(c) for n, c in radio.counters.items()}},
            "stop": self.stop,
        }

    def close(self) -> None:
        """Every wlan0 vanishes."""
        for router in list(self._taps):
            self.detach(router)

    def stop(self) -> None:
        """Ends `serve`."""
        self._stopped.set()

    async def serve(self, path: Path) -> None:
        """Answers requests on the UNIX socket `path`, and prints `ready`, until told to stop.

        Connections stay open: whoever asked to stop sees the end of his when the process has ended.
        """
        await asyncio.start_unix_server(self._converse, path)
        print("ready", flush=True)
        await self._stopped.wait()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode():
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (asyncio.CancelledError, ConnectionError):
            return
        writer.close()

    def attach(self, router: int) -> None:
        """Router `router` gets its wlan0, if it has none."""
        if router not in self._taps:
            self._taps[router] = namespaces.open_tap(self._names[router], router, self._mtu)
            self._listen(router)

    def detach(self, router: int) -> None:
        """The wlan0 of router `router` vanishes."""
        tap = self._taps.pop(router, None)
        if tap is not None:
            asyncio.get_running_loop().remove_reader(tap)
            os.close(tap)

    def _answer(self, request: str) -> Answer:
        try:
            arguments = json.loads(request)
            return {"ok": True, **(self._requests[arguments.pop("do")](**arguments) or {})}
        except (NoSuchLink, namespaces.NamespaceError) as error:
            return {"ok": False, "error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {"ok": False, "error": f"The air does not understand {request.strip()}"}

    def _listen(self, router: int) -> None:
        # A radio that was unplugged while its frame was in the air has nothing to listen to.
        if router in self._taps:
            asyncio.get_running_loop().add_reader(self._taps[router], self._take, router)

    def _take(self, router: int) -> None:
        for _ in range(FRAMES_AT_ONCE):
            try:
                frame = os.read(self._taps[router], 65536)
            except BlockingIOError:
                return
            sent = self._radio.transmit(router, frame)
            if self._rate is not None:
                self._send_slowly(router, frame, sent, self._rate)
                return
            self._deliver(frame, sent)

    def _send_slowly(self, router: int, frame: bytes, sent: Transmission, rate: float) -> None:
        loop = asyncio.get_running_loop()
        disturbed = [router, *self._radio.neighbours(router)]
        start = max(loop.time(), *(self._free_at[n] for n in disturbed))
        end = start + sent.air_bytes * 8 / rate
        self._free_at.update(dict.fromkeys(disturbed, end))
        loop.remove_reader(self._taps[router])
        loop.call_at(end, self._deliver, frame, sent)
        loop.call_at(end, self._listen, router)

    def _deliver(self, frame: bytes, sent: Transmission) -> None:
        for receiver in sent.receivers:
            tap = self._taps.get(receiver)
            if tap is None:
                continue
            try:
                os.write(tap, frame)
            except OSError:
                # The receiver's interface is down: nobody listens, as on a radio.
                continue


def _stop_when_told(air: Air, lifeline: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, air.stop)
    if lifeline:

        def read() -> None:
            if not os.read(sys.stdin.fileno(), 1):
                loop.remove_reader(sys.stdin.fileno())
                air.stop()

        loop.add_reader(sys.stdin.fileno(), read)


def _plan(names: dict[int, str], directory: Path) -> None:
    """Writes down what is about to be made, so that it can be removed whatever happens."""
    plan = {"pid": os.getpid(), "namespaces": {str(number): name for number, name in names.items()}}
    (directory / "air.json").write_text(json.dumps(plan))


def planned(directory: Path) -> dict[int, str]:
    """The namespaces by router number that an air wrote down in `directory`; empty if none did."""
    try:
        plan = json.loads((directory / "air.json").read_text())
    except FileNotFoundError:
        return {}
    return {int(number): name for number, name in plan["namespaces"].items()}


def start(directory: Path, *options: str, lifeline: bool) -> "subprocess.Popen[str]":
    """Runs the air with these command-line options, and returns when it is ready. Raises `AirError`.

    With a lifeline it ends when the `stdin` of what is returned is closed, else it outlives its creator.
    """
    command = [sys.executable, "-m", "tests.mesh.air", str(directory), *options]
    with (directory / "air.err").open("w") as errors:
        air = subprocess.Popen(
            command + ["--lifeline"] * lifeline,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            cwd=TOP,
        )
    assert air.stdout is not None
    if air.stdout.readline() != "ready\n":
        air.wait(ANSWER_S)
        said = (directory / "air.err").read_text().strip().splitlines() or ["The air ended at once."]
        raise AirError(said[-1])
    return air


class AirControl:
    """A client of the air's socket at DIRECTORY/air.sock."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(str(directory / "air.sock"))
        except OSError as error:
            self._socket.close()
            raise AirError("The air does not answer. Remove what is left of it: scripts/mesh down") from error
        self._lines = self._socket.makefile("r")

    def ask(self, do: str, **arguments: object) -> Answer:
        """Sends a request; returns its answer. Raises `AirError`."""
        self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer: Answer = json.loads(
            self._lines.readline() or '{"ok": false, "error": "The air has stopped."}'
        )
        if not answer.pop("ok"):
            raise AirError(answer["error"])
        return answer

    def counters(self) -> dict[int, Counters]:
        """What each router put on the air and got so far."""
        return {int(number): Counters(**each) for number, each in self.ask("counters")["routers"].items()}

    def stop(self) -> None:
        """Has everything removed, and returns when it is."""
        self.ask("stop")
        self._lines.read()

    def close(self) -> None:
        """Ends the connection; the air goes on."""
        self._lines.close()
        self._socket.close()


def _edges(_: click.Context, __: click.Parameter, written: str | None) -> list[tuple[int, int]] | None:
    if written is None:
        return None
    try:
        return [(int(one), int(other)) for one, other in (edge.split("-") for edge in written.split(","))]
    except ValueError:
        raise click.BadParameter("write links as 1-2,2-3") from None


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--routers", type=click.IntRange(1, 254), default=5, show_default=True)
@click.option("--topology", type=click.Choice(list(TOPOLOGIES)), default="line", show_default=True)
@click.option("--edges", callback=_edges, help="Links such as 1-2,2-3 in place of a topology.")
@click.option("--loss", type=click.FloatRange(0, 1), default=0.0, help="Loss of each link, 0 to 1.")
@click.option("--mtu", type=click.IntRange(68, 9000), default=namespaces.DEFAULT_MTU, show_default=True)
@click.option("--rate", type=float, help="Bits a second of every radio; without it frames take no time.")
@click.option("--seed", type=int, default=0, help="The same seed loses the same frames.")
@click.option("--without", multiple=True, type=int, help="A router that gets its wlan0 later, by `attach`.")
@click.option("--lifeline", is_flag=True, help="Stop when standard input ends.")
def main(
    directory: Path,
    routers: int,
    topology: str,
    edges: list[tuple[int, int]] | None,
    loss: float,
    mtu: int,
    rate: float | None,
    seed: int,
    without: tuple[int, ...],
    lifeline: bool,
) -> None:
    """Make routers and the air between them."""
    names = {number: f"mc{os.getpid()}-{number}" for number in range(1, routers + 1)}
    links = TOPOLOGIES[topology](routers) if edges is None else edges
    air = Air(Radio(routers, links, loss, Random(seed)), names, mtu, rate)

    async def run() -> None:
        _stop_when_told(air, lifeline)
        try:
            for number, name in names.items():
                namespaces.create(name)
                if number not in without:
                    air.attach(number)
            await air.serve(directory / "air.sock")
        finally:
            # Inside the loop, so that whoever asked to stop sees the connection end only afterwards.
            namespaces.remove(names.values())
            air.close()

    _plan(names, directory)
    try:
        asyncio.run(run())
    except namespaces.NamespaceError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
