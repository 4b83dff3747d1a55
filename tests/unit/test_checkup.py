"""`meshchat check`: each thing that can be wrong with a router is told, with the command that mends it."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshchat.adapters.host.firewall import Packet, findings, refusal
from meshchat.adapters.host.machine import Machine
from meshchat.adapters.links.interfaces import Interface, list_interfaces
from meshchat.adapters.links.udp import UdpOrigin
from meshchat.identity.meshkey import MeshKey
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import MeshId, RouterId
from meshchat.wire.packets import Digest, decode_packets, encode_packet
from meshchat.wire.records import mesh_id
from tests.unit.routers import Router, interface_link

LOOPBACK = list_interfaces()["lo"]


def interface(name: str, master: str | None = None) -> Interface:
    return replace(LOOPBACK, name=name, master=master, multicast=True, addresses=("10.0.0.1",))


MESH = {
    "wlan0": interface("wlan0", "bat0"),
    "bat0": interface("bat0", "br-mesh"),
    "br-mesh": interface("br-mesh"),
}
"""A radio under batman-adv under a bridge."""


class FakeMachine(Machine):
    """A machine whose /sys, /proc and /etc are a folder."""

    def __init__(self, root: Path, listing: dict[str, Interface] | None = None) -> None:
        self.root = root / "root"
        super().__init__(self.root, lambda: listing or {})

    def has(self, name: str, content: str = "") -> None:
        """A file is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def mounted(self, point: Path, kind: str, options: str = "rw,relatime") -> None:
        """Something is mounted at `point`, beside what is mounted at /."""
        self.has("proc/mounts", f"overlayfs:/overlay / overlay rw 0 0\n/dev/x {point} {kind} {options} 0 0\n")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path, MESH)


@pytest.fixture
def router(tmp_path: Path, machine: FakeMachine) -> Router:
    """One on the bridge, without neighbours."""
    router = Router(tmp_path, machine=machine)
    router.network.used = {"br-mesh": MESH["br-mesh"]}
    router.node.link_up(interface_link("br-mesh"))
    return router


# --- Interfaces -----------------------------------------------------------------------------------------


def test_who_joins_below_a_bridge_or_batman_is_told_the_interface_on_top(router: Router) -> None:
    for name in ("wlan0", "bat0"):
        router.network.used = {name: MESH[name]}
        ((level, text, cure),) = router.finds("multicast")
        assert level == "bad"
        assert f"{name} belongs to {MESH[name].master}" in text
        assert "--interface br-mesh" in cure
    router.network.used = {"br-mesh": MESH["br-mesh"]}
    assert router.finds("multicast") == []


def test_cures_on_openwrt_are_its_own_commands(router: Router, machine: FakeMachine) -> None:
    machine.has("etc/openwrt_release")
    router.network.used = {"bat0": MESH["bat0"]}
    ((_, _, cure),) = router.finds("multicast")
    assert "uci del_list meshchat.main.interfaces=bat0" in cure
    assert "uci add_list meshchat.main.interfaces=br-mesh" in cure
    router.network.errors["send ENETUNREACH"] = 3
    assert router.finds("sending") == [
        (
            "bad",
            "The kernel refused 3 datagrams (ENETUNREACH).",
            "/usr/share/meshchat/network add; reload_config",
        )
    ]


def test_an_interface_that_cannot_multicast_is_told(router: Router) -> None:
    router.network.used = {"br-mesh": replace(MESH["br-mesh"], multicast=False)}
    assert router.finds("multicast") == [
        ("bad", "br-mesh cannot multicast.", "ip link set br-mesh multicast on")
    ]


