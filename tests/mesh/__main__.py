"""A mesh of real daemons on this machine, by hand; `scripts/mesh` runs it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from meshchat.client.connection import ControlClient
from meshchat.errors import MeshchatError
from tests.mesh import air, namespaces
from tests.mesh.air import AirControl, AirError
from tests.mesh.net import Site
from tests.mesh.radio import TOPOLOGIES

DIRECTORY = "MESHCHAT_MESH"
"""The environment variable that names where the mesh lives, for who wants two at once."""


def directory() -> Path:
    """Where the mesh of this user lives, whether it is up or not."""
    if DIRECTORY in os.environ:
        return Path(os.environ[DIRECTORY]).absolute()
    if "XDG_RUNTIME_DIR" in os.environ:
        return Path(os.environ["XDG_RUNTIME_DIR"], "meshchat-mesh")
    return Path(tempfile.gettempdir(), f"meshchat-mesh-{os.geteuid()}")


def sites() -> dict[int, Site]:
    """The routers of the mesh that is up; ends the command where there is none."""
    home = directory()
    names = air.planned(home)
    if not names:
        raise click.ClickException("The mesh is not up. Start it: scripts/mesh up")
    return {number: Site(number, name, home / str(number)) for number, name in names.items()}


def site(number: int) -> Site:
    """Router `number`; ends the command where there is none."""
    known = sites()
    if number not in known:
        raise click.ClickException(f"There is no router {number}: they are 1 to {len(known)}.")
    return known[number]


@contextmanager
def control() -> Iterator[AirControl]:
    """A connection to the air; ends the command, with its one line, where the air refuses something."""
    sites()
    try:
        client = AirControl(directory())
        try:
            yield client
        finally:
            client.close()
    except AirError as error:
        raise click.ClickException(str(error)) from error


class WholeLine(click.Command):
    """A command that takes all that follows its first argument as it is, options and `--` included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tells click so."""
        if args and not args[0].startswith("-"):
            args = [args[0], "--", *args[1:]]
        return super().parse_args(ctx, args)


@click.group()
def main() -> None:
    """Run a mesh of real meshchat daemons on this machine.

    Each router has a network namespace and one interface, wlan0, on a radio that only its neighbours hear
    and that loses frames. Needs root and /dev/net/tun.
    """
    reason = namespaces.why_not()
    if reason is not None:
        raise click.ClickException(f"A mesh cannot run here: {reason}.")


@main.command()
@click.option("--routers", type=click.IntRange(1, 254), default=5, show_default=True)
@click.option(
    "--loss", type=click.IntRange(0, 100), default=20, show_default=True, help="Percent, each link's."
)
@click.option("--topology", type=click.Choice(list(TOPOLOGIES)), default="line", show_default=True)
@click.option("--mtu", type=click.IntRange(576, 9000), default=namespaces.DEFAULT_MTU, show_default=True)
def up(routers: int, loss: int, topology: str, mtu: int) -> None:
    """Start routers and the air between them."""
    home = directory()
    if air.planned(home):
        raise click.ClickException("The mesh is up already. End it: scripts/mesh down")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise click.ClickException(f"{home} belongs to somebody else: set {DIRECTORY} to another place.")
    options = [
        "--routers",
        str(routers),
        "--loss",
        str(loss / 100),
        "--topology",
        topology,
        "--mtu",
        str(mtu),
    ]
    try:
        air.start(home, *options, lifeline=False)
        started = [(each, each.start()) for each in sites().values()]
        for each, daemon in started:
            each.await_daemon(daemon)
    except (AirError, AssertionError) as error:
        remove(home)
        raise click.ClickException(str(error)) from error
    click.echo(f"{routers} routers are up ({topology}, {loss}% loss). Their files are in {home}")
    click.echo("Next: scripts/mesh chat 1, scripts/mesh status, scripts/mesh down")


@main.command("exec", cls=WholeLine)
@click.argument("router", type=int)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="COMMAND...")
def execute(router: int, command: tuple[str, ...]) -> None:
    """Run a meshchat command on ROUTER; after `--`, any program.

    \b
    scripts/mesh exec 1 history 1 --json
    scripts/mesh exec 3 -- ip address
    """
    place = site(router)
    if command == ("--",):
        raise click.UsageError("Say which program to run: scripts/mesh exec 3 -- ip address")
    replace(place, place.within(*command[1:]) if command[0] == "--" else place.meshchat(*command))


@main.command()
@click.argument("router", type=int)
def chat(router: int) -> None:
    """Log in on ROUTER and chat."""
    replace(site(router), site(router).meshchat())


def replace(place: Site, command: list[str]) -> NoReturn:
    """This process becomes `command`, which finds the daemon of `place`."""
    sys.stdout.flush()
    os.execvpe(command[0], command, place.environment())


@main.command()
@click.argument("a", type=int)
@click.argument("b", type=int)
def cut(a: int, b: int) -> None:
    """Let nothing pass between routers A and B."""
    with control() as client:
        client.ask("cut", one=a, other=b)


@main.command()
@click.argument("a", type=int)
@click.argument("b", type=int)
def heal(a: int, b: int) -> None:
    """Let routers A and B hear each other (again)."""
    with control() as client:
        client.ask("heal", one=a, other=b)


@main.command()
@click.argument("a", type=int)
@click.argument("b", type=int)
@click.argument("percent", type=click.IntRange(0, 100))
def loss(a: int, b: int, percent: int) -> None:
    """Lose PERCENT of the frames between routers A and B."""
    with control() as client:
        client.ask("loss", one=a, other=b, loss=percent / 100)


@main.command()
def status() -> None:
    """Show links, neighbours, what the rooms hold, and bytes on the air."""
    with control() as client:
        links, counters = client.ask("links")["links"], client.counters()
    for one, other, lost, is_cut in links:
        click.echo(f"link {one}-{other}: {'cut' if is_cut else f'{lost:.0%} loss'}")
    for number, place in sites().items():
        air_of = counters[number]
        click.echo(f"router {number}: sent {air_of.frames} frames, {air_of.bytes} bytes; {heard(place)}")


def heard(place: Site) -> str:
    """What a router's daemon says of its neighbours and rooms, in one line."""
    try:
        with ControlClient(place.socket) as client:
            neighbours = len(list(client.stream("peers")))
            rooms = [
                f"{room['name']}: {room['messages']} ({room['digest'][:8]})"
                for room in client.stream("rooms")
                if room["messages"]
            ]
    except MeshchatError as error:
        return str(error)
    return f"{neighbours} neighbours; rooms {', '.join(rooms) or 'empty'}"


@main.command()
def down() -> None:
    """Stop everything and remove it, files included; also what a killed mesh left behind."""
    sites()
    remove(directory())


def remove(home: Path) -> None:
    """Stops the air, or does its work where it was killed, and removes the files."""
    try:
        client = AirControl(home)
        client.stop()
        client.close()
    except AirError:
        namespaces.remove(air.planned(home).values())
    shutil.rmtree(home)


if __name__ == "__main__":
    main(prog_name="scripts/mesh")
