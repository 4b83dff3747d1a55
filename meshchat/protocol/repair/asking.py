"""Asking: ASK-FILE, naming one source, and seeing the fetch through."""

from collections.abc import Sequence
from dataclasses import replace

from meshchat.constants import MAX_MTU, MAX_STREAMS, OFFER_WAIT, RANGES_JITTER, WANT_RETRY
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import LinkDue, NeighbourDue, OfLink, OfNeighbour, RouterDue
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.repair.digests import Digests
from meshchat.protocol.repair.fetch import Fetch, FetchState, Order
from meshchat.protocol.repair.offers import Candidate
from meshchat.protocol.repair.reconcile import all_but_mine, lacking, window_below
from meshchat.protocol.repair.spans import Spans
from meshchat.state.neighbour import Neighbour
from meshchat.wire.ids import (
    ASK_NONCE_SIZE,
    NO_TOKEN,
    ROUTER_ID_SIZE,
    SALT_SIZE,
    SHORT_ID_SIZE,
    SKETCH_KEY_SIZE,
    AskNonce,
    Position,
    Salt,
    Span,
    Token,
)
from meshchat.wire.packets import PACKET_HEADER, Ask, Block, BySketchKey, Dump, Offer, Want, Wanted

DUMP_MIN_SHARE = 0.5
"""An asker that holds less than this share of what a source offers takes a dump; else it narrows."""

OWN_SHARE = 0.125
"""An asker that holds less than this share of what a source offers does not say what is to be left out: that
would save little, and what is left out for one cannot serve another that asks for all."""

_BLOCK_FIELDS = 2 * 26 + 1 + 2
WANT_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 8 + SALT_SIZE


def _pause(link: Link) -> float:
    """How long, in seconds, a source that serves many may be silent, if it is as slow as this router."""
    return 2 * MAX_STREAMS * MAX_MTU / link.air.repair.rate


def _cut(wanted: Wanted, room: int) -> Wanted | None:
    """As much of a block as `room` bytes hold; None where that is nothing, or it cannot be cut.

    A neighbour with a larger MTU lists more than one WANT holds: the rest is asked for when this has come.
    """
    if len(wanted.encode()) <= room:
        return wanted
    if isinstance(wanted, BySketchKey):
        fitting = max(0, room - len(BySketchKey(()).encode())) // SKETCH_KEY_SIZE
        return BySketchKey(wanted.keys[:fitting]) if fitting else None
    fitting = max(0, room - len(Block(wanted.low, wanted.high, ()).encode())) // SHORT_ID_SIZE
    return Block(wanted.low, wanted.high, wanted.ids[:fitting]) if wanted.ids and fitting else None


