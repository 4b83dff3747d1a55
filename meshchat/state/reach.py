"""Whom a router hears, as its digests tell it: a Bloom filter (Bloom 1970) of 64 bits with two hashes."""

from collections.abc import Iterable

from meshchat.wire.ids import HEARS_NOBODY, HEARS_SIZE, ROUTER_ID_SIZE, HearsFilter, RouterId

_BITS = HEARS_SIZE * 8


def _mask(router: RouterId, number: int) -> int:
    """Ids are hashes: two of their bytes are the two hashes, others in each digest that follows.

    So whoever is taken for another in one digest is not in the next.
    """
    first, second = router[number % ROUTER_ID_SIZE], router[(number + 1) % ROUTER_ID_SIZE]
    return 1 << first % _BITS | 1 << second % _BITS


def hears_filter(routers: Iterable[RouterId], number: int) -> HearsFilter:
    """The filter that holds these router ids, for the digest with this number."""
    bits = 0
    for router in routers:
        bits |= _mask(router, number)
    return HearsFilter(bits.to_bytes(HEARS_SIZE, "big"))


class Reach:
    """A neighbour's filter. `error` is the chance, 0 to 1, that it seems to hold one that it does not."""

    __slots__ = ("_bits", "_number", "error")

    def __init__(self, hears: HearsFilter = HEARS_NOBODY, number: int = 0) -> None:
        """The two fields of a DIGEST."""
        self._bits, self._number = int.from_bytes(hears, "big"), number
        self.error = (self._bits.bit_count() / _BITS) ** 2

    def __contains__(self, router: RouterId) -> bool:
        mask = _mask(router, self._number)
        return self._bits & mask == mask
