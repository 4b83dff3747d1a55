"""The route and the firewall rules, found from the router's own configuration."""

import re
from typing import Any

import pytest

from tests.openwrt.fake_uci import Section
from tests.openwrt.router import Router

NETWORK = "/usr/share/meshchat/network"


def interface(name: str, **options: Any) -> Section:
    return name, "interface", options


def bridge(name: str, *ports: str) -> Section:
    return f"dev_{name.replace('-', '_')}", "device", {"name": name, "type": "bridge", "ports": list(ports)}


def radio(name: str, mode: str, network: str | list[str], **options: Any) -> Section:
    return name, "wifi-iface", {"device": "radio0", "mode": mode, "network": network, **options}


LAN = (interface("lan", device="br-lan", proto="static"), bridge("br-lan", "lan1", "lan2"))
ZONES = (
    ("z_lan", "zone", {"name": "lan", "network": ["lan"], "input": "ACCEPT"}),
    ("z_mesh", "zone", {"name": "freifunk", "network": ["mesh", "bat0"], "input": "REJECT"}),
)
HARDIF = interface("hard", proto="batadv_hardif", master="bat0")
BATMAN = interface("bat0", proto="batadv")

ROUTERS = {
    "802.11s": ("mesh", (interface("mesh", proto="static"),), (radio("m", "mesh", "mesh"),)),
    "ad-hoc": ("mesh", (interface("mesh", proto="static"),), (radio("m", "adhoc", ["mesh"]),)),
    "802.11s in a bridge": ("lan", (), (radio("m", "mesh", "lan"), radio("ap", "ap", "lan"))),
    "batman-adv over 802.11s": ("bat0", (HARDIF, BATMAN), (radio("m", "mesh", "hard"),)),
    "batman-adv with addresses": (
        "mesh",
        (HARDIF, BATMAN, interface("mesh", device="bat0", proto="static")),
        (radio("m", "mesh", "hard"),),
    ),
    "batman-adv in a bridge": (
        "mesh",
        (
            HARDIF,
            BATMAN,
            bridge("br-mesh", "bat0", "lan3"),
            interface("mesh", device="br-mesh", proto="static"),
        ),
        (radio("m", "mesh", "hard"),),
    ),
    "a VLAN of batman-adv in a bridge with VLANs": (
        "mesh",
        (HARDIF, BATMAN, bridge("br0", "bat0.7"), interface("mesh", device="br0.7", proto="static")),
        (radio("m", "mesh", "hard"),),
    ),
    "batman-adv over cables": (
        "bat0",
        (interface("wire", device="eth1", proto="batadv_hardif", master="bat0"), BATMAN),
        (),
    ),
    "a switched-off mesh beside one that runs": (
        "mesh",
        (interface("mesh", proto="static"), interface("old", proto="static")),
        (radio("o", "mesh", "old", disabled="1"), radio("m", "mesh", "mesh")),
    ),
}


def with_mesh(router: Router, kind: str) -> str:
    """Configures one of `ROUTERS`; its interface to the mesh."""
    expected, network, wireless = ROUTERS[kind]
    router.configure("network", *LAN, *network)
    router.configure("wireless", *wireless)
    router.configure("firewall", *ZONES)
    return expected


@pytest.mark.parametrize("kind", ROUTERS)
def test_the_route_goes_to_the_top_interface_of_the_mesh(router: Router, kind: str) -> None:
    expected = with_mesh(router, kind)
    router.run(NETWORK, "add")
    uci = router.uci()
    assert uci.get("network.meshchat") == (
        "meshchat",
        "route",
        {"interface": expected, "target": "224.1.1.1/32"},
    )
    assert uci.get("meshchat.main.interfaces") == [expected]
    assert uci.get("firewall.meshchat_group1.src") == ("lan" if expected == "lan" else "freifunk")


