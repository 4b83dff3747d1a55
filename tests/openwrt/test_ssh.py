"""Chat by SSH, through a real dropbear: in the chat within a moment, and nowhere else, whatever one tries."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openwrt.ssh import SshRouter, settle, ssh_router

pytestmark = pytest.mark.mesh

LOGIN = "Do you have an account?"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshRouter]:
    with ssh_router(tmp_path_factory.mktemp("ssh"), sessions=3) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(router: SshRouter) -> Iterator[None]:
    """After each test as before it: no process more on the router, no file written by the user chat."""
    yield
    assert settle(lambda: router.processes() == router.at_rest)
    found = [path for path in router.root.rglob("*") if path.lstat().st_uid == 8889]
    assert not found


def test_two_people_meet_in_a_room_by_ssh_alone(router: SshRouter) -> None:
    with router.terminal() as ann, router.terminal() as bob:
        for name, person in (("ann", ann), ("bob", bob)):
            person.until(LOGIN)
            for answer in ("no", name, "correct horse", "correct horse", "yes", name, "correct horse", "1"):
                person.type(f"{answer}\r")
            person.until(f"Logged in as: {name}")
            person.until("Room Number [1,2,3,4] ")
        ann.say("soup at noon")
        bob.until("soup at noon")
        bob.say("/wipe")
        bob.until("There is no /wipe")
        bob.say("/quit")
        assert bob.process.wait(timeout=30) == 0


@pytest.mark.parametrize("command", ["id", "sh -i", "cat /etc/passwd", "scp -f /etc/passwd", "exit 3"])
def test_a_command_lands_in_the_chat_and_is_not_run(router: SshRouter, command: str) -> None:
    said = router.run(command=(command,), typed="no\n")
    assert said.startswith(LOGIN)
    assert "username" in said
    assert "root" not in said
    assert "uid" not in said


SFTP_INIT = "\0\0\0\x05\x01\0\0\0\x03"


def test_sftp_gets_the_chat_as_well(router: SshRouter) -> None:
    assert router.run("-s", command=("sftp",), typed=f"{SFTP_INIT}\n").startswith(LOGIN)


def test_scp_brings_no_file(router: SshRouter) -> None:
    brought = router.root / "brought"
    said = router.run(command=(f"scp -t {brought}",), typed="C0666 5 brought\nhello\0")
    assert said.startswith(LOGIN)
    assert not brought.exists()


@pytest.fixture
def secret(router: SshRouter) -> Iterator[int]:
    """A service of the router's that only the router itself may reach, at this port."""
    answering = subprocess.Popen(
        router.within("python3", "-u", "-c", SECRET), stdout=subprocess.PIPE, text=True
    )
    assert answering.stdout is not None
    yield int(answering.stdout.readline())
    answering.kill()
    answering.wait()
    answering.stdout.close()


SECRET = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1])
while True:
    connection, _ = server.accept()
    connection.sendall(b"the secret")
    connection.close()
"""

FETCH = """
import socket, sys
where = sys.argv[1]
if where.startswith("/"):
    ours = socket.socket(socket.AF_UNIX)
    ours.connect(where)
else:
    ours = socket.create_connection(("127.0.0.1", int(where)))
ours.settimeout(30)
try:
    print(ours.recv(100))
except ConnectionResetError:
    print(b"")
