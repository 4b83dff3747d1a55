"""What this router says of itself, and how it judges what a neighbour says."""

import hashlib
from dataclasses import dataclass, replace
from enum import Enum

from meshchat.constants import AHEAD_MS, NEWS_MS, TOKEN_EPOCH, VERSION
from meshchat.protocol.context import Context
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.repair.fetch import Fetch
from meshchat.state.flow import Flow
from meshchat.state.neighbour import Neighbour
from meshchat.state.reach import hears_filter
from meshchat.state.receipts import Receipts
from meshchat.wire.ids import (
    BOOT_ID_SIZE,
    SALT_SIZE,
    TOKEN_SIZE,
    VIEW_SIZE,
    BootId,
    HearsFilter,
    Salt,
    Span,
    Token,
    TokenSecret,
    View,
)
from meshchat.wire.packets import Digest, Scope, Summary
from meshchat.wire.records import MAX_STAMP, Grade, make_position, make_stamp

DEAF = 0.75
"""A neighbour of whose frames more gets lost is not counted as heard."""

_RELEASE = bytes(int(part) for part in VERSION.split("."))


_NO_ECHO = BootId(bytes(BOOT_ID_SIZE))
"""What a router echoes that has heard none."""


def _has_clock(neighbour: Neighbour) -> bool:
    return neighbour.said.digest is not None and neighbour.said.digest.clock.grade is Grade.GOOD


class Verdict(Enum):
    """What comparing a neighbour's digest came to."""

    EQUAL = "equal"
    DIFFERENT = "different"
    CANNOT = "cannot"


@dataclass(frozen=True)
class Cover:
    """What two routers compare: dated history stamped `floor` on, and of both strata what is below `ceiling`.

    `count` is how many records are here of it, `lead` how many more than there.
    """

    floor: int
    ceiling: int
    count: int = 0
    lead: int = 0

    @property
    def spans(self) -> tuple[Span, Span]:
        """The undated and the dated part."""
        undated = make_position(0, 0), make_position(0, self.ceiling)
        return undated, (make_position(1, self.floor), make_position(1, self.ceiling))