def test_the_rules_let_in_the_group_and_what_is_for_this_router(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.run(NETWORK, "add")
    direct = {
        "name": "meshchat: to this router, which catches up",
        "src": "freifunk",
        "family": "ipv4",
        "proto": "udp",
        "dest_port": "8888",
        "target": "ACCEPT",
    }
    uci = router.uci()
    assert uci.get("firewall.meshchat_direct1")[1:] == ("rule", direct)
    group = {**direct, "name": "meshchat: to all", "dest_ip": "224.1.1.1"}
    assert uci.get("firewall.meshchat_group1")[1:] == ("rule", group)


def test_a_second_run_changes_nothing(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.run(NETWORK, "add")
    before = (router.root / "uci.json").read_text()
    (router.root / "uci.json").chmod(0o400)
    stamp = (router.root / "uci.json").stat().st_mtime_ns
    router.run(NETWORK, "add")
    assert (router.root / "uci.json").read_text() == before
    assert (router.root / "uci.json").stat().st_mtime_ns == stamp  # flash was not written


def test_what_a_person_added_to_a_rule_stays(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.run(NETWORK, "add")
    uci = router.uci()
    uci.set("firewall.meshchat_direct1.enabled", "0")
    router.configure("firewall", *uci.packages["firewall"])
    router.run(NETWORK, "add")
    assert router.uci().get("firewall.meshchat_direct1.enabled") == "0"


def test_an_interface_that_a_person_named_is_the_one(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.set("interfaces", ["br-lan"])
    router.run(NETWORK, "add")
    uci = router.uci()
    assert uci.get("network.meshchat.interface") == "lan"
    assert uci.get("firewall.meshchat_group1.src") == "lan"
    assert uci.get("meshchat.main.interfaces") == ["br-lan"]


def test_another_interface_takes_the_rules_along(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.set("interfaces", ["mesh", "lan"])
    router.run(NETWORK, "add")
    assert router.uci().get("firewall.meshchat_direct2.src") == "lan"
    router.set("interfaces", ["lan"])
    router.run(NETWORK, "add")
    uci = router.uci()
    assert uci.get("network.meshchat.interface") == "lan"
    assert uci.get("firewall.meshchat_group1.src") == "lan"
    assert uci.get("firewall.meshchat_group2") is None
    assert uci.get("firewall.meshchat_direct2") is None


def test_an_interface_in_no_zone_gets_a_rule_that_reaches_it(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.configure("firewall", ZONES[0])
    calls = router.run(NETWORK, "add")
    assert any("no firewall zone" in line for line in calls)
    assert router.uci().get("firewall.meshchat_group1.src") == "*"


def test_group_and_port_are_those_of_the_configuration(router: Router) -> None:
    with_mesh(router, "802.11s")
    router.set("group", "239.5.5.5")
    router.set("port", "9999")
    router.run(NETWORK, "add")
    uci = router.uci()
    assert uci.get("network.meshchat.target") == "239.5.5.5/32"
    assert uci.get("firewall.meshchat_group1.dest_ip") == "239.5.5.5"
    assert uci.get("firewall.meshchat_direct1.dest_port") == "9999"


@pytest.mark.parametrize("bad", ["88 88", "9999'\nset system.main.hostname='x", "$(reboot)", "-1", ""])
def test_what_is_no_group_and_no_port_stays_out_of_the_firewall(router: Router, bad: str) -> None:
    router.set("group", bad)
    router.set("port", bad)
    with_mesh(router, "802.11s")
    router.run(NETWORK, "add")
    uci = router.uci()
    assert uci.get("network.meshchat.target") == "224.1.1.1/32"
    assert uci.get("firewall.meshchat_group1.dest_ip") == "224.1.1.1"
    assert uci.get("firewall.meshchat_direct1.dest_port") == "8888"
    assert uci.get("system.main.hostname") is None


def test_a_router_without_a_mesh_yet_is_left_alone_and_told_what_to_do(router: Router) -> None:
    router.configure("network", *LAN)
    router.configure("wireless", radio("ap", "ap", "lan"))
    before = (router.root / "uci.json").read_text()
    (said,) = router.run(NETWORK, "add")
    assert "network add" in said
    assert (router.root / "uci.json").read_text() == before


def test_removing_takes_back_just_what_was_added(router: Router) -> None:
    with_mesh(router, "batman-adv in a bridge")
    before = router.uci().packages
    router.run(NETWORK, "add")
    router.run(NETWORK, "remove")
    after = router.uci().packages
    assert {name: after[name] for name in ("network", "firewall")} == {
        name: before[name] for name in ("network", "firewall")
    }


def test_uci_defaults_sets_it_all_up_and_ends_well(router: Router) -> None:
    with_mesh(router, "802.11s")
    library = 'sh() { . "$1"; }\n'
    script = router.root / "etc/uci-defaults/90-meshchat"
    # The stand-ins are functions: what the script starts as a program is sourced here instead.
    text = re.sub(r'"\$\{IPKG_INSTROOT-\}(\S+)" (\w+)', r'(set -- \2; . "$ROOT\1")', script.read_text())
    script.write_text(text)
    router.shell_lines(f'{library}. "{script}"')
    assert router.uci().get("network.meshchat.interface") == "mesh"
