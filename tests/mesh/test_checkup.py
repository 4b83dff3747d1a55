"""`meshchat check` on real interfaces: what it tells is so, and the command that it names mends it."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.mesh.namespaces import address
from tests.mesh.net import Fields, Mesh, wait

pytestmark = pytest.mark.mesh


@pytest.fixture
def bridged() -> Iterator[Mesh]:
    """Two routers; the radio of the first is a port of a bridge, which has its address."""
    with Mesh(2, daemons=[2]) as mesh:
        run(mesh, "ip link add br-mesh type bridge mcast_snooping 1")
        run(mesh, "ip link set wlan0 master br-mesh")
        run(mesh, f"ip address del {address(1)}/24 dev wlan0")
        run(mesh, f"ip address add {address(1)}/24 dev br-mesh")
        run(mesh, "ip link set br-mesh up")
        yield mesh


def run(mesh: Mesh, command: str) -> None:
    """Runs a command line on router 1, as its operator would."""
    subprocess.run(mesh.sites[1].within("sh", "-c", command), check=True, timeout=30)


def told(mesh: Mesh, what: str) -> list[Fields]:
    """What is not well about `what` on router 1."""
    printed = mesh.meshchat(1, "check", "--json", status=None).stdout
    items = [json.loads(line) for line in printed.splitlines()]
    return [item for item in items if item["what"] == what and item["level"] != "ok"]


def test_a_bridge_is_named_to_who_joined_below_it_and_its_snooping_is_mended(bridged: Mesh) -> None:
    bridged.start(1, "--interface", "wlan0")
    (below,) = told(bridged, "multicast")
    assert below["level"] == "bad"
    assert "br-mesh" in below["cure"]
    bridged.stop(1)
    bridged.start(1, "--interface", "br-mesh")
    (snooping,) = told(bridged, "multicast")
    assert "IGMP snooping" in snooping["text"]
    run(bridged, snooping["cure"])
    assert told(bridged, "multicast") == []
    wait(lambda: not told(bridged, "neighbours"), 60, "router 2 as a neighbour")


def test_a_firewall_that_keeps_the_mesh_out_is_told_and_mended(bridged: Mesh) -> None:
    run(
        bridged,
        "nft 'add table inet f; add chain inet f input { type filter hook input priority 0; policy drop; }'",
    )
    bridged.start(1, "--interface", "br-mesh")
    (firewall,) = told(bridged, "firewall")
    assert "chain inet f input" in firewall["text"]
    run(bridged, firewall["cure"])
    assert told(bridged, "firewall") == []
    wait(lambda: not told(bridged, "neighbours"), 60, "router 2 as a neighbour")


def test_no_route_is_needed_and_none_is_asked_for(bridged: Mesh) -> None:
    bridged.start(1, "--interface", "br-mesh")
    run(bridged, "ip route flush table main; ip route")
    bridged.register(1, "ann")
    bridged.await_users("ann")
    assert told(bridged, "route") == told(bridged, "sending") == []
