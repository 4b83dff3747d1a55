"""The socket: on loopback for everybody, and over a wire between two namespaces for root."""

import select
import socket
from collections.abc import Iterator

import pytest

from meshchat.adapters.multicast import MulticastPort, Received
from meshchat.errors import ConfigError
from tests.unit.namespaces import inside, ip, namespaces, wait_for_carrier

GROUP = "224.1.1.1"
DEADLINE = 5.0


def receive(port: MulticastPort, count: int = 1) -> list[Received]:
    """The next `count` datagrams, or those that came before the deadline."""
    datagrams: list[Received] = []
    while len(datagrams) < count and select.select([port], [], [], DEADLINE)[0]:
        datagrams += port.drain()
    return datagrams


@pytest.fixture
def port() -> Iterator[MulticastPort]:
    opened = MulticastPort(GROUP, 0)
    yield opened
    opened.close()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(DEADLINE)
        yield plain


# --- On loopback ----------------------------------------------------------------------------------------


def test_a_datagram_arrives_with_its_sender_and_interface(
    port: MulticastPort, stranger: socket.socket
) -> None:
    stranger.sendto(b"hello", ("127.0.0.1", port.port))
    assert receive(port) == [
        Received(b"hello", stranger.getsockname(), socket.if_nametoindex("lo"), multicast=False)
    ]


@pytest.mark.parametrize("pinned", [False, True])
def test_a_datagram_is_sent_to_one_address(
    port: MulticastPort, stranger: socket.socket, pinned: bool
) -> None:
    ifindex = socket.if_nametoindex("lo") if pinned else 0
    assert port.send_to(b"answer", stranger.getsockname(), ifindex)
    assert stranger.recvfrom(100) == (b"answer", ("127.0.0.1", port.port))


def test_a_second_daemon_is_refused_in_one_line(port: MulticastPort) -> None:
    with pytest.raises(ConfigError, match=rf"^Port {port.port} is in use: .*--port\.$"):
        MulticastPort(GROUP, port.port)


def test_what_the_kernel_refuses_is_counted_and_nothing_else(port: MulticastPort) -> None:
    assert not port.send_to(b"x" * 70_000, ("127.0.0.1", 9))
    assert not port.send_to(b"x", ("127.0.0.1", 0))
    assert not port.send_group(b"x", 999_999)
    assert not port.join(999_999)
    port.leave(999_999)
    assert port.joined == frozenset()
    assert port.errors == {
        "send EMSGSIZE": 1,
        "send EINVAL": 1,
        "send ENODEV": 1,
        "join ENODEV": 1,
    }


def test_an_answer_from_a_closed_port_is_no_error(port: MulticastPort, stranger: socket.socket) -> None:
    address = stranger.getsockname()
    stranger.close()
    assert port.send_to(b"anybody?", address)
    assert port.send_to(b"anybody?", address)
    assert port.drain() == []
    assert not port.errors


def test_a_datagram_larger_than_any_of_ours_is_dropped_and_counted(
    port: MulticastPort, stranger: socket.socket
) -> None:
    stranger.sendto(b"x" * 2049, ("127.0.0.1", port.port))
    stranger.sendto(b"x" * 2048, ("127.0.0.1", port.port))
    stranger.sendto(b"", ("127.0.0.1", port.port))
    assert [len(datagram.data) for datagram in receive(port, 2)] == [2048, 0]
    assert port.errors == {"receive TRUNCATED": 1}


def test_a_flood_is_taken_in_portions(port: MulticastPort, stranger: socket.socket) -> None:
    for number in range(100):
        stranger.sendto(bytes([number]), ("127.0.0.1", port.port))
    first, rest = port.drain(64), port.drain(64)
    assert [datagram.data[0] for datagram in first + rest] == list(range(100))
    assert len(first) == 64


def test_what_came_faster_than_it_was_read_is_counted(port: MulticastPort, stranger: socket.socket) -> None:
    for _ in range(5000):
        stranger.sendto(b"x" * 1400, ("127.0.0.1", port.port))
    taken = 0
    while batch := port.drain():
        taken += len(batch)
    stranger.sendto(b"after", ("127.0.0.1", port.port))
    assert receive(port)[0].data == b"after"
    assert 0 < taken < 5000
    assert taken + port.errors["receive OVERRUN"] == 5000


# --- Over a wire ----------------------------------------------------------------------------------------


