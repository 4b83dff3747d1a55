"""Budgets by origin: whoever uses his own up takes nothing from anybody else, on whatever link."""

from pathlib import Path

import pytest

from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import AskNonce, RouterId
from meshchat.wire.packets import Ask, Digest, decode_packets, encode_packet
from meshchat.wire.records import mesh_id
from tests.unit.routers import Router, interface_link

HUB = LinkProfile("hub", 1500, is_broadcast=True, air=None)
BEHIND_THE_HUB = "all who are behind it"


@pytest.fixture
def router(tmp_path: Path) -> Router:
    """A router on a radio and on a hub."""
    made = Router(tmp_path, 1)
    made.node.link_up(interface_link("mesh0"))
    made.node.link_up(HUB)
    return made


def digest_of_another(folder: Path) -> Digest:
    """What a router says that has nothing."""
    other = Router(folder, 2)
    other.node.link_up(interface_link("mesh0"))
    for data in other.says():
        datagram = decode_datagram(data)
        assert isinstance(datagram, PlainDatagram)
        for packet in decode_packets(datagram.packets):
            if isinstance(packet, Digest):
                return packet
    raise AssertionError("it says nothing")


def asks(router: Router, folder: Path, link: str, origin: Origin, *, times: int) -> int:
    """Routers without end ask, from one origin; how many of them are refused an answer."""
    digest = digest_of_another(folder)
    before = router.node.engine.drops["answer-budget"]
    for number in range(times):
        body = encode_packet(Ask(AskNonce(number.to_bytes(8, "big")), digest))
        sender = f"sender{number:02}".encode()[:8]
        router.node.receive(PlainDatagram(mesh_id("meshchat"), RouterId(sender), body).encode(), link, origin)
    return router.node.engine.drops["answer-budget"] - before


def test_routers_that_a_hub_does_not_tell_apart_share_one_budget_and_leave_the_radio_its_own(
    router: Router, tmp_path: Path
) -> None:
    assert asks(router, tmp_path / "a", "hub", BEHIND_THE_HUB, times=90) > 40
    assert asks(router, tmp_path / "b", "hub", BEHIND_THE_HUB, times=1) == 1
    assert asks(router, tmp_path / "c", "mesh0", "a neighbour", times=1) == 0


def test_routers_that_a_hub_tells_apart_have_a_budget_each(router: Router, tmp_path: Path) -> None:
    assert asks(router, tmp_path / "a", "hub", ("hub", 1), times=90) > 40
    assert asks(router, tmp_path / "b", "hub", ("hub", 2), times=1) == 0
    assert asks(router, tmp_path / "c", "mesh0", ("hub", 1), times=1) == 1
