"""One hostile radio among honest routers: it hears everything, and sends anything, as anybody."""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from meshchat.adapters.links.udp import UdpOrigin
from meshchat.adapters.storage.statestore import StateStore
from meshchat.constants import MAX_NEIGHBOURS, MAX_STREAMS, NEIGHBOUR_LIFETIME, REPAIR_SHARE, TALK_SHARE
from meshchat.errors import Malformed
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.identity.meshkey import MeshKey
from meshchat.protocol.admission import FORGERY_BURST
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.datagram import PLAIN_OVERHEAD, PlainDatagram, decode_datagram
from meshchat.wire.ids import (
    CELL_SIZE,
    END,
    NO_TOKEN,
    POSITION_SIZE,
    SHORT_ID_SIZE,
    AskNonce,
    BootId,
    Bound,
    Cell,
    Fingerprint,
    RecordId,
    RouterId,
    Salt,
    ShortId,
    Token,
    View,
)
from meshchat.wire.packets import (
    Ask,
    Block,
    Carried,
    ClockClaim,
    Digest,
    Dump,
    Fingerprinted,
    Fragment,
    Having,
    Listed,
    Offer,
    Packet,
    PacketType,
    Range,
    Ranges,
    Records,
    Scope,
    Sketch,
    Summary,
    Want,
    decode_packets,
    encode_packet,
)
from meshchat.wire.records import Grade, Kind, Record, Space, make_position, make_stamp, mesh_id
from tests.sim.checkers import agree, assert_converges, assert_idle, assert_kept
from tests.sim.network import AirConditions
from tests.sim.topology import cell
from tests.sim.world import AIR_RATE, MESH, PORT, SimRouter, Stranger, World

LOW = Bound(bytes(POSITION_SIZE))
CORPUS = Path(__file__).parent.parent / "corpus"
MESH_KEY = MeshKey(bytes(range(32)))


class Hostile(Stranger):
    """A radio at the last place of a world. `answer` is asked about each packet that any router sends."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.rng = random.Random(world.rng.randrange(2**63))
        self.origin = UdpOrigin(f"10.0.0.{number}", PORT)
        self.overheard: list[bytes] = []
        self.tokens: dict[RouterId, Token] = {}
        self.answer: Callable[[RouterId, Packet], None] | None = None
        self.spent = 0
        world.taps.append(self._hear)

    def _hear(self, sender: int, data: bytes) -> None:
        if sender == self.number:
            return
        self.overheard.append(data)
        for router, packet in understood(data) if data[PLAIN_OVERHEAD] != PacketType.DUMP else ():
            if isinstance(packet, Ranges | Offer):
                self.tokens[router] = packet.token
            if self.answer is not None:
                self.answer(RouterId(router), packet)

    def datagram(self, *packets: Packet, sender: RouterId | None = None) -> bytes:
        """The packets in the open, as from `sender`."""
        return PlainDatagram(MESH, sender or self.id, b"".join(map(encode_packet, packets))).encode()

    def throw(self, at: SimRouter, data: bytes, *, origin: UdpOrigin | None = None) -> None:
        """Right into a router's antenna; an exception that leaves it fails the test."""
        self.spent += len(data)
        at.up.receive(data, "wlan0", origin or self.origin)

    def throw_at_all(self, *packets: Packet, sender: RouterId | None = None) -> None:
        data = self.datagram(*packets, sender=sender)
        for router in self.world.alive():
            self.throw(router, data)

    def invented(self) -> RouterId:
        """A router id out of thin air."""
        return RouterId(self.rng.randbytes(8))

    def some_digest(self, records: int = 7, *, boot: bytes = b"hostile!", echo: bytes = bytes(8)) -> Digest:
        """Of a set that nobody has; another one each time."""
        claim = ClockClaim(Grade.GOOD, 0, 0, self.world.true_ms)
        summary = Summary(records, Fingerprint(self.rng.randbytes(16)))
        return Digest(BootId(boot), BootId(echo), bytes(3), claim, Scope.ALL, 0, summary, summary)

    def steps(self, to: RouterId, *parts: Range, token: Token = NO_TOKEN) -> Ranges:
        return Ranges(to, token, Salt(self.rng.randbytes(8)), View(self.rng.randbytes(8)), LOW, parts)

    def sketch(self, at: SimRouter, promised: int, *, to: RouterId | None = None, cells: int = 90) -> Sketch:
        """What a router would send that has all that `at` holds, and so many records that nobody has."""
        engine = at.up.engine
        floor, ceiling = engine.extent.floor, make_stamp(self.world.true_ms + 800_000)
        spans = (
            (make_position(0, 0), make_position(0, ceiling)),
            (make_position(1, floor), make_position(1, ceiling)),
        )
        held = engine.store.records.sketch(spans)
        assert held is not None
        theirs = held.copy()
        for _ in range(promised):
            theirs.toggle(
                make_position(1, ceiling - self.rng.randrange(2**40), RecordId(self.rng.randbytes(16)))
            )
        count = sum(engine.store.records.count(*span) for span in spans) + promised
        to, view = to or at.up.router, View(bytes(8))
        shown = theirs.encoded(0, cells)
        return Sketch(to, NO_TOKEN, NO_TOKEN, view, floor, ceiling, count, cells, 0, shown)

    def noise(self, to: RouterId, cells: int, total: int = 256) -> Sketch:
        """Cells of nothing at all."""
        noise = tuple(Cell(self.rng.randbytes(CELL_SIZE)) for _ in range(cells))
        now, count = make_stamp(self.world.true_ms), self.rng.randrange(10**6)
        return Sketch(to, NO_TOKEN, NO_TOKEN, View(bytes(8)), 0, now, count, total, 0, noise)

    def forged(self, count: int) -> tuple[Carried, ...]:
        """Records that say ann wrote them."""
        now = make_stamp(self.world.true_ms)
        true = [self.record(str(self.rng.random()), now + number) for number in range(count)]
        return tuple(Carried(record.carried[:-1] + bytes((record.carried[-1] ^ 1,))) for record in true)


