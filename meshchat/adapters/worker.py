"""CPU work of up to seconds (Argon2), beside the event loop: one at a time, the origins by turns."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from meshchat.chat.answers import Answer, Work
from meshchat.chat.places import Turns
from meshchat.errors import MeshchatError, TooFast

MAX_WORK = 16
"""Passwords waiting to be checked: up to a quarter of a minute on a slow router. Others are asked to try
again, so that a burst of logins cannot hold up the next person for minutes."""

MAX_WORK_OF_ORIGIN = 4
"""Of these, how many from one origin: a household that logs in at once. Who opens sixty connections has four
tries waiting, and everybody else is served between them."""


@dataclass
class _Waiting:
    """Work, and the future of what it computes."""

    compute: Callable[[], Any]
    value: asyncio.Future[Any]


class Worker:
    """Does work on a thread of its own. For one event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password")
        self._turns: Turns[_Waiting] = Turns(MAX_WORK, MAX_WORK_OF_ORIGIN)
        self._running: asyncio.Task[None] | None = None

    async def do(self, work: Work[Any]) -> Answer:
        """What the work leads to, when its turn has come and it is done; a refusal where its place is needed
        for somebody who has less of them.

        Cancelled before, it has changed nothing.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(work.compute, loop.create_future())
        displaced = self._turns.put(work.origin, waiting)
        if displaced is not None and not displaced.value.done():
            displaced.value.set_exception(
                TooFast("Many people are logging in right now; try again in a moment.")
            )
        if self._running is None:
            self._running = loop.create_task(self._run())
        try:
            value = await waiting.value
        except MeshchatError as error:
            return Answer.refusal(error)
        return work.finish(value, loop.time())

    def close(self) -> None:
        """What is not done yet is not done any more."""
        if self._running is not None:
            self._running.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while (waiting := self._turns.take()) is not None:
            if waiting.value.done():  # cancelled: whoever asked has gone
                continue
            computed = loop.run_in_executor(self._thread, waiting.compute)
            await asyncio.wait((computed,))
            if waiting.value.done():
                continue
            if (error := computed.exception()) is not None:
                waiting.value.set_exception(error)
            else:
                waiting.value.set_result(computed.result())
        self._running = None
