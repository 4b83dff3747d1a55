"""The socket: on loopback for everybody, and over a wire between two namespaces for root."""

import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

from meshchat.adapters.links.udp import Received, UdpOrigin, UdpPort, UdpSocket
from meshchat.errors import ConfigError
from tests.unit.namespaces import inside, ip, namespaces, wait_for_carrier

GROUP = "224.1.1.1"
DEADLINE = 5.0


def receive(port: UdpSocket, count: int = 1) -> list[Received]:
    """The next `count` datagrams, or those that came before the deadline."""
    datagrams: list[Received] = []
    while len(datagrams) < count and select.select([port], [], [], DEADLINE)[0]:
        datagrams += port.drain()
    return datagrams


@pytest.fixture
def port() -> Iterator[UdpPort]:
    opened = UdpPort(GROUP, 0)
    yield opened
    opened.close()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(DEADLINE)
        yield plain


# --- On loopback ----------------------------------------------------------------------------------------


def test_a_datagram_arrives_with_its_sender_and_interface(port: UdpPort, stranger: socket.socket) -> None:
    stranger.sendto(b"hello", ("127.0.0.1", port.number))
    (heard,) = receive(port.unicast)
    assert (heard.data, heard.ifindex, heard.multicast) == (b"hello", socket.if_nametoindex("lo"), False)
    assert (heard.origin.address, heard.origin.local) == (stranger.getsockname(), "127.0.0.1")


@pytest.mark.parametrize("pinned", [False, True])
def test_a_datagram_is_sent_to_one_address(port: UdpPort, stranger: socket.socket, pinned: bool) -> None:
    ifindex = socket.if_nametoindex("lo") if pinned else 0
    assert port.unicast.send(b"answer", stranger.getsockname(), ifindex)
    assert stranger.recvfrom(100) == (b"answer", ("127.0.0.1", port.number))


def test_a_second_daemon_is_refused_in_one_line(port: UdpPort) -> None:
    with pytest.raises(ConfigError, match=rf"^Port {port.number} is in use: .*--port\.$"):
        UdpPort(GROUP, port.number)


def test_what_the_kernel_refuses_is_counted_and_nothing_else(port: UdpPort) -> None:
    assert not port.unicast.send(b"x" * 70_000, ("127.0.0.1", 9))
    assert not port.unicast.send(b"x", ("127.0.0.1", 0))
    assert not port.unicast.send(b"x", port.group, 999_999)
    assert port.join(999_999) is None
    assert port.unicast.lost == 3
    assert port.errors == {
        "send EMSGSIZE": 1,
        "send EINVAL": 1,
        "send ENODEV": 1,
        "join ENODEV": 1,
    }


def test_an_answer_from_a_closed_port_is_no_error(port: UdpPort, stranger: socket.socket) -> None:
    address = stranger.getsockname()
    stranger.close()
    assert port.unicast.send(b"anybody?", address)
    assert port.unicast.send(b"anybody?", address)
    assert port.unicast.drain() == []
    assert not port.errors


def test_a_datagram_larger_than_any_of_ours_is_dropped_and_counted(
    port: UdpPort, stranger: socket.socket
) -> None:
    stranger.sendto(b"x" * 2049, ("127.0.0.1", port.number))
    stranger.sendto(b"x" * 2048, ("127.0.0.1", port.number))
    stranger.sendto(b"", ("127.0.0.1", port.number))
    assert [len(datagram.data) for datagram in receive(port.unicast, 2)] == [2048, 0]
    assert port.errors == {"receive TRUNCATED": 1}


def test_a_flood_is_taken_in_portions(port: UdpPort, stranger: socket.socket) -> None:
    for number in range(100):
        stranger.sendto(bytes([number]), ("127.0.0.1", port.number))
    first, rest = port.unicast.drain(64), port.unicast.drain(64)
    assert [datagram.data[0] for datagram in first + rest] == list(range(100))
    assert len(first) == 64


def test_what_came_faster_than_it_was_read_is_counted(port: UdpPort, stranger: socket.socket) -> None:
    for _ in range(5000):
        stranger.sendto(b"x" * 1400, ("127.0.0.1", port.number))
    taken = 0
    while batch := port.unicast.drain():
        taken += len(batch)
    stranger.sendto(b"after", ("127.0.0.1", port.number))
    assert receive(port.unicast)[0].data == b"after"
    assert 0 < taken < 5000
    assert taken + port.errors["receive OVERRUN"] == 5000


