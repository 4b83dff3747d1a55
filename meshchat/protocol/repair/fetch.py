"""One fetch: ASK-FILE, choosing one source among the OFFERs, and fetching until nothing is left.

One fetch at a time. `MOVES` has its states, and what moves it on.

Every WANT says all that is still wanted, lowest first, and takes the place of the one before: so none has to
arrive. The source sends the lowest first; what lies below the highest range it has sent was lost on the way.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meshchat.constants import FETCH_LONGEST
from meshchat.protocol.repair.offers import Candidate, Offers
from meshchat.protocol.repair.outstanding import Outstanding
from meshchat.protocol.repair.progress import Progress
from meshchat.wire.ids import START, AskNonce, Bound, Position, RouterId, Salt, Span, Token
from meshchat.wire.packets import Block, BySketchKey, Dump, Wanted

MAX_ORDERS = 16
"""Requests that wait for the fetch under way: the answers to one step of an exchange make two."""


class FetchState(Enum):
    """What is waited for."""

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
class Order:
    """What one source is asked for."""

    router: RouterId
    """The source."""

    link: str
    """The name of the link that it is heard on."""

    token: Token
    """The source's, to be shown to it."""

    salt: Salt
    """Of the short ids in the blocks."""

    blocks: tuple[Wanted, ...]


@dataclass
class Window:
    """A range that was asked for less what is here of it: whether the next one may be asked for likewise."""

    block: Block | None = None
    """The lowest such range."""

    arrived: int = 0
    """How many wanted records have come."""

    def asked(self, block: Block) -> None:
        """This range was asked for, less what is here of it."""
        if block.but and (self.block is None or block.low < self.block.low):
            self.block = block

    @property
    def pays(self) -> bool:
        """Whether at least a quarter as many came as were named as here: the next window will be like it."""
        return self.block is not None and 4 * self.arrived >= len(self.block.but)


