"""Routers that were off, lost their logs or were killed at a bad moment hold the same as the others again."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh


def test_the_middle_of_the_line_comes_back_without_its_logs(measured: Callable[[str], None]) -> None:
    with Mesh(5, loss=0.2) as mesh:
        mesh.register(1, "ann")
        mesh.register(5, "eve")
        mesh.await_users("ann", "eve")
        mesh.send(1, "ann", "1", [f"before {count}" for count in range(50)])
        mesh.await_room("1", 50, 60)
        mesh.kill(3)
        mesh.delete_logs(3)
        with ThreadPoolExecutor() as people:
            left = people.submit(mesh.send, 1, "ann", "1", [f"left {count}" for count in range(250)])
            right = people.submit(mesh.send, 5, "eve", "1", [f"right {count}" for count in range(250)])
            assert len(left.result()) == len(right.result()) == 250
        mesh.await_room("1", 300, 120, [1, 2])
        mesh.await_room("1", 300, 120, [4, 5])
        started, bytes_before = time.monotonic(), mesh.counters()
        mesh.start(3)
        mesh.await_room("1", 550, 240)
        took = time.monotonic() - started
        sent = {number: each.bytes - bytes_before[number].bytes for number, each in mesh.counters().items()}
        records = sum(each.stat().st_size for each in (mesh.sites[3].logs / "rooms").iterdir())
        measured(
            f"550 messages ({records} bytes of log) alike on five routers {took:.1f} s after the start; "
            f"bytes on the air by router: {', '.join(map(str, sent.values()))}; in all {sum(sent.values())}"
        )
        assert len({mesh.meshchat(number, "history", "1", "--json").stdout for number in mesh.numbers}) == 1
        mesh.await_idle()


def test_a_router_with_old_logs_fetches_only_what_it_missed(measured: Callable[[str], None]) -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(1, "ann", "1", [f"message number {count}" for count in range(500)])
        mesh.await_room("1", 500, 60)
        mesh.stop(2)
        mesh.send(1, "ann", "1", [f"missed {count}" for count in range(10)])
        before = mesh.air_bytes()
        mesh.start(2)
        mesh.await_room("1", 510, 60)
        cost = mesh.air_bytes() - before
        measured(f"10 of 510 messages missed: {cost} bytes on the air")
        # A record is about 200 bytes on the air: the 500 that it holds would be 100,000.
        assert cost < 30_000


def test_every_acknowledged_message_survives_kill_9_during_heavy_appends() -> None:
    acknowledged: list[str] = []
    with Mesh(1) as mesh:
        mesh.register(1, "ann")
        for run in range(6):
            acknowledged += send_until_killed(mesh, mesh.room(1, "1")["messages"] + 50 * (run + 1))
            mesh.start(1)
        ids = [each["id"] for each in mesh.history(1, "1")]
        assert len(ids) == len(set(ids))
        assert set(acknowledged) <= set(ids)
        assert len(acknowledged) > 300


def send_until_killed(mesh: Mesh, messages: int) -> list[str]:
    """Kills router 1 once it holds so many messages, in the middle of more; returns the acknowledged ids."""
    command = mesh.sites[1].meshchat("send", "1", "-", "--user", "ann")
    lines = "".join(f"message {count} {'x' * 500}\n" for count in range(5000))
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=mesh.environment(1),
        ) as sender,
        ThreadPoolExecutor() as others,
    ):
        printed = others.submit(sender.communicate, lines)
        wait(lambda: mesh.room(1, "1")["messages"] >= messages, 60, "appends")
        mesh.kill(1)
        return printed.result()[0].split()


def test_two_daemons_never_share_a_directory() -> None:
    with Mesh(1) as mesh:
        site = mesh.sites[1]
        places = ("--logs", str(site.logs), "--state", str(site.state), "--socket", str(site.home / "other"))
        second = mesh.meshchat(1, "daemon", *places, status=1)
        assert len(second.stderr.splitlines()) == 1
        assert str(site.logs) in second.stderr or str(site.state) in second.stderr
        assert site.answers()


def test_a_full_disk_is_told_to_the_sender_and_survived() -> None:
    with Mesh(2, daemons=[2]) as mesh, small_disk(mesh.sites[1].logs):
        mesh.start(1)
        mesh.register(1, "ann")
        mesh.await_users("ann")
        filler = mesh.sites[1].logs / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        refused = mesh.meshchat(1, "send", "1", "-", "--user", "ann", input=f"{'x' * 8000}\n" * 3, status=1)
        assert len(refused.stderr.splitlines()) == 1
        kept = len(refused.stdout.split())
        mesh.send(2, "ann", "1", ["from the other router"])
        filler.unlink()
        mesh.send(1, "ann", "1", ["there is room again"])
        mesh.await_room("1", kept + 2, 120)
        mesh.await_idle()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Mounts a file system of 256 KiB on a new `directory`."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "meshchat", str(directory)], check=True)
    try:
        yield
    finally:
        # Lazily: the daemon may still have its logs open.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