def understood(data: bytes) -> list[tuple[RouterId, Packet]]:
    """(sender, packet) of an open datagram, as far as it goes."""
    found: list[tuple[RouterId, Packet]] = []
    try:
        datagram = decode_datagram(data)
        if isinstance(datagram, PlainDatagram):
            known = (packet for packet in decode_packets(datagram.packets) if not isinstance(packet, int))
            found.extend((datagram.sender, packet) for packet in known)
    except Malformed:
        return found
    return found


def besieged(seed: int, routers: int = 3, conditions: AirConditions | None = None) -> tuple[World, Hostile]:
    """A cell of honest routers that talked a little, and somebody in their midst."""
    world = World(seed, cell(routers + 1), routers + 1, conditions)
    world.boot(range(routers))
    world.run(5)
    hostile = Hostile(world, routers)
    for number in range(12):
        world.routers[number % routers].say(str(number % 3), f"before {number}")
        world.run(0.3)
    world.run(10)
    assert agree(world.alive())
    return world, hostile


def assert_life_goes_on(world: World, seconds: float = 60.0) -> None:
    """Everybody writes; everybody soon reads it all; then the air is quiet."""
    for router in world.alive():
        router.say("1", f"after all of it, {router.number} is still here")
        world.run(0.2)
    assert_converges(world, seconds)
    for router in world.alive():
        for other in world.alive():
            assert_kept(router, other.acknowledged)
    assert_idle(world)


def octets(world: World) -> int:
    """Bytes that the honest routers have put on the air."""
    return sum(world.air.octets[router.number] for router in world.alive())


def drops(world: World) -> int:
    return sum(sum(router.up.engine.drops.values()) for router in world.alive())


# --- Broken datagrams -----------------------------------------------------------------------------------


def broken(hostile: Hostile, heard: list[bytes]) -> bytes:
    """Random, truncated, mutated, spliced, oversized, or an old one again."""
    rng = hostile.rng
    data = bytearray(rng.choice(heard))
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(300))
        case 1:
            return bytes(data[: rng.randrange(len(data))])
        case 2:
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)
        case 3:
            return bytes(data[: rng.randrange(len(data))]) + rng.choice(heard)[rng.randrange(80) :]
        case 4:
            return bytes(data[: rng.randrange(3, 60)]) + rng.randbytes(rng.choice((40, 2000, 65_000)))
        case _:
            return bytes(data)


@pytest.mark.parametrize("keyed", [False, True])
def test_a_hundred_thousand_broken_datagrams(keyed: bool, measured: Callable[[str], None]) -> None:
    world = World(1, cell(4), 4)
    if keyed:
        for router in world.routers:
            StateStore(router.state).save_mesh_keys((MESH_KEY,))
    world.boot(range(3))
    hostile = Hostile(world, 3)
    for number in range(40):
        world.routers[number % 3].say("1", f"before {number}" * (100 if number == 7 else 1))
        world.run(0.2)
    world.routers[0].kill()
    world.routers[0].lose_logs()
    world.routers[0].boot()
    world.run(20)
    kinds = {packet.type for data in hostile.overheard for _, packet in understood(data)}
    assert keyed or len(kinds) >= 6, "of too few kinds of packets something was overheard"
    heard = [*hostile.overheard, *({data[:60]: data for data in hostile.overheard}.values())]
    before, began = drops(world), time.process_time()
    for number in range(100_000):
        hostile.throw(world.routers[number % 2], broken(hostile, heard))
        if number % 500 == 0:
            world.routers[number % 3].say("2", f"meanwhile {number}")
            world.run(0.5)
    took = time.process_time() - began
    assert drops(world) - before > 50_000
    assert_life_goes_on(world)
    measured(f"100,000 broken datagrams ({'keyed' if keyed else 'open'}) in {took:.1f} s of CPU")