class Digests:
    """Digests in both directions, and the tokens and salts that go with what is said."""

    def __init__(
        self,
        context: Context,
        receipts: Receipts,
        fetch: Fetch,
        *,
        boot: BootId,
        secret: TokenSecret,
    ) -> None:
        """`boot` is 8 random bytes, `secret` 16: tokens are made from it."""
        self._context, self._receipts, self._fetch = context, receipts, fetch
        self._boot, self._secret = boot, secret
        self._flow = Flow()

    def is_fetching(self, now: Instant) -> bool:
        """Whether a dump is coming in: what is said now is out of date by the next second."""
        return self._fetch.choosing or self._fetch.busy(now.mono)

    def arrived(self, stamp: int, now: Instant) -> None:
        """A new record is being flooded: the neighbours may not have it yet."""
        if stamp >= make_stamp(max(0, self._context.clock.now_ms(now) - NEWS_MS)):
            self._flow.arrived(stamp, now.mono)

    def _until(self, now: Instant) -> int:
        """The lowest stamp that may still be on its way to the neighbours."""
        lowest = self._flow.lowest(now.mono)
        return MAX_STAMP if lowest is None else lowest

    def digest(self, link: Link, now: Instant) -> Digest:
        """What this router holds, in constant size, less what is still on its way."""
        until = self._until(now)
        undated, history = self._context.extent.summaries(now, until)
        scope = Scope.ALL | Scope.FETCHING if self.is_fetching(now) else Scope.ALL
        clock, floor = self._context.clock.claim(now), self._context.extent.floor
        echo, number = self._echo(link, now), link.next_number()
        hears = self._hears(link, number, now)
        return Digest(self._boot, echo, _RELEASE, clock, scope, floor, undated, history, hears, until, number)

    def _hears(self, link: Link, number: int, now: Instant) -> HearsFilter:
        around = self._context.neighbours.around(now.mono, link.name)
        return hears_filter((one.router for one in around if one.reception.loss < DEAF), number)

    def _echo(self, link: Link, now: Instant) -> BootId:
        """The boot id of the neighbour echoed least lately, those first who look for a clock to follow."""
        heard = [
            one for one in self._context.neighbours.alive(now.mono, link.name) if one.said.digest is not None
        ]
        if not heard:
            return _NO_ECHO
        chosen = min(heard, key=lambda one: (_has_clock(one), one.said.echoed_at))
        chosen.said.echoed_at = now.mono
        return chosen.said.digest.boot if chosen.said.digest else _NO_ECHO

    def view(self, now: Instant) -> View:
        """All that is held here, in 8 bytes."""
        undated, history = self._context.extent.summaries(now)
        both = undated.fingerprint + history.fingerprint
        return View(hashlib.blake2b(both, digest_size=VIEW_SIZE).digest())

    def send_digest(self, link: Link, now: Instant) -> None:
        """Says what is held here."""
        link.doubts.told()
        self._context.send(link, [self.digest(link, now)])

    def compare(self, theirs: Digest, now: Instant) -> tuple[Verdict, list[Span]]:
        """The verdict on a neighbour's digest, and the spans that differ or may differ.

        It is judged above the higher floor and below the lower ceiling, by the side that can compute both.
        """
        until = self._until(now)
        if theirs.until == until == MAX_STAMP and self._context.extent.summaries(now) == (
            theirs.undated,
            theirs.history,
        ):
            return Verdict.EQUAL, []
        if theirs.scope & Scope.FETCHING:
            return Verdict.CANNOT, []
        speaks_of_history = self._can_judge_history(theirs, now)
        undated, dated = self._context.extent.spans(now, theirs.floor, self._ceiling(theirs))
        spans = []
        if theirs.scope & Scope.UNDATED and self._summary(undated) != theirs.undated:
            spans.append(undated)
        if theirs.scope & Scope.HISTORY and speaks_of_history and self._summary(dated) != theirs.history:
            spans.append(dated)
        if spans and until < theirs.until:
            # What differs may be what is on its way; soon the two speak of the same again.
            return Verdict.CANNOT, spans
        if spans:
            return Verdict.DIFFERENT, spans
        return (Verdict.EQUAL if speaks_of_history else Verdict.CANNOT), []

    def _can_judge_history(self, theirs: Digest, now: Instant) -> bool:
        behind = theirs.clock.time_ms > self._context.clock.now_ms(now) + AHEAD_MS
        return theirs.floor >= self._context.extent.floor and not behind

    @staticmethod
    def _ceiling(theirs: Digest) -> int:
        return min(make_stamp(theirs.clock.time_ms + AHEAD_MS), theirs.until)

    def cover(self, theirs: Digest, now: Instant) -> Cover | None:
        """What a sketch for this neighbour speaks of, in both strata; None where not all can be compared."""
        if theirs.scope & Scope.ALL != Scope.ALL or not self._can_judge_history(theirs, now):
            return None
        floor, ceiling = max(theirs.floor, self._context.extent.floor), self._context.extent.ceiling(now)
        cover = Cover(floor, min(ceiling, self._ceiling(theirs)))
        count = sum(self._context.store.records.count(*span) for span in cover.spans)
        return replace(cover, count=count, lead=count - theirs.undated.count - theirs.history.count)

    def _summary(self, span: Span) -> Summary:
        return self._context.store.records.summary(*span)

    def note(self, neighbour: Neighbour, digest: Digest, now: Instant) -> None:
        """Keeps the digest; a new boot has to show anew that it is live."""
        if neighbour.said.has_restarted(digest):
            neighbour.reception.restarted()
        neighbour.reception.heard(digest.number)
        if neighbour.said.holds_other(digest) and neighbour.as_asker.took():
            neighbour.difference.moved()
        neighbour.said.take(digest, now.mono, ours=self._boot)
        self._receipts.spoke(neighbour)

    def agreed(self, neighbour: Neighbour, digest: Digest, now: Instant) -> None:
        """A digest is EQUAL: the neighbour has what was written here, of all that both speak for."""
        if digest.scope & Scope.ALL == Scope.ALL:
            undated, dated = self._context.extent.spans(now, digest.floor, self._ceiling(digest))
            self._receipts.agrees(neighbour, undated, dated)

    def count(self, now: Instant) -> int:
        """How many records this router speaks for."""
        return sum(summary.count for summary in self._context.extent.summaries(now))

    def salt(self) -> Salt:
        """8 random bytes."""
        return Salt(self._context.random.randbytes(SALT_SIZE))

    def knows_token(self, token: Token, now: Instant) -> bool:
        """Whether the token is this router's, of this epoch or the one before."""
        return token in (self.token(now), self.token(now, -1))

    def token(self, now: Instant, epochs: int = 0) -> Token:
        """The token of this epoch, or of one so many later: it shows that a request is no recording."""
        epoch = int(now.mono // TOKEN_EPOCH) + epochs
        digest = hashlib.blake2b(
            epoch.to_bytes(8, "big", signed=True), digest_size=TOKEN_SIZE, key=self._secret
        )
        return Token(digest.digest())
