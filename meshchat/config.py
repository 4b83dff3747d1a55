"""The settings: their defaults, what each one accepts, and where the files of an installation lie.

A setting is declared once, as a field of `Config`; the reader of the TOML file, the check of its value and
the commented sample all follow from that declaration.
"""

import dataclasses
import ipaddress
import json
import math
import os
import pwd
import re
import textwrap
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from meshchat.byhand import read_text
from meshchat.constants import (
    AIR_RATE,
    CAP_AUTHOR,
    CAP_ROOM,
    CAP_ROUTER,
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_RETENTION_S,
    DEFAULT_WIPE_TIME,
    MAX_MESH_NAME,
    MAX_RECORD,
    PEOPLE_SOCKET,
    REPAIR_SHARE,
)
from meshchat.errors import ConfigError, Contradiction, FileRefused
from meshchat.units import UNIT_SECONDS, parse_clock_time, parse_duration

MAX_SOCKET_PATH = 107
"""Bytes of a UNIX socket's path: `sun_path` of unix(7) holds 108 with the closing NUL."""

MAX_INTERFACE_NAME = 15
"""Bytes of an interface's name: IFNAMSIZ less the closing NUL."""

_SOCKET = "meshchat.sock"
_SIZE = re.compile(r"(\d{1,12}) ?([KMG]?)(?:iB|B)?", re.ASCII)
_RATE = re.compile(r"(\d{1,12}) ?([kM]?)(?:bit/s)?", re.ASCII)


def parse_peer(text: str, port: int = DEFAULT_PORT) -> tuple[str, int]:
    """The host and the UDP port in `host` or `host:port`.

    Raises `ConfigError` where it is neither, or is an IPv6 address.
    """
    host, colon, digits = text.strip().partition(":")
    known = re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?", host, re.ASCII)
    if not known or (colon and not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536)):
        raise ConfigError(
            f"The peer {text!r} cannot be used: give the name or the IPv4 address of a router, "
            f"if need be with its port, such as 10.1.2.3:{DEFAULT_PORT}."
        )
    return host, int(digits) if colon else port


# --- What each setting accepts --------------------------------------------------------------------------
# A reader takes a value from the TOML file or the command line and returns the one to keep; it raises
# ValueError with what it accepts, as it ends the sentence "... must be".

_Reader = Callable[[Any], Any]


def _text(accepted: str, fits: Callable[[str], bool]) -> _Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not fits(value):
            raise ValueError(accepted)
        return value

    return read


def _choice(*choices: str) -> _Reader:
    return _text(" or ".join(f'"{choice}"' for choice in choices), lambda value: value in choices)


