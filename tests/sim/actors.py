"""Hostile routers of the seeded runs: each act goes on, a few times a second, until it is told to end.

The tests of `test_hostile` aim at one rule at a time; these are here to be in the way while all else happens.
"""

from collections.abc import Callable
from random import Random

from meshchat.errors import Malformed
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import Token
from meshchat.wire.packets import Ask, Carried, Offer, Packet, Records, Want, decode_packets
from meshchat.wire.records import Grade, make_stamp
from tests.sim.world import Stranger, World

_REMEMBERED = 500
_FLOOD = 300
"""Messages of one flood: beyond that it only fills everybody's disk, and the run takes long."""


class Villain(Stranger):
    """A radio at a place whose router stays off. It hears what its neighbours send."""

    def __init__(self, world: World, number: int, seed: int) -> None:
        super().__init__(world, number)
        self.rng = Random(seed)
        self._heard: list[tuple[int, bytes]] = []
        self._acts: dict[str, Callable[[], None]] = {
            "forge": self._forge,
            "replay": self._replay,
            "garble": self._garble,
            "lie": self._lie,
            "promise": self._promise,
            "flood": self._flood,
        }
        self._acting = 0
        self._promising = False
        self._left = 0
        world.taps.append(self._hear)

    def begin(self, act: str) -> None:
        """Does this from now on, in place of what it did before."""
        self._acting += 1
        self._promising = act == "promise"
        self._left = _FLOOD
        self._go_on(self._acting, act)

    def end(self) -> None:
        """Does no more."""
        self._acting += 1
        self._promising = False

    def _go_on(self, acting: int, act: str) -> None:
        if acting == self._acting:
            self._acts[act]()
            self.world.at(self.world.now + self.rng.uniform(0.05, 0.5), self._go_on, acting, act)

    def _hear(self, sender: int, data: bytes) -> None:
        if sender == self.number or self.number not in self.world.air.hears(sender):
            return
        self._heard.append((sender, data))
        del self._heard[:-_REMEMBERED]
        if self._promising:
            for packet in _packets(data):
                if isinstance(packet, Ask | Want):
                    self._answer(sender, packet)

    def _throw(self, data: bytes) -> None:
        self.world.transmit(self.number, None, data)

    # --- Acts -------------------------------------------------------------------------------------------

    def _forge(self) -> None:
        """Records in another's name, with a signature that does not hold."""
        record = self.record(f"never said {self.rng.random()}", make_stamp(self.world.true_ms))
        self.send(Records((Carried(record.carried[:-1] + bytes((record.carried[-1] ^ 1,))),)))

    def _replay(self) -> None:
        """What it heard, again, in whatever order."""
        if self._heard:
            self._throw(self.rng.choice(self._heard)[1])

    def _garble(self) -> None:
        """What it heard, with bytes changed or missing."""
        if self._heard:
            data = bytearray(self.rng.choice(self._heard)[1])
            for _ in range(self.rng.randint(1, 4)):
                data[self.rng.randrange(len(data))] = self.rng.randrange(256)
            self._throw(bytes(data[: self.rng.randint(1, len(data))]))

    def _lie(self) -> None:
        """Digests of sets that nobody has, of a clock and a floor that nobody has.

        Far from the truth only where everybody has a clock to trust: a router that follows such a claim, for
        want of a better one, stamps its messages so that the others show them when that time comes.
        """
        trusted = all(router.model.clock.good for router in self.world.alive())
        ahead = self.rng.choice((-10, 0, 1, 400, 100_000) if trusted else (0,)) * 86_400_000
        floor = self.world.true_ms + self.rng.choice((-(10**8), 0, 10**8))
        self.send(self.digest(Grade.GOOD, max(0, self.world.true_ms + ahead), floor_ms=floor))

    def _promise(self) -> None:
        """Digests of an empty set, so that others talk to it; what they ask is answered by `_answer`."""
        self.send(self.digest(Grade.UNKNOWN, self.world.true_ms))

    def _answer(self, sender: int, packet: Ask | Want) -> None:
        """Promises much to who asks, and never gives it."""
        if isinstance(packet, Ask):
            router = self.world.routers[sender].node
            if router is not None:
                self._later(Offer(router.router, packet.nonce, Token(bytes(8)), 10**6, 10**9, 0), sender)
        elif packet.to == self.id and self._heard:
            self._replay()

    def _later(self, packet: Packet, to: int) -> None:
        self.world.at(self.world.now + 0.01, lambda: self.send(packet, to=to))

    def _flood(self) -> None:
        """Many messages of its own, signed as they should be."""
        for _ in range(min(self._left, self.rng.randint(1, 8))):
            self._left -= 1
            stamp = make_stamp(self.world.true_ms, self.rng.randrange(1000))
            self.send(Records((Carried(self.record("x" * self.rng.randint(1, 800), stamp).carried),)))


def _packets(data: bytes) -> list[Packet]:
    """The packets of an open datagram, as far as it goes."""
    found: list[Packet] = []
    try:
        datagram = decode_datagram(data)
        if isinstance(datagram, PlainDatagram):
            found.extend(one for one in decode_packets(datagram.packets) if not isinstance(one, int))
    except Malformed:
        return found
    return found
