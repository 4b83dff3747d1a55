"""What `status`, `peers`, `check` and the mesh keys say, over a real node on a disk."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from meshchat.adapters.files import DiskFiles
from meshchat.adapters.interfaces import list_interfaces
from meshchat.adapters.logstore import LogStore
from meshchat.adapters.network import Network
from meshchat.adapters.node import Listener, Node, NodeSettings
from meshchat.adapters.statestore import StateStore
from meshchat.adapters.station import LocalStation
from meshchat.chat.localtime import Zone
from meshchat.config import Config
from meshchat.constants import CAP_ACCOUNTS, NEWS_SHARE, TALK_SHARE
from meshchat.errors import ConfigError
from meshchat.identity import mesh_key_text
from meshchat.protocol.events import Send
from meshchat.protocol.instant import Instant
from meshchat.protocol.port import AirShare
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.terminal import tables
from meshchat.wire.records import mesh_id
from tests.unit.fakes import START_MS


class Router:
    """One router without a radio, whose clocks stand still."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        home = folder / str(number)
        self.config = Config(logs=home, state=home, socket=home / "s")
        self.sent: list[Send] = []
        self.mono = 1000.0
        files = DiskFiles(home)
        logs = LogStore(files, files, mesh_id("meshchat"))
        logs.open()
        self.state = StateStore(files)
        limits = CapLimits(self.config.cap_author, self.config.cap_room, self.config.cap_router)
        settings = NodeSettings(
            mesh=mesh_id("meshchat"),
            limits=StoreLimits(limits, CAP_ACCOUNTS),
            air=AirShare(self.config.air_rate, NEWS_SHARE, self.config.repair_share, TALK_SHARE),
            wipe_moment=lambda now_ms: now_ms,
            retention_ms=None,
            boot=bytes([number] * 8),
            secret=bytes(16),
            boot_id=str(number),
        )
        listener = SimpleNamespace(
            send=self.sent.append,
            wake_at=lambda deadline: None,
            delivered=lambda record, live: None,
            removed=lambda room, messages: None,
            evicted=lambda records: None,
            held=lambda held: None,
            mesh_changed=lambda state: None,
        )
        self.node = Node(settings, logs, self.state, self._now, Random(number), cast(Listener, listener))
        self.node.start()
        self.network = SimpleNamespace(
            used={"lo": list_interfaces()["lo"]}, errors=Counter(), drops=Counter()
        )
        self.station = LocalStation(self.config, self.node, cast(Network, self.network), self.state, logs)

    def _now(self) -> Instant:
        return Instant(self.mono, START_MS + round(self.mono * 1000), True)

    def says(self) -> list[bytes]:
        """The datagrams that it puts on the air in a minute."""
        self.sent.clear()
        for _ in range(60):
            self.mono += 1.0
            self.node.tick()
        return [send.data for send in self.sent]


def test_a_router_heard_on_two_interfaces_is_one_neighbour_and_peers_shows_its_records(
    tmp_path: Path,
) -> None:
    here, there = Router(tmp_path, 1), Router(tmp_path, 2)
    for router in (here, there):
        for name in ("mesh0", "mesh1"):
            router.node.interface_up(name, 1500)
    for data in there.says():
        for name in ("mesh0", "mesh1"):
            here.node.receive(data, name, ("10.0.0.2", 8888))
    peers = here.station.peers()
    assert {peer["interface"] for peer in peers} == {"mesh0", "mesh1"}
    assert {peer["router"] for peer in peers} == {there.node.router.hex()}
    assert here.station.status()["neighbours"] == 1
    titles, *rows = tables.peers(peers, Zone("UTC"))
    columns = titles.replace("HEARD S AGO", "HEARD").replace("IN STEP", "STEP").split()
    shown = dict(zip(columns, rows[0].split(), strict=True))
    assert (shown["RECORDS"], shown["STEP"]) == ("0", "yes")
    assert any("1 heard" in str(finding["text"]) for finding in here.station.check())


def test_status_has_what_scripts_read_and_every_drop_by_its_reason(tmp_path: Path) -> None:
    router = Router(tmp_path)
    router.network.drops["interface"] = 3
    router.node.interface_up("mesh0", 1500)
    router.node.receive(b"no datagram of ours", "mesh0", ("10.0.0.2", 8888))
    status = router.station.status()
    assert set(status) >= {"router", "mesh", "version", "uptime_s", "rss_kb", "interfaces", "clock", "logs"}
    assert status["logs"] == {"files": 0, "bytes": 0, "fsync": "interval"}
    counters = cast("dict[str, dict[str, int]]", status["counters"])
    assert counters["dropped"]["interface"] == 3
    assert sum(counters["dropped"].values()) == 4


def test_keys_are_those_in_use_until_they_are_read_again(tmp_path: Path) -> None:
    router = Router(tmp_path)
    router.node.interface_up("mesh0", 1500)
    assert router.station.status()["sealed"] is False
    file, written = tmp_path / "0" / "mesh.keys", mesh_key_text(bytes(32))
    file.write_text(f"{written}\n")
    assert router.station.status()["sealed"] is False
    assert router.station.keys() == []
    router.station.read_keys()
    assert router.station.status()["sealed"] is True
    assert router.station.keys() == [{"key": written, "sends": True}]
    file.write_text("a slip of the hand\n")
    assert router.station.keys() == [{"key": written, "sends": True}]
    with pytest.raises(ConfigError):
        router.station.read_keys()
    assert router.station.status()["sealed"] is True


def test_check_names_the_bridge_above_a_port_and_what_cannot_multicast(tmp_path: Path) -> None:
    router = Router(tmp_path)
    loopback = list_interfaces()["lo"]
    router.network.used = {"wlan0": replace(loopback, name="wlan0", master="br-mesh", multicast=False)}
    found = [(str(one["what"]), str(one["text"]), str(one["cure"])) for one in router.station.check()]
    assert ("multicast", "wlan0 belongs to br-mesh, which swallows the group.") in [f[:2] for f in found]
    assert any("--interface br-mesh" in cure for _, _, cure in found)
    assert any("multicast on" in cure for _, _, cure in found)


def test_check_says_that_history_is_in_ram_while_its_disk_is_not_there(tmp_path: Path) -> None:
    router = Router(tmp_path)
    assert "warn" not in [found["level"] for found in router.station.check() if found["what"] == "disk"]
    router.station.config = replace(router.config, storage_missing=Path("/mnt/sda1/meshchat"))
    (found,) = [
        found for found in router.station.check() if found["level"] == "warn" and found["what"] == "disk"
    ]
    assert "/mnt/sda1/meshchat is not there" in str(found["text"])
    assert "/etc/init.d/meshchat restart" in str(found["cure"])