def test_a_bridge_that_snoops_and_asks_nobody_is_told(router: Router, machine: FakeMachine) -> None:
    machine.has("sys/class/net/br-mesh/bridge/multicast_querier", "0\n")
    for snooping, told in (("0\n", 0), ("1\n", 1)):
        machine.has("sys/class/net/br-mesh/bridge/multicast_snooping", snooping)
        assert len(router.finds("multicast")) == told
    ((level, text, cure),) = router.finds("multicast")
    assert level == "warn"
    assert "IGMP snooping" in text
    assert cure == "echo 0 >/sys/class/net/br-mesh/bridge/multicast_snooping"
    machine.has("sys/class/net/br-mesh/bridge/multicast_querier", "1\n")
    assert router.finds("multicast") == []


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        ("sys/class/net/br-mesh/brif/bat0/state", "batman-adv"),
        ("sys/class/net/br-mesh/mesh/nothing", "batman-adv"),
        ("sys/class/net/br-mesh/brif/wlan0/state", "filters 224.1.1.1"),
    ],
)
def test_who_hears_neighbours_by_unicast_alone_is_told_why(
    router: Router, machine: FakeMachine, sign: str, told: str
) -> None:
    machine.has(sign)
    router.network.heard["br-mesh", False] = 9
    ((level, text, cure),) = router.finds("multicast")
    assert level == "bad"
    assert "9 datagrams" in text
    assert told in text
    assert cure
    router.network.heard["br-mesh", True] = 1
    assert router.finds("multicast") == []


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
{name}\t{to}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0
"""


def test_without_a_route_to_the_group_it_is_said_that_none_is_needed(
    router: Router, machine: FakeMachine
) -> None:
    ((level, text, _),) = router.finds("route")
    assert level == "ok"
    assert "ip route add 224.1.1.1/32 dev br-mesh" in text
    machine.has("proc/net/route", ROUTES.format(name="bat0", to="010101E0", flags="0001", mask="FFFFFFFF"))
    assert machine.route_to("224.1.1.1") == "bat0"
    assert router.finds("route") == []
    machine.has("proc/net/route", ROUTES.format(name="bat0", to="010101E0", flags="0201", mask="FFFFFFFF"))
    assert machine.route_to("224.1.1.1") == "eth0"


# --- Clocks and neighbours ------------------------------------------------------------------------------


def hear(router: Router, *datagrams: bytes) -> None:
    for data in datagrams:
        router.node.receive(data, "br-mesh", UdpOrigin("10.0.0.2", 8888))


@pytest.fixture
def other(tmp_path: Path) -> Router:
    """A neighbour with a good clock, as its datagrams."""
    other = Router(tmp_path, 1)
    other.node.link_up(interface_link("br-mesh"))
    return other


def test_a_clock_that_nobody_vouches_for_is_told_and_then_whose_it_follows(
    tmp_path: Path, machine: FakeMachine, other: Router
) -> None:
    router = Router(tmp_path, 2, machine=machine, trusted=False)
    router.node.link_up(interface_link("br-mesh"))
    ((level, text, cure),) = router.finds("clock")
    assert level == "warn"
    assert "guess" in text
    assert "meshchat clock set" in cure
    hear(router, *other.says())
    router.says()
    ((level, text, _),) = router.finds("clock")
    assert level == "ok"
    assert f"follows router {other.node.router.hex()}, 1 hops away" in text


def digests(router: Router, release: tuple[int, int, int]) -> Iterator[bytes]:
    """What a router of that version would say instead."""
    for data in router.says():
        for packet in decode_packets(
            data[len(PlainDatagram(MeshId(bytes(8)), RouterId(bytes(8)), b"").encode()) :]
        ):
            if isinstance(packet, Digest):
                said = encode_packet(replace(packet, release=bytes(release)))
                yield PlainDatagram(mesh_id("meshchat"), router.node.router, said).encode()


@pytest.mark.parametrize(
    ("release", "text", "cure"),
    [
        ((0, 0, 9), "1 neighbours run version 0.0.9, older than 0.1.0 here.", "upgrade those"),
        ((9, 0, 0), "1 neighbours run version 9.0.0, later than 0.1.0 here.", "upgrade this"),
    ],
)
def test_older_and_later_neighbours_are_told(
    router: Router, other: Router, release: tuple[int, int, int], text: str, cure: str
) -> None:
    hear(router, *other.says())
    assert router.finds("version") == []
    hear(router, *digests(other, release))
    ((level, said, mended),) = router.finds("version")
    assert (level, said) == ("warn", text)
    assert cure in mended


def test_neighbours_whose_digests_do_not_come_are_told(router: Router, other: Router) -> None:
    nothing = PlainDatagram(mesh_id("meshchat"), other.node.router, b"").encode()
    for _ in range(20):
        hear(router, nothing)
        router.mono += 20
    ((level, text, _),) = router.finds("sync")
    assert level == "bad"
    assert "1 neighbours are heard, but no digest" in text
    hear(router, *other.says())
    assert router.finds("sync") == []


def test_neighbours_that_differ_for_long_are_told(router: Router, other: Router) -> None:
    hear(router, *other.says())
    (neighbour,) = router.node.engine.neighbours.alive(router.mono)
    neighbour.difference.differs_since = router.mono
    assert "catching up" in router.finds("sync")[0][1]
    for _ in range(40):
        router.mono += 20
        neighbour.last_heard = neighbour.said.at = router.mono
    assert "more than 10 minutes" in router.finds("sync")[0][1]


def test_two_meshes_on_one_group_are_told_with_numbers(router: Router, other: Router) -> None:
    hear(router, *[PlainDatagram(mesh_id("another"), RouterId(b"neighbor"), b"").encode()] * 3)
    ((level, text, cure),) = router.finds("mesh")
    assert (level, text) == (
        "warn",
        "3 of 3 datagrams are of a mesh with another name than meshchat: two meshes share the group.",
    )
    assert "group or port of its own" in cure
    other.node.use_keys((MeshKey(bytes(32)),))
    sealed = other.says()
    hear(router, *sealed)
    assert f"{len(sealed)} of {3 + len(sealed)} datagrams are sealed" in router.finds("mesh")[1][1]


def test_routers_with_another_mesh_key_or_none_are_told_with_what_follows(
    router: Router, other: Router
) -> None:
    other.node.use_keys((MeshKey(bytes(32)),))
    sealed = other.says()
    hear(router, *sealed)
    ((_, text, cure),) = router.finds("mesh")
    assert "sealed with a mesh key that this router does not have: it has none." in text
    assert "do not hear each other" in text
    assert "meshchat key add KEY" in cure
    router.operator.change_keys("new", None)
    assert "another key than its own" in router.finds("mesh")[0][1]
    hear(router, PlainDatagram(mesh_id("meshchat"), RouterId(b"neighbor"), b"").encode())
    told = {text.split(" datagrams ")[0]: (text, cure) for _, text, cure in router.finds("mesh")}
    text, cure = told[f"1 of {1 + len(sealed)}"]
    assert "are of meshchat without a mesh key, and this router has one" in text
    assert "on those routers: meshchat key add KEY" in cure


# --- Disks ----------------------------------------------------------------------------------------------


def space(monkeypatch: pytest.MonkeyPatch, free: int, size: int) -> None:
    told = SimpleNamespace(f_bavail=free // 4096, f_blocks=size // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: told)


def test_a_flash_that_is_nearly_full_or_read_only_is_told(
    router: Router, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.mounted(tmp_path, "ubifs")
    space(monkeypatch, 8 << 20, 16 << 20)
    assert [level for level, _, _ in router.finds("disk")] == ["ok"]
    space(monkeypatch, 100 << 10, 16 << 20)
    _, (level, text, cure) = router.finds("disk")
    assert level == "warn"
    assert f"100 KiB are free of 16384 on {tmp_path}" in text
    assert f"df -h {tmp_path}" in cure
    machine.mounted(tmp_path, "ubifs", "ro,noatime")
    _, (level, text, cure) = router.finds("disk")
    assert level == "bad"
    assert "read-only" in text
    assert cure == f"mount -o remount,rw {tmp_path}"


@pytest.mark.parametrize(
    ("kind", "fsync", "level", "told"),
    [
        ("jffs2", "interval", None, ""),
        ("jffs2", "always", "warn", "wears it out"),
        ("ubifs", "never", "warn", "a power cut takes"),
        ("ext4", "always", None, ""),
        ("tmpfs", "never", "ok", "comes back from the neighbours"),
    ],
)
def test_a_policy_of_writing_that_does_not_suit_the_place_is_told(
    router: Router, machine: FakeMachine, tmp_path: Path, kind: str, fsync: str, level: str | None, told: str
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    machine.mounted(logs, kind)
    router.operator.config = replace(router.operator.config, logs=logs, fsync=fsync)  # type: ignore[arg-type]
    said = router.finds("disk")[1:]
    assert [(one, told in text) for one, text, _ in said] == ([(level, True)] if level else [])


def test_a_key_in_ram_and_a_stick_that_is_not_mounted_are_told(
    router: Router, machine: FakeMachine, tmp_path: Path
) -> None:
    machine.mounted(tmp_path, "tmpfs")
    assert any(
        level == "bad" and "the accounts end with the power" in text
        for level, text, _ in router.finds("disk")
    )
    router.operator.config = replace(router.operator.config, logs=Path("/mnt/no-such-stick/meshchat"))
    assert "Nothing is mounted" in told_bad(router)


def test_history_that_is_in_ram_while_its_disk_is_not_there_is_told(router: Router) -> None:
    assert "warn" not in [level for level, _, _ in router.finds("disk")]
    missing = Path("/mnt/sda1/meshchat")
    router.operator.config = replace(router.operator.config, storage_missing=missing)
    ((text, cure),) = [(text, cure) for level, text, cure in router.finds("disk") if level == "warn"]
    assert f"{missing} is not there" in text
    assert "/etc/init.d/meshchat restart" in cure


def told_bad(router: Router) -> str:
    return " ".join(text for level, text, _ in router.finds("disk") if level == "bad")


# --- The firewall ---------------------------------------------------------------------------------------

RULES = json.loads(Path(__file__).with_name("fw4.json").read_text())["nftables"]
"""What nft says of rules like those of OpenWrt's firewall4: zones lan (br-lan, br-mesh), wan, mesh (bat0)."""


