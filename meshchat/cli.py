"""The `meshchat` command: every line of the contract in the README; the doing is in the layers below.

Imports stay inside the functions: `meshchat --help` is fast on a router, and the daemon never loads the
terminal. Exit status: 0 done, 1 failed, 2 usage, 3 no daemon answers.
"""

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from meshchat.byhand import lines_of, open_input
from meshchat.constants import DEFAULT_GROUP, DEFAULT_PORT, MAX_TEXT, VERSION
from meshchat.errors import DaemonGone, MeshchatError, StoreError

if TYPE_CHECKING:
    from meshchat.chat.localtime import Zone
    from meshchat.client.connection import ControlClient
    from meshchat.terminal.tables import Item

FAILED, USAGE, NO_DAEMON = 1, 2, 3

COMPLETION_PATIENCE = 0.5
"""Seconds that a Tab waits for the daemon."""

PATH = click.Path(path_type=Path)

Function = TypeVar("Function", bound=Callable[..., Any])


def main() -> None:
    """Runs the command line and exits with its status."""
    _open_standard_streams()
    os.umask(os.umask(0o022) | stat.S_IWOTH)  # where everybody may write, everybody may remove the keys
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_status())


def _open_standard_streams() -> None:
    """Puts something in place of standard streams that are closed, as daemonisers and hooks leave them.

    Else the next file opened would be one of them. What stands in for input can only be written to, and for
    output only be read, so that a command which needs it fails and says so; what would have gone to standard
    error is lost.
    """
    for number, name, mode, stand_in in (
        (0, "stdin", "r", os.O_WRONLY),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_WRONLY),
    ):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, stand_in), True)  # it takes the lowest free number: this
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
            setattr(sys, name, stream)