def test_every_refusal_is_counted_by_its_reason() -> None:
    world, hostile = besieged(2)
    victim = world.routers[0]
    sealed = bytes((0x6D, 1, 1)) + bytes(40)
    true = hostile.datagram(hostile.some_digest())
    foreign = sign_record(
        hostile.key,
        mesh=mesh_id("another"),
        space=Space.ROOM,
        log="1",
        kind=Kind.MESSAGE,
        author="stranger",
        router=hostile.id,
        stamp=make_stamp(world.true_ms),
        grade=Grade.GOOD,
        body=b"not for you",
    )
    moved = replace(hostile.record("hello", make_stamp(world.true_ms)), log="2")
    ahead = hostile.record("tomorrow", make_stamp(world.true_ms + 86_400_000))
    ancient = hostile.record("years ago", make_stamp(world.true_ms - 10 * 86_400_000))
    unnamed = hostile.record("hello", make_stamp(world.true_ms), room="../../etc")
    cases = {
        "magic": b"GET / HTTP/1.1",
        "version": b"\x6d\x09" + bytes(30),
        "form": b"\x6d\x01\x07" + bytes(30),
        "truncated": true[:-1],
        "mesh": PlainDatagram(mesh_id("another"), hostile.id, b"").encode(),
        "own": hostile.datagram(sender=victim.up.router),
        "sealed": sealed,
        "trailing": PlainDatagram(
            MESH, hostile.id, b"\x02\x00\x62" + encode_packet(hostile.some_digest())[3:] + b"!"
        ).encode(),
        "unknown-packet": PlainDatagram(MESH, hostile.id, b"\x30\x00\x00").encode(),
        "fragment": hostile.datagram(Fragment(False, RecordId(bytes(16)), 5000, 0, 0, b"crumb")),
        "token": hostile.datagram(Want(victim.up.router, NO_TOKEN, Salt(bytes(8)), (Block(LOW, END, None),))),
        "signature": hostile.datagram(Records(hostile.forged(1))),
        "name": hostile.datagram(Records((Carried(unnamed.carried),))),
        "quarantine": hostile.datagram(Records((Carried(ahead.carried),))),
        "horizon": hostile.datagram(Records((Carried(ancient.carried),))),
    }
    for reason, data in cases.items():
        count = victim.up.engine.drops[reason]
        hostile.throw(victim, data)
        assert victim.up.engine.drops[reason] == count + 1, reason
    for record in (foreign, moved):
        count = victim.up.engine.drops["signature"]
        hostile.throw(victim, hostile.datagram(Records((Carried(record.carried),))))
        assert victim.up.engine.drops["signature"] == count + 1
    assert_life_goes_on(world)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.hex")), ids=lambda path: path.stem)
@pytest.mark.parametrize("keyed", [False, True])
def test_what_once_broke_it_is_refused_or_answered(path: Path, keyed: bool) -> None:
    world = World(3, cell(2), 2)
    if keyed:
        for router in world.routers:
            StateStore(router.state).save_mesh_keys((MESH_KEY,))
    world.boot()
    hostile = Hostile(world, 1)
    hostile.throw(world.routers[0], bytes.fromhex(path.read_text().partition("\n")[2]))
    world.run(30)
    assert_life_goes_on(world)


# --- Records --------------------------------------------------------------------------------------------


def test_forgeries_are_budgeted_and_honest_chat_goes_on() -> None:
    world, hostile = besieged(4)
    victim = world.routers[0]
    for number in range(1500):
        hostile.throw(
            victim,
            hostile.datagram(Records(hostile.forged(1))),
            origin=UdpOrigin(hostile.origin.host, number + 1),
        )
        if number % 100 == 0:
            world.routers[1].say("1", f"under fire {number}")
            world.run(0.05)
    refused = victim.up.engine.drops
    assert refused["signature"] <= FORGERY_BURST + 50, "another port is no other sender"
    assert refused["forgery-budget"] >= 1000
    world.run(2)
    assert_kept(victim, world.routers[1].acknowledged)
    assert_life_goes_on(world)


def test_one_author_s_flood_evicts_only_his_own() -> None:
    world = World(5, cell(4), 4)
    for router in world.routers:
        router.model.limits = StoreLimits(CapLimits(20_000, 200_000, 400_000), 50_000, 1000)
    world.boot(range(3))
    hostile = Hostile(world, 3)
    for number in range(30):
        world.routers[number % 3].say("1", f"honest {number}")
        world.run(0.1)
    for number in range(1000):
        record = hostile.record(f"spam {number}" * 5, make_stamp(world.true_ms, number))
        hostile.throw_at_all(Records((Carried(record.carried),)))
        if number % 50 == 0:
            world.run(0.5)
    assert_life_goes_on(world, 300)
    held = world.routers[0].texts("1")
    assert sum(text.startswith("spam") for text in held) * 200 < 25_000
    assert sum(text.startswith("honest") for text in held) == 30


def test_accounts_and_rooms_without_end_stay_within_their_budget() -> None:
    world = World(6, cell(3), 3)
    for router in world.routers:
        router.model.limits = StoreLimits(CapLimits(100_000, 200_000, 400_000), 20_000, 500)
    world.boot(range(2))
    hostile = Hostile(world, 2)
    used = sign_record(
        world.routers[0].user,
        mesh=MESH,
        space=Space.ACCOUNTS,
        log="",
        kind=Kind.ACCOUNT,
        author="user0",
        router=world.routers[0].up.router,
        stamp=make_stamp(world.true_ms),
        grade=Grade.GOOD,
        body=bytes(100),
    )
    world.routers[0].up.submit(used)
    world.routers[0].say("1", "this account is in use")
    world.run(5)
    for number in range(600):
        hostile.key = SigningKey.from_seed(KeySeed(number.to_bytes(32, "big")))
        stamp = make_stamp(world.true_ms, number)
        account = hostile.record("x" * 93, stamp, room="", kind=Kind.ACCOUNT, space=Space.ACCOUNTS)
        room = hostile.record("", stamp, room=f"room{number}", kind=Kind.ROOM, space=Space.ROOMS)
        hostile.throw_at_all(Records((Carried(account.carried), Carried(room.carried))))
        if number % 50 == 0:
            world.run(0.5)
    world.run(60)
    for router in world.alive():
        kept = [*router.mesh.permanent(Space.ACCOUNTS), *router.mesh.permanent(Space.ROOMS)]
        assert sum(len(record.carried) for record in kept) <= 20_000
        assert used.id in [record.id for record in kept], "an account in use went for one that is not"
        assert router.up.engine.store.remembered <= 1200
    assert_life_goes_on(world)


