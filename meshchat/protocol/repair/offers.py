"""The OFFERs that answered an ASK-FILE, and which of them is the best."""

from dataclasses import dataclass, field

from meshchat.state.origin import Origin
from meshchat.wire.ids import AskNonce, RouterId
from meshchat.wire.packets import Offer

OFFER_ALIKE = 0.98
OFFER_FAR = 0.5
"""Offers of nearly as many records are as good as the largest; of these, neighbours of whose multicast half
gets lost come last, for over such a link each repair is sent twice."""

MAX_OFFERS = 16
"""OFFERs remembered while choosing, one an address."""


@dataclass(frozen=True)
class Candidate:
    """A neighbour that offered."""

    router: RouterId
    link: str
    """The name of the link that it is heard on."""

    origin: Origin
    offer: Offer
    loss: float
    """How much of what it sends to all is lost, 0 to 1."""


@dataclass
class Offers:
    """At most `MAX_OFFERS`, one an origin."""

    nonce: AskNonce | None = None
    """Of the last ASK-FILE: what an OFFER has to name."""

    _candidates: list[Candidate] = field(default_factory=list)
    _named: set[RouterId] = field(default_factory=set)

    def ask(self, nonce: AskNonce) -> None:
        """An ASK-FILE goes out; what was offered before is void."""
        self.nonce = nonce
        self._candidates.clear()
        self._named.clear()

    def answers(self, candidate: Candidate) -> bool:
        """Whether it answers the last ASK-FILE."""
        return candidate.offer.nonce == self.nonce

    def add(self, candidate: Candidate) -> None:
        """One offered."""
        others = [one for one in self._candidates if one.origin != candidate.origin]
        self._candidates = [*others[-MAX_OFFERS + 1 :], candidate]

    def others_name(self, source: RouterId) -> None:
        """Another router was heard naming its source."""
        if len(self._named) < MAX_OFFERS:
            self._named.add(source)

    def take_best(self) -> Candidate | None:
        """Takes the best one out; None where there is none.

        The highest by: has about as much as the most; is near; sends to most already, whose multicast serves
        one more at no cost; router id.
        """
        if not self._candidates:
            return None
        most = max(one.offer.records for one in self._candidates)

        def merit(one: Candidate) -> tuple[bool, bool, int, RouterId]:
            has_most = one.offer.records >= OFFER_ALIKE * most
            streams = one.offer.streams + (one.router in self._named)
            return has_most, one.loss < OFFER_FAR, streams, one.router

        best = max(self._candidates, key=merit)
        self._candidates.remove(best)
        return best
