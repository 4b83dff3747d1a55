"""Bringing routers that disagree together: digests, the ladder of ranges, ASK-FILE and dumps.

A digest that differs starts an exchange with that neighbour, unless one of the two cannot judge (it speaks
from a higher floor or a later ceiling than the other can compare), one is in the middle of a fetch, or their
last exchanges changed nothing and the next one has to wait.
"""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from enum import Enum

from meshchat.constants import (
    AHEAD_MS,
    ANSWER_BURST,
    ANSWER_RATE,
    ASK_REPEATS,
    CONFIRM_WAIT,
    DUMP_MIN_SHARE,
    MAX_MTU,
    MAX_STREAMS,
    OFFER_JITTER,
    OFFER_WAIT,
    RANGES_JITTER,
    RELAY_JITTER,
    TOKEN_EPOCH,
    VERSION,
)
from meshchat.protocol.fetch import Candidate, Fetch, FetchState, Order
from meshchat.protocol.instant import Instant
from meshchat.protocol.keeper import Keeper
from meshchat.protocol.port import Desk, Port
from meshchat.protocol.reconcile import Findings, Span, examine, fit, lacking, opening
from meshchat.protocol.source import NOBODY
from meshchat.state.limits import BucketTable
from meshchat.state.neighbours import Neighbour, Neighbours
from meshchat.wire.packets import (
    BOOT_ID_SIZE,
    PACKET_HEADER,
    SALT_SIZE,
    Ask,
    Block,
    Digest,
    Dump,
    Offer,
    Range,
    Ranges,
    Scope,
    Summary,
    Want,
)
from meshchat.wire.records import ROUTER_ID_SIZE, Grade, make_stamp, position

_RELEASE = bytes(int(part) for part in VERSION.split("."))
_RANGES_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 8 + SALT_SIZE + 8 + 26
_WANT_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 8 + SALT_SIZE
_DIGEST_WAIT = 0.15
_GATHER = 0.03
"""A source waits so long before a dump, in case another neighbour wants the same."""
_SETTLE = CONFIRM_WAIT + 2 * RELAY_JITTER
"""A difference younger than this may be a record still being flooded."""
EXPECT = 5.0
"""Seconds after a step towards a neighbour in which records from it are an answer."""
_MAX_SOURCES = 1024
_DENSE = 3
"""From so many neighbours on, a few missing records are pushed by multicast: others lack them too."""


def _has_clock(neighbour: Neighbour) -> bool:
    return neighbour.digest is not None and neighbour.digest.clock.grade is Grade.GOOD


def _pause(port: Port) -> float:
    """How long, in seconds, a source that serves many may be silent, if it is as slow as this router."""
    return 2 * MAX_STREAMS * MAX_MTU / port.repair.rate


class Verdict(Enum):
    """What comparing a neighbour's digest came to."""

    EQUAL = "equal"
    DIFFERENT = "different"
    CANNOT = "cannot"


