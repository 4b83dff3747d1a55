"""A real daemon as its operator meets it: starting, stopping, signals, refusals, keys. On loopback only."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from meshchat.client.connection import ControlClient
from meshchat.errors import MeshchatError
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.identity.meshkey import MeshKey, mesh_key_text
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import RouterId, Signature
from meshchat.wire.packets import Carried, Records, encode_packet
from meshchat.wire.records import Grade, Kind, Space, make_stamp, mesh_id

ENVIRONMENT = {**os.environ, "MESHCHAT_PASSWORD": "a long one", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A daemon in a directory of its own."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "meshchat", "daemon", "--interface", "lo", "--logs", str(folder)),
                *("--port", str(self.port), "--socket", str(self.socket), *options),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def until(self, words: str) -> str:
        """The first line of its log that holds `words`, or everything it said before it ended."""
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if words in line:
                return line
        return said

    def meshchat(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command against it."""
        return subprocess.run(
            [sys.executable, "-m", "meshchat", "--socket", str(self.socket), *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env=ENVIRONMENT,
            check=False,
        )

    def history(self) -> list[str]:
        lines = self.meshchat("history", "1", "--json").stdout.splitlines()
        return [json.loads(line)["text"] for line in lines]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status


@contextlib.contextmanager
def daemon(folder: Path, *options: str) -> Iterator[Running]:
    """A daemon that answers, stopped at the end."""
    running = Running(folder, *options)
    try:
        assert "serves the mesh" in running.until("serves the mesh")
        yield running
    finally:
        running.end()


def test_nothing_acknowledged_is_lost_by_a_stop_or_a_kill(tmp_path: Path) -> None:
    said = [f"line {number}" for number in range(40)]
    for number, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
        with daemon(tmp_path) as running:
            if number == 0:
                assert running.meshchat("register", "ada").returncode == 0
            half = said[number * 20 : number * 20 + 20]
            assert running.meshchat("send", "1", "-", "--user", "ada", given="\n".join(half)).returncode == 0
            assert running.end(how) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    with daemon(tmp_path) as running:
        assert running.history() == said


@pytest.mark.parametrize(
    ("change", "told"),
    [("directory", "is in use by another meshchat daemon"), ("port", "is in use: a meshchat daemon")],
)
def test_a_second_daemon_is_refused_in_one_line(tmp_path: Path, change: str, told: str) -> None:
    with daemon(tmp_path) as first:
        other = tmp_path / "other"
        other.mkdir()
        second = Running(tmp_path) if change == "directory" else Running(other, port=first.port)
        said = second.until("never said")
        assert second.process.wait(timeout=30) == 1
        assert told in said
        assert len(said.splitlines()) == 1


def test_a_stop_waits_for_nobody_who_reads_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path) as running, ControlClient(running.socket) as deaf:
        assert running.meshchat("register", "ada").returncode == 0
        deaf.request("login", user="ada", password=ENVIRONMENT["MESHCHAT_PASSWORD"])
        deaf.request("subscribe", rooms=["1"])
        lines = "\n".join(["x" * 8000] * 60)
        assert running.meshchat("send", "1", "-", "--user", "ada", given=lines).returncode == 0
        assert running.end() == 0


FLOOD = """
import itertools, pathlib, socket, sys
flood = [bytes.fromhex(line) for line in pathlib.Path(sys.argv[1]).read_text().split()]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("flooding", flush=True)
for data in itertools.cycle(flood):
    s.sendto(data, ("127.0.0.1", int(sys.argv[2])))
"""
"""Sends the same datagrams for ever, as fast as the machine can."""


def said_over_the_air(text: str, number: int) -> tuple[bytes, bytes]:
    """A datagram of a neighbour with a message of bob's, and the same one forged."""
    mesh, bob = mesh_id("meshchat"), SigningKey.from_seed(KeySeed(bytes(32)))
    record = sign_record(
        bob,
        mesh=mesh,
        space=Space.ROOM,
        log="1",
        kind=Kind.MESSAGE,
        author="bob",
        router=RouterId(bytes(8)),
        stamp=make_stamp(int(time.time() * 1000), number),
        grade=Grade.GOOD,
        body=text.encode(),
    )
    forged = replace(record, signature=Signature(bytes(64)))
    true, false = (
        PlainDatagram(mesh, RouterId(b"neighbor"), encode_packet(Records((Carried(each.carried),)))).encode()
        for each in (record, forged)
    )
    return true, false


