"""Bringing two routers that disagree together, by the ladder: newest records, sketch, ranges.

The counts in the digests tell where to begin. A small difference goes to a sketch at once. Where one side
has many more, the first step asks whether these are just the newest, and a sketch answers where they are not.
Whatever a sketch cannot tell, the ranges do.

A digest that differs starts an exchange with that neighbour, unless one of the two cannot judge (it speaks
from a higher floor or a later ceiling than the other can compare), a dump is coming in, or their last
exchanges moved nothing and the next one has to wait.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from meshchat.constants import RANGES_JITTER, SKETCH_CELLS
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import NeighbourDue, OfNeighbour
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.repair.asking import WANT_FIELDS, Asking
from meshchat.protocol.repair.digests import Cover, Digests, Verdict
from meshchat.protocol.repair.reconcile import Findings, examine, fit, newest, offered, opening
from meshchat.protocol.repair.serving import Serving
from meshchat.state.neighbour import Neighbour
from meshchat.state.origin import Origin
from meshchat.state.store import HISTORY_START
from meshchat.wire.ids import (
    CELL_SIZE,
    NO_TOKEN,
    ROUTER_ID_SIZE,
    SALT_SIZE,
    SKETCH_KEY_SIZE,
    TOKEN_SIZE,
    Cell,
    Position,
    RouterId,
    Salt,
    SketchKey,
    Span,
    Token,
)
from meshchat.wire.packets import (
    PACKET_HEADER,
    BySketchKey,
    Digest,
    Fingerprinted,
    Packet,
    Range,
    Ranges,
    Sketch,
    Want,
)
from meshchat.wire.records import make_position, position_stamp

SKETCH_FIRST = 16
"""A sketch opens an exchange where the counts differ by no more; else it is first asked whether it is just
the newest records that are missing, which no number of cells tells as cheaply."""

SKETCH_MOST = 140
"""Up to so many by the counts, a sketch is the second step; beyond, the ranges."""

SKETCH_GROWTH = 4
"""A sketch that does not tell what differs is answered by one with so many times its cells: from the smallest
to the largest in three steps."""

MAX_PARTIAL_SKETCHES = 8
"""Sketches of which a part has come: one a neighbour, 4 KB each; whoever sends only parts costs 32 KB."""

_RANGES_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 8 + SALT_SIZE + 8 + 26
_SKETCH_FIELDS = PACKET_HEADER + ROUTER_ID_SIZE + 2 * TOKEN_SIZE + 8 + 2 * 8 + 4 + 2


def cells_for(lead: int) -> int:
    """How many cells tell what differs, nearly always, where no more differs than the counts say."""
    differ = max(abs(lead), 2)
    return 4 if abs(lead) == 1 else min(3 * differ + 3, max(30, 12 + 9 * differ // 5), SKETCH_CELLS)


_Begun = tuple[Sketch, dict[int, Cell] | None]
"""A sketch without cells, and its cells by number; None once it has told what differs."""


class _Parts:
    """The cells of sketches in several packets, which come in any order; at most `MAX_PARTIAL_SKETCHES`."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, RouterId], _Begun] = OrderedDict()

    def join(self, sender: tuple[str, RouterId], sketch: Sketch) -> list[Cell]:
        """The first cells of the sketch, as far as none is missing by now; none of one that has told all."""
        whole = replace(sketch, first=0, cells=())
        before, parts = self._parts.pop(sender, (whole, {}))
        if before != whole:
            parts = {}
        cells: list[Cell] = []
        if parts is not None:
            parts.update(enumerate(sketch.cells, sketch.first))
            while len(cells) in parts:
                cells.append(parts[len(cells)])
        if len(sketch.cells) < sketch.total:
            self._keep(sender, (whole, parts))
        return cells

    def told(self, sender: tuple[str, RouterId], sketch: Sketch) -> None:
        """What differs is known: the packets of this sketch that are still to come add nothing."""
        if len(sketch.cells) < sketch.total:
            self._keep(sender, (replace(sketch, first=0, cells=()), None))

    def _keep(self, sender: tuple[str, RouterId], begun: _Begun) -> None:
        self._parts[sender] = begun
        if len(self._parts) > MAX_PARTIAL_SKETCHES:
            self._parts.popitem(last=False)


