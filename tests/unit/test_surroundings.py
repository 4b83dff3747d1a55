"""A real daemon where the machine around it is odd: calls refused, cleaners, few descriptors, names."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.statestore import StateStore
from meshchat.client.connection import ControlClient
from meshchat.config import people_socket
from meshchat.identity.keys import KeySeed, SigningKey
from tests.unit.namespaces import ip, namespaces
from tests.unit.people import command, environment
from tests.unit.test_daemon import daemon

SOON_S = 40.0


def soon(holds: Callable[[], bool], what: str) -> None:
    """Returns once it holds; fails with `what` when it does not within a generous time."""
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


# --- The process ----------------------------------------------------------------------------------------


def test_both_sockets_are_made_anew_after_a_cleaner(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        with ControlClient(running.socket) as connected:
            for path in (running.socket, people_socket(running.socket)):
                path.unlink()
            soon(
                lambda: running.socket.is_socket() and people_socket(running.socket).is_socket(), "no sockets"
            )
            assert running.meshchat("rooms").returncode == 0
            assert connected.request("status")["status"]["mesh"] == "meshchat"
        assert people_socket(running.socket).stat().st_mode & 0o777 == 0o660
    assert not running.socket.exists()


def test_all_streams_closed_at_the_start(tmp_path: Path) -> None:
    words = command("daemon", "--interface", "lo", "--logs", str(tmp_path), "--port", "0")
    words[-1] = str(_free_port())
    script = 'exec "$@" <&- >&- 2>&-'
    running = subprocess.Popen(
        ["sh", "-c", script, "sh", *words, "--socket", str(tmp_path / "s")], env=environment()
    )
    try:
        soon((tmp_path / "s").is_socket, "no daemon")
        for number in range(3):
            assert os.readlink(f"/proc/{running.pid}/fd/{number}") == "/dev/null"
    finally:
        running.terminate()
        assert running.wait(30) == 0


def test_with_few_descriptors_the_log_has_one_line_of_it(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (24, 24))
        clients = []
        for _ in range(40):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(running.socket))
            clients.append(client)
        assert running.process.stderr is not None
        assert "too many files are open" in running.until("many files")
        running.process.send_signal(signal.SIGHUP)  # it lists its interfaces, too
        first = running.until("cannot be listed")
        assert "interfaces stay as they are" in first
        for client in clients:
            client.close()
        soon(lambda: running.meshchat("rooms").returncode == 0, "it serves nobody any more")
        running.process.send_signal(signal.SIGTERM)
        rest = running.process.stderr.read()
        assert "Traceback" not in rest
        assert rest.count("too many files are open") <= 1


# --- Interfaces, in a network namespace of their own ----------------------------------------------------

LISTED = """
import sys
from meshchat.adapters.links.interfaces import choose, list_interfaces, watch_interfaces
listing = list_interfaces()
print(ascii(sorted(choose((), listing))))
print(ascii({name: one.addresses for name, one in listing.items()}))
watch_interfaces()
"""

WITHOUT_NETLINK = """
import socket
class Refusing(socket.socket):
    def __init__(self, family=-1, *rest, **more):
        if family == socket.AF_NETLINK:
            raise OSError(97, "Address family not supported by protocol")
        super().__init__(family, *rest, **more)
def refuse(*_):
    raise OSError(97, "Address family not supported by protocol")
socket.socket, socket.if_nameindex = Refusing, refuse
import netifaces
netifaces.ifaddresses = refuse
"""
"""What a service manager's RestrictAddressFamilies= does to a process (seccomp)."""


@pytest.fixture
def machine() -> Iterator[str]:
    """A machine with a mesh and an uplink."""
    with namespaces("odd") as (name,):
        for link, address in (("m0", "10.9.0.1/24"), ("wan", "192.168.8.2/24")):
            ip("-n", name, "link", "add", link, "type", "veth", "peer", "name", f"{link}p")
            ip("-n", name, "address", "add", address, "dev", link)
            for end in (link, f"{link}p"):
                ip("-n", name, "link", "set", end, "up")
        ip("-n", name, "route", "add", "default", "via", "192.168.8.1", "dev", "wan")
        yield name