def test_a_message_in_pieces_arrives_through_a_flood_of_pieces() -> None:
    world, hostile = besieged(7)
    text = "long " * 1600
    world.routers[0].say("1", text)
    for number in range(3000):
        piece = Fragment(bool(number % 2), RecordId(hostile.rng.randbytes(16)), 16_000, 0, 0, bytes(300))
        hostile.throw(world.routers[1], hostile.datagram(piece, piece))
        world.run(0.001)
    assert_kept(world.routers[1], world.routers[0].acknowledged)
    assert_life_goes_on(world)


# --- Requests -------------------------------------------------------------------------------------------


def requests(hostile: Hostile, victim: SimRouter, token: Token) -> list[tuple[Packet, ...]]:
    """What a liar may ask of one router, in datagrams."""
    to = victim.up.router
    ids = tuple(ShortId(hostile.rng.randbytes(SHORT_ID_SIZE)) for _ in range(200))
    few = make_stamp(hostile.world.true_ms)
    return [
        (hostile.some_digest(),),
        tuple(hostile.some_digest(number) for number in range(15)),
        (Ask(AskNonce(hostile.rng.randbytes(8)), hostile.some_digest(0)),),
        (hostile.steps(to, Listed(LOW, END, ids)),),
        tuple(hostile.steps(to, Listed(LOW, END, ids[:1])) for _ in range(25)),
        tuple(hostile.steps(to, Listed(LOW, END, ())) for _ in range(25)),
        (hostile.steps(to, Having(LOW, END, ids)),),
        (hostile.steps(to, Fingerprinted(LOW, END, Summary(3, Fingerprint(bytes(16))))),),
        (hostile.steps(hostile.invented(), Listed(LOW, END, ids[:9])),),
        (Want(to, token, Salt(bytes(8)), (Block(LOW, END, None),) * 400),),
        (Want(to, token, Salt(bytes(8)), (Block(LOW, END, ids[:1]),) * 100),),
        (Want(to, token, Salt(bytes(8)), (Block(LOW, make_position(1, few), ids),)),),
        (Offer(to, AskNonce(hostile.rng.randbytes(8)), NO_TOKEN, 2**32 - 1, 2**32 - 1, 0),),
        (Dump(to, True, LOW, END, ()),),
        (Dump(RouterId(hostile.invented()), False, LOW, END, hostile.forged(1)),),
    ]


@pytest.mark.parametrize("ids", ["one id", "many ids"])
def test_a_flood_of_requests_gains_a_bounded_share_of_the_air(
    ids: str, measured: Callable[[str], None]
) -> None:
    world, hostile = besieged(8)
    began, before = world.now, octets(world)
    for _ in range(400):
        for victim in world.alive():
            asked = hostile.rng.choice(
                requests(hostile, victim, Token(hostile.tokens.get(victim.up.router, bytes(8))))
            )
            sender = hostile.invented() if ids == "many ids" else hostile.id
            hostile.throw(victim, hostile.datagram(*asked, sender=RouterId(sender)))
        world.run(0.05)
        if int(world.now) % 5 == 0:
            world.routers[0].say("1", f"under fire at {world.now:.2f}")
    seconds, sent = world.now - began, octets(world) - before
    share = AIR_RATE / 8 * (REPAIR_SHARE + TALK_SHARE)
    assert sent / seconds / 3 < 1.3 * share
    for router in world.alive():
        assert len(list(router.up.engine.neighbours.alive(router.instant().mono))) <= MAX_NEIGHBOURS
    measured(
        f"{hostile.spent / seconds:.0f} hostile bytes a second ({ids}) made three routers send "
        f"{sent / seconds:.0f}: {sent / hostile.spent:.1f} a byte"
    )
    assert_life_goes_on(world, 120)


@pytest.mark.parametrize("what", ["cells of nothing", "endless promises", "parts without an end"])
def test_a_flood_of_sketches_gains_a_bounded_share_of_the_air(
    what: str, measured: Callable[[str], None]
) -> None:
    world, hostile = besieged(20)
    held = {router.number: len(router.up.engine.store.records) for router in world.alive()}
    began, before = world.now, octets(world)
    for number in range(600):
        for victim in world.alive():
            to = victim.up.router if number % 2 else hostile.id
            if what == "endless promises":
                packet = hostile.sketch(victim, 40, to=to)
            else:
                packet = hostile.noise(to, 90 if number % 3 else 4, 256 if what.startswith("parts") else 90)
            hostile.throw(victim, hostile.datagram(packet, sender=hostile.invented() if number % 5 else None))
        world.run(0.05)
    seconds, sent = world.now - began, octets(world) - before
    measured(f"{what}: made each router send {sent / 1800:.0f} bytes, {sent / hostile.spent:.2f} a byte")
    assert sent / hostile.spent < 1
    assert sent / seconds / 3 < 1.3 * AIR_RATE / 8 * TALK_SHARE
    assert held == {router.number: len(router.up.engine.store.records) for router in world.alive()}
    assert_life_goes_on(world, 120)