def _number(accepted: str, low: float, high: float, kind: type[int] | type[float] = int) -> _Reader:
    def read(value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or not math.isfinite(value):
            raise ValueError(accepted)
        if not low <= value <= high:
            raise ValueError(accepted)
        return kind(value)

    return read


def _scaled(accepted: str, form: re.Pattern[str], factor: int, units: str, low: int) -> _Reader:
    """A number that may be written with a unit: each letter of `units` is `factor` times the one before."""

    def read(value: Any) -> int:
        if isinstance(value, str) and (match := form.fullmatch(value.strip())):
            value = int(match[1]) * factor ** units.index(match[2] or " ")
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**40:
            raise ValueError(accepted)
        return value

    return read


def _list(accepted: str, item: Callable[[str], object]) -> _Reader:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(accepted)
        for entry in value:
            item(entry)
        return tuple(dict.fromkeys(entry.strip() for entry in value))

    return read


def _interface(name: str) -> None:
    usable = name and len(os.fsencode(name)) <= MAX_INTERFACE_NAME and name.isprintable()
    if not usable or set(name) & set("/ ") or name in {".", ".."}:
        raise ValueError('names of network interfaces, such as ["mesh0", "br-lan"]')


def _group(value: Any) -> str:
    accepted = f'an IPv4 multicast address, such as "{DEFAULT_GROUP}"'
    try:
        usable = isinstance(value, str) and ipaddress.IPv4Address(value).is_multicast
    except ipaddress.AddressValueError:
        usable = False
    if not usable:
        raise ValueError(accepted)
    return str(value)


def _retention(value: Any) -> int | None:
    seconds = parse_duration(value) if isinstance(value, str) else None
    if value == "never":
        return None
    if seconds is None or not 0 < seconds <= 3650 * 86_400:
        raise ValueError('a time such as "1d", "36h" or "2w", at most "3650d", or "never"')
    return seconds


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError("a path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:  # "~", and no home directory; "~name", and no such user
        raise ValueError("a path; there is no home directory for its ~") from None


def _socket(value: Any) -> Path:
    return check_socket_path(_path(value))


def _uid(entry: str) -> None:
    if not re.fullmatch(r"[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", entry, re.ASCII):
        raise ValueError('names or numbers of users of this machine, such as ["chat", "1001"]')


_size = _scaled(
    f'a size of at least {4 * MAX_RECORD} bytes, such as "4M"', _SIZE, 1024, " KMG", 4 * MAX_RECORD
)
_rate = _scaled('bits a second, at least 10000, such as "6M"', _RATE, 1000, " kM", 10_000)


def _about(
    meaning: str,
    read: _Reader,
    *,
    key: str = "",
    write: Callable[[Any], str] | None = None,
    live: bool = False,
    hidden: bool = False,
) -> dict[str, Any]:
    """What is known of a setting beside its default.

    `meaning` is for the sample; `read` checks a value and `write` makes TOML of the default; `key` is its
    name where that is not the field's; a `live` one changes while the daemon runs; a `hidden` one is not for
    people, but for tests and init scripts.
    """
    about = {"meaning": meaning, "read": read, "key": key, "write": write or toml}
    return {**about, "live": live, "hidden": hidden}


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, (int, float)):
        return str(value)
    # TOML's basic strings are JSON's, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_size(value: int) -> str:
    return f'"{value >> 20}M"' if value % 2**20 == 0 else str(value)


def _toml_duration(seconds: int | None) -> str:
    if seconds is None:
        return '"never"'
    unit, size = next((unit, size) for unit, size in reversed(UNIT_SECONDS.items()) if seconds % size == 0)
    return f'"{seconds // size}{unit}"'


# --- Where things lie -----------------------------------------------------------------------------------


class Places(NamedTuple):
    """The paths of one kind of installation; `file` is the configuration that is read if it exists."""

    logs: Path
    state: Path
    socket: Path
    file: Path

    @property
    def people(self) -> Path:
        """The people's socket."""
        return people_socket(self.socket)


SYSTEM = Places(
    Path("/var/lib/meshchat"),
    Path("/etc/meshchat"),
    Path("/var/run/meshchat") / _SOCKET,
    Path("/etc/meshchat/meshchat.toml"),
)
"""Root's installation: history in what is RAM on OpenWrt, state on flash."""


ROUTER_FILE = Path("/var/etc/meshchat/meshchat.toml")
"""What a router's init script makes of /etc/config/meshchat for the daemon, which is root's in all else."""


def places() -> Places:
    """Where this installation keeps its files: a checkout, root's, or an ordinary user's (XDG)."""
    top = Path(__file__).resolve().parent.parent
    if (top / "setup.cfg").is_file() and (top / "logs").is_dir():
        logs = top / "logs"
        return Places(logs, logs, logs / _SOCKET, logs / "meshchat.toml")
    data, settings = _xdg("XDG_DATA_HOME", ".local/share"), _xdg("XDG_CONFIG_HOME", ".config")
    if os.geteuid() == 0 or data is None or settings is None:
        return _system()
    home = data / "meshchat"
    running = _own(os.environ.get("XDG_RUNTIME_DIR", ""))
    return Places(home, home, (running or home) / _SOCKET, settings / "meshchat" / "meshchat.toml")


def _system() -> Places:
    return SYSTEM._replace(file=ROUTER_FILE) if os.path.exists(ROUTER_FILE) else SYSTEM


def _xdg(variable: str, below_home: str) -> Path | None:
    """A base directory; None where there is none, nor a home that it could be in."""
    if (named := _own(os.environ.get(variable, ""))) is not None:
        return named
    home = _own(os.environ.get("HOME", "")) or _own(_home_in_passwd())
    return None if home is None else home / below_home


def _own(directory: str) -> Path | None:
    """The directory, unless it is relative, which the XDG specification has ignored, or somebody else's.

    `su` and `sudo` leave HOME and XDG_RUNTIME_DIR as they were, and both are meant for their owner alone.
    One that is not there yet can be made.
    """
    if not directory.startswith("/"):
        return None
    try:
        owner = os.stat(directory).st_uid
    except FileNotFoundError:
        return Path(directory)
    except OSError:  # behind what is shut to us
        return None
    return Path(directory) if owner == os.geteuid() else None


def _home_in_passwd() -> str:
    """Where this process's user lives; empty where the machine knows no such user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def default_socket() -> Path:
    """Where a front end looks for the daemon: MESHCHAT_SOCKET, else the own daemon's socket, else root's.

    A daemon is where its configuration says, if that says it.
    """
    return _default_doors().operators


def front_door(socket: Path | None, *, guest: bool = False) -> Path:
    """The socket that a front end uses of the daemon whose operator's is `socket`, or the default one.

    That is the operator's where this process may open it, else the people's, and for a `guest` the people's.
    """
    doors = _default_doors() if socket is None else _Doors(socket, people_socket(socket))
    shut = not os.access(doors.operators, os.W_OK)
    return doors.people if guest or (shut and os.path.exists(doors.people)) else doors.operators


class _Doors(NamedTuple):
    """The two sockets of a daemon."""

    operators: Path
    people: Path

    @property
    def any_there(self) -> bool:
        # Not Path.exists: in a folder that is shut to us it raises.
        return os.path.exists(self.operators) or os.path.exists(self.people)


def _default_doors() -> _Doors:
    named = os.environ.get("MESHCHAT_SOCKET")
    if named:
        try:
            socket = _socket(named)
        except ValueError as error:
            raise ConfigError(f"MESHCHAT_SOCKET is {named!r}: it must be {error}.") from None
        return _Doors(socket, people_socket(socket))
    own, roots = _doors_of(places()), _doors_of(_system())
    return roots if not own.any_there and roots.any_there else own


def _doors_of(where: Places) -> _Doors:
    """The sockets of a daemon that was started with its installation's own configuration."""
    try:
        config = parse(_read(where.file), {}, where, str(where.file))
    except ConfigError:  # it is not there, or what it says is the daemon's to report
        return _Doors(where.socket, where.people)
    return _Doors(config.socket, config.people or people_socket(config.socket))


def people_socket(socket: Path) -> Path:
    """The people's socket beside the operator's, unless another is set.

    That of `meshchat.sock` is `people.sock`; that of another `name.sock` is `name.people.sock`, for there may
    be several daemons in one directory.
    """
    return socket.with_name(PEOPLE_SOCKET if socket.name == _SOCKET else f"{socket.stem}.{PEOPLE_SOCKET}")


def check_socket_path(path: Path, option: str = "--socket") -> Path:
    """`path` itself; raises `ConfigError` where it is too long for a UNIX socket."""
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ConfigError(
            f"The socket path {path} has {size} bytes and a UNIX socket takes at most {MAX_SOCKET_PATH}: "
            f"give a shorter one with {option}."
        )
    return path


# --- The settings ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set. Durations are seconds and sizes bytes; None means never or not set."""

    mesh: str = field(
        default="meshchat",
        metadata=_about(
            "Name of the mesh. Routers with another name do not hear each other.",
            _text(
                f"1 to {MAX_MESH_NAME} visible characters",
                lambda name: 1 <= len(name) <= MAX_MESH_NAME and name.isprintable(),
            ),
        ),
    )
    interfaces: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Interfaces to send and listen on. Empty: every one that is up, can multicast and has an IPv4 "
            "address, except the one to the Internet.",
            _list('names of network interfaces, such as ["mesh0", "br-lan"]', _interface),
            live=True,
        ),
    )
    peers: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            'Routers to reach by unicast where multicast is filtered (tunnels, Gluon networks): "10.1.2.3", '
            '"router.example" or "10.1.2.3:8888".',
            _list('hosts, such as ["10.1.2.3", "router.example:8888"]', parse_peer),
            live=True,
        ),
    )
    group: str = field(
        default=DEFAULT_GROUP,
        metadata=_about("IPv4 multicast group, the same on every router of the mesh.", _group),
    )
    port: int = field(
        default=DEFAULT_PORT,
        metadata=_about(
            "UDP port, the same on every router of the mesh.", _number("a UDP port, 1 to 65535", 1, 65535)
        ),
    )
    logs: Path = field(metadata=_about("Directory of the history. On a router this may be RAM.", _path))
    state: Path = field(
        metadata=_about(
            "Directory of keys, accounts and rooms: keep it on flash. Where only logs is set, the same.",
            _path,
        )
    )
    socket: Path = field(
        metadata=_about("Control socket, by which all other commands reach the daemon.", _socket)
    )
    people: Path | None = field(
        default=None,
        metadata=_about(
            "Control socket for people, who may only chat: guests over SSH, the web. Beside the other one "
            "unless its path would be too long.",
            _socket,
        ),
    )
    people_group: str = field(
        default="",
        metadata=_about(
            "Group that may use the people's socket, by name or number. Empty: the daemon's own.",
            _text("the name or number of a group", lambda value: len(value) <= 32 and value.isprintable()),
        ),
    )
    origin_uids: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Users of this machine whose programs are believed when they say from where a person comes, so "
            "that limits count by address; root and the daemon's own user always are.",
            _list('names or numbers of users of this machine, such as ["chat", "1001"]', _uid),
        ),
    )
    retention_s: int | None = field(
        default=DEFAULT_RETENTION_S,
        metadata=_about(
            'How long history is kept at least: "36h", "1d", "2w", or "never" to wipe nothing.',
            _retention,
            key="retention",
            write=_toml_duration,
            live=True,
        ),
    )
    wipe_time: str = field(
        default=DEFAULT_WIPE_TIME,
        metadata=_about(
            "Local time of the daily wipe, HH:MM.",
            _text('a local time such as "04:00"', lambda value: parse_clock_time(value) is not None),
            live=True,
        ),
    )
    timezone: str = field(
        default="",
        metadata=_about(
            'Time zone, such as "CET-1CEST,M3.5.0,M10.5.0/3" or "Europe/Berlin". Empty: the system\'s.',
            _text("a POSIX time zone or its name", lambda value: len(value) <= 128 and value.isprintable()),
            live=True,
        ),
    )
    fsync: Literal["always", "interval", "never"] = field(
        default="interval",
        metadata=_about(
            'When history is forced onto the disk: "always" before a message is acknowledged, "interval" '
            'every few seconds, which spares flash, or "never", enough for RAM.',
            _choice("always", "interval", "never"),
        ),
    )
    air_rate: int = field(
        default=AIR_RATE,
        metadata=_about(
            'Multicast rate of the slowest radio (mcast_rate), bits a second: 1000000 or "1M".', _rate
        ),
    )
    repair_share: float = field(
        default=REPAIR_SHARE,
        metadata=_about(
            "Share of the air that catching up may take, 0.01 to 1.",
            _number("a share of 1, such as 0.25", 0.01, 1.0, float),
        ),
    )
    cap_author: int = field(
        default=CAP_AUTHOR,
        metadata=_about("Bytes kept of one author in one room.", _size, write=_toml_size),
    )
    cap_room: int = field(
        default=CAP_ROOM, metadata=_about("Bytes kept of one room.", _size, write=_toml_size)
    )
    cap_router: int = field(
        default=CAP_ROUTER, metadata=_about("Bytes kept of all rooms together.", _size, write=_toml_size)
    )
    log_level: str = field(
        default="info",
        metadata=_about(
            'Least important lines that the daemon logs: "debug", "info", "warning" or "error".',
            _choice("debug", "info", "warning", "error"),
            live=True,
        ),
    )
    syslog: bool = field(
        default=False, metadata=_about("Log to syslog, with levels, instead of to standard error.", _flag)
    )
    storage_missing: Path | None = field(
        default=None,
        metadata=_about("Directory that logs stands in for: its disk is not there.", _path, hidden=True),
    )
    clock_offset_s: float = field(
        default=0.0,
        metadata=_about(
            "Seconds added to the system clock.", _number("seconds", -1e11, 1e11, float), hidden=True
        ),
    )
    clock_grade: str | None = field(
        default=None,
        metadata=_about("Overrides the kernel's word on the clock.", _choice("good", "unknown"), hidden=True),
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError` where two settings contradict each other or the socket cannot exist."""
        if not self.cap_author <= self.cap_room <= self.cap_router:
            raise Contradiction(
                f"cap_author ({self.cap_author}) must not exceed cap_room ({self.cap_room}), "
                f"nor that cap_router ({self.cap_router}).",
                ("cap_author", "cap_room", "cap_router"),
            )
        check_socket_path(self.socket)
        if self.people is not None:
            check_socket_path(self.people, "--people")
        if self.people == self.socket:
            raise Contradiction(
                f"socket and people are both {self.socket}: give one of them another path.",
                ("socket", "people"),
            )


SETTINGS = {setting.metadata["key"] or setting.name: setting for setting in dataclasses.fields(Config)}
"""Every setting, by its name in the file."""

FIXED = frozenset(name for name, setting in SETTINGS.items() if not setting.metadata["live"])
"""The settings that a running daemon cannot change."""


def load(file: Path | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """The settings of this run.

    `file` is the configuration file; without one, that of `places()` if it exists. `overrides` come from the
    command line, by setting name (`retention`, not `retention_s`); those that are None or empty say nothing.
    Raises `ConfigError` naming the file or the setting, its value and what is accepted.
    """
    where = places()
    if file is None and os.path.exists(where.file):  # not Path.exists: in a folder shut to us it raises
        file = where.file
    text = _read(file) if file else ""
    given = {key: value for key, value in (overrides or {}).items() if value is not None and value != ()}
    return parse(text, given, where, str(file or "the configuration"))


def _read(file: Path) -> str:
    try:
        return read_text(file)
    except FileRefused as error:
        raise ConfigError(f"The configuration {error}") from None


def parse(text: str, overrides: Mapping[str, object], where: Places, source: str) -> Config:
    """The settings in the TOML `text`, read from `source`, under `overrides`, with the paths of `where`.

    Raises `ConfigError` as `load` does.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{source} is no configuration: brackets are nested too deep.") from None
    settings: dict[str, Any] = {key: checked(key, value, source) for key, value in table.items()}
    settings |= {key: checked(key, value, "the command line") for key, value in overrides.items()}
    settings.setdefault("socket", where.socket)
    beside = people_socket(settings["socket"])
    settings.setdefault("people", beside if len(os.fsencode(beside)) <= MAX_SOCKET_PATH else None)
    settings.setdefault("state", settings.get("logs", where.state))
    settings.setdefault("logs", where.logs)
    return Config(**{SETTINGS[key].name: value for key, value in settings.items()})


def checked(key: str, value: object, source: str) -> object:
    """What to keep of the `value` of a setting in `source`; raises `ConfigError`."""
    setting = SETTINGS.get(key)
    if setting is None:
        import difflib  # here, for a router seldom needs it

        shown = [name for name, known in SETTINGS.items() if not known.metadata["hidden"]]
        near = difflib.get_close_matches(key, shown, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(shown)}."
        raise ConfigError(f"There is no setting {key!r} in {source}: {hint}")
    try:
        return setting.metadata["read"](value)
    except ValueError as error:
        raise ConfigError(f"{key} = {value!r} in {source} cannot be used: it must be {error}.") from None


def _sample() -> str:
    lines = ["# Settings of the meshchat daemon, each shown with its default.", ""]
    for key, setting in SETTINGS.items():
        about = setting.metadata
        if not about["hidden"]:
            default = getattr(SYSTEM, key, setting.default)
            lines += textwrap.wrap(about["meaning"], 78, initial_indent="# ", subsequent_indent="# ")
            lines += [f"#{key} = {about['write'](default)}", ""]
    return "\n".join(lines)


SAMPLE = _sample()
"""A configuration file with every setting, commented out at its default."""