# --- Over a wire ----------------------------------------------------------------------------------------


class Station:
    """A router in its own namespace: one interface, an address, no route but to its own subnet."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.joined: list[UdpSocket] = []
        with inside(namespace):
            self.port = UdpPort(GROUP, 8888)

    def index(self, name: str = "wlan0") -> int:
        """The index of an interface."""
        with inside(self.namespace):
            return socket.if_nametoindex(name)

    def join(self, name: str = "wlan0") -> UdpSocket:
        """The socket of an interface."""
        ifindex = self.index(name)
        with inside(self.namespace):
            joined = self.port.join(ifindex)
        assert joined is not None
        self.joined.append(joined)
        return joined

    def send(self, data: bytes) -> bool:
        """To the group, by the socket for unicast: who only talks need not have joined."""
        return self.port.unicast.send(data, self.port.group, self.index())

    def close(self) -> None:
        """Frees the port."""
        for one in self.joined:
            one.close()
        self.port.close()


@pytest.fixture
def wire() -> Iterator[tuple[Station, Station]]:
    """Two stations on one wire."""
    with namespaces("mc-a", "mc-b") as names:
        connect(*names)
        a, b = (Station(name) for name in names)
        yield a, b
        a.close()
        b.close()


def connect(a: str, b: str, name: str = "wlan0", subnet: str = "10.4.0") -> None:
    ip("-n", a, "link", "add", name, "type", "veth", "peer", "name", name, "netns", b)
    for number, each in enumerate((a, b), 1):
        ip("-n", each, "address", "add", f"{subnet}.{number}/24", "dev", name)
        ip("-n", each, "link", "set", name, "up")
    for each in (a, b):
        wait_for_carrier(each, name)


@pytest.mark.mesh
def test_multicast_needs_no_route_and_is_not_heard_by_its_sender(wire: tuple[Station, Station]) -> None:
    a, b = wire
    at_a, at_b = a.join(), b.join()
    assert at_a.send(b"to all", a.port.group, a.index())
    assert receive(at_b) == [Received(b"to all", UdpOrigin("10.4.0.1", 8888), b.index(), multicast=True)]
    assert at_b.send(b"to you", ("10.4.0.1", 8888), b.index())
    (heard,) = receive(a.port.unicast)
    assert heard == Received(b"to you", UdpOrigin("10.4.0.2", 8888), a.index(), multicast=False)
    assert (heard.origin.address, heard.origin.local) == (("10.4.0.2", 8888), "10.4.0.1")
    assert at_a.drain() == a.port.unicast.drain() == b.port.unicast.drain() == []
    assert not a.port.errors + b.port.errors


@pytest.mark.mesh
def test_a_neighbour_outside_every_subnet_is_answered_on_its_interface(wire: tuple[Station, Station]) -> None:
    a, b = wire
    ip("-n", a.namespace, "address", "flush", "dev", "wlan0")
    ip("-n", a.namespace, "address", "add", "172.20.0.9/32", "dev", "wlan0")
    at_b = b.join()
    assert a.send(b"far subnet")
    (heard,) = receive(at_b)
    assert heard.origin.address == ("172.20.0.9", 8888)
    assert not at_b.send(b"by routes", heard.origin.address)
    assert at_b.send(b"by interface", heard.origin.address, heard.ifindex)
    assert [datagram.data for datagram in receive(a.port.unicast)] == [b"by interface"]
    assert b.port.errors == {"send ENETUNREACH": 1}


@pytest.mark.mesh
def test_who_has_not_joined_or_has_left_hears_nothing(wire: tuple[Station, Station]) -> None:
    a, b = wire
    a.send(b"too early")
    at_b = b.join()
    a.send(b"heard")
    assert [datagram.data for datagram in receive(at_b)] == [b"heard"]
    at_b.close()
    a.send(b"too late")
    a.port.unicast.send(b"by name", ("10.4.0.2", 8888))
    assert [datagram.data for datagram in receive(b.port.unicast)] == [b"by name"]


@pytest.mark.mesh
def test_an_interface_that_is_made_anew_is_joined_anew(wire: tuple[Station, Station]) -> None:
    a, b = wire
    old, at_old = b.index(), b.join()
    ip("-n", b.namespace, "link", "del", "wlan0")
    assert not at_old.send(b"gone", b.port.group, old)
    assert b.port.errors == {"send ENODEV": 1}
    connect(a.namespace, b.namespace)
    at_old.close()
    assert b.index() != old
    at_b = b.join()
    assert a.send(b"again")
    assert [datagram.data for datagram in receive(at_b)] == [b"again"]
    assert b.port.errors == {"send ENODEV": 1}


@pytest.mark.mesh
def test_an_interface_that_goes_down_and_up_is_still_joined(wire: tuple[Station, Station]) -> None:
    a, b = wire
    at_b = b.join()
    ip("-n", b.namespace, "link", "set", "wlan0", "down")
    assert not at_b.send(b"down", b.port.group, b.index())
    ip("-n", b.namespace, "link", "set", "wlan0", "up")
    assert a.send(b"up")
    assert [datagram.data for datagram in receive(at_b)] == [b"up"]
    assert set(b.port.errors) <= {"send ENETUNREACH", "send ENETDOWN"}


@pytest.mark.mesh
def test_on_many_interfaces_each_datagram_comes_once_and_by_its_own(wire: tuple[Station, Station]) -> None:
    """The kernel lets a socket join 20 groups (net.ipv4.igmp_max_memberships). The port stays its own."""
    a, b = wire
    names = [f"mesh{number}" for number in range(24)]
    for number, name in enumerate(names):
        connect(a.namespace, b.namespace, name, f"10.5.{number}")
    senders = {name: a.join(name) for name in names}
    listeners = {name: b.join(name) for name in names}
    for name, sender in senders.items():
        assert sender.send(name.encode(), a.port.group, a.index(name))
    for name, listener in listeners.items():
        assert [datagram.data for datagram in receive(listener)] == [name.encode()]
    for number in range(len(names)):
        assert a.port.unicast.send(b"by address", (f"10.5.{number}.2", 8888))
    assert len(receive(b.port.unicast, len(names))) == len(names)
    assert not any(listener.drain() for listener in listeners.values())
    assert not b.port.unicast.drain()
    with inside(b.namespace), pytest.raises(ConfigError, match="Port 8888 is in use"):
        UdpPort(GROUP, 8888)
    for host in ("", "10.5.1.2", GROUP):
        with inside(b.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind((host, 8888))


@pytest.mark.mesh
def test_who_has_two_addresses_answers_from_the_one_that_was_asked(wire: tuple[Station, Station]) -> None:
    a, b = wire
    ip("-n", b.namespace, "address", "add", "10.4.0.99/24", "dev", "wlan0")
    assert a.port.unicast.send(b"hello 99", ("10.4.0.99", 8888))
    (asked,) = receive(b.port.unicast)
    assert b.port.unicast.send(b"by routes", asked.origin.address)
    assert b.port.unicast.send(b"as asked", asked.origin.address, source=asked.origin.local)
    ip("-n", b.namespace, "address", "del", "10.4.0.99/24", "dev", "wlan0")
    assert b.port.unicast.send(b"no more", asked.origin.address, source=asked.origin.local)
    heard = {datagram.data: datagram.origin.host for datagram in receive(a.port.unicast, 3)}
    assert heard == {b"by routes": "10.4.0.2", b"as asked": "10.4.0.99", b"no more": "10.4.0.2"}
    assert not b.port.errors


@pytest.mark.mesh
def test_a_link_that_stalls_loses_what_its_queue_does_not_hold_and_holds_up_no_other(
    wire: tuple[Station, Station],
) -> None:
    a, b = wire
    connect(a.namespace, b.namespace, "fast", "10.5.0")
    shape = ["qdisc", "add", "dev", "wlan0", "root", "tbf", "rate", "8kbit", "burst", "2000", "limit", "10mb"]
    subprocess.run(["tc", "-n", a.namespace, *shape], check=True)
    slow, fast, heard = a.join(), a.join("fast"), b.join("fast")
    for _ in range(1000):
        slow.send(b"x" * 1400, a.port.group, a.index())
    assert slow.queued > 0
    assert 900 < slow.lost < 1000
    assert fast.send(b"not held up", a.port.group, a.index("fast"))
    assert [datagram.data for datagram in receive(heard)] == [b"not held up"]
    assert fast.lost == 0


def test_who_changes_his_port_is_the_same_sender() -> None:
    here, there = UdpOrigin("10.0.0.1", 1, "10.0.0.9"), UdpOrigin("10.0.0.1", 2)
    assert here == there != UdpOrigin("10.0.0.2", 1, "10.0.0.9")
    assert len({here, there}) == 1
    assert (here.address, there.address) == (("10.0.0.1", 1), ("10.0.0.1", 2))