class Repair:
    """Everything about what was missed. Each method takes the time and leaves its outputs on the desk."""

    def __init__(
        self, desk: Desk, keeper: Keeper, neighbours: Neighbours, router: bytes, boot: bytes, secret: bytes
    ) -> None:
        """`boot` is 8 random bytes, `secret` 16: tokens are made from it."""
        self.fetch = Fetch()
        self.last_flood_at = -1e9
        self.blocked_until = -1e9
        self._desk, self._keeper, self._neighbours = desk, keeper, neighbours
        self._router, self._boot, self._secret = router, boot, secret
        self._answers: BucketTable[Hashable] = BucketTable(ANSWER_RATE, ANSWER_BURST, _MAX_SOURCES)

    # --- Digests ----------------------------------------------------------------------------------------

    def _digest(self, port: Port, now: Instant) -> Digest:
        undated, history = self._keeper.summaries(now)
        scope = Scope.ALL | Scope.FETCHING if self.fetch.busy(now.mono) else Scope.ALL
        clock, floor = self._keeper.clock.claim(now), self._keeper.floor
        return Digest(self._boot, self._echo(port, now), _RELEASE, clock, scope, floor, undated, history)

    def _echo(self, port: Port, now: Instant) -> bytes:
        """The boot id of the neighbour echoed least lately, those first who look for a clock to follow."""
        heard = [one for one in self._neighbours.alive(now.mono, port.name) if one.digest is not None]
        if not heard:
            return bytes(BOOT_ID_SIZE)
        chosen = min(heard, key=lambda one: (_has_clock(one), one.echoed_at))
        chosen.echoed_at = now.mono
        return chosen.digest.boot if chosen.digest else bytes(BOOT_ID_SIZE)

    def _view(self, now: Instant) -> bytes:
        undated, history = self._keeper.summaries(now)
        both = undated.fingerprint + history.fingerprint
        return hashlib.blake2b(both, digest_size=8).digest()

    def send_digest(self, port: Port, now: Instant) -> None:
        """Says what is held here."""
        self._desk.send(port, [self._digest(port, now)])

    def compare(self, theirs: Digest, now: Instant) -> tuple[Verdict, list[Span]]:
        """The verdict on a neighbour's digest, and the spans that differ.

        It is judged above the higher floor and below the lower ceiling, by the side that can compute both.
        """
        if self._keeper.summaries(now) == (theirs.undated, theirs.history):
            return Verdict.EQUAL, []
        if theirs.scope & Scope.FETCHING:
            return Verdict.CANNOT, []
        behind = theirs.clock.time_ms > self._keeper.clock.now_ms(now) + AHEAD_MS
        speaks_of_history = theirs.floor >= self._keeper.floor and not behind
        ceiling = make_stamp(theirs.clock.time_ms + AHEAD_MS)
        undated, dated = self._keeper.spans(now, theirs.floor, ceiling)
        spans = []
        if theirs.scope & Scope.UNDATED and self._summary(undated) != theirs.undated:
            spans.append(undated)
        if theirs.scope & Scope.HISTORY and speaks_of_history and self._summary(dated) != theirs.history:
            spans.append(dated)
        if spans:
            return Verdict.DIFFERENT, spans
        return (Verdict.EQUAL if speaks_of_history else Verdict.CANNOT), []

    def _summary(self, span: Span) -> Summary:
        return self._keeper.store.records.summary(*span)

    def _note_digest(self, neighbour: Neighbour, digest: Digest, now: Instant) -> None:
        """Keeps the digest; a new boot has to show anew that it is live."""
        if neighbour.digest is not None and neighbour.digest.boot != digest.boot:
            neighbour.live = False
        neighbour.live = neighbour.live or digest.echo == self._boot
        before = neighbour.digest
        if neighbour.gave and before and (before.undated, before.history) != (digest.undated, digest.history):
            neighbour.gave = False
            neighbour.backoff.moved()
        neighbour.digest, neighbour.digest_at = digest, now.mono

    def on_digest(self, neighbour: Neighbour, digest: Digest, port: Port, now: Instant) -> None:
        """A neighbour says what it holds."""
        self._note_digest(neighbour, digest, now)
        verdict, _ = self.compare(digest, now)
        if verdict is Verdict.EQUAL:
            port.trickle.consistent()
            port.in_step = True
            neighbour.differs_since = None
            neighbour.backoff.over()
            self._desk.timers.cancel(("ranges", port.name, neighbour.router))
        elif verdict is Verdict.DIFFERENT and not self.fetch.busy(now.mono):
            self._differs(neighbour, digest, port, now)

    def _differs(self, neighbour: Neighbour, digest: Digest, port: Port, now: Instant) -> None:
        if neighbour.differs_since is None:
            neighbour.differs_since = now.mono
        is_young = now.mono - neighbour.differs_since < _SETTLE and now.mono - self.last_flood_at < _SETTLE
        backoff = neighbour.backoff
        if is_young or not (
            backoff.allows_full(now.mono) or backoff.allows_recent(now.mono, self._state(digest, now))
        ):
            return
        if self._answers.take(neighbour.address[0], now.mono):
            if backoff.allows_full(now.mono):
                self._desk.hurry(port, now.mono)
            self._desk.soon(("ranges", port.name, neighbour.router), now.mono, RANGES_JITTER)

    def _state(self, theirs: Digest, now: Instant) -> object:
        return self._view(now), theirs.undated.fingerprint, theirs.history.fingerprint

    # --- The ladder -------------------------------------------------------------------------------------

    def begin_exchange(self, port: Port, neighbour: Neighbour, now: Instant) -> None:
        """The first step towards a neighbour whose digest differs."""
        if self.fetch.busy(now.mono) or now.mono < max(self.blocked_until, neighbour.shunned_until):
            return
        if port.talk.ready_in(now.mono):
            # The next digest that differs tries again.
            self._keeper.drops["air-budget"] += 1
            return
        if neighbour.digest is None:
            spans = list(self._keeper.spans(now))
        else:
            _, spans = self.compare(neighbour.digest, now)
        if not spans:
            return
        full = neighbour.backoff.allows_full(now.mono)
        if full:
            neighbour.backoff.started_full(now.mono)
        else:
            neighbour.backoff.started_recent(now.mono)
        salt = self._salt()
        parts = opening(self._keeper.store.records, spans, salt, full=full)
        step = self._step(port, neighbour, parts, salt, now)
        port.talk.spend(now.mono, self._desk.send(port, [step]))

    def _step(
        self, port: Port, neighbour: Neighbour, parts: Sequence[Range], salt: bytes, now: Instant
    ) -> Ranges:
        low, parts = fit(parts, self._desk.capacity(port) - _RANGES_FIELDS)
        neighbour.asked_until = now.mono + EXPECT
        return Ranges(neighbour.router, self._token(now), salt, self._view(now), low, tuple(parts))

    def on_ranges(self, neighbour: Neighbour, ranges: Ranges, port: Port, now: Instant) -> None:
        """A step of an exchange, with this router or overheard. One without ranges says: nothing to add."""
        if not ranges.parts:
            if ranges.to == self._router:
                neighbour.backoff.agreed()
            return
        if not self._answers.take(neighbour.address[0], now.mono):
            self._keeper.drops["answer-budget"] += 1
            return
        reply_salt = self._salt()
        findings = examine(self._keeper.store.records, ranges.parts, ranges.salt, reply_salt)
        if ranges.to == self._router:
            self._answer(neighbour, findings, port, reply_salt, now)
        else:
            if ranges.view == self._view(now):
                self._desk.timers.cancel(("ranges", port.name, ranges.to))
            findings.wants = [block for block in findings.wants if block.ids is not None]
        if findings.wants:
            self._want(neighbour, port, ranges.token, ranges.salt, findings.wants, now)

    def _answer(
        self, neighbour: Neighbour, findings: Findings, port: Port, salt: bytes, now: Instant
    ) -> None:
        reply: list[Range] = list(findings.reply)
        if self._fits_one_datagram(findings.extra_positions, port):
            self._push(neighbour, findings.extra_positions, port, now)
        else:
            reply.extend(findings.extra)
        if port.talk.ready_in(now.mono):
            self._keeper.drops["air-budget"] += 1
        elif reply or not (findings.wants or findings.extra):
            step = self._step(port, neighbour, reply, salt, now)
            port.talk.spend(now.mono, self._desk.send(port, [step], neighbour.address))

    def _fits_one_datagram(self, places: Sequence[bytes], port: Port) -> bool:
        """A push, which no token guards, is at most one datagram, or one record."""
        entries = [self._keeper.store.records.get(place) for place in places[:64]]
        size = sum(entry.size for entry in entries if entry)
        return len(places) <= 1 or (len(places) < 64 and size < self._desk.capacity(port) * 3 // 4)

    def _push(self, neighbour: Neighbour, places: Sequence[bytes], port: Port, now: Instant) -> None:
        if not places:
            return
        many = not port.is_peer and sum(1 for _ in self._neighbours.alive(now.mono, port.name)) >= _DENSE
        if many:
            port.source.push(NOBODY, None, places)
        else:
            port.source.push(neighbour.router, neighbour.address, places)
        self._desk.timers.set_if_unset(("dump", port.name), now.mono)

    def _want(
        self,
        neighbour: Neighbour,
        port: Port,
        token: bytes,
        salt: bytes,
        blocks: Sequence[Block],
        now: Instant,
    ) -> None:
        """Fetches the blocks, unless another neighbour is being fetched from or the disk takes nothing."""
        order = Order(neighbour.router, port.name, token, salt, tuple(self._allowed(blocks, now)))
        if now.mono < max(self.blocked_until, neighbour.shunned_until) or not order.blocks:
            return
        if self.fetch.busy(now.mono) or self.is_source(neighbour, port):
            self.fetch.queue(order)
            return
        self.fetch.later.clear()
        self.fetch.begin(order, now.mono, _pause(port))
        self._send_want(port, neighbour, now)

    def _allowed(self, blocks: Sequence[Block], now: Instant) -> list[Block]:
        """The blocks less what this router would refuse: what lies below its horizon or in the future."""
        allowed: list[Block] = []
        for block in blocks:
            for low, high in self._keeper.spans(now):
                if block.ids is not None:
                    allowed.append(block)
                    break
                begin, end = max(low, block.low), min(high, block.high)
                if begin < end:
                    allowed.append(Block(begin, end, None))
        return allowed

    def _send_want(self, port: Port, neighbour: Neighbour, now: Instant) -> None:
        room = self._desk.capacity(port) - _WANT_FIELDS
        chosen: list[Block] = []
        for block in self.fetch.blocks():
            size = len(block.encode())
            if size > room:
                break
            chosen.append(block)
            room -= size
        if not chosen:
            self._finish(now)
            return
        want = Want(neighbour.router, self.fetch.token, self.fetch.salt, tuple(chosen))
        self._desk.send(port, [want], neighbour.address)
        self._desk.timers.set(("fetch",), self.fetch.deadline)

    # --- The source -------------------------------------------------------------------------------------

    def on_want(self, neighbour: Neighbour, want: Want, port: Port, now: Instant) -> None:
        """A neighbour asks for records."""
        if want.to != self._router:
            return
        if want.token not in (self._token(now), self._token(now, -1)):
            self._keeper.drops["token"] += 1
            return
        if not self._answers.take(neighbour.address[0], now.mono):
            self._keeper.drops["answer-budget"] += 1
            return
        ceiling = position(1, self._keeper.ceiling(now))
        if port.source.request(neighbour.router, neighbour.address, want.blocks, want.salt, ceiling):
            neighbour.gave = port.source.has_something_for(neighbour.router)
            self._desk.timers.set_if_unset(("dump", port.name), now.mono + _GATHER)

    def send_dump(self, port: Port, now: Instant) -> None:
        """The next datagram of the dumps on a port, when the repair share of the air allows it."""
        if wait := port.repair.ready_in(now.mono):
            self._desk.timers.set(("dump", port.name), now.mono + wait)
            return
        outgoing = port.source.next(self._desk.capacity(port))
        if outgoing is None:
            return
        size = self._desk.send(port, [outgoing.packet], outgoing.address)
        port.repair.spend(now.mono, size)
        self._desk.timers.set(("dump", port.name), now.mono + port.repair.ready_in(now.mono))

    # --- ASK-FILE ---------------------------------------------------------------------------------------

    def ask(self, port: Port, now: Instant) -> None:
        """Asks the neighbours on a port for what is missing, a few times until somebody answered."""
        if port.in_step or port.asks_sent >= len(ASK_REPEATS):
            return
        port.asks_sent += 1
        if port.asks_sent < len(ASK_REPEATS):
            wait = ASK_REPEATS[port.asks_sent] - ASK_REPEATS[port.asks_sent - 1]
            self._desk.timers.set(("ask", port.name), now.mono + wait)
        is_choosing = self.fetch.state is FetchState.CHOOSING
        if is_choosing or self.fetch.busy(now.mono) or now.mono < self.blocked_until:
            return
        if self.fetch.state is FetchState.IDLE or not self.fetch.nonce:
            self.fetch.ask(self._salt())
        self._desk.send(port, [Ask(self.fetch.nonce, self._digest(port, now))])

    def on_ask(self, neighbour: Neighbour, ask: Ask, port: Port, now: Instant) -> None:
        """A neighbour starts or lags: offer what it lacks, or say that all agrees."""
        if not self._answers.take(neighbour.address[0], now.mono):
            self._keeper.drops["answer-budget"] += 1
            return
        self._note_digest(neighbour, ask.digest, now)
        _, spans = self.compare(ask.digest, now)
        theirs = ask.digest.undated.count + ask.digest.history.count
        if spans and self._count(now) > theirs and not self.fetch.busy(now.mono):
            neighbour.asked = ask.nonce
            self._desk.soon(("offer", port.name, neighbour.router), now.mono, OFFER_JITTER)
        else:
            self._desk.soon(("digest", port.name), now.mono, _DIGEST_WAIT)

    def send_offer(self, port: Port, neighbour: Neighbour, now: Instant) -> None:
        """Offers a neighbour that asked all that is held here."""
        size = self._keeper.store.bytes_held
        token, streams = self._token(now), len(port.source)
        offer = Offer(neighbour.router, neighbour.asked, token, self._count(now), size, streams)
        self._desk.send(port, [offer], neighbour.address)

    def on_offer(self, neighbour: Neighbour, offer: Offer, port: Port, now: Instant) -> None:
        """A neighbour offers; the choice is made a moment after the first one."""
        if offer.to != self._router or now.mono < neighbour.shunned_until:
            return
        neighbour.live = neighbour.live or offer.nonce == self.fetch.nonce
        if self.fetch.offered(Candidate(neighbour.router, port.name, neighbour.address[0], offer)):
            self._desk.timers.set(("choose",), now.mono + OFFER_WAIT)

    def choose(self, now: Instant) -> None:
        """Names one source: for a dump where little is held here, else to narrow the difference with it."""
        best, port, neighbour = self._best_offer()
        if best is None or port is None or neighbour is None or now.mono < self.blocked_until:
            self._finish(now)
        elif self._count(now) >= DUMP_MIN_SHARE * best.offer.records:
            self.fetch.end()
            self._desk.soon(("ranges", port.name, neighbour.router), now.mono, RANGES_JITTER)
        else:
            self._fetch_from(best, port, neighbour, self._keeper.spans(now), now)

    def _best_offer(self) -> tuple[Candidate, Port, Neighbour] | tuple[None, None, None]:
        """The best offer left whose neighbour can still be reached."""
        while (best := self.fetch.choose()) is not None:
            neighbour = self._neighbours.get(best.router, best.interface)
            port = self._desk.ports.get(best.interface)
            if neighbour is not None and port is not None:
                return best, port, neighbour
        return None, None, None

    def _fetch_from(
        self, source: Candidate, port: Port, neighbour: Neighbour, spans: Sequence[Span], now: Instant
    ) -> None:
        """All of the spans, from one that offered."""
        blocks = tuple(Block(low, high, None) for low, high in spans)
        order = Order(source.router, source.interface, source.offer.token, self._salt(), blocks)
        self.fetch.begin(order, now.mono, _pause(port))
        self._send_want(port, neighbour, now)

    # --- Fetching ---------------------------------------------------------------------------------------

    def is_source(self, neighbour: Neighbour, port: Port) -> bool:
        """Whether a dump from this neighbour is awaited."""
        fetch = self.fetch
        return fetch.active and (fetch.source, fetch.interface) == (neighbour.router, port.name)

    def received(self, place: bytes, neighbour: Neighbour, port: Port, now: Instant) -> None:
        """A record arrived, by whatever way: it is not wanted any more."""
        if self.fetch.active:
            self.fetch.received(place, now.mono, from_source=self.is_source(neighbour, port))

    def is_asked_for(self, neighbour: Neighbour, port: Port, now: Instant) -> bool:
        """Whether records from this neighbour answer something that this router said."""
        return now.mono <= neighbour.asked_until or self.is_source(neighbour, port)

    def known(self, record_id: bytes) -> None:
        """A record arrived that was here already."""
        if self.fetch.active:
            self.fetch.strike(record_id)

    def on_dump(self, neighbour: Neighbour, dump: Dump, port: Port, now: Instant) -> None:
        """A dump's datagram, after its records were taken in."""
        if not self.is_source(neighbour, port):
            return
        self.fetch.settled(dump.low, dump.high)
        if not self.fetch.blocks():
            self._finish(now)
        elif dump.last and dump.to == self._router:
            self._next_round(now)

    def check_fetch(self, now: Instant) -> None:
        """The fetch's timer: asks again, or another source, where this one is silent."""
        if not self.fetch.active:
            return
        if now.mono < self.fetch.deadline and not self.fetch.too_long(now.mono):
            self._desk.timers.set(("fetch",), self.fetch.deadline)
        else:
            self._next_round(now)

    def _next_round(self, now: Instant) -> None:
        neighbour = self._neighbours.get(self.fetch.source, self.fetch.interface)
        port = self._desk.ports.get(self.fetch.interface)
        another_round = self.fetch.next_round(now.mono) and not self.fetch.too_long(now.mono)
        if neighbour and port and another_round:
            self._send_want(port, neighbour, now)
            return
        if neighbour:
            neighbour.shun(now.mono)
        self._replace_source(now)

    def _replace_source(self, now: Instant) -> None:
        """The source is gone or gives nothing: the next that offered, else the digests find one."""
        spans = list(self.fetch.spans)
        best, port, neighbour = self._best_offer() if spans else (None, None, None)
        if best is not None and port is not None and neighbour is not None:
            self._fetch_from(best, port, neighbour, spans, now)
        else:
            self._finish(now)

    def _finish(self, now: Instant) -> None:
        """What was wanted has come, or will not: on to what else this source has, else the fetch is over.

        What it brought, and what it did not, is then told by digests; a source that gave something is asked
        at once for what still differs.
        """
        neighbour = self._neighbours.get(self.fetch.source, self.fetch.interface)
        port = self._desk.ports.get(self.fetch.interface)
        while neighbour and port and self.fetch.later:
            order = self.fetch.later.popleft()
            blocks = lacking(self._keeper.store.records, order.blocks, order.salt)
            if blocks:
                self.fetch.begin(replace(order, blocks=tuple(blocks)), now.mono, _pause(port))
                self._send_want(port, neighbour, now)
                return
        brought = self.fetch.brought
        self.fetch.end()
        self._desk.timers.cancel(("fetch",))
        if not brought:
            return
        for each in self._desk.ports.values():
            self._desk.hurry(each, now.mono)
        if neighbour and port:
            neighbour.trust()
            neighbour.backoff.moved()
            self._desk.soon(("ranges", port.name, neighbour.router), now.mono, RANGES_JITTER)

    def block(self, now: Instant, seconds: float) -> None:
        """The disk takes nothing: nothing is asked for during this time."""
        self.blocked_until = now.mono + seconds
        if self.fetch.active:
            self.fetch.end()

    # --- Helpers ----------------------------------------------------------------------------------------

    def _count(self, now: Instant) -> int:
        return sum(summary.count for summary in self._keeper.summaries(now))

    def _salt(self) -> bytes:
        return self._desk.random.randbytes(SALT_SIZE)

    def _token(self, now: Instant, epochs: int = 0) -> bytes:
        epoch = int(now.mono // TOKEN_EPOCH) + epochs
        return hashlib.blake2b(
            epoch.to_bytes(8, "big", signed=True), digest_size=8, key=self._secret
        ).digest()
