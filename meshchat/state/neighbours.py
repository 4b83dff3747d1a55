"""The routers heard directly, on each link."""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshchat.constants import (
    EXCHANGE_FREE_TRIES,
    EXCHANGE_RETRY,
    EXCHANGE_RETRY_MAX,
    MAX_AN_ORIGIN,
    MAX_NEIGHBOURS,
    NEIGHBOUR_FRESH,
    NEIGHBOUR_LIFETIME,
    SHUN,
    SHUN_MAX,
    TOKEN_EPOCH,
)
from meshchat.state.origin import Origin
from meshchat.state.reach import Reach
from meshchat.state.reception import Reception
from meshchat.wire.ids import NO_BOOT, NO_TOKEN, AskNonce, BootId, RouterId, Token
from meshchat.wire.packets import Digest


@dataclass
class Backoff:
    """Paces exchanges with one neighbour. Times are seconds, monotonic.

    A full exchange that moves no record either way is repeated ever more rarely: a router that remembers what
    it wiped by hand differs for ever from one that never had it. The newest records are compared apart from
    that whenever either side has changed, until the other one answers, so that what gets lost now is not held
    up by what cannot be mended.
    """

    _tries: int = 0
    _not_before: float = 0.0
    _recent: object = None
    _recent_wait: float = 0.0
    _recent_at: float = -math.inf
    _recent_not_before: float = 0.0
    full: bool = False

    def allows_full(self, now: float) -> bool:
        """Whether a full exchange may start."""
        return now >= self._not_before

    def started_full(self, now: float) -> None:
        """A full exchange starts now."""
        doublings = max(0, self._tries + 1 - EXCHANGE_FREE_TRIES)
        self._not_before = now + min(EXCHANGE_RETRY * 2**doublings, EXCHANGE_RETRY_MAX)
        self._tries = min(self._tries + 1, 64)
        self.full = True

    def allows_recent(self, now: float, state: object) -> bool:
        """Whether the newest records may be compared; `state` is what the two sides hold."""
        if state != self._recent:
            self._recent, self._recent_wait = state, EXCHANGE_RETRY
            self._recent_not_before = self._recent_at + EXCHANGE_RETRY
        return now >= self._recent_not_before

    def started_recent(self, now: float) -> None:
        """The newest records are compared now."""
        self._recent_at = now
        self._recent_not_before = now + self._recent_wait
        self._recent_wait = min(2 * self._recent_wait, EXCHANGE_RETRY_MAX)
        self.full = False

    def agreed(self) -> None:
        """The other side has nothing to add to the last step: not until something changes."""
        self._recent_not_before = math.inf

    def moved(self) -> None:
        """Records went one way or the other; if by a full exchange, the next one may follow soon."""
        if self.full:
            self._tries, self._not_before = 0, 0.0

    def over(self) -> None:
        """Both agree: the next difference is a new one."""
        self._tries, self._not_before, self._recent = 0, 0.0, None


