"""The radio of this test bed behaves like one: reach, loss, retries; and nothing of it stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mesh import air
from tests.mesh.namespaces import address
from tests.mesh.net import Mesh, Site, wait

pytestmark = pytest.mark.mesh

GROUP = "224.1.1.1"
FRAME_HEADERS = 14 + 20 + 8

LISTEN = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(("", 8888))
wlan0 = socket.if_nametoindex("wlan0").to_bytes(4, sys.byteorder)
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("{GROUP}") + bytes(4) + wlan0)
print("listening", flush=True)
while True:
    print(s.recv(2000).decode(), flush=True)
"""

SEND = """
import socket, sys, time
to, word, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wlan0 = socket.if_nametoindex("wlan0").to_bytes(4, sys.byteorder)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + wlan0)
for number in range(count):
    s.sendto(f"{word}{number}".encode(), (to, 8888))
    time.sleep(0.001)  # the queue of an interface is 500 frames, and nobody waits for room in it
"""


class Listener:
    """A program on a router that collects what it hears on the group and on its own address."""

    def __init__(self, site: Site) -> None:
        command = site.within(sys.executable, "-c", LISTEN)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        assert self._lines.readline() == "listening\n"

    def until(self, word: str) -> list[str]:
        """What was heard up to `word`, which has to come."""
        return [line for line in iter(lambda: self._lines.readline().strip(), word) if line or self._lost()]

    def _lost(self) -> bool:
        raise AssertionError("the listener ended")

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def listeners(mesh: Mesh) -> Iterator[dict[int, Listener]]:
    """One listener on every router."""
    opened = {number: Listener(site) for number, site in mesh.sites.items()}
    try:
        yield opened
    finally:
        for listener in opened.values():
            listener.close()


def send(mesh: Mesh, number: int, word: str, count: int = 1, to: str = GROUP) -> None:
    """Router `number` sends datagrams `word`0, `word`1, ..."""
    command = mesh.sites[number].within(sys.executable, "-c", SEND, to, word, str(count))
    subprocess.run(command, check=True, timeout=60)


def say_end(mesh: Mesh, heard: dict[int, Listener]) -> dict[int, list[str]]:
    """What each router heard until its own next datagram, which multicast loops back to it."""
    answers = {}
    for number, listener in heard.items():
        send(mesh, number, f"end{number}-")
        answers[number] = [word for word in listener.until(f"end{number}-0") if not word.startswith("end")]
    return answers


def test_a_router_hears_its_neighbours_and_nobody_behind_them() -> None:
    with Mesh(3, daemons=()) as mesh, listeners(mesh) as heard:
        send(mesh, 1, "a")
        send(mesh, 3, "c")
        assert say_end(mesh, heard) == {1: ["a0"], 2: ["a0", "c0"], 3: ["c0"]}


def test_a_cut_link_carries_nothing_and_a_healed_one_everything() -> None:
    with Mesh(2, daemons=()) as mesh, listeners(mesh) as heard:
        mesh.cut(1, 2)
        send(mesh, 1, "cut")
        mesh.heal(1, 2)
        send(mesh, 1, "healed")
        assert say_end(mesh, heard)[2] == ["healed0"]


def test_a_link_can_be_made_where_there_was_none_and_only_there_be_cut() -> None:
    with Mesh(3, daemons=()) as mesh, listeners(mesh) as heard:
        with pytest.raises(air.AirError, match="1 and 3 have no radio link"):
            mesh.cut(1, 3)
        mesh.heal(1, 3)
        send(mesh, 1, "far")
        assert say_end(mesh, heard)[3] == ["far0"]


