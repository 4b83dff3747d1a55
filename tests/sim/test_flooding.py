"""What a new message costs the air, and that it arrives: bytes with all headers, in virtual time."""

from collections import Counter
from collections.abc import Callable

import pytest

from meshchat.state.reach import hears_filter
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import CONFIRM_KEY_SIZE, ROUTER_ID_SIZE, ConfirmKey, RouterId
from meshchat.wire.packets import Confirm, Digest, Packet, Records, decode_packets, encode_packet
from meshchat.wire.records import Grade, record_id
from tests.sim.checkers import agree, assert_converges, assert_idle
from tests.sim.network import AirConditions, Link
from tests.sim.topology import cell, line
from tests.sim.world import EPOCH_MS, MESH, Stranger, World

TEXT = "x" * 100


def plain(data: bytes) -> bytes:
    datagram = decode_datagram(data)
    assert isinstance(datagram, PlainDatagram)
    return datagram.packets


def settled(seed: int, links: list[Link], count: int, conditions: AirConditions | None = None) -> World:
    """A mesh whose routers know each other and their links: some talk before the measurement."""
    world = World(seed, links, count, conditions or AirConditions(delay=0.004))
    world.boot()
    world.run(300)
    for number in range(120):
        assert world.routers[number % count].say("2", TEXT)
        world.run(1.0)
    world.run(60)
    return world


def bytes_a_message(world: World, messages: int, every: float) -> float:
    """What messages of 100 bytes cost the whole net, one `every` so many seconds, digests included."""
    before = world.air.octets.total()
    for _ in range(messages):
        assert world.routers[0].say("1", TEXT)
        world.run(every)
    cost = (world.air.octets.total() - before) / messages
    world.run(5)
    assert all(len(router.ids("1")) == messages for router in world.routers)
    return cost


def test_a_message_costs_a_cell_few_transmissions() -> None:
    assert bytes_a_message(settled(1, cell(10), 10), 100, 1.0) < 1_000


def test_a_message_costs_a_chain_one_transmission_a_hop() -> None:
    assert bytes_a_message(settled(2, line(10), 10), 100, 1.0) / 9 < 310


def test_many_messages_share_frames() -> None:
    assert bytes_a_message(settled(3, line(10), 10), 400, 0.05) / 9 < 240


@pytest.mark.parametrize("links", [line(6), cell(6)])
def test_a_last_message_arrives_within_seconds_though_some_lose_it(links: list[Link]) -> None:
    """Nothing follows that would show the gap."""
    world = settled(4, links, 6, AirConditions(loss=0.2, delay=0.004))
    late = 0
    for number in range(40):
        assert world.routers[number % 6].say("1", f"last {number}")
        late += not world.run(5, until=lambda: agree(world.routers))
        world.run(35)
    assert late <= 1
    assert_idle(world)


def test_where_all_links_are_good_a_single_loss_is_found_when_the_news_rests() -> None:
    """Against the odds the last router of a chain misses one; it need not wait for the next idle digest."""
    world = settled(5, line(3), 3)
    for number in range(10):
        world.air.separate([2], [1])
        assert world.routers[0].say("1", f"lost {number}")
        world.run(0.3)
        world.air.heal()
        assert world.run(5, until=lambda: agree(world.routers))
        world.run(50)


def test_at_half_the_frames_lost_all_have_a_message_within_seconds() -> None:
    world = settled(5, cell(10), 10, AirConditions(loss=0.5, delay=0.004))
    late = 0
    for number in range(50):
        assert world.routers[number % 10].say("1", f"message {number}")
        late += not world.run(3, until=lambda: agree(world.routers))
        world.run(10)
    assert late <= 1
    assert_converges(world, 60)
    assert_idle(world)


def test_who_claims_that_all_hear_everything_only_slows_a_message_down() -> None:
    """A stranger repeats each message at once, and confirms it, under 15 names that claim to reach all."""
    world = World(6, [*line(5), (5, 1), (5, 2), (6, 1), (6, 2), (7, 1), (7, 2)], 8, AirConditions())
    liars = [Stranger(world, number) for number in (5, 6, 7)]
    world.boot(range(5))
    world.run(60)
    everyone = hears_filter([router.up.router for router in world.routers[:5]], 0)
    names = [(liar, world.rng.randbytes(ROUTER_ID_SIZE)) for liar in liars for _ in range(5)]

    def lie(packet: Packet) -> None:
        for liar, name in names:
            world.transmit(
                liar.number, None, PlainDatagram(MESH, RouterId(name), encode_packet(packet)).encode()
            )

    digest = liars[0].digest(Grade.UNKNOWN, world.true_ms)
    lie(Digest(**{**vars(digest), "hears": everyone}))

    def repeat(sender: int, data: bytes) -> None:
        for packet in decode_packets(plain(data)):
            if isinstance(packet, Records) and sender == 0:
                keys = tuple(ConfirmKey(record_id(MESH, one.data)[:CONFIRM_KEY_SIZE]) for one in packet.items)
                lie(packet)
                lie(Confirm(keys))

    world.taps.append(repeat)
    for number in range(5):
        assert world.routers[0].say("1", f"message {number}")
        assert world.run(60, until=lambda: agree(world.routers[:5]))