def _status() -> int:
    """What the command line amounts to, with at most one line on standard error."""
    try:
        result = cli.main(prog_name="meshchat", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MeshchatError as error:
        click.echo(_one_line(error), err=True)
        if isinstance(error, DaemonGone):
            return NO_DAEMON
        return USAGE if error.code == "usage" else FAILED
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # What reads our output has gone: nobody is left to tell.
        _give_up_unwritable_output()
        return FAILED
    except OSError as error:
        closed = error.errno == errno.EBADF and error.filename is None
        reason = "standard input or output is closed" if closed else error.strerror or error
        click.echo(f"meshchat: {f'{error.filename}: ' if error.filename else ''}{reason}.", err=True)
        _give_up_unwritable_output()
        return FAILED
    return result if isinstance(result, int) else 0


def _give_up_unwritable_output() -> None:
    """Python flushes standard output once more at the end, and would report in its own words a failure."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: MeshchatError) -> str:
    from meshchat.chat.render import safe

    return safe(str(error) or (type(error).__doc__ or "").strip())


# --- What commands share --------------------------------------------------------------------------------


def _inherit_socket(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """`meshchat --socket X rooms` is `meshchat rooms --socket X`, and either goes before the environment."""
    return path or (context.obj if isinstance(context.obj, Path) else None)


def _socket_option(command: Function) -> Function:
    return click.option(
        "--socket",
        type=PATH,
        callback=_inherit_socket,
        metavar="PATH",
        help="Control socket of the daemon (or set MESHCHAT_SOCKET).",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
_password_option = click.option(
    "--password-file", type=PATH, metavar="FILE", help="The password is the first line of FILE."
)


def _connect(socket: Path | None) -> "ControlClient":
    from meshchat.client.connection import ControlClient
    from meshchat.config import front_door

    return ControlClient(front_door(socket))


def _zone() -> "Zone":
    """The zone of the times shown: the configuration's, else the system's, else UTC."""
    from meshchat.adapters.host.clock import system_zone
    from meshchat.chat.localtime import Zone
    from meshchat.config import load
    from meshchat.errors import ConfigError

    try:
        configured = load().timezone
    except ConfigError:  # the daemon is who reports it
        configured = ""
    try:
        return system_zone(configured)
    except ConfigError:
        return Zone()


def _completions(op: str, field: str) -> Callable[..., list[CompletionItem]]:
    """Completes names from the daemon's answer to `op`, where it answers quickly; never an error."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from meshchat.client.connection import ControlClient
        from meshchat.config import front_door

        try:
            with ControlClient(front_door(context.params.get("socket")), COMPLETION_PATIENCE) as client:
                names = [str(item[field]) for item in client.stream(op)]
        except (MeshchatError, OSError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


_complete_room = _completions("rooms", "name")
_complete_user = _completions("users", "user")

_room_argument = click.argument("room", shell_complete=_complete_room)
_user_argument = click.argument("user", shell_complete=_complete_user)
_room_option = click.option(
    "--room", metavar="ROOM", shell_complete=_complete_room, help="This room only, instead of all."
)


# --- Chat -----------------------------------------------------------------------------------------------


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Example: meshchat send 1 "Soup at noon" --user abc',
)
@click.version_option(VERSION, prog_name="meshchat")
@click.option(
    "--socket", type=PATH, envvar="MESHCHAT_SOCKET", metavar="PATH", help="Control socket of the daemon."
)
@click.option("--guest", is_flag=True, help="By the people's socket, as somebody who is not the operator.")
@click.option("--plain", is_flag=True, help="Line by line, for screen readers and poor terminals.")
@click.pass_context
def cli(context: click.Context, socket: Path | None, guest: bool, plain: bool) -> int | None:
    """Chat on a mesh of routers. With no command: log in and chat."""
    context.obj = socket
    if context.invoked_subcommand is not None:
        return None
    from meshchat.config import front_door
    from meshchat.without_openssl import without_openssl

    with without_openssl():
        from meshchat.terminal.app import run
    return run(str(front_door(socket, guest=guest)), _zone(), plain=plain)


@cli.command()
@_room_argument
@click.argument("text", required=False, default="-", metavar="[TEXT | -]")
@click.option("--user", required=True, shell_complete=_complete_user, help="Your user name.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, max=3600),
    metavar="SECONDS",
    help="Say how many neighbours hold it by then, or as soon as all do.",
)
@_password_option
@_socket_option
def send(
    room: str, text: str, user: str, wait: float | None, password_file: Path | None, socket: Path | None
) -> None:
    """Send TEXT to ROOM and print its id; with -, send each line of standard input.

    Done means stored on this router; --wait does not change the status.
    The password is asked for, or read from MESHCHAT_PASSWORD or --password-file.
    A text that begins with - needs -- before it:

        meshchat send 1 --user abc -- "- bread, - milk"
    """
    from meshchat.terminal.passwords import known_password

    if wait is not None and text == "-":
        raise click.UsageError("--wait goes with one TEXT.")
    with _connect(socket) as client:
        client.request("login", user=user, password=known_password(password_file))
        if wait is not None:
            client.request("subscribe", rooms=[])
            _await_holders(client, _send(client, room, text), wait)
            return
        if text != "-":
            _send(client, room, text)
            return
        for number, line in _input_lines():
            try:
                _send(client, room, line)
            except DaemonGone as error:
                raise DaemonGone(
                    f"{error} It may or may not have taken line {number} ({line[:60]!r}); "
                    "nothing after it was sent."
                ) from None
            except MeshchatError as error:
                raise MeshchatError(
                    f"Line {number} ({line[:60]!r}) was not sent, nor what follows it: {error}"
                ) from None


def _send(client: "ControlClient", room: str, text: str) -> str:
    """Sends, prints and returns the id."""
    answer = client.request("send", room=room, text=text)
    click.echo(answer["record"])
    if answer.get("notice"):
        click.echo(answer["notice"], err=True)
    return str(answer["record"])


def _await_holders(client: "ControlClient", record: str, seconds: float) -> None:
    """Says how many neighbours hold a record after so many seconds, or as soon as all do."""
    by, of = 0, 0
    for held in client.stream("held", records=[record]):
        by, of = held["by"], held["of"]
    for event in client.events(0 if by >= of > 0 else seconds):
        if event["event"] == "held" and event["record"] == record:
            by, of = event["by"], event["of"]
        elif event["event"] == "mesh":
            of = event["neighbours"]
        if by >= of > 0:
            break
    click.echo(f"Held by {by} of {of} neighbours.", err=True)


def _input_lines() -> Iterator[tuple[int, str]]:
    """The lines of standard input that hold something, counted from 1."""
    for number, raw in lines_of(sys.stdin.buffer, MAX_TEXT):
        if raw is None:
            raise MeshchatError(
                f"Line {number} was not sent, nor what follows it: it has more than {MAX_TEXT} bytes."
            )
        line = raw.decode("utf-8", "surrogateescape")
        if line.strip():
            yield number, line


@cli.command()
@_room_argument
@click.option("--since", metavar="WHEN", help="From then on: 2h, yesterday, 18:30, 2026-11-20 ...")
@click.option("--until", metavar="WHEN", help="Before then.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N messages only.")
@click.option("--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
@_json_option
@_socket_option
def history(
    room: str,
    since: str | None,
    until: str | None,
    limit: int | None,
    follow: bool,
    as_json: bool,
    socket: Path | None,
) -> int:
    """Print what was written in ROOM.

    Example: meshchat history 1 --since 2h --follow
    """
    from meshchat.terminal.tables import history_json, history_text

    zone = _zone()

    def show(message: dict[str, Any]) -> None:
        click.echo(history_json(message) if as_json else history_text(message, zone))

    with _connect(socket) as client:
        if follow:
            client.request("subscribe", rooms=[room])
        shown = set()
        try:
            for message in client.stream("history", room=room, since=since, until=until, limit=limit):
                if follow:
                    shown.add(message["id"])
                show(message)
        except StoreError as error:
            if not follow:
                raise
            click.echo(_one_line(error), err=True)
        if follow:
            return _follow(client, shown, show)
    return 0


def _follow(client: "ControlClient", shown: set[str], show: Callable[[dict[str, Any]], None]) -> int:
    """Shows messages as they arrive, those of `shown` left out; Ctrl-C is how it ends."""
    try:
        for event in client.events():
            if event["event"] == "message" and event["message"]["id"] not in shown:
                show(event["message"])
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    return 0


# --- Accounts -------------------------------------------------------------------------------------------


@cli.command()
@click.argument("user")
@_password_option
@_socket_option
def register(user: str, password_file: Path | None, socket: Path | None) -> None:
    """Make an account that works on every router of the mesh.

    Example: meshchat register abc
    """
    from meshchat.terminal.passwords import new_password

    with _connect(socket) as client:
        answer = client.request("register", user=user, password=new_password(password_file))
    click.echo("Your account has been created")
    if answer.get("notice"):
        click.echo(answer["notice"], err=True)


@cli.command()
@_user_argument
@_password_option
@click.option(
    "--new-password-file", type=PATH, metavar="FILE", help="The new password is the first line of FILE."
)
@_socket_option
def passwd(
    user: str, password_file: Path | None, new_password_file: Path | None, socket: Path | None
) -> None:
    """Change the password of an account.

    Both are asked for, or read from MESHCHAT_PASSWORD and MESHCHAT_NEW_PASSWORD.
    """
    from meshchat.terminal.passwords import NEW_VARIABLE, known_password, new_password

    with _connect(socket) as client:
        old = known_password(password_file)
        client.request("login", user=user, password=old)
        client.request("passwd", old=old, new=new_password(new_password_file, NEW_VARIABLE))
    click.echo("The password has been changed")


@cli.command()
@_user_argument
@click.option("--yes", is_flag=True, help="Yes, for ever.")
@_password_option
@_socket_option
def retire(user: str, yes: bool, password_file: Path | None, socket: Path | None) -> None:
    """Close an account for ever, on every router of the mesh."""
    from meshchat.terminal.passwords import known_password

    if not yes:
        raise click.UsageError("Nobody can open it again: say --yes if you mean it.")
    with _connect(socket) as client:
        password = known_password(password_file)
        client.request("login", user=user, password=password)
        client.request("retire", password=password)
    click.echo("The account has been closed")


# --- What there is --------------------------------------------------------------------------------------


def _listing(op: str, as_json: bool, socket: Path | None) -> None:
    """Prints the items of the answer to `op`."""
    from meshchat.terminal import tables

    with _connect(socket) as client:
        items = list(client.stream(op))
    _print({"rooms": tables.rooms, "users": tables.users, "peers": tables.peers}[op], items, as_json)


def _print(
    table: "Callable[[Sequence[Item], Zone], Iterable[str]]", items: "Sequence[Item]", as_json: bool
) -> None:
    from meshchat.terminal.tables import json_line

    for line in map(json_line, items) if as_json else table(items, _zone()):
        click.echo(line)


@cli.command()
@_json_option
@_socket_option
def rooms(as_json: bool, socket: Path | None) -> None:
    """List the rooms. Two routers hold the same when their digests (--json) are equal."""
    _listing("rooms", as_json, socket)


@cli.command()
@_json_option
@_socket_option
def users(as_json: bool, socket: Path | None) -> None:
    """List the accounts of the mesh."""
    _listing("users", as_json, socket)


@cli.command()
@_json_option
@_socket_option
def peers(as_json: bool, socket: Path | None) -> None:
    """List the routers heard directly."""
    _listing("peers", as_json, socket)


@cli.command()
@_json_option
@_socket_option
def status(as_json: bool, socket: Path | None) -> None:
    """Show how this router is doing."""
    from meshchat.terminal import tables

    with _connect(socket) as client:
        answer = client.request("status")["status"]
    for line in [tables.json_line(answer)] if as_json else tables.fields(answer):
        click.echo(line)


@cli.command()
@_json_option
@_socket_option
def check(as_json: bool, socket: Path | None) -> int:
    """Say whether this router is well set up, and what to do where not. Status 1 if something is bad."""
    from meshchat.adapters.host import firewall
    from meshchat.adapters.host.machine import Machine
    from meshchat.adapters.links import arp
    from meshchat.terminal import tables

    with _connect(socket) as client:
        items = list(client.stream("check"))
        status = client.request("status")["status"]
    if (rules := firewall.read_rules()) is not None:
        items += firewall.findings(status, rules, openwrt=Machine().is_openwrt)
    items += arp.findings(status)
    _print(tables.check, items, as_json)
    return FAILED if any(item["level"] == "bad" for item in items) else 0


# --- History by hand ------------------------------------------------------------------------------------


@cli.command()
@_room_option
@click.option("--yes", is_flag=True, help="Yes, delete it.")
@_socket_option
def wipe(room: str | None, yes: bool, socket: Path | None) -> None:
    """Delete the history on this router, now. The other routers keep theirs.

    Example: meshchat wipe --room 1 --yes
    """
    if not yes:
        raise click.UsageError("This deletes history for good: say --yes if you mean it.")
    with _connect(socket) as client:
        click.echo(f"{client.request('wipe', room=room)['messages']} messages wiped")


@cli.command(name="export")
@click.argument("file", type=PATH)
@_room_option
@_socket_option
def export_(file: Path, room: str | None, socket: Path | None) -> None:
    """Write the history to FILE (- for standard output), to carry it to another router by hand.

    Example: meshchat export /mnt/usb/chat.jsonl
    """
    from meshchat.client.exportfile import export_lines, write_whole

    with _connect(socket) as client:
        if str(file) == "-":
            sys.stdout.buffer.writelines(export_lines(client, room))
            sys.stdout.buffer.flush()
        else:
            click.echo(f"{write_whole(file, export_lines(client, room)) - 1} records exported")


@cli.command(name="import")
@click.argument("file", type=PATH)
@_socket_option
def import_(file: Path, socket: Path | None) -> int:
    """Take in what `meshchat export` wrote (- for standard input). Doing it twice does no harm.

    Example: meshchat import /mnt/usb/chat.jsonl
    """
    from meshchat.chat.render import safe
    from meshchat.client.exportfile import import_lines

    with sys.stdin.buffer if str(file) == "-" else open_input(file) as source, _connect(socket) as client:
        total = import_lines(client, source)
    reasons = ", ".join(f"{count} {safe(reason)}" for reason, count in sorted(total.refused.items()))
    click.echo(
        f"{total.added} added, {total.known} known, {sum(total.refused.values())} refused"
        + (f" ({reasons})" if reasons else "")
    )
    return FAILED if total.refused and not total.added + total.known else 0


# --- The router's clock and keys ------------------------------------------------------------------------


@cli.group(no_args_is_help=False)
def clock() -> None:
    """Show or set the time of the mesh; the system's clock is never touched."""


def _clock(op: str, as_json: bool, socket: Path | None, **args: str) -> None:
    from meshchat.terminal import tables

    with _connect(socket) as client:
        answer = client.request(op, **args)["clock"]
    for line in [tables.json_line(answer)] if as_json else tables.fields(answer):
        click.echo(line)


@clock.command(name="show")
@_json_option
@_socket_option
def clock_show(as_json: bool, socket: Path | None) -> None:
    """Show the time of the mesh and how far it is trusted."""
    _clock("clock_show", as_json, socket)


@clock.command(name="set")
@click.argument("time", nargs=-1, required=True)
@_json_option
@_socket_option
def clock_set(time: tuple[str, ...], as_json: bool, socket: Path | None) -> None:
    """Vouch for the time: routers without a good clock will follow this one.

    Example: meshchat clock set 2026-11-21 18:30
    """
    _clock("clock_set", as_json, socket, time=" ".join(time))


@cli.group(no_args_is_help=False)
def key() -> None:
    """Show or change the mesh key.

    To change it without a gap: `key new` on one router, `key add` on all others, then `key use` on all,
    then `key drop` of the old one on all.
    """


def _keys(op: str, socket: Path | None, **args: str) -> None:
    """Prints the keys that are in use after `op`."""
    from meshchat.terminal import tables

    with _connect(socket) as client:
        keys = client.request(op, **args)["keys"]
    for line in tables.keys(keys):
        click.echo(line)


def _key_given(_: click.Context, __: click.Parameter, key: str) -> str:
    if key != "-":
        return key
    line = next(lines_of(sys.stdin.buffer, MAX_TEXT), (1, b""))[1] or b""
    return line.decode("ascii", "backslashreplace").strip()


_key_argument = click.argument("key", callback=_key_given)


@key.command(name="show")
@click.option("--qr", is_flag=True, help="The one that sends, for a phone to carry to another router.")
@_socket_option
def key_show(qr: bool, socket: Path | None) -> None:
    """Show the mesh keys and which one sends. Whoever has one can read and write."""
    if not qr:
        _keys("key_show", socket)
        return
    from meshchat.terminal.qr import qr_lines

    with _connect(socket) as client:
        sending = [str(item["key"]) for item in client.request("key_show")["keys"] if item["sends"]]
    if not sending:
        raise MeshchatError("There is no mesh key: make one with `meshchat key new`.")
    for line in qr_lines(sending[0].upper(), sys.stdout.encoding):
        click.echo(line, color=True)


@key.command(name="new")
@_socket_option
def key_new(socket: Path | None) -> None:
    """Make a new key, which this router accepts from now on.

    On an open mesh it is used at once: this router and those without it do not hear each other.
    """
    from meshchat.terminal import tables

    with _connect(socket) as client:
        *others, newest = client.request("key_new")["keys"]
    # First, so that whoever takes the first line takes the right one.
    (line,) = tables.keys([newest])
    click.echo(f"{line}, new")
    if others:
        for line in tables.keys(others):
            click.echo(f"{line}, as before")
    click.echo(f"Now, on every other router: meshchat key add {newest['key']}", err=True)


@key.command(name="add")
@_key_argument
@_socket_option
def key_add(key: str, socket: Path | None) -> None:
    """Accept KEY as well (- reads it from standard input, so that it is in no shell history)."""
    _keys("key_add", socket, key=key)


@key.command(name="use")
@_key_argument
@_socket_option
def key_use(key: str, socket: Path | None) -> None:
    """Send with KEY from now on; the others are still accepted."""
    _keys("key_use", socket, key=key)


@key.command(name="drop")
@_key_argument
@click.option("--yes", is_flag=True, help="Yes, even if it is the last one.")
@_socket_option
def key_drop(key: str, yes: bool, socket: Path | None) -> None:
    """Accept KEY no longer. Without any key the mesh is open to everybody."""
    with _connect(socket) as client:
        held = client.request("key_show")["keys"]
    if not yes and len(held) == 1:
        raise click.UsageError(
            "Without this last key everybody in radio range can read and write: say --yes if you mean it."
        )
    _keys("key_drop", socket, key=key)


@cli.group(no_args_is_help=False)
def watch() -> None:
    """Codes that let a person see how this router does, though he does not run it."""


@watch.command(name="new")
@_socket_option
def watch_new(socket: Path | None) -> None:
    """Print a new code. Whoever enters it in the chat (/watch CODE) may use /status from then on."""
    with _connect(socket) as client:
        click.echo(client.request("watch_new")["code"])


@watch.command(name="list")
@_json_option
@_socket_option
def watch_list(as_json: bool, socket: Path | None) -> None:
    """List the codes and who has entered them."""
    from meshchat.terminal import tables

    with _connect(socket) as client:
        _print(tables.codes, list(client.stream("watch_list")), as_json)


@watch.command(name="drop")
@click.argument("code")
@_socket_option
def watch_drop(code: str, socket: Path | None) -> None:
    """Make a code worthless, for those who have entered it, too."""
    with _connect(socket) as client:
        client.request("watch_drop", code=code)


# --- The daemon -----------------------------------------------------------------------------------------


@cli.command()
@click.option(
    "--interface", "interfaces", multiple=True, metavar="IF", help="Send and listen on IF (repeat)."
)
@click.option("--group", metavar="ADDRESS", help=f"Multicast group [{DEFAULT_GROUP}].")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help=f"UDP port [{DEFAULT_PORT}].")
@click.option("--logs", type=PATH, metavar="DIR", help="Where the history is kept; may be RAM.")
@click.option("--state", type=PATH, metavar="DIR", help="Where keys and accounts are kept; as --logs.")
@click.option("--config", type=PATH, metavar="FILE", help="Settings; the options here go before them.")
@click.option(
    "--people",
    type=PATH,
    metavar="PATH",
    help="Control socket for people, who may only chat [beside the other].",
)
@click.option("--mesh", metavar="NAME", help="Name of the mesh; others are not heard.")
@click.option("--peer", "peers", multiple=True, metavar="HOST[:PORT]", help="Reach HOST by unicast (repeat).")
@click.option("--log-level", type=click.Choice(("debug", "info", "warning", "error")), help="What is logged.")
@click.option("--syslog", is_flag=True, default=None, help="Log to syslog instead.")
@click.option("--clock-offset", "clock_offset_s", type=float, hidden=True)
@click.option("--clock-grade", type=click.Choice(("good", "unknown")), hidden=True)
@click.option("--sample", is_flag=True, help="Print a configuration file with every setting, and exit.")
@_socket_option
def daemon(config: Path | None, sample: bool, **overrides: Any) -> None:
    """Run the router's part: keep the rooms and pass messages on. Stops on SIGTERM or Ctrl-C.

    Example: meshchat daemon --interface wlan0 --logs /var/lib/meshchat --state /etc/meshchat
    """
    from meshchat.without_openssl import without_openssl

    with without_openssl():
        from meshchat.config import SAMPLE, load
        from meshchat.daemon import run

    if sample:
        click.echo(SAMPLE)
        return
    given = {name: value for name, value in overrides.items() if value not in (None, ())}
    run(lambda: load(config, given))
