"""Waiting for what arrives, rather than for the clock."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Arrivals:
    """Whoever reads says that something came; whoever waits looks again."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def tell(self) -> None:
        """Something came."""
        self._came.set()

    async def until(self, all_here: Callable[[], bool], longest: float) -> None:
        """Returns when `all_here` holds, or after `longest` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while not all_here():
                    self._came.clear()
                    await self._came.wait()