def test_records_that_hide_one_another_in_sketches_are_repaired_all_the_same() -> None:
    """Two records of one author with one stamp, ground until their places are equal too."""
    world, hostile = besieged(21)
    world.air.separate([0, 1], [2])
    stamp = make_stamp(world.true_ms - 120_000)
    found: dict[bytes, Record] = {}
    for number in range(10**6):
        record = hostile.record(str(number), stamp)
        twin = found.setdefault(record.id[:2], record)
        if twin is not record:
            break
    for number in range(100):
        world.routers[0].say("1", f"apart {number}")
        world.run(0.1)
    hostile.throw(
        world.routers[0], hostile.datagram(Records((Carried(twin.carried), Carried(record.carried))))
    )
    world.run(30)
    assert_kept(world.routers[1], [twin, record])
    world.air.heal()
    assert_converges(world, 120)
    assert_kept(world.routers[2], [twin, record])
    assert_life_goes_on(world)


def test_changing_fingerprints_gain_a_bounded_share_of_the_air(measured: Callable[[str], None]) -> None:
    world, hostile = besieged(9, routers=5)
    began, before = world.now, octets(world)
    for _ in range(1200):
        hostile.throw_at_all(hostile.some_digest())
        world.run(0.05)
    seconds, sent = world.now - began, octets(world) - before
    measured(
        f"a digest of lies made each router send {sent / 6000:.0f} bytes, {sent / hostile.spent:.1f} a byte"
    )
    assert sent / hostile.spent < 5
    assert sent / seconds / 5 < 1.3 * AIR_RATE / 8 * TALK_SHARE
    assert_life_goes_on(world, 120)


def test_invented_routers_fill_no_memory_and_are_forgotten() -> None:
    world, hostile = besieged(10)
    victim = world.routers[0]
    for number in range(5000):
        digest = hostile.some_digest(echo=victim.up.engine.settings.boot)
        origin = UdpOrigin(f"10.{number % 250}.{number // 250}.1", PORT)
        hostile.throw(victim, hostile.datagram(digest, sender=RouterId(hostile.invented())), origin=origin)
        if number % 100 == 0:
            world.run(0.5)
    assert len(list(victim.up.engine.neighbours.alive(victim.instant().mono))) <= MAX_NEIGHBOURS
    world.routers[1].say("1", "through the crowd")
    world.run(20)
    assert_kept(victim, world.routers[1].acknowledged)
    world.run(NEIGHBOUR_LIFETIME + 60)
    assert len(list(victim.up.engine.neighbours.alive(victim.instant().mono))) == 2
    assert_life_goes_on(world)


@pytest.mark.parametrize("whose", ["the victim's", "a neighbour's"])
def test_another_s_name_on_a_datagram_deceives_for_a_moment_only(whose: str) -> None:
    world, hostile = besieged(11)
    victim, other = world.routers[0], world.routers[1]
    name = victim.up.router if whose == "the victim's" else other.up.router
    for number in range(600):
        lies: Iterable[Packet] = hostile.rng.choice(
            requests(hostile, victim, Token(hostile.tokens.get(victim.up.router, bytes(8))))
        )
        hostile.throw(victim, hostile.datagram(*lies, sender=name))
        world.run(0.05)
        if number % 100 == 0:
            other.say("1", f"under fire {number}")
    if whose == "the victim's":
        assert victim.up.engine.drops["own"] == 600
    assert_life_goes_on(world, 120)


# --- Fetching -------------------------------------------------------------------------------------------


def emptied(world: World, hostile: Hostile, number: int) -> SimRouter:
    """A router that lost its history, which is half a minute of dumps, on a mesh that went on talking."""
    router = world.routers[number]
    router.kill()
    router.lose_logs()
    others = [other for other in world.routers[:3] if other is not router]
    load(others, hostile, 2000, "x" * 300)
    for count in range(20):
        others[count % 2].say("1", f"while it was off {count}")
        world.run(0.05)
    world.run(20)
    assert agree(others)
    return router


def interrupt(world: World) -> None:
    """Router 2 hears only the hostile radio for a while, so that most of a dump that came is lost."""
    world.run(2)
    world.air.separate([2], [0, 1])
    world.run(12)
    world.air.heal()


class Deceiver:
    """Offers more than anybody, under many names, and answers what is asked for as `deliver` likes."""

    def __init__(
        self, hostile: Hostile, victim: int, names: int, deliver: Callable[[bytes, bytes], None]
    ) -> None:
        self.hostile, self.victim, self.deliver = hostile, victim, deliver
        self.names = [hostile.id, *(hostile.invented() for _ in range(names - 1))]
        self.asked = 0
        hostile.answer = self.answer

    def answer(self, router: RouterId, packet: Packet) -> None:
        """An OFFER to each ASK, and to each WANT what `deliver(asker, name)` makes of it."""
        if isinstance(packet, Ask):
            for name in self.names:
                self.say(name, Offer(router, packet.nonce, NO_TOKEN, 2**32 - 1, 2**32 - 1, 0))
        elif isinstance(packet, Want) and packet.to in self.names:
            self.asked += 1
            self.deliver(router, packet.to)

    def say(self, name: bytes, *packets: Packet, after: float = 0.001) -> None:
        """To the victim, after some seconds."""
        world, router = self.hostile.world, self.hostile.world.routers[self.victim]
        data = self.hostile.datagram(*packets, sender=RouterId(name))

        def deliver() -> None:
            if router.node is not None:
                self.hostile.throw(router, data)

        world.at(world.now + after, deliver)