class Ladder:
    """Narrows differences. Each method takes the time and leaves its outputs in the context."""

    def __init__(
        self,
        context: Context,
        digests: Digests,
        asking: Asking,
        serving: Serving,
        may_answer: Callable[[Neighbour, Instant], bool],
    ) -> None:
        """`may_answer` takes from the budget of answers to a neighbour's origin."""
        self._context, self._digests, self._asking, self._serving = context, digests, asking, serving
        self._may_answer = may_answer
        self._parts = _Parts()

    def on_digest(self, neighbour: Neighbour, digest: Digest, link: Link, now: Instant) -> None:
        """A neighbour says what it holds."""
        self._digests.note(neighbour, digest, now)
        verdict, _ = self._digests.compare(digest, now)
        if verdict is Verdict.EQUAL:
            link.agrees(neighbour)
            self._digests.agreed(neighbour, digest, now)
            neighbour.difference.agrees()
            self._context.timers.cancel(OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router))
        elif verdict is Verdict.DIFFERENT and not self._is_receiving(neighbour, now):
            self._differs(neighbour, digest, link, now)

    def _is_receiving(self, neighbour: Neighbour, now: Instant) -> bool:
        """Whether records are coming in that may end the difference."""
        return self._asking.fetch.busy(now.mono) or neighbour.as_source.is_giving(now.mono)

    def _differs(self, neighbour: Neighbour, digest: Digest, link: Link, now: Instant) -> None:
        neighbour.difference.differs(now.mono)
        backoff = neighbour.difference.backoff
        if not self._asking.may_begin(neighbour, now) or not (
            backoff.allows_full(now.mono) or backoff.allows_recent(now.mono, self._state(digest, now))
        ):
            return
        if self._may_answer(neighbour, now):
            if backoff.allows_full(now.mono):
                self._context.hurry(link, now.mono)
            self._context.soon(
                OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router), now.mono, RANGES_JITTER
            )

    def _state(self, theirs: Digest, now: Instant) -> object:
        return self._digests.view(now), theirs.undated.fingerprint, theirs.history.fingerprint

    def begin(self, link: Link, neighbour: Neighbour, now: Instant) -> None:
        """The first step towards a neighbour whose digest differs."""
        if not self._asking.may_begin(neighbour, now):
            return
        if link.air.talk.ready_in(now.mono):
            # The next digest that differs tries again.
            self._context.drops["air-budget"] += 1
            return
        cover = None
        if neighbour.said.digest is None:
            spans = list(self._context.extent.spans(now))
        else:
            _, spans = self._digests.compare(neighbour.said.digest, now)
            cover = self._digests.cover(neighbour.said.digest, now)
        if not spans:
            return
        if not neighbour.difference.backoff.allows_full(now.mono):
            neighbour.difference.backoff.started_recent(now.mono)
            salt = self._digests.salt()
            parts = newest(self._context.store.records, spans, salt)
            self._say(link, [self._step(link, neighbour, parts, salt, now)], None, now)
            return
        neighbour.difference.backoff.started_full(now.mono)
        if cover is not None and abs(cover.lead) <= SKETCH_FIRST and 0 < cover.count != cover.lead:
            sketch = self._sketch(link, neighbour, cover, cells_for(cover.lead), now)
            if sketch:
                self._say(link, sketch, None, now)
                return
        self._say(link, [self._opening(link, neighbour, spans, cover, now)], None, now)

    def _opening(
        self, link: Link, neighbour: Neighbour, spans: Sequence[Span], cover: Cover | None, now: Instant
    ) -> Ranges:
        """The first step by ranges."""
        lead = cover.lead if cover else 0
        may_sketch = (
            cover is not None and 0 < abs(lead) <= SKETCH_MOST and not neighbour.difference.beyond_sketches
        )
        neighbour.difference.sketched = False
        parts = opening(self._context.store.records, spans, lead, sketch=may_sketch)
        return self._step(link, neighbour, parts, self._digests.salt(), now)

    def _say(self, link: Link, packets: Sequence[Packet], origin: Origin | None, now: Instant) -> None:
        """Each packet in a datagram of its own, at the expense of the share for talking."""
        for packet in packets:
            link.air.talk.spend(now.mono, self._context.send(link, [packet], origin))

    def _step(
        self, link: Link, neighbour: Neighbour, parts: Sequence[Range], salt: Salt, now: Instant
    ) -> Ranges:
        low, parts = fit(parts, self._context.capacity(link) - _RANGES_FIELDS)
        neighbour.as_source.expect(now.mono)
        return Ranges(
            neighbour.router, self._digests.token(now), salt, self._digests.view(now), low, tuple(parts)
        )

    # --- Sketches ---------------------------------------------------------------------------------------

    def _sketch(
        self, link: Link, neighbour: Neighbour, cover: Cover, cells: int, now: Instant
    ) -> list[Sketch]:
        """So many cells of what is here, in as few packets as hold them; none where that cannot be had."""
        mine = self._context.store.records.sketch(cover.spans)
        if mine is None or neighbour.difference.beyond_sketches:
            return []
        neighbour.as_source.expect(now.mono)
        neighbour.difference.sketched = True
        room = (self._context.capacity(link) - _SKETCH_FIELDS) // CELL_SIZE
        view, proof = self._digests.view(now), neighbour.as_source.proof(now.mono)
        head = (neighbour.router, self._digests.token(now), proof, view, cover.floor, cover.ceiling)
        return [
            Sketch(*head, cover.count, cells, first, mine.encoded(first, min(first + room, cells)))
            for first in range(0, cells, room)
        ]

    def on_sketch(self, neighbour: Neighbour, sketch: Sketch, link: Link, now: Instant) -> None:
        """Cells of a neighbour's set, for this router or overheard."""
        neighbour.as_source.said_token(sketch.token, now.mono)
        is_for_me = sketch.to == self._context.router
        if is_for_me:
            self._context.timers.cancel(OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router))
        elif sketch.view == self._digests.view(now):
            self._context.timers.cancel(OfNeighbour(NeighbourDue.STEP, link.name, sketch.to))
        if not self._may_answer(neighbour, now):
            return
        cells = self._parts.join((link.name, neighbour.router), sketch)
        if not cells:
            return
        cover = Cover(sketch.floor, sketch.ceiling)
        count = sum(self._context.store.records.count(*span) for span in cover.spans)
        cover = replace(cover, count=count, lead=count - sketch.count)
        told = self._compare(cover, cells)
        if told is None and is_for_me and len(cells) == sketch.total:
            self._sketch_failed(neighbour, cover, len(cells), link, now)
        elif told is not None:
            self._parts.told((link.name, neighbour.router), sketch)
            surplus, lacks = told
            if lacks:
                room = (self._context.capacity(link) - WANT_FIELDS - 5) // SKETCH_KEY_SIZE
                wanted = [BySketchKey(lacks[:room])]
                self._asking.want(neighbour, link, sketch.token, self._digests.salt(), wanted, now)
            if is_for_me:
                gave = self._give(neighbour, surplus, sketch.proof, link, now)
                if not lacks and not gave:
                    self._add_nothing(neighbour, link, now)

    def _compare(
        self, cover: Cover, cells: Sequence[Cell]
    ) -> tuple[list[Position], tuple[SketchKey, ...]] | None:
        """The positions of what only this router accounts for, and the sketch keys of what it lacks.

        None where the sketch does not tell, or contradicts the counts.
        """
        records = self._context.store.records
        mine = records.sketch(cover.spans)
        keys = None if mine is None else mine.difference(cells)
        if keys is None:
            return None
        found = {key: records.find_sketched(key) for key in keys}
        surplus = [position for position in found.values() if position is not None]
        lacks = tuple(key for key, position in found.items() if position is None)
        return (surplus, lacks) if len(surplus) - len(lacks) == cover.lead else None

    def _sketch_failed(
        self, neighbour: Neighbour, cover: Cover, cells: int, link: Link, now: Instant
    ) -> None:
        """Answers with a larger sketch, where one may tell, or else begins with the ranges."""
        if link.air.talk.ready_in(now.mono):
            self._context.drops["air-budget"] += 1
            return
        answer: Sequence[Packet] = ()
        if cells < SKETCH_CELLS and abs(cover.lead) <= SKETCH_MOST:
            more = min(max(SKETCH_GROWTH * cells, cells_for(cover.lead)), SKETCH_CELLS)
            answer = self._sketch(link, neighbour, cover, more, now)
        if not answer:
            neighbour.difference.beyond_sketches = True
            answer = [self._opening(link, neighbour, cover.spans, cover, now)]
        self._say(link, answer, neighbour.origin, now)

    def _give(
        self, neighbour: Neighbour, surplus: Sequence[Position], proof: Token, link: Link, now: Instant
    ) -> bool:
        """Sends what the neighbour lacks: all where it shows a token, else as much as one datagram holds.

        Returns whether there is anything: what is only remembered cannot be sent.
        """
        ceiling = make_position(1, self._context.extent.ceiling(now))
        positions = [
            position for position in surplus if position < ceiling and self._context.store.holds(position)
        ]
        if not self._digests.knows_token(proof, now):
            fitting = 1
            while fitting < len(positions) and self._fits_one_datagram(positions[: fitting + 1], link):
                fitting += 1
            positions = positions[:fitting]
        self._serving.push(neighbour, positions, link, now)
        return bool(positions)

    def _add_nothing(self, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """Says that there is nothing to add to a step."""
        if link.air.talk.ready_in(now.mono):
            self._context.drops["air-budget"] += 1
        else:
            step = self._step(link, neighbour, (), self._digests.salt(), now)
            self._say(link, [step], neighbour.origin, now)

    # --- Ranges -----------------------------------------------------------------------------------------

    def on_ranges(self, neighbour: Neighbour, ranges: Ranges, link: Link, now: Instant) -> None:
        """A step of an exchange, with this router or overheard. One without ranges says: nothing to add."""
        neighbour.as_source.said_token(ranges.token, now.mono)
        if ranges.to == self._context.router:
            self._context.timers.cancel(OfNeighbour(NeighbourDue.STEP, link.name, neighbour.router))
            if ranges.parts:
                neighbour.difference.answered_by_ranges()
        if not ranges.parts:
            if ranges.to == self._context.router:
                neighbour.difference.backoff.agreed()
            return
        if not self._may_answer(neighbour, now):
            return
        reply_salt = self._digests.salt()
        findings = examine(self._context.store.records, ranges.parts, ranges.salt, reply_salt)
        if ranges.to == self._context.router:
            if findings.open and (
                sketch := self._answering_sketch(neighbour, ranges.parts, findings.open, link, now)
            ):
                self._say(link, sketch, neighbour.origin, now)
                return
            self._answer(neighbour, findings, link, reply_salt, now)
        else:
            if ranges.view == self._digests.view(now):
                self._context.timers.cancel(OfNeighbour(NeighbourDue.STEP, link.name, ranges.to))
            findings.wants = [block for block in findings.wants if block.ids is not None]
        if findings.wants:
            self._asking.want(neighbour, link, ranges.token, ranges.salt, findings.wants, now)

    def _answering_sketch(
        self, neighbour: Neighbour, parts: Sequence[Range], part: Fingerprinted, link: Link, now: Instant
    ) -> Sequence[Sketch]:
        """The sketch that answers a fingerprint; none where it would not tell, or may not be sent."""
        records = self._context.store.records
        floor = position_stamp(part.low) if part.low >= HISTORY_START else self._context.extent.floor
        cover = Cover(floor, self._context.extent.ceiling(now))
        count = sum(records.count(*span) for span in cover.spans)
        told = [one for one in parts if isinstance(one, Fingerprinted)]
        lead = sum(records.count(one.low, one.high) - one.summary.count for one in told)
        cover = replace(cover, count=count, lead=lead)
        if abs(cover.lead) > SKETCH_MOST or link.air.talk.ready_in(now.mono):
            return ()
        return self._sketch(link, neighbour, cover, cells_for(cover.lead), now)

    def on_want(self, neighbour: Neighbour, want: Want, link: Link, now: Instant) -> None:
        """A request, already granted: what it names as its sender's own is wanted, where it is not here."""
        blocks = offered(self._context.store.records, want.blocks, want.salt)
        if blocks and neighbour.as_source.proof(now.mono) != NO_TOKEN:
            self._asking.want(neighbour, link, neighbour.as_source.proof(now.mono), want.salt, blocks, now)

    def _answer(self, neighbour: Neighbour, findings: Findings, link: Link, salt: Salt, now: Instant) -> None:
        reply: list[Range] = list(findings.reply)
        if self._fits_one_datagram(findings.extra_positions, link):
            self._serving.push(neighbour, findings.extra_positions, link, now)
        else:
            reply.extend(findings.extra)
        if link.air.talk.ready_in(now.mono):
            self._context.drops["air-budget"] += 1
        elif reply or not (findings.wants or findings.extra):
            self._say(link, [self._step(link, neighbour, reply, salt, now)], neighbour.origin, now)

    def _fits_one_datagram(self, positions: Sequence[Position], link: Link) -> bool:
        """A push, which no token guards, is at most one datagram, or one record."""
        entries = [self._context.store.records.get(position) for position in positions[:64]]
        size = sum(entry.size for entry in entries if entry)
        return len(positions) <= 1 or (len(positions) < 64 and size < self._context.capacity(link) * 3 // 4)
