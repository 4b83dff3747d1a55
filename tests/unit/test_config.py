"""What a person can set, and what he is told when it cannot be used."""

import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat import config
from meshchat.config import (
    MAX_SOCKET_PATH,
    SAMPLE,
    SYSTEM,
    Config,
    Places,
    check_socket_path,
    default_socket,
    front_door,
    load,
    parse,
    parse_peer,
    places,
)
from meshchat.errors import ConfigError
from meshchat.units import parse_clock_time, parse_duration

WHERE = Places(Path("/r/logs"), Path("/r/state"), Path("/r/socket"), Path("/r/meshchat.toml"))


def read(text: str, overrides: Mapping[str, object] | None = None) -> Config:
    return parse(text, overrides or {}, WHERE, "test.toml")


def test_an_empty_file_sets_nothing() -> None:
    config = read("")
    assert (config.logs, config.state, config.socket) == WHERE[:3]
    assert (config.group, config.port, config.interfaces) == ("224.1.1.1", 8888, ())
    assert (config.retention_s, config.wipe_time, config.fsync) == (86_400, "04:00", "interval")


def test_the_sample_reads_back_as_the_defaults() -> None:
    active = re.sub(r"^#(\w+ = )", r"\1", SAMPLE, flags=re.MULTILINE)
    settings = tomllib.loads(active)
    assert {"retention", "logs", "peers", "syslog"} <= settings.keys()
    assert not {"clock_offset_s", "clock_grade"} & settings.keys()  # for tests only
    assert parse(active, {}, WHERE, "sample") == parse("", {}, SYSTEM, "sample")
    assert max(map(len, SAMPLE.splitlines())) < 80


def test_the_command_line_wins_over_the_file() -> None:
    config = read('port = 9000\nmesh = "elm street"', {"port": 9001, "mesh": "oak"})
    assert (config.port, config.mesh) == (9001, "oak")


def test_an_option_that_was_not_given_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('port = 9000\ninterfaces = ["mesh0"]')
    config = load(file, {"port": None, "interfaces": ()})
    assert (config.port, config.interfaces) == (9000, ("mesh0",))