@pytest.mark.parametrize(
    ("name", "to_group", "alone"),
    [
        ("br-mesh", None, None),
        ("lo", None, None),
        ("wan", "wan", "wan"),
        ("bat0", None, "mesh"),
        ("x", "", ""),
    ],
)
def test_the_firewall_is_followed_to_the_zone_that_refuses(
    name: str, to_group: str | None, alone: str | None
) -> None:
    for packet, zone in (
        (Packet(name, "224.1.1.1", 8888), to_group),
        (Packet(name, "10.0.0.1", 8888, multicast=False), alone),
    ):
        refused = refusal(RULES, packet)
        assert (refused and refused.zone) == zone
        assert refused is None or refused.hook == "inet fw4 input"


def test_the_wrong_zone_is_told_once_for_each_interface() -> None:
    status = {"group": "224.1.1.1", "port": 8888, "interfaces": []}
    status["interfaces"] = [{"name": name, "addresses": ["10.0.0.1"]} for name in ("br-mesh", "wan", "x")]
    wan, other = findings(status, RULES, openwrt=True)
    assert wan["text"] == "wan is in the firewall zone wan, which lets no UDP 8888 to 224.1.1.1 in."
    assert "uci show firewall" in wan["cure"]
    assert "chain inet fw4 input" in other["text"]
    _, other = findings(status, RULES, openwrt=False)
    assert other["cure"] == 'nft insert rule inet fw4 input iifname "x" udp dport 8888 accept'


SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}


@pytest.mark.parametrize(
    "expression",
    [
        [{"xt": None}, {"drop": None}],
        [{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}, {"drop": None}],
        [
            {
                "match": {
                    "op": "==",
                    "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                    "right": "10.0.0.1",
                }
            }
        ],
        [{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@zones"}}],
        [{"jump": {"target": "input"}}],
        [{"later": {"a": 1}}],
    ],
)
def test_nothing_is_said_of_a_firewall_that_cannot_be_told(expression: list[object]) -> None:
    chain = {"family": "inet", "table": "t", "name": "input", "hook": "input", "prio": 0, "policy": "drop"}
    rules = [{"chain": chain}, {"rule": {**chain, "chain": "input", "expr": expression}}]
    assert refusal(rules, Packet("br-mesh", "224.1.1.1", 8888)) is None
