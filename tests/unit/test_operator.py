"""What `status`, `peers` and the mesh keys say, over a real node on a disk."""

from pathlib import Path
from typing import cast

import pytest

from meshchat.adapters.links.udp import UdpOrigin
from meshchat.chat.localtime import Zone
from meshchat.errors import ConfigError
from meshchat.identity.meshkey import MeshKey, mesh_key_text
from meshchat.terminal import tables
from tests.unit.routers import Router, interface_link


def test_a_router_heard_on_two_interfaces_is_one_neighbour_and_peers_shows_its_records(
    tmp_path: Path,
) -> None:
    here, there = Router(tmp_path, 1), Router(tmp_path, 2)
    for router in (here, there):
        for name in ("mesh0", "mesh1"):
            router.node.link_up(interface_link(name))
    for data in there.says():
        for name in ("mesh0", "mesh1"):
            here.node.receive(data, name, UdpOrigin("10.0.0.2", 8888))
    peers = here.operator.peers()
    assert {peer["interface"] for peer in peers} == {"mesh0", "mesh1"}
    assert {peer["router"] for peer in peers} == {there.node.router.hex()}
    assert here.operator.status()["neighbours"] == 1
    titles, *rows = tables.peers(peers, Zone("UTC"))
    columns = titles.replace("HEARD S AGO", "HEARD").replace("IN STEP", "STEP").split()
    shown = dict(zip(columns, rows[0].split(), strict=True))
    assert (shown["RECORDS"], shown["STEP"]) == ("0", "yes")
    assert any("1 heard" in str(finding["text"]) for finding in here.operator.check())


def test_status_has_what_scripts_read_and_every_drop_by_its_reason(tmp_path: Path) -> None:
    router = Router(tmp_path)
    router.network.drops["interface"] = 3
    router.node.link_up(interface_link("mesh0"))
    router.node.receive(b"no datagram of ours", "mesh0", UdpOrigin("10.0.0.2", 8888))
    status = router.operator.status()
    assert set(status) >= {"router", "mesh", "version", "uptime_s", "rss_kb", "interfaces", "clock", "logs"}
    assert status["logs"] == {"files": 0, "bytes": 0, "fsync": "interval"}
    counters = cast("dict[str, dict[str, int]]", status["counters"])
    assert counters["dropped"]["interface"] == 3
    assert sum(counters["dropped"].values()) == 4


def test_keys_are_those_in_use_until_they_are_read_again(tmp_path: Path) -> None:
    router = Router(tmp_path)
    router.node.link_up(interface_link("mesh0"))
    assert router.operator.status()["sealed"] is False
    file, written = tmp_path / "0" / "mesh.keys", mesh_key_text(MeshKey(bytes(32)))
    file.write_text(f"{written}\n")
    assert router.operator.status()["sealed"] is False
    assert router.operator.keys() == []
    router.operator.read_keys()
    assert router.operator.status()["sealed"] is True
    assert router.operator.keys() == [{"key": written, "sends": True}]
    file.write_text("a slip of the hand\n")
    assert router.operator.keys() == [{"key": written, "sends": True}]
    with pytest.raises(ConfigError):
        router.operator.read_keys()
    assert router.operator.status()["sealed"] is True
