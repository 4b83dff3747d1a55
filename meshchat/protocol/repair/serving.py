"""Serving: OFFERs to who starts or lags, and the dumps that were asked for."""

from collections.abc import Callable, Sequence

from meshchat.constants import NEIGHBOUR_FRESH, OFFER_JITTER
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import LinkDue, NeighbourDue, OfLink, OfNeighbour
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.repair.digests import Digests
from meshchat.state.neighbour import Neighbour
from meshchat.wire.ids import NOBODY, Position, Token
from meshchat.wire.packets import Ask, Offer, Scope, Want
from meshchat.wire.records import make_position

DIGEST_JITTER = 0.150
"""Longest random wait before a digest answers an ASK: many neighbours heard it at once."""

DUMP_GATHER = 0.03
"""A source waits so long before a dump, in case another neighbour wants the same."""

PUSH_TO_ALL = 3
"""From so many neighbours on, a few missing records are pushed by multicast: others lack them too."""

MAX_SOURCES = 4.0
"""A source shares the air with others, of whom it knows by who says to be fetching; no lie leaves it less
than a quarter of its share."""


class Serving:
    """What this router gives to others. Each method takes the time and leaves its outputs in the context."""

    def __init__(
        self,
        context: Context,
        digests: Digests,
        may_answer: Callable[[Neighbour, Instant], bool],
    ) -> None:
        """`may_answer` takes from the budget of answers to a neighbour's origin."""
        self._context, self._digests, self._may_answer = context, digests, may_answer

    def on_ask(self, neighbour: Neighbour, ask: Ask, link: Link, now: Instant) -> None:
        """A neighbour starts or lags: offer what it lacks, or say that all agrees."""
        if not self._may_answer(neighbour, now):
            return
        self._digests.note(neighbour, ask.digest, now)
        link.dumps.cancel(neighbour.router)
        _, spans = self._digests.compare(ask.digest, now)
        theirs = ask.digest.undated.count + ask.digest.history.count
        if spans and self._digests.count(now) > theirs and not self._digests.is_fetching(now):
            neighbour.as_asker.asked = ask.nonce
            self._context.soon(
                OfNeighbour(NeighbourDue.OFFER, link.name, neighbour.router), now.mono, OFFER_JITTER
            )
        else:
            self._context.soon(OfLink(LinkDue.DIGEST, link.name), now.mono, DIGEST_JITTER)

    def send_offer(self, link: Link, neighbour: Neighbour, now: Instant) -> None:
        """Offers a neighbour that asked all that is held here."""
        if neighbour.as_asker.asked is None:
            return
        size = self._context.store.bytes_held
        token, streams = self._digests.token(now), len(link.dumps)
        offer = Offer(
            neighbour.router, neighbour.as_asker.asked, token, self._digests.count(now), size, streams
        )
        self._context.send(link, [offer], neighbour.origin)

    def on_want(self, neighbour: Neighbour, want: Want, link: Link, now: Instant) -> bool:
        """A neighbour asks for records. Whether it may."""
        if not self._takes(want.token, neighbour, now):
            self._context.drops["token"] += 1
            return False
        if not self._may_answer(neighbour, now):
            return False
        neighbour.as_asker.wants(want.token, now.mono)
        if not want.blocks:
            link.dumps.cancel(neighbour.router)
            return True
        ceiling = make_position(1, self._context.extent.ceiling(now))
        origin = neighbour.origin
        if link.dumps.request(neighbour.router, origin, want.blocks, want.salt, ceiling, now.mono):
            neighbour.as_asker.gave(something=link.dumps.has_something_for(neighbour.router))
            self._context.timers.set_if_unset(OfLink(LinkDue.DUMP, link.name), now.mono + DUMP_GATHER)
        return True

    def _takes(self, token: Token, neighbour: Neighbour, now: Instant) -> bool:
        """Whether a WANT is no recording; a token goes on to be good while its owner goes on to use it."""
        return neighbour.as_asker.is_in_use(token, now.mono) or self._digests.knows_token(token, now)

    def send_dump(self, link: Link, now: Instant) -> None:
        """The next datagram of the dumps on a link, when the repair share of the air allows it."""
        wait = max(link.air.repair.ready_in(now.mono), link.dumps.ready_in(now.mono))
        outgoing = None if wait else link.dumps.next(self._context.capacity(link), now)
        if outgoing is not None:
            size = self._context.send(link, [outgoing.packet], outgoing.origin)
            link.air.repair.spend(now.mono, size * self._sources(link, now))
            outgoing.pace.spend(now.mono, size)
        if len(link.dumps):
            wait = max(link.air.repair.ready_in(now.mono), link.dumps.ready_in(now.mono))
            self._context.timers.set(OfLink(LinkDue.DUMP, link.name), now.mono + wait)

    def _sources(self, link: Link, now: Instant) -> float:
        """How many send dumps here, as far as one can know: they share what one alone may take.

        Who says that it is fetching, and is served by another, has another source.
        """
        others = sum(
            neighbour.said.digest is not None
            and bool(neighbour.said.digest.scope & Scope.FETCHING)
            and now.mono - neighbour.said.at < NEIGHBOUR_FRESH
            and not link.dumps.serves(neighbour.router)
            for neighbour in self._context.neighbours.alive(now.mono, link.name)
        )
        return min(1.0 + others / max(1, len(link.dumps)), MAX_SOURCES)

    def push(self, neighbour: Neighbour, positions: Sequence[Position], link: Link, now: Instant) -> None:
        """Sends a few records to a neighbour that was seen to lack them, where there are any."""
        if not positions:
            return
        neighbour.as_asker.gave()
        many = (
            link.profile.is_broadcast
            and len(self._context.neighbours.around(now.mono, link.name)) >= PUSH_TO_ALL
        )
        if many:
            link.dumps.push(NOBODY, None, positions)
        else:
            link.dumps.push(neighbour.router, neighbour.origin, positions)
        self._context.timers.set_if_unset(OfLink(LinkDue.DUMP, link.name), now.mono)
