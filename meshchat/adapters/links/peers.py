"""Unicast peers: configured routers beyond multicast, as links, and the addresses that their names stand for.

With the Internet cut a look-up can hang for half a minute, so each name has its own, and an address that is
written out waits for none.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping

from meshchat.adapters.links.udp import Address, UdpOrigin, UdpSocket
from meshchat.config import parse_peer
from meshchat.protocol.air import AirShare
from meshchat.protocol.link import LinkProfile
from meshchat.state.origin import Origin

PEER_MTU = 1280
"""A peer lies behind tunnels of unknown depth; this fits each of them (RFC 8200's minimum MTU)."""

log = logging.getLogger(__name__)


class PeerLink:
    """A configured peer that can be sent to. All peers share one socket, and so its queue."""

    def __init__(self, peer: str, addresses: Mapping[str, Address], socket: UdpSocket, air: AirShare) -> None:
        """`peer` as it is configured; `addresses` has its present one, whatever it becomes."""
        self.peer, self.lost = peer, 0
        self.profile = LinkProfile(f"@{peer}", PEER_MTU, is_broadcast=False, air=air)
        self.is_heard = False
        self._addresses, self._socket = addresses, socket
        self._local = ""

    @property
    def address(self) -> Address:
        """Where it is sent to, and from where it is heard."""
        return self._addresses[self.peer]

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent, to whichever peer."""
        return self._socket.queued

    def heard_from(self, origin: UdpOrigin) -> None:
        """A datagram of it came: under the address of ours that it knows, it is answered from now on."""
        self.is_heard, self._local = True, origin.local

    def send(self, data: bytes, to: Origin | None) -> None:
        """To the configured address, whomever it is for: nobody else is on this link."""
        if not self._socket.send(data, self.address, source=self._local):
            self.lost += 1

    def words(self, origin: Origin) -> str:
        """The peer's IPv4 address."""
        return origin.host if isinstance(origin, UdpOrigin) else str(origin)


class Peers:
    """The configured peers. `up` and `down` are told which can be used or has gone, as it is configured."""

    def __init__(self, port: int, up: Callable[[str], None], down: Callable[[str], None]) -> None:
        """`port` is the UDP port of peers that name none."""
        self._port, self._up, self._down = port, up, down
        self._configured: tuple[str, ...] = ()
        self._addresses: dict[str, Address] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    @property
    def addresses(self) -> Mapping[str, Address]:
        """The peers that can be used, with their addresses."""
        return self._addresses

    def configure(self, peers: Iterable[str]) -> None:
        """Takes these peers and no others. Raises `ConfigError` for what is no peer."""
        self._configured = tuple(peers)
        for peer in [peer for peer in self._looking if peer not in self._configured]:
            self._looking.pop(peer).cancel()
        for peer in [peer for peer in self._addresses if peer not in self._configured]:
            del self._addresses[peer]
            self._down(peer)
        self.look_up()

    def look_up(self) -> None:
        """Takes addresses that are written out, and begins to look the names up, unless that is under way."""
        for peer in self._configured:
            host, port = parse_peer(peer, self._port)
            literal = _literal(host)
            if literal is not None:
                self._found(peer, (literal, port))
            elif peer not in self._looking:
                task = asyncio.get_running_loop().create_task(self._look_up(peer, host, port))
                self._looking[peer] = task
                report_end(task, f"Looking up the peer {peer}")

    async def close(self) -> None:
        """Ends all look-ups."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, peer: str, host: str, port: int) -> None:
        try:
            address = await resolve(host)
        finally:
            if self._looking.get(peer) is asyncio.current_task():
                del self._looking[peer]
        if address is not None:
            self._found(peer, (address, port))

    def _found(self, peer: str, address: Address) -> None:
        before = self._addresses.get(peer)
        self._addresses[peer] = address
        if before is None:
            log.info("Using the peer %s (%s).", peer, address[0])
            self._up(peer)


def report_end(task: asyncio.Task[None], what: str) -> None:
    """Has the log say so should `task`, which nobody waits for, break."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s has ended by a fault of this program.", what, exc_info=error)

    task.add_done_callback(ended)


def _literal(host: str) -> str | None:
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(host))
    return None


async def resolve(host: str) -> str | None:
    """The first IPv4 address of the name `host`, or None where it cannot be resolved now.

    Not by the loop's own executor: a look-up can hang for half a minute when the Internet is cut, and the
    executor's threads are waited for when the program ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def finish(address: str | None) -> None:
        if not answer.done():
            answer.set_result(address)

    def look_up() -> None:
        address = None
        try:
            # As bytes, because text goes through the idna codec, which OpenWrt packs apart.
            found = socket.getaddrinfo(host.encode("ascii"), None, socket.AF_INET, socket.SOCK_DGRAM)
            address = str(found[0][4][0])
        except OSError:
            pass
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, address)

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    return await answer
