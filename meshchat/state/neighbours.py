"""The routers heard directly, on each link."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from meshchat.constants import MAX_NEIGHBOURS, NEIGHBOUR_LIFETIME
from meshchat.state.neighbour import Neighbour
from meshchat.state.origin import Origin
from meshchat.wire.ids import RouterId

MAX_AN_ORIGIN = 4
"""Neighbours of one origin that count where a record is relayed: one router, and the ids it had before
its state was lost. The lowest ids count, or routers would not agree who is in whose reach. A
stranger with one address stands for no more, however many ids he invents."""


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
            if neighbour.said.digest is not None:
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
