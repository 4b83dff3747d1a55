"""The giver's side: OFFERs to who starts or lags, and the dumps that were asked for."""

from collections.abc import Callable, Sequence

from meshchat.constants import (
    DIGEST_JITTER,
    DUMP_GATHER,
    MAX_SOURCES,
    NEIGHBOUR_FRESH,
    OFFER_JITTER,
    PUSH_TO_ALL,
    TOKEN_EPOCH,
)
from meshchat.protocol.instant import Instant
from meshchat.protocol.keeper import Keeper
from meshchat.protocol.port import Desk, Port
from meshchat.protocol.source import NOBODY
from meshchat.protocol.standing import Standing
from meshchat.state.neighbours import Neighbour, Neighbours
from meshchat.wire.packets import Ask, Offer, Scope, Want
from meshchat.wire.records import position


class Giver:
    """What this router gives to others. Each method takes the time and leaves its outputs on the desk."""

    def __init__(
        self,
        desk: Desk,
        keeper: Keeper,
        neighbours: Neighbours,
        standing: Standing,
        router: bytes,
        may_answer: Callable[[Neighbour, Instant], bool],
    ) -> None:
        """`may_answer` takes from the budget of answers to a neighbour's address."""
        self._desk, self._keeper, self._neighbours = desk, keeper, neighbours
        self._standing, self._router, self._may_answer = standing, router, may_answer

    def on_ask(self, neighbour: Neighbour, ask: Ask, port: Port, now: Instant) -> None:
        """A neighbour starts or lags: offer what it lacks, or say that all agrees."""
        if not self._may_answer(neighbour, now):
            return
        self._standing.note(neighbour, ask.digest, now)
        port.source.cancel(neighbour.router)
        _, spans = self._standing.compare(ask.digest, now)
        theirs = ask.digest.undated.count + ask.digest.history.count
        if spans and self._standing.count(now) > theirs and not self._standing.is_fetching(now):
            neighbour.asked = ask.nonce
            self._desk.soon(("offer", port.name, neighbour.router), now.mono, OFFER_JITTER)
        else:
            self._desk.soon(("digest", port.name), now.mono, DIGEST_JITTER)

    def send_offer(self, port: Port, neighbour: Neighbour, now: Instant) -> None:
        """Offers a neighbour that asked all that is held here."""
        size = self._keeper.store.bytes_held
        token, streams = self._standing.token(now), len(port.source)
        offer = Offer(neighbour.router, neighbour.asked, token, self._standing.count(now), size, streams)
        self._desk.send(port, [offer], neighbour.address)

    def on_want(self, neighbour: Neighbour, want: Want, port: Port, now: Instant) -> bool:
        """A neighbour asks for records. Whether it may."""
        if not self._takes(want.token, neighbour, now):
            self._keeper.drops["token"] += 1
            return False
        if not self._may_answer(neighbour, now):
            return False
        neighbour.want_token, neighbour.wanted_at = want.token, now.mono
        if not want.blocks:
            port.source.cancel(neighbour.router)
            return True
        ceiling = position(1, self._keeper.ceiling(now))
        address = neighbour.address
        if port.source.request(neighbour.router, address, want.blocks, want.salt, ceiling, now.mono):
            neighbour.gave = port.source.has_something_for(neighbour.router)
            self._desk.timers.set_if_unset(("dump", port.name), now.mono + DUMP_GATHER)
        return True

    def _takes(self, token: bytes, neighbour: Neighbour, now: Instant) -> bool:
        """Whether a WANT is no recording; a token goes on to be good while its owner goes on to use it."""
        is_in_use = token == neighbour.want_token and now.mono - neighbour.wanted_at < TOKEN_EPOCH
        return is_in_use or self._standing.knows_token(token, now)

    def send_dump(self, port: Port, now: Instant) -> None:
        """The next datagram of the dumps on a port, when the repair share of the air allows it."""
        wait = max(port.repair.ready_in(now.mono), port.source.ready_in(now.mono))
        outgoing = None if wait else port.source.next(self._desk.capacity(port), now)
        if outgoing is not None:
            size = self._desk.send(port, [outgoing.packet], outgoing.address)
            port.repair.spend(now.mono, size * self._sources(port, now))
            outgoing.pace.spend(now.mono, size)
        if len(port.source):
            wait = max(port.repair.ready_in(now.mono), port.source.ready_in(now.mono))
            self._desk.timers.set(("dump", port.name), now.mono + wait)

    def _sources(self, port: Port, now: Instant) -> float:
        """How many send dumps here, as far as one can know: they share what one alone may take.

        Who says that it is fetching, and is served by another, has another source.
        """
        others = sum(
            neighbour.digest is not None
            and bool(neighbour.digest.scope & Scope.FETCHING)
            and now.mono - neighbour.digest_at < NEIGHBOUR_FRESH
            and not port.source.serves(neighbour.router)
            for neighbour in self._neighbours.alive(now.mono, port.name)
        )
        return min(1.0 + others / max(1, len(port.source)), MAX_SOURCES)

    def push(self, neighbour: Neighbour, places: Sequence[bytes], port: Port, now: Instant) -> None:
        """Sends a few records to a neighbour that was seen to lack them, where there are any."""
        if not places:
            return
        neighbour.gave = True
        many = not port.is_peer and len(self._neighbours.around(now.mono, port.name)) >= PUSH_TO_ALL
        if many:
            port.source.push(NOBODY, None, places)
        else:
            port.source.push(neighbour.router, neighbour.address, places)
        self._desk.timers.set_if_unset(("dump", port.name), now.mono)
