"""The engine's interfaces on loopback, with a machine whose interfaces the test makes up."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshchat.adapters.links import network as module
from meshchat.adapters.links.interfaces import Interface, list_interfaces
from meshchat.adapters.links.network import Network
from meshchat.adapters.links.udp import UdpOrigin, UdpPort
from meshchat.config import Config
from meshchat.constants import NEWS_SHARE, REPAIR_SHARE, TALK_SHARE
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Send
from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin
from tests.unit.fakeserver import PATIENCE
from tests.unit.namespaces import ip, namespaces

GROUP = "224.1.1.1"
AIR = AirShare(1_000_000, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE)


class Engine:
    """Stands where the node does: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.received: list[tuple[bytes, str, str]] = []
        self.something = asyncio.Event()

    def link_up(self, profile: LinkProfile) -> None:
        self.told.append(f"+{profile.name} {profile.mtu}{'' if profile.is_broadcast else ' peer'}")

    def link_down(self, name: str) -> None:
        self.told.append(f"-{name}")

    def receive(self, data: bytes, link: str, origin: Origin) -> None:
        assert isinstance(origin, UdpOrigin)
        self.received.append((data, link, origin.host))
        self.something.set()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Interface]:
    """The interfaces that the machine has: loopback, until the test changes it."""
    listing = {"lo": list_interfaces()["lo"]}
    monkeypatch.setattr(module, "list_interfaces", lambda: dict(listing))
    return listing


@contextlib.asynccontextmanager
async def running(tmp_path: Path, *peers: str) -> AsyncIterator[tuple[Network, Engine, Config]]:
    port = UdpPort(GROUP, 0)
    config = Config(
        interfaces=("lo",),
        peers=peers,
        port=port.number,
        logs=tmp_path,
        state=tmp_path,
        socket=tmp_path / "s",
        people=tmp_path / "p",
    )
    engine = Engine()
    network = Network(config, engine, port, AIR)
    network.start()
    try:
        yield network, engine, config
    finally:
        await network.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


def test_an_interface_that_changes_is_told_again_and_one_that_goes_is_gone(
    tmp_path: Path, machine: dict[str, Interface]
) -> None:
    async def test() -> None:
        first = machine["lo"]
        async with running(tmp_path) as (network, engine, _):
            assert engine.told == ["+lo 1500"]
            machine["lo"] = replace(first, mtu=1000)
            network.refresh()
            machine["lo"] = replace(first, mtu=1000, addresses=("127.0.0.9",))
            network.refresh()
            network.refresh()
            assert engine.told[1:] == ["+lo 1000", "+lo 1000"]
            assert network.used["lo"].addresses == ("127.0.0.9",)
            del machine["lo"]
            network.refresh()
            assert engine.told[3:] == ["-lo"]
            assert not network.used
            network.send(Send("lo", None, b"nobody hears"))
            machine["lo"] = first
            network.refresh()
            assert engine.told[4:] == ["+lo 1500"]

    asyncio.run(test())


def test_what_comes_in_is_told_with_its_interface_and_what_comes_by_no_used_one_is_counted(
    tmp_path: Path, machine: dict[str, Interface]
) -> None:
    async def test() -> None:
        async with running(tmp_path) as (network, engine, config):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"one", ("127.0.0.1", config.port))
                await until(lambda: engine.received)
                assert engine.received == [(b"one", "lo", "127.0.0.1")]
                assert not network.drops
                machine.clear()
                network.refresh()
                stranger.sendto(b"two", ("127.0.0.1", config.port))
                await until(lambda: network.drops)
            assert network.drops == {"interface": 1}
            assert len(engine.received) == 1

    asyncio.run(test())


def test_peers_come_and_go_with_the_configuration_at_once(
    tmp_path: Path, machine: dict[str, Interface]
) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(PATIENCE)
            name = f"127.0.0.1:{peer.getsockname()[1]}"
            async with running(tmp_path) as (network, engine, config):
                network.reconfigure(replace(config, peers=(name,)))
                assert engine.told[1:] == [f"+@{name} 1280 peer"]
                network.send(Send(f"@{name}", None, b"to the peer"))
                assert peer.recv(100) == b"to the peer"
                peer.sendto(b"from the peer", ("127.0.0.1", config.port))
                await until(lambda: engine.received)
                assert engine.received == [(b"from the peer", f"@{name}", "127.0.0.1")]
                network.reconfigure(config)
                assert engine.told[2:] == [f"-@{name}"]
                network.send(Send(f"@{name}", None, b"to nobody"))

    asyncio.run(test())


@pytest.fixture
def namespace() -> Iterator[str]:
    with namespaces("moving") as (name,):
        ip("-n", name, "link", "add", "mesh0", "type", "bridge")
        ip("-n", name, "address", "add", "10.7.0.1/24", "dev", "mesh0")
        ip("-n", name, "link", "set", "mesh0", "multicast", "on", "up")
        yield name


@pytest.mark.mesh
def test_an_interface_changes_its_address_while_the_daemon_runs(namespace: str, tmp_path: Path) -> None:
    within = ("ip", "netns", "exec", namespace, sys.executable, "-m", "meshchat")
    places = ("--logs", str(tmp_path), "--socket", str(tmp_path / "s"))

    def status() -> str:
        command = [*within, "--socket", str(tmp_path / "s"), "status", "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    async def shows(text: str, gone: str) -> None:
        async with asyncio.timeout(PATIENCE * 6):
            while text not in (said := status()) or gone in said:
                await asyncio.sleep(0.1)

    daemon = subprocess.Popen([*within, "daemon", *places], stderr=subprocess.DEVNULL)
    try:
        asyncio.run(shows('"10.7.0.1"', "10.8.0.1"))
        ip("-n", namespace, "address", "add", "10.8.0.1/24", "dev", "mesh0")
        ip("-n", namespace, "address", "del", "10.7.0.1/24", "dev", "mesh0")
        asyncio.run(shows('"10.8.0.1"', "10.7.0.1"))
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=30) == 0
