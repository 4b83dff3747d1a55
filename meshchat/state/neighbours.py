"""The routers heard directly, on each interface."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshchat.constants import (
    EXCHANGE_FREE_TRIES,
    EXCHANGE_RETRY,
    EXCHANGE_RETRY_MAX,
    MAX_NEIGHBOURS,
    NEIGHBOUR_FRESH,
    NEIGHBOUR_LIFETIME,
    SHUN,
    SHUN_MAX,
)
from meshchat.wire.packets import Digest


@dataclass
class Backoff:
    """Paces exchanges with one neighbour: an exchange that changes nothing is repeated ever more rarely."""

    tries: int = 0
    not_before: float = 0.0
    state: object = None

    def allows(self, now: float, state: object) -> bool:
        """Whether an exchange may start; `state` is what the two sides hold, and a change starts afresh."""
        if state != self.state:
            self.state = state
            self.tries = 0
            self.not_before = min(self.not_before, now + EXCHANGE_RETRY)
        return now >= self.not_before

    def started(self, now: float) -> None:
        """An exchange starts now."""
        doublings = max(0, self.tries + 1 - EXCHANGE_FREE_TRIES)
        self.not_before = now + min(EXCHANGE_RETRY * 2**doublings, EXCHANGE_RETRY_MAX)
        self.tries = min(self.tries + 1, 64)


@dataclass
class Neighbour:
    """One router on one interface. Times are seconds, monotonic.

    `differs_since` is when its digest was first seen to differ; `asked` is the nonce of its last ASK-FILE;
    `live`: it has echoed something of this router's present run; `echoed_at` is when it was echoed itself;
    `greeted`: since it was last heard anew it was told what is held here.
    """

    router: bytes
    interface: str
    address: tuple[str, int]
    first_heard: float
    last_heard: float
    digest: Digest | None = None
    digest_at: float = 0.0
    differs_since: float | None = None
    asked: bytes = b""
    live: bool = False
    greeted: bool = False
    echoed_at: float = -1e9
    shunned_until: float = -1e9
    _shunned: int = 0
    backoff: Backoff = field(default_factory=Backoff)

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
        self._table: OrderedDict[tuple[str, bytes], Neighbour] = OrderedDict()

    def heard(self, router: bytes, interface: str, address: tuple[str, int], now: float) -> Neighbour:
        """The neighbour that was just heard, new or known."""
        key = (interface, router)
        neighbour = self._table.get(key)
        if neighbour is None or now - neighbour.last_heard > NEIGHBOUR_LIFETIME:
            neighbour = self._table[key] = Neighbour(router, interface, address, now, now)
        neighbour.last_heard = now
        neighbour.address = address
        self._table.move_to_end(key)
        if len(self._table) > MAX_NEIGHBOURS:
            self._table.popitem(last=False)
        return neighbour

    def get(self, router: bytes, interface: str) -> Neighbour | None:
        """The neighbour, or None."""
        return self._table.get((interface, router))

    def alive(self, now: float, interface: str | None = None) -> Iterator[Neighbour]:
        """Those heard within `NEIGHBOUR_LIFETIME`, on one interface or on all."""
        for neighbour in self._table.values():
            if now - neighbour.last_heard <= NEIGHBOUR_LIFETIME and interface in (None, neighbour.interface):
                yield neighbour

    def forget_interface(self, interface: str) -> None:
        """The interface is gone, and so is whoever was heard on it."""
        for key in [key for key in self._table if key[0] == interface]:
            del self._table[key]
