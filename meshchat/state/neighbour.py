"""One router heard directly on one link: what each part of the engine keeps of it, apart.

Each of the records below has one owner, and whoever else has to do with it calls a method. All times are
seconds, monotonic.
"""

from dataclasses import dataclass, field

from meshchat.constants import NEIGHBOUR_FRESH, STALL, TOKEN_EPOCH
from meshchat.state.backoff import Backoff
from meshchat.state.origin import Origin
from meshchat.state.reach import Reach
from meshchat.state.reception import Reception
from meshchat.wire.ids import NO_BOOT, NO_TOKEN, AskNonce, BootId, RouterId, Token
from meshchat.wire.packets import Digest

EXPECT = 5.0
"""After a step towards a neighbour, records from it are an answer for so long: two losses of each datagram of
an exchange, each noticed by the next digest, and no longer, since such records may claim a high age."""

SHUN = 30.0
SHUN_MAX = 3600.0
"""A neighbour that offered and brought nothing is not asked for 30 s, then twice as long each time."""

_LONG_AGO = -1e9


@dataclass
class Said:
    """What its digests tell. Owned by what sends and compares digests."""

    digest: Digest | None = None
    """The last one."""

    at: float = 0.0
    """When that was heard."""

    reach: Reach = field(default_factory=Reach)
    """Whom it hears itself."""

    live: bool = False
    """It has echoed something of this router's present run: what it says is no recording."""

    echoed_at: float = _LONG_AGO
    """When its own boot id was echoed."""

    def take(self, digest: Digest, now: float, *, ours: BootId) -> None:
        """A digest came; a router that has started anew has to show anew that it is live.

        `ours` is the boot id of this router, which a live one echoes.
        """
        if self.has_restarted(digest):
            self.live = False
        if digest.echo == ours:
            self.showed_life()
        self.reach = Reach(digest.hears, digest.number)
        self.digest, self.at = digest, now

    def has_restarted(self, digest: Digest) -> bool:
        """Whether this digest, which is not taken in yet, is of another run than the last one."""
        return self.digest is not None and self.digest.boot != digest.boot

    def holds_other(self, digest: Digest) -> bool:
        """Whether, by this digest, it has got or lost records since the last one."""
        before = self.digest
        return before is not None and (before.undated, before.history) != (digest.undated, digest.history)

    def showed_life(self) -> None:
        """It has named something that this router made up in its present run."""
        self.live = True


@dataclass
class Difference:
    """How far a difference with it was narrowed. Owned by the ladder."""

    differs_since: float | None = None
    """When its digest was first seen to differ; None while both agree."""

    backoff: Backoff = field(default_factory=Backoff)
    """When to begin anew."""

    sketched: bool = False
    """The last step towards it was a sketch."""

    beyond_sketches: bool = False
    """Since both last agreed, a sketch did not tell what differs."""

    def agrees(self) -> None:
        """Its digest says the same as this router's would."""
        self.differs_since = None
        self.backoff.over()
        self.beyond_sketches = self.sketched = False

    def differs(self, now: float) -> None:
        """Its digest says something else."""
        if self.differs_since is None:
            self.differs_since = now

    def moved(self) -> None:
        """Records went from one to the other."""
        self.backoff.moved()

    def answered_by_ranges(self) -> None:
        """It answered the last step by ranges: if that was a sketch, it did not tell."""
        self.beyond_sketches |= self.sketched