@pytest.mark.parametrize("names", [1, 200])
def test_offers_that_never_deliver_delay_a_restart_by_little(
    names: int, measured: Callable[[str], None]
) -> None:
    world, hostile = besieged(12)
    router = emptied(world, hostile, 2)
    deceiver = Deceiver(hostile, 2, names, lambda asker, name: None)
    router.boot()
    interrupt(world)
    took = assert_converges(world, 240)
    assert deceiver.asked, "nobody believed the offers: this shows nothing"
    hostile.answer = None
    measured(f"with {names} empty offers a restarted router was whole after {took:.0f} s")
    assert_life_goes_on(world)


def drip(
    deceiver: Deceiver, asker: bytes, name: bytes, what: Callable[[int], Packet], count: int = 0
) -> None:
    deceiver.say(name, what(count), after=2.9)
    world = deceiver.hostile.world
    world.at(world.now + 2.9, lambda: drip(deceiver, asker, name, what, count + 1))


@pytest.mark.parametrize("what", ["nothing", "crumbs", "settled slivers", "own records"])
def test_a_source_that_drips_for_ever_is_left_for_another(what: str, measured: Callable[[str], None]) -> None:
    world, hostile = besieged(13)
    router = emptied(world, hostile, 2)
    dripping: set[bytes] = set()

    def drop(number: int) -> Packet:
        low = make_position(0, number)
        if what == "nothing":
            return Dump(router_id, False, Bound(b""), Bound(b""), ())
        if what == "crumbs":
            return Fragment(True, RecordId(hostile.rng.randbytes(16)), 16_000, 0, 0, bytes(300))
        if what == "settled slivers":
            return Dump(router_id, False, low, make_position(0, number + 1), ())
        record = hostile.record(f"drip {number}", make_stamp(world.true_ms))
        return Dump(router_id, False, Bound(b""), Bound(b""), (Carried(record.carried),))

    def deliver(asker: bytes, name: bytes) -> None:
        if name not in dripping:
            dripping.add(name)
            drip(deceiver, asker, name, drop)

    deceiver = Deceiver(hostile, 2, 1, deliver)
    router.boot()
    router_id = router.up.router
    interrupt(world)
    took = assert_converges(world, 900)
    assert dripping, "nobody believed the offers: this shows nothing"
    measured(f"dripping {what}: whole after {took:.0f} s")


@pytest.mark.parametrize("lie", ["a source that is not there", "a token that is not good"])
def test_who_names_other_sources_does_not_lead_a_fetch_astray(
    lie: str, measured: Callable[[str], None]
) -> None:
    world, hostile = besieged(20)
    router = emptied(world, hostile, 2)
    honest = [other.up.router for other in world.alive()]
    everything = (Block(LOW, END, None),)
    named = 0

    def speak(sender: RouterId, packet: Packet) -> None:
        nonlocal named
        if not isinstance(packet, Want | Dump) or router.node is None or named >= 2000:
            return
        named += 1
        source = b"\xff" + hostile.invented()[1:] if lie.startswith("a source") else max(honest)
        origin = UdpOrigin(f"10.9.{named % 200}.1", PORT)
        empty = Dump(RouterId(bytes(8)), False, LOW, LOW, ())
        hostile.throw(router, hostile.datagram(empty, sender=RouterId(source)), origin=origin)
        want = Want(RouterId(source), Token(hostile.rng.randbytes(8)), Salt(bytes(8)), everything)
        hostile.throw(router, hostile.datagram(want, sender=RouterId(hostile.invented())), origin=origin)

    hostile.answer = speak
    router.boot()
    took = assert_converges(world, 120)
    assert named
    measured(f"who names {lie}: whole after {took:.0f} s")


def test_a_source_that_dies_while_people_chat_is_replaced(measured: Callable[[str], None]) -> None:
    """No malice at all: what others say meanwhile is no sign of life of the source."""
    world, hostile = besieged(19)
    router = emptied(world, hostile, 2)
    router.boot()
    world.run(4)
    source = router.up.engine.asking.fetch.source
    giving = next(other for other in world.routers if other.up.router == source)
    staying = world.routers[1 - giving.number]
    giving.kill()
    died = world.now

    def chat() -> None:
        staying.say("1", f"chat at {world.now:.0f}")
        world.at(world.now + 1, chat)

    chat()
    assert world.run(120, until=lambda: len(router.shown) >= 2000)
    measured(f"whole {world.now - died:.0f} s after its source died, while people chatted")


PROMISES = [
    *("records", "records, as many", "a digest", "a digest, as many"),
    *("a sketch", "a sketch, as many"),
]


@pytest.mark.parametrize("promise", PROMISES)
def test_promises_without_end_do_not_keep_two_honest_routers_apart(
    promise: str, measured: Callable[[str], None]
) -> None:
    world, hostile = besieged(14)
    world.air.separate([2], [0, 1, 3])
    for number in range(60):
        world.routers[number % 3].say("1", f"apart {number}")
        world.run(0.1)
    world.run(60)
    world.air.heal()
    talking = True

    def speak() -> None:
        if not talking:
            return
        sender = hostile.invented() if promise.endswith("many") else hostile.id
        for victim in world.alive():
            ids = tuple(ShortId(hostile.rng.randbytes(SHORT_ID_SIZE)) for _ in range(20))
            step: Packet = hostile.steps(victim.up.router, Having(LOW, END, ids))
            if promise.startswith("a sketch"):
                step = hostile.sketch(victim, 20)
            said = hostile.some_digest(10**6) if promise.startswith("a digest") else step
            hostile.throw(victim, hostile.datagram(said, sender=RouterId(sender)))
        world.at(world.now + 0.2, speak)

    speak()
    took = assert_converges(world, 300)
    talking = False
    measured(f"healed in {took:.0f} s under promises of {promise}")
    assert_life_goes_on(world, 120)


