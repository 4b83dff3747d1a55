"""The asker's side: ASK-FILE, choosing one source among the OFFERs, and fetching until nothing is left.

One fetch at a time. `MOVES` has its states, and what moves it on.

Every WANT says all that is still wanted, lowest first, and takes the place of the one before: so none has to
arrive. The source sends the lowest first; what lies below the highest range it has sent was lost on the way.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meshchat.constants import (
    FETCH_LONGEST,
    FETCH_ROUNDS_IDLE,
    MAX_OFFERS,
    MAX_ORDERS,
    OFFER_ALIKE,
    OFFER_FAR,
    SLOWEST,
    SOURCE_SILENCE,
    STALL,
    WANT_EVERY,
    WANT_GAPS,
    WANT_KEEP,
    WANT_RETRY,
    WANT_SOON,
)
from meshchat.protocol.reconcile import short_id
from meshchat.protocol.spans import Spans, after
from meshchat.state.origin import Origin
from meshchat.wire.ids import (
    NO_SALT,
    NO_TOKEN,
    NOBODY,
    START,
    AskNonce,
    Bound,
    Position,
    RecordId,
    RouterId,
    Salt,
    SketchKey,
    Span,
    Token,
    record_id_of,
    sketch_key_of,
)
from meshchat.wire.packets import Block, BySketchKey, Offer, Wanted


class FetchState(Enum):
    """Where the asker stands: what it waits for."""

    IDLE = "nothing"
    ASKING = "offers"
    CHOOSING = "more offers, for OFFER_WAIT"
    FETCHING = "dumps of the source"


class FetchEvent(Enum):
    """What moves a fetch on."""

    ASK = "an ASK goes out"
    OFFER = "an OFFER comes that answers it"
    BEGIN = "a source is named, or another one"
    END = "all came, or the rest is left to the digests"


MOVES: Mapping[FetchState, Mapping[FetchEvent, FetchState]] = {
    FetchState.IDLE: {
        FetchEvent.ASK: FetchState.ASKING,
        FetchEvent.BEGIN: FetchState.FETCHING,
        FetchEvent.END: FetchState.IDLE,
    },
    FetchState.ASKING: {
        FetchEvent.ASK: FetchState.ASKING,
        FetchEvent.OFFER: FetchState.CHOOSING,
        FetchEvent.BEGIN: FetchState.FETCHING,
        FetchEvent.END: FetchState.IDLE,
    },
    FetchState.CHOOSING: {
        FetchEvent.OFFER: FetchState.CHOOSING,
        FetchEvent.BEGIN: FetchState.FETCHING,
        FetchEvent.END: FetchState.IDLE,
    },
    FetchState.FETCHING: {
        FetchEvent.OFFER: FetchState.FETCHING,
        FetchEvent.BEGIN: FetchState.FETCHING,
        FetchEvent.END: FetchState.IDLE,
    },
}
"""The state after each event; what is missing is passed over, such as an ASK while a source is at work."""


@dataclass(frozen=True)
class Candidate:
    """A neighbour that offered, on the link of this name; how much of what it sends to all is lost."""

    router: RouterId
    link: str
    origin: Origin
    offer: Offer
    loss: float


@dataclass(frozen=True)
class Order:
    """What one source is asked for: the blocks, the salt of the ids in them, and the source's token."""

    router: RouterId
    link: str
    token: Token
    salt: Salt
    blocks: tuple[Wanted, ...]