class Station:
    """A router in its own namespace: one interface, an address, no route but to its own subnet."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        with inside(namespace):
            self.port = MulticastPort(GROUP, 8888)

    @property
    def ifindex(self) -> int:
        with inside(self.namespace):
            return socket.if_nametoindex("wlan0")


@pytest.fixture
def wire() -> Iterator[tuple[Station, Station]]:
    """Two stations on one wire."""
    with namespaces("mc-a", "mc-b") as names:
        connect(*names)
        a, b = (Station(name) for name in names)
        yield a, b
        a.port.close()
        b.port.close()


def connect(a: str, b: str) -> None:
    peer = ("peer", "name", "wlan0", "netns", b)
    ip("-n", a, "link", "add", "wlan0", "type", "veth", *peer)
    for number, name in enumerate((a, b), 1):
        ip("-n", name, "address", "add", f"10.4.0.{number}/24", "dev", "wlan0")
        ip("-n", name, "link", "set", "wlan0", "up")
    for name in (a, b):
        wait_for_carrier(name, "wlan0")


@pytest.mark.mesh
def test_multicast_needs_no_route_and_is_not_heard_by_its_sender(wire: tuple[Station, Station]) -> None:
    a, b = wire
    assert a.port.join(a.ifindex)
    assert b.port.join(b.ifindex)
    assert a.port.send_group(b"to all", a.ifindex)
    assert receive(b.port) == [Received(b"to all", ("10.4.0.1", 8888), b.ifindex, multicast=True)]
    assert b.port.send_to(b"to you", ("10.4.0.1", 8888), b.ifindex)
    assert receive(a.port) == [Received(b"to you", ("10.4.0.2", 8888), a.ifindex, multicast=False)]
    assert a.port.drain() == []
    assert not a.port.errors + b.port.errors


@pytest.mark.mesh
def test_a_neighbour_outside_every_subnet_is_answered_on_its_interface(wire: tuple[Station, Station]) -> None:
    a, b = wire
    ip("-n", a.namespace, "address", "flush", "dev", "wlan0")
    ip("-n", a.namespace, "address", "add", "172.20.0.9/32", "dev", "wlan0")
    b.port.join(b.ifindex)
    assert a.port.send_group(b"far subnet", a.ifindex)
    (heard,) = receive(b.port)
    assert heard.address == ("172.20.0.9", 8888)
    assert not b.port.send_to(b"by routes", heard.address)
    assert b.port.send_to(b"by interface", heard.address, heard.ifindex)
    assert [datagram.data for datagram in receive(a.port)] == [b"by interface"]
    assert b.port.errors == {"send ENETUNREACH": 1}


@pytest.mark.mesh
def test_who_has_not_joined_or_has_left_hears_nothing(wire: tuple[Station, Station]) -> None:
    a, b = wire
    a.port.send_group(b"too early", a.ifindex)
    b.port.join(b.ifindex)
    a.port.send_group(b"heard", a.ifindex)
    assert [datagram.data for datagram in receive(b.port)] == [b"heard"]
    b.port.leave(b.ifindex)
    assert b.port.joined == frozenset()
    a.port.send_group(b"too late", a.ifindex)
    a.port.send_to(b"by name", ("10.4.0.2", 8888))
    assert [datagram.data for datagram in receive(b.port)] == [b"by name"]


@pytest.mark.mesh
def test_an_interface_that_is_made_anew_is_joined_anew(wire: tuple[Station, Station]) -> None:
    a, b = wire
    old = b.ifindex
    b.port.join(old)
    ip("-n", b.namespace, "link", "del", "wlan0")
    assert not b.port.send_group(b"gone", old)
    assert b.port.errors == {"send ENODEV": 1}
    connect(a.namespace, b.namespace)
    b.port.leave(old)
    assert b.ifindex != old
    assert b.port.join(b.ifindex)
    assert b.port.joined == {b.ifindex}
    assert a.port.send_group(b"again", a.ifindex)
    assert [datagram.data for datagram in receive(b.port)] == [b"again"]
    assert b.port.errors == {"send ENODEV": 1}


@pytest.mark.mesh
def test_an_interface_that_goes_down_and_up_is_still_joined(wire: tuple[Station, Station]) -> None:
    a, b = wire
    b.port.join(b.ifindex)
    ip("-n", b.namespace, "link", "set", "wlan0", "down")
    assert not b.port.send_group(b"down", b.ifindex)
    ip("-n", b.namespace, "link", "set", "wlan0", "up")
    assert a.port.send_group(b"up", a.ifindex)
    assert [datagram.data for datagram in receive(b.port)] == [b"up"]
    assert set(b.port.errors) <= {"send ENETUNREACH", "send ENETDOWN"}