def test_multicast_is_lost_at_the_links_rate_goes_out_once_and_is_counted() -> None:
    sent = 3000
    with Mesh(2, daemons=(), loss=0.2) as mesh, listeners(mesh) as heard:
        mesh.loss(1, 2, 0)
        before = mesh.counters()
        mesh.loss(1, 2, 0.2)
        send(mesh, 1, "x", sent)
        wait(lambda: mesh.counters()[1].frames - before[1].frames >= sent, 10, "all frames on the air")
        after = mesh.counters()
        mesh.loss(1, 2, 0)
        received = len([word for word in say_end(mesh, heard)[2] if word.startswith("x")])
    # Five standard deviations, sqrt(0.2 * 0.8 * 3000) = 22, and a handful of the kernel's own frames.
    assert abs(received - 0.8 * sent) < 110
    assert abs(received - (after[2].received - before[2].received)) <= 5
    frames = after[1].frames - before[1].frames
    payload = sum(len(f"x{number}") for number in range(sent))
    assert sent <= frames <= sent + 5
    assert 0 <= after[1].bytes - before[1].bytes - payload - sent * FRAME_HEADERS <= 5 * 60


def test_unicast_is_repeated_until_it_arrives_and_every_try_takes_air() -> None:
    sent = 500
    with Mesh(2, daemons=(), loss=0.2) as mesh, listeners(mesh) as heard:
        mesh.loss(1, 2, 0)
        send(mesh, 1, "arp", to=address(2))
        assert heard[2].until("arp0") == []
        mesh.loss(1, 2, 0.2)
        before = mesh.counters()[1].frames
        send(mesh, 1, "x", sent, to=address(2))
        wait(lambda: mesh.counters()[1].frames - before >= sent, 10, "all frames on the air")
        mesh.loss(1, 2, 0)
        tries = mesh.counters()[1].frames - before
        assert len(say_end(mesh, heard)[2]) == sent  # 0.2 ** 7 is one in 78,125
    assert 1.15 * sent < tries < 1.35 * sent


def test_unicast_reaches_nobody_behind_a_neighbour() -> None:
    with Mesh(3, daemons=()) as mesh, listeners(mesh) as heard:
        send(mesh, 1, "near", to=address(2))
        send(mesh, 1, "far", to=address(3))
        assert say_end(mesh, heard) == {1: [], 2: ["near0"], 3: []}


def test_an_interface_appears_and_vanishes() -> None:
    with Mesh(2, daemons=(), without=[2]) as mesh:

        def interfaces() -> list[str]:
            shown = subprocess.run(mesh.sites[2].within("ip", "-j", "link"), capture_output=True, check=True)
            return [each["ifname"] for each in json.loads(shown.stdout)]

        assert interfaces() == ["lo"]
        mesh.attach(2)
        assert interfaces() == ["lo", "wlan0"]
        mesh.detach(2)
        assert interfaces() == ["lo"]


def test_with_a_rate_a_frame_takes_its_time() -> None:
    word, count, rate = "x" * 1000, 10, 100_000
    with Mesh(2, daemons=(), rate=rate) as mesh, listeners(mesh) as heard:
        start = time.monotonic()
        send(mesh, 1, word, count)
        assert len(heard[2].until(f"{word}{count - 1}")) == count - 1
        assert time.monotonic() - start >= count * (FRAME_HEADERS + 1001) * 8 / rate


CREATOR = """
import subprocess, sys
from tests.mesh.net import Mesh
with Mesh(2, daemons=()) as mesh:
    inside = subprocess.Popen(mesh.sites[1].within("sleep", "1000"))
    print(mesh.directory, inside.pid, *(site.namespace for site in mesh.sites.values()), flush=True)
    sys.stdin.read()
"""


def test_nothing_is_left_when_the_creator_is_killed() -> None:
    creator = subprocess.Popen(
        [sys.executable, "-c", CREATOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=air.TOP
    )
    assert creator.stdout is not None
    directory, program, *names = creator.stdout.readline().split()
    assert {Path("/run/netns", name).exists() for name in names} == {True}
    creator.send_signal(signal.SIGKILL)
    creator.communicate()
    wait(lambda: not any(Path("/run/netns", name).exists() for name in names), 20, "no namespaces")
    wait(lambda: not _runs(int(program)), 20, "no program of a namespace")
    for left in sorted(Path(directory).iterdir()):
        left.unlink()
    os.rmdir(directory)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
