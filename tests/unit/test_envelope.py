"""The mesh key: strangers read nothing and inject nothing, and nothing is taken twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_MTU, MIN_MTU
from meshchat.errors import Malformed
from meshchat.identity.meshkey import MeshKey, Sealer
from meshchat.protocol.envelope import IP_UDP_HEADERS, Envelope
from meshchat.state.seen import REPLAY_WINDOW, ReplayGuard
from meshchat.wire.datagram import SEALED_HEADER, SEALED_OVERHEAD, PlainDatagram, SealedDatagram
from meshchat.wire.ids import BootId, MeshId, RouterId, SenderRun
from meshchat.wire.packets import RECORDS_FIELDS, Carried, Records, encode_packet
from meshchat.wire.records import mesh_id

MESH, OTHER_MESH = mesh_id("ours"), mesh_id("theirs")
OLD, NEW, STRANGE = (MeshKey(bytes([number]) * 32) for number in (1, 2, 3))
US = RouterId(b"router-1")
SECRET_TEXT = b"at nine, under the bridge"
HELLO = Records((Carried(b"\x01\x01\x01\x02" + SECRET_TEXT),))
BODY = encode_packet(HELLO)


def envelope(
    *keys: MeshKey, router: RouterId = US, boot: bytes = b"boot-one", mesh: MeshId = MESH
) -> Envelope:
    return Envelope(mesh, router, BootId(boot), Sealer(keys))


def receiver(*keys: MeshKey, mesh: MeshId = MESH) -> Envelope:
    return envelope(*keys, router=RouterId(b"router-2"), boot=b"boot-two", mesh=mesh)


def assert_refused(at: Envelope, data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        at.unwrap(data)


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_members_understand_each_other(keys: tuple[MeshKey, ...]) -> None:
    assert receiver(*keys).unwrap(envelope(*keys).wrap([HELLO])) == (US, BODY)


def test_a_stranger_reads_nothing() -> None:
    data = envelope(NEW).wrap([HELLO])
    assert SECRET_TEXT not in data
    assert bytes(MESH) not in data
    assert_refused(receiver(STRANGE), data, "sealed")
    assert_refused(receiver(), data, "sealed")


def test_a_stranger_injects_nothing() -> None:
    assert_refused(receiver(NEW), envelope(STRANGE).wrap([HELLO]), "sealed")
    assert_refused(receiver(NEW), envelope().wrap([HELLO]), "unsealed")
    assert_refused(receiver(NEW), PlainDatagram(MESH, US, BODY).encode(), "unsealed")


@given(st.data())
def test_not_one_byte_can_be_changed(data: st.DataObject) -> None:
    sent = bytearray(envelope(NEW).wrap([HELLO]))
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        receiver(NEW).unwrap(bytes(sent))


@pytest.mark.parametrize("size", [*range(SEALED_OVERHEAD + 1), SEALED_OVERHEAD + 5])
def test_a_datagram_cut_off_anywhere_is_refused(size: int) -> None:
    sent = envelope(NEW).wrap([HELLO])
    for at in (receiver(NEW), receiver()):
        with pytest.raises(Malformed):
            at.unwrap(sent[:size])


def test_another_mesh_is_not_ours_with_a_key_or_without() -> None:
    assert_refused(receiver(), envelope(mesh=OTHER_MESH).wrap([HELLO]), "mesh")
    assert_refused(receiver(NEW), envelope(NEW, mesh=OTHER_MESH).wrap([HELLO]), "sealed")


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_a_router_does_not_listen_to_itself(keys: tuple[MeshKey, ...]) -> None:
    own = envelope(*keys)
    assert_refused(own, own.wrap([HELLO]), "own")
    assert_refused(envelope(*keys, boot=b"after it"), own.wrap([HELLO]), "own")


def test_a_replay_is_refused() -> None:
    sender, at = envelope(NEW), receiver(NEW)
    sent = [sender.wrap([HELLO]) for _ in range(REPLAY_WINDOW + 10)]
    for data in sent:
        at.unwrap(data)
    for data in sent:
        assert_refused(at, data, "replay")


def test_a_forgery_does_not_use_up_the_number_of_the_true_one() -> None:
    at = receiver(NEW)
    true = envelope(NEW).wrap([HELLO])
    forged = SealedDatagram(US, BootId(b"boot-one"), 1, bytes(40))
    assert_refused(at, forged.encode(), "sealed")
    assert at.unwrap(true) == (US, BODY)


@pytest.mark.parametrize("sends_new", [False, True])
def test_two_keys_are_understood_while_a_mesh_changes_over(sends_new: bool) -> None:
    ahead, behind = envelope(NEW, OLD), envelope(OLD, NEW)
    sender = ahead if sends_new else behind
    data = sender.wrap([HELLO])
    for keys in ((NEW, OLD), (OLD, NEW), (NEW,) if sends_new else (OLD,)):
        assert receiver(*keys).unwrap(data) == (US, BODY)
    assert_refused(receiver(OLD if sends_new else NEW), data, "sealed")


def test_a_restarted_router_is_heard_although_its_numbers_start_again() -> None:
    at = receiver(NEW)
    before = envelope(NEW, boot=b"before..").wrap([HELLO])
    at.unwrap(before)
    assert at.unwrap(envelope(NEW, boot=b"after...").wrap([HELLO])) == (US, BODY)
    assert_refused(at, before, "replay")


def test_a_member_s_counter_may_leap_to_its_end() -> None:
    """Whoever has the key may still be a fool: a leap of 2**64 - 2 once asked for as many bits of memory."""
    at, sealer = receiver(NEW), Sealer((NEW,))
    for counter in (1, 2**63, 2**64 - 1):
        draft = SealedDatagram(RouterId(b"router-9"), BootId(b"leaping!"), counter, b"")
        sealed = sealer.seal(draft.nonce, SEALED_HEADER + MESH, BODY)
        assert at.unwrap(draft.encode() + sealed) == (b"router-9", BODY)
        assert_refused(at, draft.encode() + sealed, "replay")


@pytest.mark.parametrize("keys", [(), (NEW,)])
@pytest.mark.parametrize("mtu", [0, MIN_MTU, 1280, MAX_MTU, 65_536])
def test_a_full_datagram_fits_the_mtu(mtu: int, keys: tuple[MeshKey, ...]) -> None:
    sender = envelope(*keys)
    capacity = sender.capacity(mtu)
    fill = Records((Carried(b"\x01\x01\x01\x02".ljust(capacity - RECORDS_FIELDS - 2, b"x")),))
    assert len(encode_packet(fill)) == capacity
    assert IP_UDP_HEADERS + len(sender.wrap([fill])) == max(MIN_MTU, min(mtu, MAX_MTU))


@given(st.lists(st.integers(0, 200) | st.integers(0, 2**64 - 1), max_size=80))
def test_no_number_passes_twice_whatever_the_order(counters: list[int]) -> None:
    guard, passed, highest = ReplayGuard(4), set[int](), -1
    for counter in counters:
        fresh = guard.fresh(SenderRun(b"run"), counter)
        if counter > highest - REPLAY_WINDOW:
            assert fresh == (counter not in passed)
        else:
            assert not fresh
        highest = max(highest, counter)
        if fresh:
            passed.add(counter)


def test_the_run_not_heard_for_longest_is_forgotten_first() -> None:
    guard = ReplayGuard(2)
    for run in (b"first", b"second", b"first", b"third"):
        guard.fresh(SenderRun(run), len(run) + (run == b"third"))
    assert not guard.fresh(SenderRun(b"third"), 6)
    assert not guard.fresh(SenderRun(b"first"), 5)
