import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator

import pytest

from meshchat.adapters.links.peers import Peers, report_end
from meshchat.errors import ConfigError

PATIENCE = 10.0


class Book:
    """Peers on port 8888, and what was said of them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.peers = Peers(8888, self._up, lambda peer: self.told.append(f"-{peer}"))
        self._changed = asyncio.Event()

    def _up(self, peer: str) -> None:
        self.told.append(f"+{peer}")
        self._changed.set()

    async def until(self, told: str) -> None:
        """Waits until this was said."""
        async with asyncio.timeout(PATIENCE):
            while told not in self.told:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What names stand for; the look-up of any other hangs until the test ends."""
    known: dict[str, str] = {}
    released = threading.Event()

    def look_up(host: bytes, *_: object) -> list[tuple[object, ...]]:
        if host.decode() in known:
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (known[host.decode()], 0))]
        if host != b"nobody.example":
            released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no Internet")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield known
    released.set()


def test_an_address_is_used_at_once_and_a_name_that_hangs_holds_up_no_other(names: dict[str, str]) -> None:
    names["near.example"] = "10.9.9.9"

    async def test() -> None:
        book = Book()
        book.peers.configure(("hangs.example", "nobody.example", "10.1.2.3", "near.example:77"))
        assert book.told == ["+10.1.2.3"]
        await book.until("+near.example:77")
        assert book.peers.addresses == {"10.1.2.3": ("10.1.2.3", 8888), "near.example:77": ("10.9.9.9", 77)}
        await book.peers.close()

    asyncio.run(test())  # returns: closing the loop waits for no look-up


def test_peers_that_are_configured_no_longer_go_and_a_name_may_move(names: dict[str, str]) -> None:
    names["near.example"] = "10.9.9.9"

    async def test() -> None:
        book = Book()
        book.peers.configure(("10.1.2.3", "near.example", "hangs.example"))
        await book.until("+near.example")
        names["near.example"] = "10.8.8.8"
        book.peers.configure(("near.example",))
        assert book.told == ["+10.1.2.3", "+near.example", "-10.1.2.3"]
        async with asyncio.timeout(PATIENCE):
            while book.peers.addresses != {"near.example": ("10.8.8.8", 8888)}:
                await asyncio.sleep(0)
        assert book.told[3:] == []
        with pytest.raises(ConfigError):
            book.peers.configure(("no peer",))
        await book.peers.close()

    asyncio.run(test())


async def _breaks() -> None:
    raise ZeroDivisionError


async def _sleeps() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("work", "told"), [(_breaks, True), (_sleeps, False)])
def test_a_task_that_breaks_is_in_the_log_and_one_that_is_ended_is_not(
    work: Callable[[], Coroutine[None, None, None]], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        task = asyncio.get_running_loop().create_task(work())
        report_end(task, "Looking")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(test())
    assert ("Looking has ended" in caplog.text) == told
