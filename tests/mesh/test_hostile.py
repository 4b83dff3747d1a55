"""A stranger within radio reach: nothing breaks, everything dropped is counted, honest people chat on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mesh.net import Mesh

pytestmark = pytest.mark.mesh

DATAGRAMS = 100_000
RSS_GROWTH_KB = 40_000
"""What bounded tables may hold after the attack: a tenth of what the datagrams would fill."""

RECORD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 8888))
wlan0 = socket.if_nametoindex("wlan0").to_bytes(4, sys.byteorder)
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.1.1.1") + bytes(4) + wlan0)
s.settimeout(float(sys.argv[2]))
print("listening", flush=True)
with open(sys.argv[1], "wb") as out:
    try:
        while True:
            data = s.recv(2000)
            out.write(len(data).to_bytes(2, "big") + data)
            out.flush()
    except TimeoutError:
        pass
"""
"""Writes down what it overhears, until nothing came for a while."""

ATTACK = """
import random, socket, sys, time
heard, data = [], open(sys.argv[1], "rb").read()
while data:
    size = int.from_bytes(data[:2], "big")
    heard.append(data[2:2 + size])
    data = data[2 + size:]
r = random.Random(int(sys.argv[3]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wlan0 = socket.if_nametoindex("wlan0").to_bytes(4, sys.byteorder)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + wlan0)

def mutated(data):
    data = bytearray(data)
    for _ in range(r.randint(1, 4)):
        data[r.randrange(len(data))] = r.randrange(256)
    return bytes(data)

KINDS = [
    lambda: r.randbytes(r.randint(0, 1472)),
    lambda: (lambda d: d[:r.randrange(len(d))])(r.choice(heard)),
    lambda: mutated(r.choice(heard)),
    lambda: mutated(r.choice(heard)),
    lambda: r.choice(heard),
    lambda: r.choice(heard) + r.randbytes(r.randint(1, 200)),
    lambda: r.choice(heard)[:r.randint(1, 16)] + r.randbytes(r.randint(0, 1200)),
    lambda: r.randbytes(8000),
]
for number in range(int(sys.argv[2])):
    # Oversized ones are few: each is six frames.
    kind = r.choice(KINDS if number % 50 == 0 else KINDS[:-1])
    try:
        s.sendto(kind(), ("224.1.1.1", 8888))
    except BlockingIOError:
        pass
    if number % 20 == 0:
        time.sleep(0.005)
"""


def test_a_hundred_thousand_hostile_datagrams(tmp_path: Path, measured: Callable[[str], None]) -> None:
    overheard = tmp_path / "overheard"
    with Mesh(3, topology="cell", daemons=()) as mesh:
        stranger = mesh.sites[3]
        listening = [sys.executable, "-c", RECORD, str(overheard), "5"]
        recorder = subprocess.Popen(stranger.within(*listening), stdout=subprocess.PIPE, text=True)
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "listening\n"
        # From the start, so that ASK-FILEs, OFFERs and a dump are among what is replayed.
        mesh.start(1)
        mesh.register(1, "ann")
        mesh.send(1, "ann", "2", [f"dumped {count}" for count in range(20)])
        mesh.start(2)
        mesh.register(2, "ben")
        mesh.await_users("ann", "ben")
        honest = [f"overheard {count}" for count in range(50)]
        mesh.send(2, "ben", "1", honest)
        mesh.await_room("1", 50, 60)
        recorder.communicate(timeout=120)
        before, air_before = mesh.status(2), mesh.counters()
        attack = [sys.executable, "-c", ATTACK, str(overheard), str(DATAGRAMS), "1"]
        attacker = subprocess.Popen(stranger.within(*attack))
        mesh.send(1, "ann", "1", ["under fire"])
        mesh.send(2, "ben", "1", ["still here"])
        mesh.await_room("1", 52, 120)
        assert attacker.wait(300) == 0
        air_after = mesh.counters()
        mesh.send(1, "ann", "1", ["afterwards"])
        mesh.await_room("1", 53, 120)
        after = mesh.status(2)
        texts = [each["text"] for each in mesh.history(2, "1")]
        assert sorted(texts) == sorted([*honest, "under fire", "still here", "afterwards"])
        assert after["rss_kb"] - before["rss_kb"] < RSS_GROWTH_KB
        arrived = after["counters"]["datagrams_in"] - before["counters"]["datagrams_in"]
        dropped = after["counters"]["dropped"]
        sent = {number: air_after[number].bytes - air_before[number].bytes for number in mesh.numbers}
        measured(
            f"{arrived} of {DATAGRAMS} hostile datagrams taken in, memory grew by "
            f"{after['rss_kb'] - before['rss_kb']} KiB; {sent[3]} bytes of attack drew {sent[1]} "
            f"and {sent[2]} bytes from its two neighbours; dropped: {json.dumps(dropped)}"
        )
        assert arrived > DATAGRAMS / 4
        assert sum(dropped.values()) > arrived / 4
        assert len(dropped) >= 4
        assert sent[1] + sent[2] < sent[3] / 10
        mesh.await_idle(routers=[1, 2])
