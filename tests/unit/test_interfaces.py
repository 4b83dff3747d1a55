"""Which interfaces there are, which are used, and that changes wake the daemon."""

import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from meshchat.adapters.links import interfaces
from meshchat.adapters.links.interfaces import Interface, choose, list_interfaces, watch_interfaces
from tests.unit.namespaces import inside, ip, namespaces

WLAN = Interface("wlan0", 3, 1500, ("10.0.0.1",), True, True, False, False, None)


def chosen(*listed: Interface, configured: tuple[str, ...] = ()) -> set[str]:
    return choose(configured, {interface.name: interface for interface in listed})


def test_a_radio_with_an_address_is_used() -> None:
    assert chosen(WLAN, replace(WLAN, name="mesh1")) == {"wlan0", "mesh1"}


@pytest.mark.parametrize(
    "reason",
    [
        {"up": False},
        {"multicast": False},
        {"loopback": True},
        {"default_route": True},
        {"master": "br-lan"},
        {"addresses": ()},
        {"mtu": 500},
    ],
)
def test_what_is_not_used_by_itself(reason: dict[str, object]) -> None:
    other = Interface(**(vars(WLAN) | {"name": "other"} | reason))
    assert chosen(WLAN, other) == {"wlan0"}


def test_what_is_named_is_used_as_long_as_it_is_up_and_nothing_else() -> None:
    uplink = replace(WLAN, name="eth0", default_route=True, addresses=())
    down = replace(WLAN, name="mesh0", up=False)
    assert chosen(WLAN, uplink, down, configured=("eth0", "mesh0", "absent")) == {"eth0"}


@pytest.fixture(params=["netifaces", "without netifaces"])
def address_source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without netifaces":
        monkeypatch.setattr(interfaces, "netifaces", None)
    else:
        pytest.importorskip("netifaces")


@pytest.mark.usefixtures("address_source")
def test_loopback_is_listed_as_it_is() -> None:
    listing = list_interfaces()
    assert set(listing) == {name for _, name in socket.if_nameindex()}
    lo = listing["lo"]
    assert (lo.index, lo.loopback, lo.up, lo.default_route) == (
        socket.if_nametoindex("lo"),
        True,
        True,
        False,
    )
    assert lo.addresses[0] == "127.0.0.1"
    assert "lo" not in choose((), listing)


# --- In a network namespace -----------------------------------------------------------------------------


@pytest.fixture
def namespace() -> Iterator[str]:
    """A machine with an uplink, a bridge with a port, a radio with two addresses and one with none."""
    with namespaces("if") as (name,):
        for link in ("eth0", "lan1", "radio", "bare"):
            ip("-n", name, "link", "add", link, "type", "veth", "peer", "name", f"{link}-peer")
            ip("-n", name, "link", "set", link, "up")
        ip("-n", name, "link", "add", "br-lan", "type", "bridge")
        ip("-n", name, "link", "set", "br-lan", "up")
        ip("-n", name, "link", "set", "lan1", "master", "br-lan")
        for address, link in (
            ("192.168.1.1/24", "br-lan"),
            ("192.168.9.2/24", "eth0"),
            ("10.7.0.1/16", "radio"),
            ("10.8.0.1/16", "radio"),
            ("10.9.0.1/16", "lan1"),
        ):
            ip("-n", name, "address", "add", address, "dev", link)
        ip("-n", name, "link", "set", "radio", "mtu", "1400")
        ip("-n", name, "route", "add", "default", "via", "192.168.9.1", "dev", "eth0")
        yield name


@pytest.mark.mesh
@pytest.mark.parametrize("without", ["", "sys.modules['netifaces'] = None\n"])
def test_a_router_finds_its_mesh_interfaces(namespace: str, without: str) -> None:
    script = (
        f"import sys\n{without}"
        "from meshchat.adapters.links.interfaces import choose, list_interfaces\n"
        "listing = list_interfaces()\n"
        "print(sorted(choose((), listing)))\n"
        "for name in ('eth0', 'lan1', 'radio', 'bare'): print(listing[name])\n"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    first, uplink, port, radio, bare = done.stdout.splitlines()
    assert first == "['br-lan', 'radio']"
    assert "default_route=True" in uplink
    assert "master='br-lan'" in port
    assert "mtu=1400, addresses=('10.7.0.1'," in radio
    assert "addresses=(), up=True" in bare


@pytest.mark.mesh
def test_a_change_wakes_the_daemon_once(namespace: str) -> None:
    with inside(namespace):
        watch = watch_interfaces()
    assert watch is not None
    with contextlib.closing(watch):
        assert not watch.drain()
        for change in (
            ("link", "set", "bare", "down"),
            ("address", "add", "10.5.5.5/24", "dev", "radio"),
            ("route", "add", "10.77.0.0/16", "dev", "radio"),
            ("link", "add", "late0", "type", "bridge"),
        ):
            ip("-n", namespace, *change)
            assert select.select([watch], [], [], 5)[0], change
            assert watch.drain()
            assert not watch.drain()