def test_a_source_that_claims_all_is_settled_is_not_the_last_word() -> None:
    world, hostile = besieged(15)
    router = emptied(world, hostile, 2)

    def deliver(asker: bytes, name: bytes) -> None:
        deceiver.say(name, Dump(RouterId(asker), True, LOW, END, ()))

    deceiver = Deceiver(hostile, 2, 3, deliver)
    router.boot()
    assert_converges(world, 120)
    assert deceiver.asked, "nobody believed the offers: this shows nothing"
    hostile.answer = None
    assert_life_goes_on(world)


def test_askers_who_take_every_stream_do_not_starve_an_honest_one(measured: Callable[[str], None]) -> None:
    world, hostile = besieged(16)
    router = emptied(world, hostile, 2)
    names = [hostile.invented() for _ in range(4 * MAX_STREAMS)]
    talking = True

    def demand() -> None:
        if not talking:
            return
        for victim in world.routers[:2]:
            token = hostile.tokens.get(victim.up.router, bytes(8))
            name = hostile.rng.choice(names)
            want = Want(victim.up.router, Token(token), Salt(bytes(8)), (Block(LOW, END, None),))
            hostile.throw(victim, hostile.datagram(want, sender=RouterId(name)))
            hostile.throw(
                victim,
                hostile.datagram(Ask(AskNonce(bytes(8)), hostile.some_digest(0)), sender=RouterId(name)),
            )
        world.at(world.now + 0.1, demand)

    demand()
    router.boot()
    took = assert_converges(world, 600)
    talking = False
    measured(f"{len(names)} greedy askers: a restarted router was whole after {took:.0f} s")
    assert_life_goes_on(world)


@pytest.mark.parametrize("addresses", [1, 3])
def test_whoever_talks_all_the_time_does_not_keep_honest_routers_from_talking(
    addresses: int, measured: Callable[[str], None]
) -> None:
    """Every step that a liar asks for is taken from the share of the air for such steps."""
    world, hostile = besieged(20)
    world.air.separate([2], [0, 1, 3])
    for number in range(60):
        world.routers[number % 3].say("1", f"apart {number}")
        world.run(0.1)
    world.run(60)
    world.air.heal()
    talking = True

    def talk() -> None:
        if not talking:
            return
        for victim in world.alive():
            number = hostile.rng.randrange(addresses)
            step = hostile.steps(
                victim.up.router, Fingerprinted(LOW, END, Summary(3, Fingerprint(bytes(16))))
            )
            origin, name = UdpOrigin(f"10.0.1.{number}", PORT), number.to_bytes(8, "big")
            hostile.throw(victim, hostile.datagram(step, sender=RouterId(name)), origin=origin)
        world.at(world.now + 0.02, talk)

    talk()
    took = assert_converges(world, 300)
    talking = False
    measured(f"healed in {took:.0f} s under a flood of steps from {addresses} addresses")
    assert_life_goes_on(world, 120)


def test_no_flood_grows_a_router_beyond_its_tables(measured: Callable[[str], None]) -> None:
    world, hostile = besieged(21)
    victim = world.routers[0]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(2500):
        rng = hostile.rng
        match number % 5:
            case 0:
                ahead = make_stamp(world.true_ms + 86_400_000 + number)
                lie: tuple[Packet, ...] = (Records((Carried(hostile.record("x" * 1100, ahead).carried),)),)
            case 1:
                lie = (Fragment(False, RecordId(rng.randbytes(16)), 16_384, 0, 0, bytes(1000)),)
            case 2:
                lie = (hostile.some_digest(), Ask(AskNonce(rng.randbytes(8)), hostile.some_digest()))
            case 3:
                lie = (Records(hostile.forged(2)),)
            case _:
                lie = rng.choice(
                    requests(hostile, victim, Token(hostile.tokens.get(victim.up.router, bytes(8))))
                )
        host = f"10.{rng.randrange(200)}.{rng.randrange(200)}.1"
        origin = UdpOrigin(host, rng.randrange(65_536))
        hostile.throw(victim, hostile.datagram(*lie, sender=RouterId(hostile.invented())), origin=origin)
        if number % 100 == 0:
            hostile.overheard.clear()
            world.run(0.2)
    hostile.overheard.clear()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 12_000_000
    measured(f"a flood of everything took {(peak - before) / 1e6:.1f} MB")
    assert_life_goes_on(world, 300)


# --- A mesh with a key ----------------------------------------------------------------------------------