def test_people_chat_on_while_a_flood_comes_as_fast_as_it_can(tmp_path: Path) -> None:
    random = Random(1)
    copy, _ = said_over_the_air("a thousand times", 1)
    honest, _ = said_over_the_air("once in a while", 2)
    forged = [said_over_the_air(f"forged {number}", number)[1] for number in range(200)]
    rubbish = [random.randbytes(random.randint(0, 1400)) for _ in range(200)]
    (tmp_path / "flood").write_text("\n".join(data.hex() for data in (*[copy] * 200, *forged, *rubbish)))
    with daemon(tmp_path, "--clock-grade", "good") as running, contextlib.ExitStack() as ends:
        flood = [sys.executable, "-c", FLOOD, str(tmp_path / "flood"), str(running.port)]
        flooding = ends.enter_context(subprocess.Popen(flood, stdout=subprocess.PIPE, text=True))
        ends.callback(flooding.kill)
        assert flooding.stdout is not None
        assert flooding.stdout.readline() == "flooding\n"
        assert running.meshchat("register", "ada").returncode == 0
        neighbour = ends.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        neighbour.bind(("127.0.0.2", 0))
        said = [f"said {number}" for number in range(40)]
        sending = running.meshchat("send", "1", "-", "--user", "ada", given="\n".join(said))
        assert sending.returncode == 0
        for _ in range(
            20
        ):  # the kernel drops what comes faster than it is read: neighbours repeat themselves
            neighbour.sendto(honest, ("127.0.0.1", running.port))
            if "once in a while" in running.history():
                break
        dropped = json.loads(running.meshchat("status", "--json").stdout)["counters"]["dropped"]
        assert all(dropped[reason] > 100 for reason in ("duplicate", "magic", "forgery-budget"))
        assert {*running.history()} == {*said, "a thousand times", "once in a while"}