@dataclass
class AsSource:
    """What this router has from it, or hopes for. Owned by what asks."""

    token: Token = NO_TOKEN
    """The last one that it gave, to be shown to it."""

    token_at: float = _LONG_AGO
    """When it gave that."""

    shown: Token | None = None
    """The token in the last WANT sent to it."""

    stopped_at: float = _LONG_AGO
    """When it was told that nothing more is wanted."""

    answers_until: float = _LONG_AGO
    """So long, records from it answer something that this router said."""

    gives_until: float = _LONG_AGO
    """So long, more of what it gives unasked is awaited."""

    shunned_until: float = _LONG_AGO
    """So long it is asked for nothing."""

    _shunned: int = 0

    def said_token(self, token: Token, now: float) -> None:
        """It gave a token, to be shown to it."""
        self.token, self.token_at = token, now

    def proof(self, now: float) -> Token:
        """The token to show it, zeros where it gave none that is still good."""
        return self.token if now - self.token_at < TOKEN_EPOCH else NO_TOKEN

    def has_young_token(self, now: float) -> bool:
        """Whether its token is good for half an epoch more, at least."""
        return now <= self.token_at + TOKEN_EPOCH / 2

    def shows(self, token: Token) -> None:
        """A WANT with this token goes to it."""
        self.shown = token

    def stop(self, now: float) -> Token | None:
        """The token to show with a WANT of nothing; None where there is none, or it was told a moment ago."""
        if self.shown is None or now - self.stopped_at < STALL:
            return None
        self.stopped_at = now
        return self.shown

    def expect(self, now: float) -> None:
        """A step goes to it: what comes from it for a while is an answer."""
        self.answers_until = now + EXPECT

    def answers(self, now: float) -> bool:
        """Whether what comes from it now is an answer."""
        return now <= self.answers_until

    def gave(self, now: float) -> None:
        """It sent a missing record, and may send more."""
        self.gives_until = now + STALL / 2

    def is_giving(self, now: float) -> bool:
        """Whether more of what it gives is awaited."""
        return now < self.gives_until

    def shun(self, now: float) -> None:
        """It offered, and brought nothing: leave it alone for a while, longer each time."""
        self.shunned_until = now + min(SHUN * 2**self._shunned, SHUN_MAX)
        self._shunned = min(self._shunned + 1, 32)

    def trust(self) -> None:
        """It brought what it offered."""
        self._shunned = 0


@dataclass
class AsAsker:
    """What it has from this router. Owned by what serves."""

    asked: AskNonce | None = None
    """The nonce of its last ASK-FILE."""

    _token: Token | None = None
    _wanted_at: float = _LONG_AGO
    _gave: bool = False

    def wants(self, token: Token, now: float) -> None:
        """A WANT of it was granted that showed this token."""
        self._token, self._wanted_at = token, now

    def is_in_use(self, token: Token, now: float) -> bool:
        """Whether it goes on to use this token, which goes on to be good thereby."""
        return token == self._token and now - self._wanted_at < TOKEN_EPOCH

    def gave(self, *, something: bool = True) -> None:
        """It asked for records that were sent, or was given some."""
        self._gave = something

    def took(self) -> bool:
        """What it holds has changed: whether it was given something before that, which is settled thereby."""
        gave, self._gave = self._gave, False
        return gave


@dataclass
class Neighbour:
    """One router on one link."""

    router: RouterId
    """Its id."""

    link: str
    """The link's name."""

    origin: Origin
    """From whom its last datagram came, and where an answer goes."""

    first_heard: float
    """When it was heard for the first time, or anew after a long silence."""

    last_heard: float
    """When it was heard last."""

    greeted: bool = False
    """Since it was heard anew it was told what is held here."""

    told: BootId = NO_BOOT
    """The boot id of the run in which it was told who is present."""

    reception: Reception = field(default_factory=Reception)
    """How much of what it sends to all gets through."""

    said: Said = field(default_factory=Said)
    difference: Difference = field(default_factory=Difference)
    as_source: AsSource = field(default_factory=AsSource)
    as_asker: AsAsker = field(default_factory=AsAsker)

    def fresh(self, now: float) -> bool:
        """Whether it was heard so lately that it can be expected to hear."""
        return now - self.last_heard <= NEIGHBOUR_FRESH

    def greet(self) -> bool:
        """Whether it was not greeted since it was heard anew; it counts as greeted from now on."""
        is_new, self.greeted = not self.greeted, True
        return is_new

    def tell(self, boot: BootId) -> None:
        """In the run with this boot id it was told who is present."""
        self.told = boot