def test_state_lies_with_the_logs_unless_it_is_named() -> None:
    assert read("", {"logs": "/x"}).state == Path("/x")
    assert read('logs = "/x"\nstate = "/y"').state == Path("/y")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('retention = "36h"', "retention_s", 129_600),
        ('retention = "7d"', "retention_s", 604_800),
        ('retention = "never"', "retention_s", None),
        ('cap_router = "64M"', "cap_router", 64 * 2**20),
        ('cap_router = "1 GiB"', "cap_router", 2**30),
        ("cap_author = 1000000", "cap_author", 1_000_000),
        ('air_rate = "6M"', "air_rate", 6_000_000),
        ("repair_share = 1", "repair_share", 1.0),
        ('peers = ["10.1.2.3", "r.example:99", "10.1.2.3"]', "peers", ("10.1.2.3", "r.example:99")),
        ("syslog = true", "syslog", True),
        ("clock_offset_s = -1795219200", "clock_offset_s", -1795219200.0),
        ('clock_grade = "good"', "clock_grade", "good"),
        ('timezone = "<+0330>-3:30"', "timezone", "<+0330>-3:30"),
    ],
)
def test_a_setting(line: str, field: str, value: object) -> None:
    assert getattr(read(line), field) == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("prot = 1", "'port'"),
        ("zzz = 1", "mesh, interfaces"),
        ("port = 0", "1 to 65535"),
        ('port = "8888"', "1 to 65535"),
        ("port = true", "1 to 65535"),
        ('group = "10.0.0.1"', "224.1.1.1"),
        ('group = "ff02::1"', "224.1.1.1"),
        ("group = 5", "224.1.1.1"),
        ('retention = "1y"', '"36h"'),
        ('retention = "0d"', '"36h"'),
        ("retention = 5", '"36h"'),
        ('wipe_time = "4"', "04:00"),
        ('wipe_time = "24:00"', "04:00"),
        ('fsync = "sometimes"', '"always" or "interval" or "never"'),
        ('cap_author = "lots"', '"4M"'),
        ("cap_author = 10", "65536"),
        ('cap_author = "20M"', "cap_room"),
        ("repair_share = nan", "0.25"),
        ("repair_share = 2.0", "0.25"),
        ('interfaces = ["a/b"]', "mesh0"),
        ('interfaces = ["0123456789abcdef"]', "mesh0"),
        ('interfaces = "mesh0"', "mesh0"),
        ('peers = ["fe80::1"]', "10.1.2.3:8888"),
        ('mesh = ""', "1 to 64"),
        ('mesh = "a\\u0007"', "1 to 64"),
        ("syslog = 1", "true or false"),
        ('logs = ""', "a path"),
        ('logs = "a\\u0000b"', "a path"),
        ("port = ", "not valid TOML"),
        (f'socket = "/{"s" * 107}"', "at most 107"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(line: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(line)
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read: No such file"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "latin").write_bytes(b'mesh = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin")


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    for wrapped in (text, f"mesh = {text}", f'peers = ["{text}"]', f'interfaces = ["{text}"]'):
        try:
            read(wrapped)
        except ConfigError:
            continue


@given(st.text(max_size=30))
def test_no_duration_clock_time_or_peer_breaks_its_reader(text: str) -> None:
    assert (parse_duration(text) or 0) >= 0
    assert (parse_clock_time(text) or 0) < 86_400
    try:
        host, port = parse_peer(text)
    except ConfigError:
        return
    assert host
    assert 0 < port < 65536


def test_peers() -> None:
    assert parse_peer("10.1.2.3") == ("10.1.2.3", 8888)
    assert parse_peer("tunnel-1.example", 9) == ("tunnel-1.example", 9)
    assert parse_peer("tunnel-1.example:77", 9) == ("tunnel-1.example", 77)
    for text in ("", ":1", "a:", "a:0", "a:65536", "a b", "-a", "a:1:2", "[::1]:5"):
        with pytest.raises(ConfigError):
            parse_peer(text)


# --- Places -------------------------------------------------------------------------------------------


def test_a_checkout_keeps_everything_in_its_logs() -> None:
    top = Path(__file__).resolve().parents[2]
    assert places()[:2] == (top / "logs", top / "logs")


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESHCHAT_SOCKET", str(tmp_path / "s"))
    assert default_socket() == tmp_path / "s"
    monkeypatch.setenv("MESHCHAT_SOCKET", "/" + "é" * 60)
    with pytest.raises(ConfigError, match="121 bytes"):
        default_socket()
    monkeypatch.delenv("MESHCHAT_SOCKET")
    assert default_socket().name == "meshchat.sock"


def in_the_place_of_nobody(ask: Callable[[], Path]) -> Path:
    """What `ask` returns to a process that owns nothing."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            os.write(writing, os.fsencode(ask()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = Path(os.fsdecode(answer.read()))
    os.waitpid(child, 0)
    return told


@pytest.mark.parametrize(
    ("sockets", "opened", "as_guest"),
    [
        ((("meshchat.sock", 0o666), ("people.sock", 0o666)), "meshchat.sock", "people.sock"),
        ((("meshchat.sock", 0o000), ("people.sock", 0o666)), "people.sock", "people.sock"),
        ((("meshchat.sock", 0o000), ("people.sock", 0o000)), "people.sock", "people.sock"),
        ((("people.sock", 0o666),), "people.sock", "people.sock"),
        ((("meshchat.sock", 0o000),), "meshchat.sock", "people.sock"),
        ((), "meshchat.sock", "people.sock"),
    ],
)
def test_a_front_end_takes_the_operators_door_or_the_peoples(
    sockets: tuple[tuple[str, int], ...], opened: str, as_guest: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for socket, mode in sockets:
            (folder / socket).touch()
            (folder / socket).chmod(mode)
        operators = folder / "meshchat.sock"
        assert in_the_place_of_nobody(lambda: front_door(operators)) == folder / opened
        assert in_the_place_of_nobody(lambda: front_door(operators, guest=True)) == folder / as_guest


@pytest.mark.parametrize("whose", ["the router's init script", "the operator"])
def test_commands_look_for_the_daemon_where_its_configuration_puts_it(
    whose: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "meshchat.toml"
    file.write_text(f'socket = "{tmp_path}/elsewhere.sock"\n')
    (tmp_path / "elsewhere.sock").touch()
    if whose == "the operator":
        monkeypatch.setattr(config, "SYSTEM", SYSTEM._replace(file=file))
    else:
        monkeypatch.setattr(config, "ROUTER_FILE", file)
    monkeypatch.setattr(config, "places", config._system)
    monkeypatch.delenv("MESHCHAT_SOCKET", raising=False)
    assert default_socket() == tmp_path / "elsewhere.sock"
    file.write_text("socket = 7\n")  # the daemon's to report
    assert default_socket() == SYSTEM.socket


def test_the_longest_socket_path_is_usable() -> None:
    assert check_socket_path(Path("/" + "s" * 106))


def test_a_socket_whose_path_is_just_short_enough_costs_only_the_people_s() -> None:
    longest = "/" + "x" * (MAX_SOCKET_PATH - 1)
    assert read(f'socket = "{longest}"').people is None
    shorter = f"/{'x' * (MAX_SOCKET_PATH - 1 - len('.people.sock'))}"
    assert read(f'socket = "{shorter}"').people == Path(f"{shorter}.people.sock")


# --- Odd surroundings -----------------------------------------------------------------------------------


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An ordinary user of an installed meshchat, whom the machine does not know; what he may own."""
    monkeypatch.setattr("meshchat.config.__file__", str(tmp_path / "lib" / "meshchat" / "config.py"))
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "MESHCHAT_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_home_the_places_are_roots(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places() == SYSTEM
    assert load().socket == SYSTEM.socket
    assert default_socket() == SYSTEM.socket
    monkeypatch.setenv("MESHCHAT_SOCKET", "~/s")
    with pytest.raises(ConfigError, match="no home directory"):
        default_socket()
    monkeypatch.setenv("HOME", "relative")
    assert places() == SYSTEM


def test_what_su_left_of_somebody_else_is_not_used(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME and XDG_RUNTIME_DIR of the one who called `su` belong to him."""
    for name in ("HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(user))
    assert places() == SYSTEM
    monkeypatch.setattr(os, "geteuid", lambda: user.stat().st_uid or 54_321)
    mine = user / "mine"
    monkeypatch.setenv("HOME", str(mine))  # made at its first use
    assert places().logs == mine / ".local/share/meshchat"
    assert places().socket.parent in (places().logs, user)
