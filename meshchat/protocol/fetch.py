"""The asker's side: ASK-FILE, choosing one source among the OFFERs, and fetching until nothing is left.

One fetch at a time. Its states, and what moves it on:

| state    | what is awaited             | next                                                 |
| -------- | --------------------------- | ---------------------------------------------------- |
| IDLE     | nothing                     | ASKING when an interface comes up or a source fails  |
| ASKING   | OFFERs                      | CHOOSING at the first one                            |
| CHOOSING | more, for `OFFER_WAIT`      | FETCHING from the best; IDLE to narrow a difference  |
| FETCHING | DUMPs of the source         | IDLE when all came; another source when it is silent |
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from meshchat.constants import FETCH_LONGEST, FETCH_ROUNDS_IDLE, MAX_OFFERS, SOURCE_SILENCE, STALL
from meshchat.protocol.reconcile import Span, after, coalesce, short_id, subtract
from meshchat.state.sketch import place_of
from meshchat.wire.packets import Block, Offer, Places, Wanted
from meshchat.wire.records import RECORD_ID_SIZE

MAX_ORDERS = 16
"""Orders that wait for the one under way: the answers to one step of an exchange make two."""


class FetchState(Enum):
    """Where the asker stands."""

    IDLE = "idle"
    ASKING = "asking"
    CHOOSING = "choosing"
    FETCHING = "fetching"


@dataclass(frozen=True)
class Candidate:
    """A neighbour that offered, on an interface, from an IPv4 address."""

    router: bytes
    interface: str
    host: str
    offer: Offer


@dataclass(frozen=True)
class Order:
    """What one source is asked for: the blocks, the salt of the ids in them, and the source's token."""

    router: bytes
    interface: str
    token: bytes
    salt: bytes
    blocks: tuple[Wanted, ...]


@dataclass
class Fetch:
    """What is still wanted, and from whom. Times are seconds, monotonic.

    `window` is what was last asked for less what was here, and `arrived` how many wanted records have come.
    `by_place`: a sketch told what is wanted; its sender may only remember some of it.
    """

    state: FetchState = FetchState.IDLE
    nonce: bytes = b""
    candidates: list[Candidate] = field(default_factory=list)
    source: bytes = b""
    interface: str = ""
    token: bytes = b""
    salt: bytes = b""
    spans: list[Span] = field(default_factory=list)
    listed: list[Wanted] = field(default_factory=list)
    began_at: float = 0.0
    progress_at: float = 0.0
    pause: float = 0.0
    idle_rounds: int = 0
    progressed: bool = False
    brought: bool = False
    arrived: int = 0
    window: Block | None = None
    by_place: bool = False
    later: deque[Order] = field(default_factory=deque)

    def ask(self, nonce: bytes) -> None:
        """An ASK-FILE went out; earlier offers are void."""
        if self.state in (FetchState.IDLE, FetchState.ASKING):
            self.state, self.nonce, self.candidates = FetchState.ASKING, nonce, []

    def offered(self, candidate: Candidate) -> bool:
        """An OFFER came; True where it is the first one, from which the choice is timed."""
        offer = candidate.offer
        if self.state not in (FetchState.ASKING, FetchState.CHOOSING) or offer.nonce != self.nonce:
            return False
        first = self.state is FetchState.ASKING
        self.state = FetchState.CHOOSING
        others = [one for one in self.candidates if one.host != candidate.host]
        self.candidates = [*others[-MAX_OFFERS + 1 :], candidate]
        return first

    def choose(self) -> Candidate | None:
        """The best offer left: most records, then least busy; None where there is none."""
        if not self.candidates:
            return None
        best = max(self.candidates, key=lambda one: (one.offer.records, -one.offer.streams, one.router))
        self.candidates.remove(best)
        return best

    def begin(self, order: Order, now: float, pause: float) -> None:
        """Everything in the order is wanted; `pause` is for how many seconds a source may be silent."""
        self.state = FetchState.FETCHING
        self.source, self.interface, self.token, self.salt = (
            order.router,
            order.interface,
            order.token,
            order.salt,
        )
        ranged = [block for block in order.blocks if isinstance(block, Block) and block.ids is None]
        self.spans = coalesce((block.low, block.high) for block in ranged)
        self.listed = [block for block in order.blocks if block not in ranged]
        self.began_at = self.progress_at = now
        self.pause = pause
        self.idle_rounds, self.progressed, self.brought = 0, False, False
        self.arrived, self.window = 0, None
        self.by_place = all(isinstance(block, Places) for block in order.blocks)

    def queue(self, order: Order) -> None:
        """The source of the fetch under way has more that is wanted: it is asked for next."""
        if order.router == self.source and order.interface == self.interface and len(self.later) < MAX_ORDERS:
            self.later.append(order)

    @property
    def active(self) -> bool:
        """Whether a dump is awaited."""
        return self.state is FetchState.FETCHING

    def busy(self, now: float) -> bool:
        """Whether a dump is coming in; one that stalls does not keep other sources out."""
        return self.active and now - self.progress_at < max(STALL, self.pause)

    @property
    def deadline(self) -> float:
        """When the source counts as silent."""
        return self.progress_at + max(SOURCE_SILENCE, 2 * self.pause)

    def too_long(self, now: float) -> bool:
        """Whether this source has had its time."""
        return now - self.began_at > FETCH_LONGEST

    def received(self, position: bytes, now: float, *, from_source: bool) -> None:
        """A record arrived, by whatever way: it is wanted no more.

        Only what was wanted and comes from the source shows that the source is at work.
        """
        before = self.spans
        self.spans = subtract(self.spans, position, after(position))
        listed = self._strike_place(place_of(position)) or self.strike(position[-RECORD_ID_SIZE:])
        wanted = listed or self.spans != before
        self.arrived += wanted
        if wanted and from_source:
            self.progressed = self.brought = True
            self.progress_at = now

    def settled(self, low: bytes, high: bytes) -> None:
        """The source holds nothing more in a range. Saying so is no progress: anybody could."""
        self.spans = subtract(self.spans, low, high)

    def strike(self, record_id: bytes) -> bool:
        """A listed record is here: it is not asked for again. Whether it was listed."""
        if not self.listed:
            return False
        short = short_id(self.salt, record_id)
        for number, block in enumerate(self.listed):
            if isinstance(block, Block) and block.ids and short in block.ids:
                left = tuple(one for one in block.ids if one != short)
                self.listed[number : number + 1] = [Block(block.low, block.high, left)] if left else []
                return True
        return False

    def _strike_place(self, place: bytes) -> bool:
        for number, block in enumerate(self.listed):
            if isinstance(block, Places) and place in block.places:
                left = tuple(one for one in block.places if one != place)
                self.listed[number : number + 1] = [Places(left)] if left else []
                return True
        return False

    def blocks(self) -> list[Wanted]:
        """What is still wanted."""
        return [*(Block(low, high, None) for low, high in self.spans), *self.listed]

    def next_round(self, now: float) -> bool:
        """The source is through or silent and something is missing: whether to ask it again."""
        self.idle_rounds = 0 if self.progressed else self.idle_rounds + 1
        self.progressed = False
        self.progress_at = now
        return self.idle_rounds < FETCH_ROUNDS_IDLE

    @property
    def pays(self) -> bool:
        """Whether at least a quarter as many came as were named as here: the next window will be like it."""
        return self.window is not None and 4 * self.arrived >= len(self.window.but)

    def end(self) -> None:
        """Nothing more is wanted, or the rest is left to the digests."""
        self.state = FetchState.IDLE
        self.source, self.spans, self.listed = b"", [], []
        self.later.clear()