@dataclass
class Neighbour:
    """One router on one link. Times are seconds, monotonic.

    `differs_since` is when its digest was first seen to differ; `asked` is the nonce of its last ASK-FILE;
    `live`: it has echoed something of this router's present run; `echoed_at` is when it was echoed itself;
    `greeted`: since it was last heard anew it was told what is held here; `asked_until`: so long, records
    from it answer something that this router said; `gave`: it asked for records that were sent, or was given
    some; `gives_until`: so long, more of what it gives unasked is awaited; `token`: the last it gave, at
    `token_at`; `sketched`: the last step towards it was a sketch; `beyond_sketches`: since both last agreed,
    one did not tell what differs; `reach` is whom it hears itself; `want_token` is that of its last WANT,
    which came at `wanted_at`, `shown` that of the last one sent to it; `stopped_at`: it was told then that
    nothing more is wanted; `told` is the boot id of the run in which it was told who is present.
    """

    router: RouterId
    link: str
    origin: Origin
    last_heard: float
    first_heard: float
    digest: Digest | None = None
    digest_at: float = 0.0
    differs_since: float | None = None
    asked: AskNonce | None = None
    live: bool = False
    greeted: bool = False
    echoed_at: float = -1e9
    shunned_until: float = -1e9
    asked_until: float = -1e9
    gave: bool = False
    reach: Reach = field(default_factory=Reach)
    reception: Reception = field(default_factory=Reception)
    gives_until: float = -1e9
    token: Token = NO_TOKEN
    token_at: float = -1e9
    sketched: bool = False
    beyond_sketches: bool = False
    want_token: Token | None = None
    wanted_at: float = -1e9
    shown: Token | None = None
    stopped_at: float = -1e9
    told: BootId = NO_BOOT
    _shunned: int = 0
    backoff: Backoff = field(default_factory=Backoff)

    def said_token(self, token: Token, now: float) -> None:
        """It gave a token, to be shown to it."""
        self.token, self.token_at = token, now

    def proof(self, now: float) -> Token:
        """The token to show it, zeros where it gave none that is still good."""
        return self.token if now - self.token_at < TOKEN_EPOCH else NO_TOKEN

    def shun(self, now: float) -> None:
        """It offered, and brought nothing: leave it alone for a while, longer each time."""
        self.shunned_until = now + min(SHUN * 2**self._shunned, SHUN_MAX)
        self._shunned = min(self._shunned + 1, 32)

    def trust(self) -> None:
        """It brought what it offered."""
        self._shunned = 0

    def fresh(self, now: float) -> bool:
        """Whether it was heard so lately that it can be expected to hear."""
        return now - self.last_heard <= NEIGHBOUR_FRESH


class Neighbours:
    """At most 512; the one not heard for longest is forgotten first."""

    def __init__(self) -> None:
        self._table: OrderedDict[tuple[str, RouterId], Neighbour] = OrderedDict()

    def heard(self, router: RouterId, link: str, origin: Origin, now: float) -> Neighbour:
        """The neighbour that was just heard, new or known."""
        key = (link, router)
        neighbour = self._table.get(key)
        if neighbour is None or now - neighbour.last_heard > NEIGHBOUR_LIFETIME:
            neighbour = self._table[key] = Neighbour(router, link, origin, now, now)
        neighbour.last_heard = now
        neighbour.origin = origin
        self._table.move_to_end(key)
        if len(self._table) > MAX_NEIGHBOURS:
            self._table.popitem(last=False)
        return neighbour

    def get(self, router: RouterId, link: str) -> Neighbour | None:
        """The neighbour, or None."""
        return self._table.get((link, router))

    def alive(self, now: float, link: str | None = None) -> Iterator[Neighbour]:
        """Those heard within `NEIGHBOUR_LIFETIME`, on one link or on all."""
        for neighbour in self._table.values():
            if now - neighbour.last_heard <= NEIGHBOUR_LIFETIME and link in (None, neighbour.link):
                yield neighbour

    def around(self, now: float, link: str) -> list[Neighbour]:
        """Those that count where a record is relayed: alive, and heard with a digest.

        Of one origin the `MAX_AN_ORIGIN` lowest ids, the same for all who hear them, so that their filters
        agree: whoever invents routers makes few of them count.
        """
        by_origin: defaultdict[Origin, list[Neighbour]] = defaultdict(list)
        for neighbour in self.alive(now, link):
            if neighbour.digest is not None:
                by_origin[neighbour.origin].append(neighbour)
        return [
            neighbour
            for same in by_origin.values()
            for neighbour in sorted(same, key=lambda one: one.router)[:MAX_AN_ORIGIN]
        ]

    def forget_link(self, link: str) -> None:
        """The link is gone, and so is whoever was heard on it."""
        for key in [key for key in self._table if key[0] == link]:
            del self._table[key]