def test_replays_on_a_mesh_with_a_key_gain_next_to_nothing(measured: Callable[[str], None]) -> None:
    world = World(17, cell(4), 4)
    for router in world.routers:
        StateStore(router.state).save_mesh_keys((MESH_KEY,))
    for number in (1, 2):
        world.routers[number].model.clock.good = False
        world.routers[number].model.clock.offset_ms = -(10**12)
    world.boot(range(3))
    hostile = Hostile(world, 3)
    for number in range(40):
        world.routers[number % 3].say("1", f"secret {number}")
        world.run(0.5)
    world.routers[2].kill()
    world.routers[2].lose_logs()
    world.routers[2].boot()
    world.run(60)
    old = list(hostile.overheard)
    assert not any(b"secret" in data for data in old)
    world.run(7200)
    world.routers[0].stop()
    # A router that starts alone, without a clock, while somebody plays it all it once heard.
    world.air.separate([1], [0, 2])
    world.routers[1].kill()
    world.routers[1].boot()
    world.run(5)
    alone = world.routers[1]
    clock, before, sent = alone.mesh.now_ms() - int(world.now * 1000), world.air.octets[1], 0
    for data in old[:3000]:
        hostile.throw(alone, data)
        sent += 1
        world.run(0.05)
    assert abs(alone.mesh.now_ms() - int(world.now * 1000) - clock) < 1000, "a replay moved the clock"
    per_replay = (world.air.octets[1] - before) / sent
    measured(f"each replayed datagram made a restarted router send {per_replay:.0f} bytes")
    assert per_replay < 200
    before_again = world.air.octets[1]
    for data in old[:3000]:
        hostile.throw(alone, data)
    world.run(5)
    assert world.air.octets[1] - before_again < 2000, "a second replay is heard again"
    world.air.heal()
    world.boot([0])
    assert_life_goes_on(world, 240)


# --- Time -----------------------------------------------------------------------------------------------


def costly(hostile: Hostile, victim: SimRouter) -> dict[str, bytes]:
    """Datagrams that are as much work as one can think of."""
    to, token = victim.up.router, hostile.tokens.get(victim.up.router, bytes(8))
    ids = tuple(ShortId(hostile.rng.randbytes(SHORT_ID_SIZE)) for _ in range(220))
    now = make_stamp(hostile.world.true_ms)
    cuts = [LOW, *(make_position(1, now - (number << 32)) for number in range(45, 0, -1)), END]
    parts = tuple(
        Fingerprinted(Bound(low), Bound(high), Summary(1, Fingerprint(bytes(16))))
        for low, high in pairwise(cuts)
    )
    made: dict[str, Iterable[Packet]] = {
        "lists over all": [hostile.steps(to, Listed(LOW, END, ids[:1]))] * 28,
        "one long list over all": [hostile.steps(to, Listed(LOW, END, ids))],
        "having over all": [hostile.steps(to, Having(LOW, END, ids[:1]))] * 28,
        "overheard lists": [hostile.steps(hostile.id, Listed(LOW, END, ids[:1]))] * 28,
        "fingerprints of all": [
            hostile.steps(to, Fingerprinted(LOW, END, Summary(1, Fingerprint(bytes(16)))))
        ]
        * 20,
        "many fingerprints": [hostile.steps(to, *parts)],
        "wanted over all": [Want(to, Token(token), Salt(bytes(8)), (Block(LOW, END, ids[:1]),) * 120)],
        "everything, often": [Want(to, Token(token), Salt(bytes(8)), (Block(LOW, END, None),) * 450)],
        "cells of nothing": [hostile.noise(to, 90, 90)],
        "overheard cells of nothing": [hostile.noise(hostile.id, 90, 90)],
        "the first of many cells, often": [hostile.noise(to, 1, 1) for _ in range(20)],
        "cells that promise much": [hostile.sketch(victim, 50)],
        "digests": [hostile.some_digest(number) for number in range(16)],
        "asks": [Ask(AskNonce(bytes(8)), hostile.some_digest(number)) for number in range(14)],
        "forgeries": [Records(hostile.forged(7))],
        "crumbs": [
            Fragment(False, RecordId(bytes(16)), 16_384, 16_383 - number, 0, b"x") for number in range(50)
        ],
    }
    return {name: hostile.datagram(*packets) for name, packets in made.items()}


def test_no_datagram_is_more_work_than_a_twentieth_of_a_second(measured: Callable[[str], None]) -> None:
    world, hostile = besieged(18)
    victim = world.routers[0]
    load([victim], hostile, 20_000)
    world.routers[1].stop()
    world.routers[2].stop()
    world.run(10)
    worst: dict[str, float] = {}
    for name in costly(hostile, victim):
        best = 1.0
        for _ in range(3):
            world.run(10)
            data = costly(hostile, victim)[name]
            began = time.process_time()
            hostile.throw(victim, data)
            best = min(best, time.process_time() - began)
        worst[name] = best
    name = max(worst, key=lambda one: worst[one])
    measured(f"the costliest datagram to 20,000 records: {worst[name] * 1000:.0f} ms ({name})")
    assert worst[name] < 0.05, worst


def load(routers: Iterable[SimRouter], hostile: Hostile, count: int, text: str = "") -> None:
    """So many records of fifty authors into some routers, as from a neighbour's dump."""
    keys = [SigningKey.from_seed(KeySeed(number.to_bytes(32, "big"))) for number in range(50)]
    own, records = hostile.key, []
    for number in range(count):
        hostile.key = keys[number % 50]
        stamp = make_stamp(hostile.world.true_ms - 2_000_000 + number * 50)
        records.append(Carried(hostile.record(f"{number} {text}", stamp, room=str(number % 4)).carried))
    hostile.key = own
    for at in range(0, count, 20):
        data = hostile.datagram(
            Dump(RouterId(bytes(8)), False, Bound(b""), Bound(b""), tuple(records[at : at + 20]))
        )
        for router in routers:
            router.up.receive(data, "wlan0", ("10.9.9.9", PORT))