def listed(machine: str, *, before: str = "", masked: bool = False) -> list[str]:
    """The lines of `LISTED` there; `masked`: without /proc."""
    python = [sys.executable, "-c", before + LISTED]
    hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"] if masked else []
    done = subprocess.run(
        ["ip", "netns", "exec", machine, *hide, *python], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def with_vpn(machine: str) -> None:
    ip("-n", machine, "tuntap", "add", "tun0", "mode", "tun")
    ip("-n", machine, "address", "add", "10.8.0.6", "peer", "10.8.0.5", "dev", "tun0")
    ip("-n", machine, "link", "set", "tun0", "up")


def by_two_halves(machine: str) -> None:
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        ip("-n", machine, "route", "add", half, "via", "10.8.0.5", "dev", "tun0")


def by_another_table(machine: str) -> None:
    ip("-n", machine, "route", "add", "default", "dev", "tun0", "table", "51820")
    ip("-n", machine, "rule", "add", "not", "fwmark", "0xca6c", "table", "51820")
    ip("-n", machine, "rule", "add", "table", "main", "suppress_prefixlength", "0")


def by_all_but_private(machine: str) -> None:
    for part in ("0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3"):
        ip("-n", machine, "route", "add", part, "dev", "tun0")
    for part in ("64.0.0.0/2", "128.0.0.0/3", "192.0.0.0/9", "208.0.0.0/4"):
        ip("-n", machine, "route", "add", part, "dev", "tun0")


@pytest.mark.mesh
@pytest.mark.parametrize("taken", [by_two_halves, by_another_table, by_all_but_private])
@pytest.mark.parametrize("before", ["", WITHOUT_NETLINK], ids=["netlink", "no netlink"])
def test_the_chat_does_not_leave_by_a_vpn(machine: str, taken: Callable[[str], None], before: str) -> None:
    with_vpn(machine)
    assert "tun0" in listed(machine, before=before)[0]
    taken(machine)
    assert listed(machine, before=before)[0] == "['m0']"


@pytest.mark.mesh
def test_without_netlink_or_proc_the_interfaces_are_known(machine: str) -> None:
    whole = listed(machine)
    assert whole[0] == "['m0']"
    assert listed(machine, before=WITHOUT_NETLINK) == whole
    assert listed(machine, masked=True) == whole


@pytest.mark.mesh
def test_a_mesh_s_own_public_block_is_no_way_to_the_internet(machine: str) -> None:
    ip("-n", machine, "route", "add", "193.0.14.0/24", "dev", "m0")
    ip("-n", machine, "route", "add", "224.0.0.0/4", "dev", "m0")
    assert listed(machine)[0] == "['m0']"


@pytest.mark.mesh
def test_a_name_that_is_no_utf8_is_an_interface_like_others(machine: str) -> None:
    made = subprocess.run(
        [b"ip", b"-n", os.fsencode(machine), b"link", b"add", b"w\xe4\x85", b"type", b"bridge"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this kernel refuses such names")
    for words in (
        (b"link", b"set", b"w\xe4\x85", b"up"),
        (b"addr", b"add", b"10.7.0.1/16", b"dev", b"w\xe4\x85"),
    ):
        subprocess.run([b"ip", b"-n", os.fsencode(machine), *words], check=True)
    chosen, addresses = listed(machine)
    assert "w\\udce4\\udc85" in chosen
    assert "10.7.0.1" in addresses
    ip("-n", machine, "route", "replace", "default", "via", "10.7.0.2")
    assert listed(machine)[0] == "['m0', 'wan']"


@pytest.mark.mesh
def test_a_daemon_looks_on_beside_a_name_that_is_no_utf8(machine: str, tmp_path: Path) -> None:
    running = subprocess.Popen(
        _within(machine, "daemon", "--logs", str(tmp_path), "--socket", str(tmp_path / "s")),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        soon((tmp_path / "s").is_socket, "no daemon")
        name = b"w\xe4lan"
        here = [b"ip", b"-n", os.fsencode(machine)]
        subprocess.run([*here, b"link", b"add", name, b"type", b"bridge"], check=True)
        subprocess.run([*here, b"addr", b"add", b"10.7.0.1/16", b"dev", name], check=True)
        subprocess.run([*here, b"link", b"set", name, b"up"], check=True)

        def used() -> list[dict[str, object]]:
            with ControlClient(tmp_path / "s") as client:
                return list(client.request("status")["status"]["interfaces"])

        soon(lambda: len(used()) == 2, "it is not used")
        ip("-n", machine, "link", "set", "m0", "mtu", "1300")
        soon(lambda: any(one["mtu"] == 1300 for one in used()), "interfaces are looked after no more")
        for words in (["status"], ["status", "--json"], ["check"], ["check", "--json"]):
            done = subprocess.run(
                command(*words, "--socket", str(tmp_path / "s")),
                env=environment(),
                capture_output=True,
                check=False,
            )
            assert done.returncode in (0, 1)
            assert b"Traceback" not in done.stderr
            assert b"\xe4" not in done.stdout
    finally:
        running.terminate()
        assert "Traceback" not in running.communicate(timeout=30)[1]


# --- What `check` says of them --------------------------------------------------------------------------


def findings(namespace: str, path: Path) -> list[tuple[str, str, str]]:
    """Level, text and cure of what `check` says of addresses and keys, asked on that router."""
    done = subprocess.run(
        _within(namespace, "check", "--json", "--socket", str(path)),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    items = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        (one["level"], one["text"], one["cure"])
        for one in items
        if one["what"] in ("address", "key", "interface")
    ]


@pytest.mark.mesh
def test_check_tells_of_one_address_and_of_one_key_on_two_routers(tmp_path: Path) -> None:
    with namespaces("one", "two") as names:
        one, two = names
        ip("-n", one, "link", "add", "m0", "type", "veth", "peer", "name", "m0", "netns", two)
        started = []
        try:
            for number, name in enumerate(names):
                ip("-n", name, "address", "add", "10.9.0.1/24", "dev", "m0")
                ip("-n", name, "link", "set", "m0", "up")
                home = tmp_path / str(number)
                home.mkdir()
                StateStore(DiskFiles(home), lambda: SigningKey.from_seed(KeySeed(bytes(32)))).identity()
                started.append(_start(name, home))
            for number, name in enumerate(names):
                soon((tmp_path / str(number) / "s").is_socket, "no daemon")
                told = findings(name, tmp_path / str(number) / "s")
                assert any("has the address 10.9.0.1, too" in text for _, text, _ in told), told
            ip("-n", two, "address", "flush", "dev", "m0")
            ip("-n", two, "address", "add", "10.9.0.2/24", "dev", "m0")
            soon(
                lambda: any("own key" in text for _, text, _ in findings(one, tmp_path / "0" / "s")),
                "silence",
            )
            told = findings(one, tmp_path / "0" / "s")
            (key,) = [finding for finding in told if "own key" in finding[1]]
            assert key[0] == "bad"
            assert "10.9.0.2 on m0" in key[1]
            assert f"rm {tmp_path / '0' / 'router.key'}" in key[2]
            assert not any("too" in text for _, text, _ in told)
            ip("-n", one, "address", "flush", "dev", "m0")
            soon(
                lambda: any("no IPv4 address" in text for _, text, _ in findings(one, tmp_path / "0" / "s")),
                "nothing is said of a missing address",
            )
            told = findings(one, tmp_path / "0" / "s")
            assert not [text for level, text, _ in told if level == "ok"], told
        finally:
            for running in started:
                running.terminate()
                running.wait(30)


def _start(namespace: str, home: Path) -> subprocess.Popen[bytes]:
    words = ("daemon", "--interface", "m0", "--logs", str(home), "--socket", str(home / "s"))
    return subprocess.Popen(_within(namespace, *words), env=environment(), stderr=subprocess.DEVNULL)


def _within(namespace: str, *words: str) -> list[str]:
    """The command line of `meshchat` there."""
    return ["ip", "netns", "exec", namespace, *command(*words)]


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