class Asking:
    """What this router fetches. Each method takes the time and leaves its outputs in the context."""

    def __init__(
        self,
        context: Context,
        digests: Digests,
        fetch: Fetch,
    ) -> None:
        self.fetch = fetch
        self._blocked_until = -1e9
        self._context, self._digests = context, digests

    def may_begin(self, neighbour: Neighbour, now: Instant) -> bool:
        """Whether something new may be begun with a neighbour: no dump is coming in, and all is well."""
        return not (self.fetch.choosing or self.fetch.busy(now.mono) or self._is_barred(neighbour, now))

    def _is_barred(self, neighbour: Neighbour, now: Instant) -> bool:
        return now.mono < max(self._blocked_until, neighbour.as_source.shunned_until)

    def ask(self, link: Link, now: Instant) -> None:
        """Asks the neighbours on a link for what is missing, a few times until somebody answered."""
        if not link.asks.take():
            return
        wait = link.asks.next_in
        if wait is not None:
            self._context.timers.set(OfLink(LinkDue.ASK, link.name), now.mono + wait)
        if self.fetch.choosing or self.fetch.busy(now.mono) or now.mono < self._blocked_until:
            return
        nonce = None if self.fetch.state is FetchState.IDLE else self.fetch.offers.nonce
        if nonce is None:
            nonce = AskNonce(self._context.random.randbytes(ASK_NONCE_SIZE))
            self.fetch.ask(nonce)
        self._context.send(link, [Ask(nonce, self._digests.digest(link, now))])

    def on_offer(self, neighbour: Neighbour, offer: Offer, link: Link, now: Instant) -> None:
        """A neighbour offers; the choice is made a moment after the first one."""
        if offer.to != self._context.router or now.mono < neighbour.as_source.shunned_until:
            return
        neighbour.as_source.said_token(offer.token, now.mono)
        if offer.nonce == self.fetch.offers.nonce:
            neighbour.said.showed_life()
        if self.fetch.offered(
            Candidate(neighbour.router, link.name, neighbour.origin, offer, neighbour.reception.loss)
        ):
            self._context.timers.set(RouterDue.CHOOSE, now.mono + OFFER_WAIT)

    def choose(self, now: Instant) -> None:
        """Names one source: for a dump where little is held here, else to narrow the difference with it."""
        best, link, neighbour = self._best_offer()
        if best is None or link is None or neighbour is None or now.mono < self._blocked_until:
            self._finish(now)
        elif rest := self._rest(now):
            self._fetch_from(best, link, neighbour, rest, now)
        elif self._digests.count(now) >= DUMP_MIN_SHARE * best.offer.records:
            self.fetch.end(now.mono)
            self._context.soon(
                OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router), now.mono, RANGES_JITTER
            )
        else:
            self._fetch_from(best, link, neighbour, self._context.extent.spans(now), now)

    def _rest(self, now: Instant) -> list[Span]:
        """What a fetch that broke off had left, as far as this router speaks for it."""
        rest = Spans(self.fetch.resume(now.mono))
        return [part for span in self._context.extent.spans(now) for part in rest.common(*span)]

    def _best_offer(self) -> tuple[Candidate, Link, Neighbour] | tuple[None, None, None]:
        """The best offer left whose neighbour can still be reached."""
        while (best := self.fetch.offers.take_best()) is not None:
            neighbour = self._context.neighbours.get(best.router, best.link)
            link = self._context.links.get(best.link)
            if neighbour is not None and link is not None:
                return best, link, neighbour
        return None, None, None

    def _fetch_from(
        self, source: Candidate, link: Link, neighbour: Neighbour, spans: Sequence[Span], now: Instant
    ) -> None:
        """All of the spans, from one that offered."""
        blocks = tuple(Block(low, high, None) for low, high in spans)
        order = Order(source.router, source.link, source.offer.token, self._digests.salt(), blocks)
        has_some = self._digests.count(now) >= OWN_SHARE * source.offer.records
        self._begin(order, link, now, may_leave_out=has_some)
        self._send_want(link, neighbour, now)

    def want(
        self,
        neighbour: Neighbour,
        link: Link,
        token: Token,
        salt: Salt,
        blocks: Sequence[Wanted],
        now: Instant,
    ) -> None:
        """Fetches the blocks, unless another neighbour is being fetched from or the disk takes nothing."""
        order = Order(neighbour.router, link.name, token, salt, tuple(self._allowed(blocks, now)))
        if self._is_barred(neighbour, now) or not order.blocks or self.fetch.choosing:
            return
        if self.fetch.busy(now.mono) or self.is_source(neighbour, link):
            self.fetch.queue(order)
            return
        self.fetch.later.clear()
        self._stop_source(now)
        self._begin(order, link, now)
        self._send_want(link, neighbour, now)

    def overheard(self, want: Want, link: Link, now: Instant) -> None:
        """Another router names its source: for whole ranges this one takes the same, which multicasts."""
        if not any(isinstance(block, Block) and block.ids is None and not block.but for block in want.blocks):
            return
        source = self._context.neighbours.get(want.to, link.name)
        if source is None or self._is_barred(source, now) or not self.fetch.others_name(want.to, link.name):
            return
        proof, spans = source.as_source.proof(now.mono), list(self.fetch.outstanding.spans)
        token = want.token if proof == NO_TOKEN else proof
        blocks = tuple(Block(low, high, None) for low, high in spans)
        self._stop_source(now)
        order = Order(want.to, link.name, token, self._digests.salt(), blocks)
        self.fetch.join(order, now.mono, _pause(link))
        self._look_for_mine()
        self._send_want(link, source, now)

    def _begin(self, order: Order, link: Link, now: Instant, *, may_leave_out: bool = True) -> None:
        self.fetch.begin(order, now.mono, _pause(link))
        if may_leave_out:
            self._look_for_mine()

    def _look_for_mine(self) -> None:
        held = self._context.store.records.count
        if any(held(low, high) for low, high in self.fetch.outstanding.spans):
            self.fetch.leave_out_mine()

    def _allowed(self, blocks: Sequence[Wanted], now: Instant) -> list[Wanted]:
        """The blocks less what this router would refuse: what lies below its horizon or in the future."""
        allowed: list[Wanted] = []
        for block in blocks:
            if isinstance(block, BySketchKey) or block.ids is not None:
                allowed.append(block)
                continue
            for low, high in self._context.extent.spans(now):
                begin, end = max(low, block.low), min(high, block.high)
                if begin < end:
                    allowed.append(Block(begin, end, None))
        return allowed

    def _send_want(self, link: Link, neighbour: Neighbour, now: Instant) -> None:
        order = self.fetch.order
        if order is None:
            return
        room = self._context.capacity(link) - WANT_FIELDS
        chosen: list[Wanted] = []
        for wanted in self.fetch.outstanding.blocks():
            block = _cut(
                self._less_mine(wanted, order.salt, max(0, room - _BLOCK_FIELDS) // SHORT_ID_SIZE), room
            )
            if block is None:
                break
            chosen.append(block)
            room -= len(block.encode())
        if not chosen:
            self._finish(now)
            return
        neighbour.as_source.shows(order.token)
        want = Want(neighbour.router, order.token, order.salt, tuple(chosen))
        # Heard by others that fetch, they take the same source.
        self._context.send(link, [want], None if self.fetch.is_shareable else neighbour.origin)
        self.fetch.progress.asked(now.mono)
        self._context.timers.set(RouterDue.FETCH, self.fetch.progress.retry_at)

    def _less_mine(self, wanted: Wanted, salt: Salt, most: int) -> Wanted:
        """The block less at most so many records that were here when the fetch began."""
        if not self.fetch.leaves_out:
            return wanted
        block = all_but_mine(self._context.store.records, wanted, salt, most)
        if isinstance(block, Block):
            self.fetch.window.asked(block)
        return block

    def is_source(self, neighbour: Neighbour, link: Link) -> bool:
        """Whether a dump from this neighbour is awaited."""
        return self.fetch.active and self.fetch.is_from(neighbour.router, link.name)

    def received(self, position: Position, size: int, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """A record of `size` bytes arrived as a repair, from whomever: it is not wanted any more."""
        if self.fetch.active:
            self.fetch.received(position, size, now.mono, from_source=self.is_source(neighbour, link))

    def is_asked_for(self, neighbour: Neighbour, link: Link, now: Instant) -> bool:
        """Whether records from this neighbour answer something that this router said."""
        return neighbour.as_source.answers(now.mono) or self.is_source(neighbour, link)

    def strike(self, position: Position) -> None:
        """A record is not to be asked for. Of a range that is coming in it is not struck off: a WANT would
        have to name each hole.
        """
        if self.fetch.active:
            self.fetch.outstanding.strike(position)

    def on_dump(self, neighbour: Neighbour, dump: Dump, link: Link, now: Instant) -> None:
        """A dump's datagram, after its records were taken in."""
        if not self.is_source(neighbour, link):
            if dump.to == self._context.router and dump.low < dump.high:
                self._stop(neighbour, link, now)
            return
        is_time = self.fetch.heard(dump, now.mono)
        is_through = dump.last and dump.to == self._context.router
        if not self.fetch.outstanding.blocks() or (is_through and self.fetch.is_by_sketch_key):
            self._finish(now)
        elif is_through:
            self._next_round(neighbour, link, now)
        elif is_time:
            self._send_want(link, neighbour, now)

    def _source(self) -> tuple[Neighbour, Link] | tuple[None, None]:
        """The source of the fetch under way and its link, where both can still be reached."""
        order = self.fetch.order
        if order is not None:
            neighbour, link = (
                self._context.neighbours.get(order.router, order.link),
                self._context.links.get(order.link),
            )
            if neighbour is not None and link is not None:
                return neighbour, link
        return None, None

    def _stop(self, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """Tells one who still sends a dump that nothing of it is wanted any more: a WANT of nothing."""
        token = neighbour.as_source.stop(now.mono)
        if token is not None:
            want = Want(neighbour.router, token, self._digests.salt(), ())
            self._context.send(link, [want], neighbour.origin)

    def _stop_source(self, now: Instant) -> None:
        """Another source takes over."""
        neighbour, link = self._source()
        if self.fetch.active and neighbour and link:
            self._stop(neighbour, link, now)

    def check_fetch(self, now: Instant) -> None:
        """The fetch's timer: asks again, or another source, where this one is silent."""
        if not self.fetch.active:
            return
        neighbour, link = self._source()
        if self.fetch.progress.is_silent(now.mono) or self.fetch.progress.is_too_long(now.mono):
            self._give_up(neighbour, now)
        elif now.mono < self.fetch.progress.retry_at:
            self._context.timers.set(RouterDue.FETCH, self.fetch.progress.retry_at)
        elif neighbour and link:
            self._send_want(link, neighbour, now)
        else:
            # The link is gone, perhaps for a moment only.
            self._context.timers.set(RouterDue.FETCH, now.mono + WANT_RETRY)

    def _next_round(self, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """The source says that it is through, and something is missing."""
        if self.fetch.progress.may_go_on() and not self.fetch.progress.is_too_long(now.mono):
            self._send_want(link, neighbour, now)
        else:
            self._give_up(neighbour, now)

    def _give_up(self, neighbour: Neighbour | None, now: Instant) -> None:
        if neighbour and not self.fetch.has_joined(neighbour.router):
            neighbour.as_source.shun(now.mono)
        self._stop_source(now)
        self._replace_source(now)

    def _replace_source(self, now: Instant) -> None:
        """The source is gone or gives nothing: the next that offered, else the digests find one."""
        spans = list(self.fetch.outstanding.spans)
        best, link, neighbour = self._best_offer() if spans else (None, None, None)
        if best is not None and link is not None and neighbour is not None:
            self._fetch_from(best, link, neighbour, spans, now)
        else:
            self._finish(now)

    def _finish(self, now: Instant) -> None:
        """What was wanted has come, or will not: on to what else this source has, else the fetch is over.

        What it brought, and what it did not, is then told by digests; a source that gave something is asked
        at once for what still differs.
        """
        neighbour, link = self._source()
        while neighbour and link and self.fetch.later:
            order = self.fetch.later.popleft()
            blocks = lacking(self._context.store.records, order.blocks, order.salt)
            if blocks:
                self._begin(replace(order, blocks=tuple(blocks)), link, now)
                self._send_want(link, neighbour, now)
                return
        brought = self.fetch.progress.brought
        window = self.fetch.window.block if self.fetch.window.pays else None
        is_by_sketch_key = self.fetch.is_by_sketch_key
        self.fetch.end(now.mono)
        self._context.timers.cancel(RouterDue.FETCH)
        if not brought:
            return
        for each in self._context.links.values():
            self._context.hurry(each, now.mono)
        if neighbour and link:
            neighbour.as_source.trust()
            neighbour.difference.moved()
            if window and self._goes_on(window, neighbour, link, now):
                return
            if not is_by_sketch_key and not link.dumps.serves(neighbour.router):
                # A sketch told all there was; one that is being served goes on when it has all it wants.
                self._context.soon(
                    OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router), now.mono, RANGES_JITTER
                )

    def _goes_on(self, window: Block, neighbour: Neighbour, link: Link, now: Instant) -> bool:
        """Asks for the next window of records without a step between, where the last one paid."""
        below = window_below(self._context.store.records, window.low)
        if below is None or not neighbour.as_source.has_young_token(now.mono):
            return False
        self.want(neighbour, link, neighbour.as_source.token, self._digests.salt(), [below], now)
        return self.fetch.active

    def block(self, now: Instant, seconds: float) -> None:
        """The disk takes nothing: nothing is asked for during this time."""
        self._blocked_until = now.mono + seconds
        if self.fetch.active:
            self.fetch.end(now.mono)