def test_sighup_takes_what_can_be_used_and_keeps_the_rest(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('retention = "1d"\n')
    with daemon(tmp_path, "--config", str(settings)) as running:
        settings.write_text('retention = "soon"\n')
        running.process.send_signal(signal.SIGHUP)
        assert "'soon'" in running.until("not taken")
        settings.write_text('retention = "2d"\nmesh = "another"\n')
        running.process.send_signal(signal.SIGHUP)
        assert "mesh" in running.until("at the next start")
        assert running.until("was read again")
        assert json.loads(running.meshchat("status", "--json").stdout)["mesh"] == "meshchat"


def test_a_sighup_while_it_still_starts_is_not_lost_and_does_no_harm(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    os.mkfifo(settings)
    running = Running(tmp_path, "--config", str(settings))
    try:
        with settings.open("w") as first:  # waits until the daemon reads
            running.process.send_signal(signal.SIGHUP)
            first.write('retention = "1d"\n')
            (tmp_path / "new").write_text('mesh = "another"\n')
            (tmp_path / "new").replace(settings)
        assert "mesh" in running.until("at the next start")
    finally:
        running.end()


def test_sighup_takes_peers_and_mesh_keys_at_once_and_says_what_waits(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    with daemon(tmp_path, "--config", str(settings)) as running:
        settings.write_text('peers = ["127.0.0.1:9"]\nsyslog = true\n')
        (tmp_path / "mesh.keys").write_text("a slip\n")
        assert json.loads(running.meshchat("status", "--json").stdout)["sealed"] is False
        running.process.send_signal(signal.SIGHUP)
        assert "mesh.keys" in running.until("not taken")
        (tmp_path / "mesh.keys").write_text(mesh_key_text(MeshKey(bytes(32))) + "\n")
        running.process.send_signal(signal.SIGHUP)
        assert "syslog" in running.until("at the next start")
        assert "127.0.0.1:9" in running.until("Using the peer")
        assert "was read again" in running.until("was read again")
        assert json.loads(running.meshchat("status", "--json").stdout)["sealed"] is True


def test_the_daemon_takes_no_memory_for_openssl(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        running.until("serves the mesh")
        libraries = Path(f"/proc/{running.process.pid}/maps").read_text()
    finally:
        running.end()
    assert "_sodium" in libraries
    assert "libcrypto" not in libraries
    assert "libssl" not in libraries


@pytest.mark.skipif(Path("/dev/log").exists(), reason="this machine has a syslog")
def test_a_syslog_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    running = Running(tmp_path, "--syslog")
    try:
        assert "/dev/log" in running.until("syslog")
        assert "syslog" not in running.until("serves the mesh")
    finally:
        assert running.end() == 0


def test_rooms_that_are_empty_have_one_digest_in_status_and_in_rooms(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        rooms = [json.loads(line) for line in running.meshchat("rooms", "--json").stdout.splitlines()]
        status = json.loads(running.meshchat("status", "--json").stdout)["rooms"]
    assert [(room["name"], room["digest"]) for room in rooms] == [
        (room["name"], room["digest"]) for room in status
    ]
    assert [room["name"] for room in rooms] == ["1", "2", "3", "4"]
    assert len({room["digest"] for room in rooms}) == 1
    assert rooms[0]["digest"]


def test_text_with_newline_and_nul_survives_socket_log_and_restart_and_names_with_them_are_refused(
    tmp_path: Path,
) -> None:
    odd = "one\ntwo\x00three\r\n\x1b[2J\u2028four"
    with daemon(tmp_path) as running, ControlClient(running.socket) as client:
        for name in ("a\nb", "a\x00b", "\n", "\x00"):
            for request in ({"do": "register", "user": name}, {"do": "login", "user": name}):
                with pytest.raises(MeshchatError) as refused:
                    client.request(request["do"], user=request["user"], password="a long one")
                assert str(refused.value).isprintable()
        client.request("register", user="ada", password="a long one")
        client.request("login", user="ada", password="a long one")
        for name in ("a\nb", "a\x00b"):
            with pytest.raises(MeshchatError):
                client.request("send", room=name, text="hi")
            with pytest.raises(MeshchatError):
                client.request("join", room=name)
        client.request("send", room="1", text=odd)
        assert running.history() == [odd]
    assert (tmp_path / "rooms" / "1.log").read_bytes().count(b"\n") == 1
    with daemon(tmp_path) as running:
        assert running.history() == [odd]
        said = running.meshchat("history", "1").stdout
    assert "\\x00" in said
    assert "\x00" not in said
    assert "\x1b" not in said
    assert all(line.startswith("      ") for line in said.splitlines()[1:])


def test_the_sample_is_a_configuration_that_can_be_used(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "meshchat", "daemon", "--sample"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    settings = tmp_path / "settings.toml"
    settings.write_text(printed.replace("#retention", "retention"))
    with daemon(tmp_path, "--config", str(settings)) as running:
        assert running.meshchat("status").returncode == 0


def test_two_mesh_keys_at_once_and_no_third(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        first = running.meshchat("key", "new").stdout
        assert json.loads(running.meshchat("status", "--json").stdout)["sealed"] is True
        assert running.meshchat("key", "new").returncode == 0
        refused = running.meshchat("key", "new")
        assert refused.returncode == 1
        assert "drop one" in refused.stderr
        assert running.meshchat("key", "add", "no key").returncode == 1
        slip = mesh_key_text(MeshKey(bytes(32))).replace("a", "b", 1)
        refused = running.meshchat("key", "add", slip)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "A letter of this mesh key is wrong: compare it" in refused.stderr
    assert oct((tmp_path / "mesh.keys").stat().st_mode & 0o777) == "0o600"
    with daemon(tmp_path) as running:
        shown = running.meshchat("key", "show").stdout
        assert any(word in shown for word in first.split() if len(word) == 56)


def test_a_line_that_was_edited_is_set_aside_and_said(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        running.meshchat("register", "ada")
        running.meshchat("send", "1", "-", "--user", "ada", given="first\nsecond\nthird")
    log = tmp_path / "rooms" / "1.log"
    log.write_text(log.read_text().replace("second", "forged"))
    with daemon(tmp_path) as running:
        assert running.history() == ["first", "third"]
    assert "forged" in (tmp_path / "rooms" / "1.log.damaged").read_text()


def test_check_and_status_speak_in_words(tmp_path: Path) -> None:
    with daemon(tmp_path, "--clock-grade", "good") as running:
        said = running.meshchat("check").stdout
        assert "lo cannot multicast" in said
        assert "own key" not in said
        assert "The clock is good" in said
        assert "No other router has been heard" in said
        status = json.loads(running.meshchat("status", "--json").stdout)
        expected = {"router", "mesh", "version", "uptime_s", "rss_kb", "interfaces", "neighbours", "clock"}
        assert expected | {"rooms", "counters"} <= set(status)
        assert set(status["clock"]) >= {"time", "quality", "offset_ms"}
        counters = set(status["counters"])
        assert {"datagrams_in", "datagrams_out", "bytes_in", "bytes_out", "dropped"} <= counters
