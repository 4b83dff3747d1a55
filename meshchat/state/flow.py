"""What is on its way right now: records that came so lately that the neighbours may not have them yet."""

FLOW = 0.4
"""A record counts as on its way for one to two times so long after it came: the relay jitter and what a busy
neighbour holds it back. Digests say nothing of it yet, or while people talk they would always differ."""


class Flow:
    """The lowest stamp of what came within the last one to two `FLOW`. Times are seconds, monotonic."""

    def __init__(self) -> None:
        self._lowest: int | None = None
        self._before: int | None = None
        self._began = -1e9

    def arrived(self, stamp: int, now: float) -> None:
        """A new record with this stamp is being flooded."""
        self._turn(now)
        self._lowest = stamp if self._lowest is None else min(stamp, self._lowest)

    def lowest(self, now: float) -> int | None:
        """The lowest stamp on its way, or None."""
        self._turn(now)
        if self._lowest is None or self._before is None:
            return self._before if self._lowest is None else self._lowest
        return min(self._lowest, self._before)

    def _turn(self, now: float) -> None:
        passed = now - self._began
        if passed >= FLOW:
            self._before = self._lowest if passed < 2 * FLOW else None
            self._lowest = None
            self._began = now - passed % FLOW