"""


def fetch(router: SshRouter, where: str) -> str:
    """What comes from a port or a socket on the router's network."""
    done = subprocess.run(
        router.within("python3", "-c", FETCH, where), capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr


def test_no_port_and_no_socket_is_forwarded_to_the_client(router: SshRouter, secret: int) -> None:
    assert "the secret" in fetch(router, str(secret))  # so that what follows means something
    here, control = router.root, router.root / "var/run/meshchat/meshchat.sock"
    forwards = [f"-L{here}/to-port:127.0.0.1:{secret}", f"-L{here}/to-socket:{control}"]
    with router.terminal(*forwards) as person:
        person.until(LOGIN)
        assert fetch(router, f"{here}/to-port") == "b''"
        assert fetch(router, f"{here}/to-socket") == "b''"
    assert "the secret" not in router.run("-W", f"127.0.0.1:{secret}")


def test_no_port_of_the_router_is_forwarded_to_the_client(router: SshRouter, secret: int) -> None:
    said = router.run("-o", "ExitOnForwardFailure=yes", "-R", f"0:127.0.0.1:{secret}")
    assert LOGIN not in said
    assert "forwarding failed" in said


def test_root_and_others_do_not_get_in(router: SshRouter) -> None:
    for name in ("root", "meshchat", "nobody"):
        assert "Permission denied" in router.run(to=name)


def test_nothing_of_the_clients_environment_reaches_the_chat_but_the_kind_of_terminal(
    router: SshRouter,
) -> None:
    with router.terminal("-o", "SetEnv=LD_PRELOAD=/x.so PYTHONPATH=/tmp EDITOR=/bin/sh") as ann:
        ann.until(LOGIN)
        (chat,) = [pid for pid in router.processes() - router.at_rest if owner(pid) == 8889]
        text = Path(f"/proc/{chat}/cmdline").read_bytes()
        assert b"-I" in text.split(b"\0")
        # /proc shows the environment at the start; the program itself keeps less.
        variables = Path(f"/proc/{chat}/environ").read_bytes().split(b"\0")
        names = {one.partition(b"=")[0] for one in variables if one}
        assert b"TERM=xterm" in variables
        assert not [one for one in names if one.startswith((b"LD_", b"PYTHON")) or one == b"EDITOR"]


def owner(pid: int) -> int:
    """The user of a process: the one of its folder would be root's where it may not be dumped."""
    uid = re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert uid
    return int(uid[1])


ESCAPES = [
    *("\x1b!id\r", "!id\r", ":!id\r", "/!id\r", "/shell\r", "/exec id\r", "~C\r"),
    *("\x18\x05", "\x1bv", "\x18\x13", "\x1bx", "\x1b:", "\x0f", "\x12", "\x14", "\x16", "\x19"),
    *("\x1a", "\x1d", "\x1e", "\x1f", "\x1b[24~", "\x1bOP"),
]
"""Keys that open an editor, a shell or a prompt of the system, or suspend, in programs of this kind:
prompt_toolkit, readline, less, vi, irssi, telnet."""

GO_ON, EMPTY_LINE, SUSPEND = "\x11", "\x15", "\x1a"
"""Ctrl-Q, for one of the keys above stops the terminal's output, Ctrl-U and Ctrl-Z."""

SCREEN = "\x1b[?1049h"
"""The terminal's alternate screen is shown (xterm)."""


def test_no_key_opens_a_shell_an_editor_or_a_way_out(router: SshRouter) -> None:
    with router.terminal("-e", "none") as person:
        person.until(LOGIN)
        before = router.processes()
        for number, keys in enumerate(ESCAPES):
            person.type(f"{keys}{GO_ON}{EMPTY_LINE}still here\r")
            person.until(LOGIN)
            assert router.processes() == before, (number, keys)
        assert len(before - router.at_rest) == 2  # dropbear's part for this connection, and the chat


def test_nor_does_one_in_a_room(router: SshRouter) -> None:
    with router.terminal("-e", "none") as person:
        person.until(LOGIN)
        for answer in ("no", "eve", "correct horse", "correct horse", "yes", "eve", "correct horse", "1"):
            person.type(f"{answer}\r")
        person.until("Room Number [1,2,3,4] ")
        person.say("/before")
        person.until("There is no /before")
        before = router.processes()
        for keys in ESCAPES:
            if keys != SUSPEND:
                # What comes with its end is a paste, whose lines stay: emptied, they join those before.
                person.type(f"{keys}{8 * EMPTY_LINE}")
        person.say("/after")
        person.until("There is no /after")
        person.type(SUSPEND)
        person.until(
            SCREEN
        )  # given up, and taken again at once: nothing stops a process that no shell watches
        assert router.processes() == before
        person.say("/quit")
        assert person.process.wait(timeout=30) == 0


def test_the_chat_can_start_no_process_and_write_no_file_at_all(router: SshRouter) -> None:
    with router.terminal() as person:
        person.until(LOGIN)
        (chat,) = [pid for pid in router.processes() - router.at_rest if owner(pid) == 8889]
        limits = Path(f"/proc/{chat}/limits").read_text()
        for what in ("Max processes", "Max file size", "Max core file size"):
            assert re.search(rf"^{what} +0 +0 ", limits, re.MULTILINE), what


FROM_ELSEWHERE = ("-b", "127.0.0.2")


def test_so_many_may_be_in_at_once_and_a_place_is_free_again_as_soon_as_one_leaves(router: SshRouter) -> None:
    with router.terminal() as ann, router.terminal() as bob:
        with router.terminal(*FROM_ELSEWHERE) as eve:
            for person in (ann, bob, eve):
                person.until(LOGIN)
            assert "try again later" in router.run("-b", "127.0.0.3")
        assert settle(lambda: len(router.processes() - router.at_rest) == 4)
        assert router.run(*FROM_ELSEWHERE).startswith(LOGIN)


def test_one_connection_with_many_channels_leaves_places_to_others(router: SshRouter) -> None:
    shared = ("-S", f"{router.root}/shared")
    master = subprocess.Popen(router.ssh("-M", "-N", *shared), stdin=subprocess.DEVNULL)
    assert settle((router.root / "shared").exists)
    with contextlib.ExitStack() as sessions:
        channels = [sessions.enter_context(router.terminal(*shared)) for _ in range(2)]
        for channel in channels:
            channel.until(LOGIN)
        for _ in range(10):
            assert "From your address" in router.run(*shared)
        with router.terminal(*FROM_ELSEWHERE) as other:
            other.until(LOGIN)
    master.terminate()
    master.wait()


def test_no_number_of_channels_makes_more_processes_than_the_router_bears(router: SshRouter) -> None:
    """Three places, and four more processes of the user chat: what is beyond does not even begin. (While they
    are counted, one may end and another begin.)"""
    shared = ("-S", f"{router.root}/shared")
    master = subprocess.Popen(router.ssh("-M", "-N", *shared), stdin=subprocess.DEVNULL)
    assert settle((router.root / "shared").exists)
    many = [
        subprocess.Popen(router.ssh(*shared), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(24)
    ]
    most = 0

    def only_its_share_is_in() -> bool:
        nonlocal most
        most = max(most, sum(begun(pid) for pid in router.processes() - router.at_rest))
        return sum(one.poll() is None for one in many) <= 2

    assert settle(only_its_share_is_in)
    for one in many:
        one.kill()
        one.wait()
        assert one.stdin is not None
        one.stdin.close()
    master.terminate()
    master.wait()
    assert 2 <= most <= 10


def begun(pid: int) -> bool:
    """Whether it is a login shell of the user chat, and not what has yet to become one."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] == [b"-I"]
    except OSError:
        return False


def test_what_comes_by_ssh_leaves_the_processor_and_the_memory_to_the_router(router: SshRouter) -> None:
    with router.terminal() as person:
        person.until(LOGIN)
        for pid in router.processes() - router.at_rest:
            assert os.getpriority(os.PRIO_PROCESS, pid) == 10
        (chat,) = [pid for pid in router.processes() - router.at_rest if owner(pid) == 8889]
        limits = Path(f"/proc/{chat}/limits").read_text()
        assert re.search(rf"^Max data size +{64 * 2**20} +{64 * 2**20} ", limits, re.MULTILINE)


def test_an_endless_line_costs_the_router_nothing(router: SshRouter) -> None:
    """Three times the memory that a guest may take, before any login."""
    flood = subprocess.Popen(
        ["sh", "-c", f"head -c {192 * 2**20} /dev/zero | tr '\\0' y"], stdout=subprocess.PIPE
    )
    done = subprocess.run(
        router.ssh(), stdin=flood.stdout, capture_output=True, text=True, timeout=120, check=False
    )
    flood.kill()
    flood.wait()
    assert flood.stdout is not None
    flood.stdout.close()
    assert done.stdout.startswith(LOGIN)
    assert "Traceback" not in done.stdout + done.stderr
    assert "more than one guest may take" not in done.stdout + done.stderr


def test_the_operators_socket_is_shut_to_who_comes_by_ssh(router: SshRouter) -> None:
    folder = router.root / "var/run/meshchat"
    modes = {path.name: (path.stat().st_gid, path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert modes == {"meshchat.sock": (8888, 0o660), "people.sock": (8889, 0o660)}


def test_where_memory_ends_the_kernel_ends_what_came_by_ssh_and_not_the_router(router: SshRouter) -> None:
    """Also a connection that asks for no chat, and so takes none of the places."""
    silent = subprocess.Popen(router.ssh("-N"), stdin=subprocess.DEVNULL)
    with router.terminal() as person:
        person.until(LOGIN)
        assert settle(lambda: len(router.processes() - router.at_rest) == 3)
        for pid in router.processes() - router.at_rest:
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    silent.kill()
    silent.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dropped_connection_leaves_no_process(router: SshRouter, how: signal.Signals) -> None:
    with router.terminal() as person:
        person.until(LOGIN)
        person.process.send_signal(how)
        person.process.wait(timeout=30)
        assert settle(lambda: router.processes() == router.at_rest)