@dataclass
class Fetch:
    """What is still wanted, and from whom. Times are seconds, monotonic.

    `window` is the lowest range asked for less what was here, and `arrived` how many wanted records have
    come. `among`: when it began, enough records of the ranges were here to be left out. `named` are sources
    that others were heard to name while this router chose, `joined` is the one for which it left its first.
    `by_place`: a sketch told what is wanted; its sender may only remember some of it. `rest` is what a fetch
    that had brought something was still to bring when it broke off, at `rest_at`: the next one begins there.
    """

    state: FetchState = FetchState.IDLE
    nonce: AskNonce | None = None
    named: set[RouterId] = field(default_factory=set)
    candidates: list[Candidate] = field(default_factory=list)
    source: RouterId = NOBODY
    link: str = ""
    token: Token = NO_TOKEN
    salt: Salt = NO_SALT
    spans: Spans = field(default_factory=Spans)
    listed: list[Wanted] = field(default_factory=list)
    rest: list[Span] = field(default_factory=list)
    rest_at: float = 0.0
    front: Bound = START
    began_at: float = 0.0
    asked_at: float = 0.0
    heard_at: float = 0.0
    progress_at: float = 0.0
    busy_until: float = 0.0
    interval: float = 0.0
    pause: float = 0.0
    idle_rounds: int = 0
    progressed: bool = False
    brought: bool = False
    arrived: int = 0
    window: Block | None = None
    by_place: bool = False
    among: bool = False
    joined: RouterId = NOBODY
    later: deque[Order] = field(default_factory=deque)

    def ask(self, nonce: AskNonce) -> None:
        """An ASK-FILE went out; earlier offers are void."""
        if self._moves(FetchEvent.ASK):
            self.nonce, self.candidates = nonce, []
            self.named.clear()

    def _moves(self, event: FetchEvent) -> bool:
        """Goes on to the next state; whether the event has a meaning in this one."""
        after_it = MOVES[self.state].get(event)
        self.state = after_it or self.state
        return after_it is not None

    def offered(self, candidate: Candidate) -> bool:
        """An OFFER came; True where it is the first one, from which the choice is timed.

        One that comes when the choice is made is kept for when the source fails.
        """
        first = self.state is FetchState.ASKING
        if candidate.offer.nonce != self.nonce or not self._moves(FetchEvent.OFFER):
            return False
        others = [one for one in self.candidates if one.origin != candidate.origin]
        self.candidates = [*others[-MAX_OFFERS + 1 :], candidate]
        return first

    def choose(self) -> Candidate | None:
        """The best offer left; None where there is none.

        Near before far; of those with about as much as the most, one that is sending already, whose multicast
        serves one more at no cost.
        """
        if not self.candidates:
            return None
        most = max(one.offer.records for one in self.candidates)

        def merit(one: Candidate) -> tuple[bool, bool, int, RouterId]:
            has_most = one.offer.records >= OFFER_ALIKE * most
            streams = one.offer.streams + (one.router in self.named)
            return has_most, one.loss < OFFER_FAR, streams, one.router

        best = max(self.candidates, key=merit)
        self.candidates.remove(best)
        return best

    def begin(self, order: Order, now: float, pause: float) -> None:
        """Everything in the order is wanted; `pause` is for how many seconds a source may be silent."""
        self._moves(FetchEvent.BEGIN)
        self.source, self.link, self.token, self.salt = (
            order.router,
            order.link,
            order.token,
            order.salt,
        )
        ranged = [block for block in order.blocks if isinstance(block, Block) and block.ids is None]
        self.spans = Spans((block.low, block.high) for block in ranged)
        self.listed = [block for block in order.blocks if block not in ranged]
        self.arrived, self.window = 0, None
        self.by_place = all(isinstance(block, BySketchKey) for block in order.blocks)
        self.front = START
        self.began_at = self.asked_at = self.heard_at = self.progress_at = now
        self.pause, self.interval = pause, 0.0
        self.busy_until = now + max(STALL, pause)
        self.idle_rounds, self.progressed, self.brought = 0, False, False

    def others_name(self, source: RouterId, link: str) -> bool:
        """Another router was heard naming its source for whole ranges; whether to leave one's own for it.

        Once in a fetch, and only for a higher id: so two never change places, and no liar drives it about.
        """
        if self.state in (FetchState.ASKING, FetchState.CHOOSING) and len(self.named) < MAX_OFFERS:
            self.named.add(source)
        same_air = self.active and self.is_shareable and link == self.link
        return same_air and self.joined == NOBODY and source > self.source

    @property
    def is_shareable(self) -> bool:
        """Whether what is wanted may serve others too: whole ranges of which nothing is left out."""
        return bool(self.spans) and not self.among

    def queue(self, order: Order) -> None:
        """The source of the fetch under way has more that is wanted: it is asked for next."""
        if order.router == self.source and order.link == self.link and len(self.later) < MAX_ORDERS:
            self.later.append(order)

    @property
    def active(self) -> bool:
        """Whether a dump is awaited."""
        return self.state is FetchState.FETCHING

    def busy(self, now: float) -> bool:
        """Whether a dump is coming in; one that stalls does not keep other sources out."""
        return self.active and now < self.busy_until

    @property
    def choosing(self) -> bool:
        """Whether offers are being gathered."""
        return self.state is FetchState.CHOOSING

    def silent(self, now: float) -> bool:
        """Whether the source has brought nothing for so long that it is given up."""
        patience = max(SOURCE_SILENCE, 2 * self.pause) * (2 if self.brought else 1)
        return now >= self.progress_at + patience

    @property
    def retry_at(self) -> float:
        """When the source is to be asked again if nothing comes from it."""
        return max(self.asked_at, self.heard_at) + max(WANT_RETRY, 4 * self.interval)

    def too_long(self, now: float) -> bool:
        """Whether this source has had its time."""
        return now - self.began_at > FETCH_LONGEST

    def received(self, position: Position, size: int, now: float, *, from_source: bool) -> None:
        """A record of `size` bytes arrived as a repair: it is wanted no more.

        Only what was wanted and comes from the source shows that the source is at work.
        """
        in_spans = position in self.spans
        if in_spans:
            self.spans.remove(position, after(position))
        wanted = self.strike(position) or in_spans
        self.arrived += wanted
        if wanted and from_source:
            self.progressed = self.brought = True
            self.progress_at = now
            bought = max(self.busy_until, now) + size / SLOWEST
            self.busy_until = max(self.busy_until, now + self.pause, min(now + SOURCE_SILENCE, bought))

    def heard(self, low: Bound, high: Bound, now: float) -> bool:
        """A DUMP of the source; whether it is time to tell it what is missing.

        The source holds nothing more from `low` up to `high`. Saying so is no progress: anybody could.
        """
        self.interval += (min(now - self.heard_at, 1.0) - self.interval) / 8
        self.heard_at = now
        at_front = low < high and low >= self.front
        self.front = max(self.front, high)
        self.spans.remove(low, high)
        since = now - self.asked_at
        gaps = self.spans.ending_by(self.front) if at_front else 0
        many = gaps >= WANT_GAPS and since >= max(WANT_RETRY, 4 * self.interval)
        keep = (
            min(WANT_KEEP, max(WANT_SOON, self.asked_at - self.began_at)) if self.is_shareable else WANT_KEEP
        )
        return many or (gaps > 0 and since >= WANT_EVERY) or since >= keep

    def strike(self, position: Position) -> bool:
        """A listed record is here: it is not asked for again. Whether it was listed."""
        if not self.listed:
            return False
        return self._strike_key(sketch_key_of(position)) or self._strike_id(record_id_of(position))

    def _strike_id(self, record_id: RecordId) -> bool:
        short = short_id(self.salt, record_id)
        for number, block in enumerate(self.listed):
            if isinstance(block, Block) and block.ids and short in block.ids:
                left = tuple(one for one in block.ids if one != short)
                self.listed[number : number + 1] = [Block(block.low, block.high, left)] if left else []
                return True
        return False

    def _strike_key(self, key: SketchKey) -> bool:
        for number, block in enumerate(self.listed):
            if isinstance(block, BySketchKey) and key in block.keys:
                left = tuple(one for one in block.keys if one != key)
                self.listed[number : number + 1] = [BySketchKey(left)] if left else []
                return True
        return False

    def blocks(self) -> list[Wanted]:
        """What is still wanted."""
        return [*(Block(low, high, None) for low, high in self.spans), *self.listed]

    def next_round(self) -> bool:
        """The source is through and something is missing: whether to ask it again."""
        self.idle_rounds = 0 if self.progressed else self.idle_rounds + 1
        self.progressed = False
        return self.idle_rounds < FETCH_ROUNDS_IDLE

    @property
    def pays(self) -> bool:
        """Whether at least a quarter as many came as were named as here: the next window will be like it."""
        return self.window is not None and 4 * self.arrived >= len(self.window.but)

    def end(self, now: float) -> None:
        """Nothing more is wanted, or the rest is left to the digests."""
        if self.brought and self.spans:
            self.rest, self.rest_at = list(self.spans), now
        self._moves(FetchEvent.END)
        self.source, self.spans, self.listed, self.joined = NOBODY, Spans(), [], NOBODY
        self.later.clear()

    def resume(self, now: float) -> list[Span]:
        """What a fetch that broke off lately had left to bring; empty where there was none."""
        rest, self.rest = self.rest, []
        return rest if now - self.rest_at < FETCH_LONGEST else []