def cost_beside_ids(*packets: Packet) -> float:
    """Bytes a message in a cell of ten, while one radio says this each half minute under 14 invented ids."""
    world = World(1, cell(11), 11, AirConditions(delay=0.004))
    world.boot(range(10))
    world.run(60)
    names = [world.rng.randbytes(ROUTER_ID_SIZE) for _ in range(14)]
    before = 0
    for number in range(100):
        for name in names if packets and number % 30 == 0 else ():
            world.transmit(
                10, None, PlainDatagram(MESH, RouterId(name), b"".join(map(encode_packet, packets))).encode()
            )
        if number == 60:
            before = sum(world.air.octets[one.number] for one in world.alive())
        assert world.routers[number % 10].say("1", TEXT)
        world.run(1)
    return (sum(world.air.octets[one.number] for one in world.alive()) - before) / 40


def test_invented_neighbours_make_a_message_little_dearer(measured: Callable[[str], None]) -> None:
    """They count with a digest only, and then four of them; none ever says that it has a message."""
    digest = Stranger(World(1, [], 1), 0).digest(Grade.UNKNOWN, EPOCH_MS)
    alone = cost_beside_ids()
    silent, speaking = (
        cost_beside_ids(Confirm((ConfirmKey(bytes(CONFIRM_KEY_SIZE)),))),
        cost_beside_ids(digest),
    )
    measured(f"{alone:.0f} bytes a message; {silent:.0f} beside 14 ids, {speaking:.0f} if these send digests")
    assert silent <= 1.1 * alone
    assert speaking <= 1.5 * alone


def test_confirmations_are_few_and_short() -> None:
    world = settled(7, line(3), 3, AirConditions(loss=0.2))
    sizes: Counter[str] = Counter()

    def tap(sender: int, data: bytes) -> None:
        for packet in decode_packets(plain(data)):
            sizes[type(packet).__name__] += len(data)

    world.taps.append(tap)
    for number in range(100):
        assert world.routers[0].say("1", f"{number} {TEXT}")
        world.run(1)
    assert 0 < sizes["Confirm"] < sizes["Records"] / 4


def test_what_waits_in_quarantine_is_not_confirmed() -> None:
    """The other's clock is half an hour late; it hears each message again and does not say that it has it."""
    world = World(10, line(2), 2, AirConditions(loss=0.3))
    world.routers[1].model.clock.offset_ms = -1_800_000
    world.boot()
    world.run(60)
    confirms: list[bytes] = []

    def tap(sender: int, data: bytes) -> None:
        for packet in decode_packets(plain(data)):
            if isinstance(packet, Confirm) and sender == 1:
                confirms.extend(packet.keys)

    world.taps.append(tap)
    for number in range(20):
        assert world.routers[0].say("1", f"from the future {number}")
        world.run(5)
    assert world.routers[1].ids("1") == []
    assert confirms == []
    world.run(1800)
    assert len(world.routers[1].ids("1")) == 20


def test_while_people_talk_everywhere_routers_do_not_take_what_is_on_its_way_for_lost() -> None:
    world = settled(8, line(6), 6)
    before = world.air.octets.total()
    for number in range(600):
        assert world.routers[number % 6].say("1", TEXT)
        world.run(0.05)
    assert (world.air.octets.total() - before) / 600 / 5 < 260
    assert_converges(world, 10)


def test_who_comes_back_to_a_talking_mesh_is_offered_its_history() -> None:
    world = World(9, line(3), 3)
    world.boot([0, 1])
    world.run(30)
    for number in range(200):
        assert world.routers[number % 2].say("1", TEXT)
        world.run(0.05)
    world.routers[2].boot()
    for _ in range(100):
        assert world.routers[0].say("2", TEXT)
        world.run(0.1)
    assert len(world.routers[2].ids("1")) == 200


def test_what_leaves_quarantine_costs_the_air_no_more_than_other_news() -> None:
    """A router whose clock is ahead talks; each of nine neighbours kept that back until its time."""
    world = settled(11, cell(10), 10)
    fast = world.routers[9]
    fast.model.clock.offset_ms = 20 * 60_000
    records = [fast.say("1", f"{number} {TEXT}") for number in range(20)]
    world.run(60)
    assert all(router.ids("1") == [] for router in world.routers[:9])
    sent = 0

    def tap(sender: int, data: bytes) -> None:
        nonlocal sent
        for packet in decode_packets(plain(data)):
            if isinstance(packet, Records):
                sent += len(packet.items)

    world.taps.append(tap)
    world.run(10 * 60)
    assert all(len(router.ids("1")) == len(records) for router in world.routers)
    print(f"each of {len(records)} messages was sent {sent / len(records):.1f} times when its time had come")
    assert sent <= 5 * len(records)


def test_a_message_repaired_within_a_minute_is_news_and_an_older_one_is_caught_up_with() -> None:
    world = settled(12, line(4), 4)
    late = world.routers[3]
    late.stop()
    world.air.separate([0], [1])
    records = [world.routers[0].say("1", f"{number} {TEXT}") for number in range(5)]
    world.run(5)
    assert not world.routers[1].ids("1")
    world.air.heal()
    world.run(90)
    late.restart()
    assert_converges(world, 60)
    ids = {record.id for record in records if record}
    assert len(ids) == 5
    assert all(ids <= router.shown_live for router in world.routers[:3])
    assert ids <= late.shown
    assert not ids & late.shown_live