@dataclass
class Fetch:
    """What is still wanted, and from whom. Times are seconds, monotonic."""

    state: FetchState = FetchState.IDLE
    offers: Offers = field(default_factory=Offers)

    order: Order | None = None
    """What the source was asked for; None while none is at work."""

    outstanding: Outstanding = field(default_factory=Outstanding)
    """What that has not brought yet."""

    progress: Progress = field(default_factory=Progress)
    window: Window = field(default_factory=Window)

    leaves_out: bool = False
    """When it began, enough records of the ranges were here to be left out."""

    later: deque[Order] = field(default_factory=deque)
    """What the same source is asked for when this has come."""

    _front: Bound = START
    _joined: RouterId | None = None
    _broke_off: tuple[list[Span], float] = field(default_factory=lambda: ([], 0.0))

    def _moves(self, event: FetchEvent) -> bool:
        """Goes on to the next state; whether the event has a meaning in this one."""
        after_it = MOVES[self.state].get(event)
        self.state = after_it or self.state
        return after_it is not None

    # --- Choosing a source ------------------------------------------------------------------------------

    def ask(self, nonce: AskNonce) -> None:
        """An ASK-FILE went out; earlier offers are void."""
        if self._moves(FetchEvent.ASK):
            self.offers.ask(nonce)

    def offered(self, candidate: Candidate) -> bool:
        """An OFFER came; True where it is the first one, from which the choice is timed.

        One that comes when the choice is made is kept for when the source fails.
        """
        first = self.state is FetchState.ASKING
        if not self.offers.answers(candidate) or not self._moves(FetchEvent.OFFER):
            return False
        self.offers.add(candidate)
        return first

    @property
    def choosing(self) -> bool:
        """Whether offers are being gathered."""
        return self.state is FetchState.CHOOSING

    def others_name(self, source: RouterId, link: str) -> bool:
        """Another router was heard naming its source for whole ranges; whether to leave one's own for it.

        Once in a fetch, and only for a higher id: so two never change places, and no liar drives it about.
        """
        if self.state in (FetchState.ASKING, FetchState.CHOOSING):
            self.offers.others_name(source)
        if not self.active or self.order is None or not self.is_shareable or self._joined is not None:
            return False
        return link == self.order.link and source > self.order.router

    # --- From one source --------------------------------------------------------------------------------

    def begin(self, order: Order, now: float, pause: float) -> None:
        """Everything in the order is wanted; `pause` is for how many seconds a source may be silent."""
        self._moves(FetchEvent.BEGIN)
        self.order, self.outstanding = order, Outstanding(order.blocks, order.salt)
        self.progress, self.window = Progress.begun(now, pause), Window()
        self._front = START
        self.leaves_out = False

    def leave_out_mine(self) -> None:
        """A WANT is to say what is here already: then it serves nobody else."""
        self.leaves_out = True

    def join(self, order: Order, now: float, pause: float) -> None:
        """The same, from the source of another router."""
        self.begin(order, now, pause)
        self._joined = order.router

    def has_joined(self, source: RouterId) -> bool:
        """Whether it was left for this source, which others say is good."""
        return source == self._joined

    def queue(self, order: Order) -> None:
        """The source of the fetch under way has more that is wanted: it is asked for next."""
        if self.is_from(order.router, order.link) and len(self.later) < MAX_ORDERS:
            self.later.append(order)

    def is_from(self, source: RouterId, link: str) -> bool:
        """Whether the fetch under way is from this source on this link."""
        return self.order is not None and (self.order.router, self.order.link) == (source, link)

    @property
    def source(self) -> RouterId | None:
        """The source of the fetch under way."""
        return self.order.router if self.order else None

    @property
    def is_shareable(self) -> bool:
        """Whether what is wanted may serve others too: whole ranges of which nothing is left out."""
        return bool(self.outstanding.spans) and not self.leaves_out

    @property
    def is_by_sketch_key(self) -> bool:
        """Whether a sketch told what is wanted: its sender may only remember some of it."""
        return self.order is not None and all(isinstance(block, BySketchKey) for block in self.order.blocks)

    @property
    def active(self) -> bool:
        """Whether a dump is awaited."""
        return self.state is FetchState.FETCHING

    def busy(self, now: float) -> bool:
        """Whether a dump is coming in; one that stalls does not keep other sources out."""
        return self.active and now < self.progress.busy_until

    def received(self, position: Position, size: int, now: float, *, from_source: bool) -> None:
        """A record of `size` bytes arrived as a repair: it is wanted no more.

        Only what was wanted and comes from the source shows that the source is at work.
        """
        wanted = self.outstanding.received(position)
        self.window.arrived += wanted
        if wanted and from_source:
            self.progress.brought_record(size, now)

    def heard(self, dump: Dump, now: float) -> bool:
        """A DUMP of the source; whether it is time to tell it what is missing.

        The source holds nothing more between the bounds of the dump. Saying so is no progress: anybody could.
        """
        self.progress.heard(now)
        at_front = dump.low < dump.high and dump.low >= self._front
        self._front = max(self._front, dump.high)
        self.outstanding.settled(dump.low, dump.high)
        gaps = self.outstanding.spans.ending_by(self._front) if at_front else 0
        return self.progress.is_time_to_ask(gaps, now, for_all=self.is_shareable)

    # --- The end ----------------------------------------------------------------------------------------

    def end(self, now: float) -> None:
        """Nothing more is wanted, or the rest is left to the digests."""
        if self.progress.brought and self.outstanding.spans:
            self._broke_off = list(self.outstanding.spans), now
        self._moves(FetchEvent.END)
        self.order, self.outstanding, self._joined = None, Outstanding(), None
        self.later.clear()

    def resume(self, now: float) -> list[Span]:
        """What a fetch that broke off lately had left to bring; empty where there was none."""
        (rest, at), self._broke_off = self._broke_off, ([], 0.0)
        return rest if now - at < FETCH_LONGEST else []
