"""Bringing two routers that disagree together, by the ladder of ranges.

A digest that differs starts an exchange with that neighbour, unless one of the two cannot judge (it speaks
from a higher floor or a later ceiling than the other can compare), a dump is coming in, or their last
exchanges moved nothing and the next one has to wait.
"""

from collections.abc import Callable, Sequence

from meshchat.constants import CONFIRM_WAIT, RANGES_JITTER, RELAY_JITTER
from meshchat.protocol.asker import Asker
from meshchat.protocol.giver import Giver
from meshchat.protocol.instant import Instant
from meshchat.protocol.keeper import Keeper
from meshchat.protocol.port import Desk, Port
from meshchat.protocol.reconcile import Findings, examine, fit, opening
from meshchat.protocol.standing import Standing, Verdict
from meshchat.state.neighbours import Neighbour
from meshchat.wire.packets import PACKET_HEADER, SALT_SIZE, Digest, Range, Ranges
from meshchat.wire.records import ROUTER_ID_SIZE

_RANGES_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 8 + SALT_SIZE + 8 + 26
_SETTLE = CONFIRM_WAIT + 2 * RELAY_JITTER
"""A difference younger than this may be a record still being flooded."""
EXPECT = 5.0
"""Seconds after a step towards a neighbour in which records from it are an answer."""


class Exchange:
    """Narrows differences. Each method takes the time and leaves its outputs on the desk."""

    def __init__(
        self,
        desk: Desk,
        keeper: Keeper,
        standing: Standing,
        asker: Asker,
        giver: Giver,
        router: bytes,
        may_answer: Callable[[Neighbour, Instant], bool],
    ) -> None:
        """`may_answer` takes from the budget of answers to a neighbour's address."""
        self.last_flood_at = -1e9
        self._desk, self._keeper, self._standing = desk, keeper, standing
        self._asker, self._giver, self._router = asker, giver, router
        self._may_answer = may_answer

    def on_digest(self, neighbour: Neighbour, digest: Digest, port: Port, now: Instant) -> None:
        """A neighbour says what it holds."""
        self._standing.note(neighbour, digest, now)
        verdict, _ = self._standing.compare(digest, now)
        if verdict is Verdict.EQUAL:
            port.agrees(neighbour)
            neighbour.differs_since = None
            neighbour.backoff.over()
            self._desk.timers.cancel(("ranges", port.name, neighbour.router))
        elif verdict is Verdict.DIFFERENT and not self._asker.fetch.busy(now.mono):
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
        if self._may_answer(neighbour, now):
            if backoff.allows_full(now.mono):
                self._desk.hurry(port, now.mono)
            self._desk.soon(("ranges", port.name, neighbour.router), now.mono, RANGES_JITTER)

    def _state(self, theirs: Digest, now: Instant) -> object:
        return self._standing.view(now), theirs.undated.fingerprint, theirs.history.fingerprint

    def begin(self, port: Port, neighbour: Neighbour, now: Instant) -> None:
        """The first step towards a neighbour whose digest differs."""
        if not self._asker.may_begin(neighbour, now):
            return
        if port.talk.ready_in(now.mono):
            # The next digest that differs tries again.
            self._keeper.drops["air-budget"] += 1
            return
        if neighbour.digest is None:
            spans = list(self._keeper.spans(now))
        else:
            _, spans = self._standing.compare(neighbour.digest, now)
        if not spans:
            return
        full = neighbour.backoff.allows_full(now.mono)
        if full:
            neighbour.backoff.started_full(now.mono)
        else:
            neighbour.backoff.started_recent(now.mono)
        salt = self._standing.salt()
        parts = opening(self._keeper.store.records, spans, salt, full=full)
        step = self._step(port, neighbour, parts, salt, now)
        port.talk.spend(now.mono, self._desk.send(port, [step]))

    def _step(
        self, port: Port, neighbour: Neighbour, parts: Sequence[Range], salt: bytes, now: Instant
    ) -> Ranges:
        low, parts = fit(parts, self._desk.capacity(port) - _RANGES_FIELDS)
        neighbour.asked_until = now.mono + EXPECT
        return Ranges(
            neighbour.router, self._standing.token(now), salt, self._standing.view(now), low, tuple(parts)
        )

    def on_ranges(self, neighbour: Neighbour, ranges: Ranges, port: Port, now: Instant) -> None:
        """A step of an exchange, with this router or overheard. One without ranges says: nothing to add."""
        if not ranges.parts:
            if ranges.to == self._router:
                neighbour.backoff.agreed()
            return
        if not self._may_answer(neighbour, now):
            return
        reply_salt = self._standing.salt()
        findings = examine(self._keeper.store.records, ranges.parts, ranges.salt, reply_salt)
        if ranges.to == self._router:
            self._answer(neighbour, findings, port, reply_salt, now)
        else:
            if ranges.view == self._standing.view(now):
                self._desk.timers.cancel(("ranges", port.name, ranges.to))
            findings.wants = [block for block in findings.wants if block.ids is not None]
        if findings.wants:
            self._asker.want(neighbour, port, ranges.token, ranges.salt, findings.wants, now)

    def _answer(
        self, neighbour: Neighbour, findings: Findings, port: Port, salt: bytes, now: Instant
    ) -> None:
        reply: list[Range] = list(findings.reply)
        if self._fits_one_datagram(findings.extra_positions, port):
            self._giver.push(neighbour, findings.extra_positions, port, now)
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
