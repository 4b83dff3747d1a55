"""The links of this machine: which are used, what goes out over them, what comes in.

Interfaces may appear, vanish and change their address or MTU while the daemon runs, and so may what the names
of unicast peers stand for.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping

from meshchat.adapters.links.interfaces import (
    Interface,
    choose,
    list_interfaces,
    reasons_not,
    watch_interfaces,
)
from meshchat.adapters.links.link import Engine, Link
from meshchat.adapters.links.multicast import InterfaceLink
from meshchat.adapters.links.peers import PeerLink, Peers, report_end
from meshchat.adapters.links.udp import Received, UdpPort
from meshchat.config import Config
from meshchat.errors import Malformed
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Send
from meshchat.state.origin import Origin
from meshchat.wire.datagram import LaterVersion, decode_datagram

POLL = 15.0
"""Seconds between listings of the interfaces, beside the kernel's reports of changes, and between look-ups of
the peers' names: an address may change while the daemon runs."""

_MAX_STRAYS = 16
"""Addresses remembered of which meshchat came by no link: a person reads them, and anybody may send."""

log = logging.getLogger(__name__)


class Network:
    """Keeps the engine's links those of the machine. Runs in the event loop."""

    def __init__(self, config: Config, engine: Engine, port: UdpPort, air: AirShare) -> None:
        """`port` is opened already; it is closed by `close`. `air` is each link's own share of the air."""
        self._config, self._engine, self._port, self._air = config, engine, port, air
        self._interfaces: dict[str, InterfaceLink] = {}
        self._peer_links: dict[str, PeerLink] = {}
        self._peers = Peers(config.port, self._peer_up, self._peer_down)
        self._drops: Counter[str] = Counter()
        self._heard: Counter[tuple[str, bool]] = Counter()
        self._strays: Counter[str] = Counter()
        self._watch = watch_interfaces()
        self._polling: asyncio.Task[None] | None = None
        self._complained: dict[str, str] | None = None
        self._is_blind = False

    @property
    def used(self) -> Mapping[str, Interface]:
        """The interfaces in use, by name."""
        return {name: link.interface for name, link in self._interfaces.items()}

    @property
    def links(self) -> Mapping[str, Link]:
        """All links in use, by name."""
        return {**self._interfaces, **self._peer_links}

    @property
    def peers(self) -> Mapping[str, PeerLink]:
        """The configured peers that can be sent to, by the names of their links."""
        return self._peer_links

    @property
    def errors(self) -> Mapping[str, int]:
        """What the kernel refused, by its name for it."""
        return self._port.errors

    @property
    def drops(self) -> Mapping[str, int]:
        """Datagrams that were not even handed to the engine, by reason: "interface", one that is not used."""
        return self._drops

    @property
    def heard(self) -> Counter[tuple[str, bool]]:
        """Datagrams that came by a link since it is used: (its name, whether by multicast)."""
        return self._heard

    @property
    def strays(self) -> Mapping[str, int]:
        """How many datagrams of meshchat came by no link, by the IPv4 address that they came from."""
        return self._strays

    def words(self, link: str, origin: Origin) -> str:
        """Whom an origin stands for, in the words of the link it was heard on."""
        known = self.links.get(link)
        return str(origin) if known is None else known.words(origin)

    def start(self) -> None:
        """Begins to listen."""
        loop = asyncio.get_running_loop()
        self.refresh()
        self._peers.configure(self._config.peers)
        loop.add_reader(self._port.unicast.fileno(), self._unicast_came)
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._changed)
        self._polling = loop.create_task(self._poll())
        report_end(self._polling, "Looking after the interfaces")

    async def close(self) -> None:
        """Stops listening."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._port.unicast.fileno())
        if self._watch is not None:
            loop.remove_reader(self._watch.fileno())
            self._watch.close()
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
        await self._peers.close()
        for link in self._interfaces.values():
            self._close(link)
        self._interfaces.clear()
        self._port.close()

    def reconfigure(self, config: Config) -> None:
        """Takes the interfaces and peers of a configuration that was read again."""
        self._config = config
        self.refresh()
        self._peers.configure(config.peers)

    # --- Interfaces -------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Compares the machine's interfaces with those in use; where they cannot be listed, later."""
        try:
            listing = list_interfaces()
        except OSError as error:
            if not self._is_blind:
                log.warning(
                    "The interfaces stay as they are: they cannot be listed now (%s).", error.strerror
                )
            self._is_blind = True
            return
        self._is_blind = False
        chosen = {name: listing[name] for name in choose(self._config.interfaces, listing)}
        for name, link in list(self._interfaces.items()):
            now = chosen.get(name)
            if now is None or now.index != link.interface.index:
                self._drop(link)
        for name, interface in chosen.items():
            self._take(name, interface)
        self._report(listing)

    def _take(self, name: str, interface: Interface) -> None:
        link = self._interfaces.get(name)
        if link is None:
            joined = self._port.join(interface.index)
            if joined is None:
                return
            link = self._interfaces[name] = InterfaceLink(interface, joined, self._port, self._air)
            asyncio.get_running_loop().add_reader(joined.fileno(), self._group_came, link)
            log.info("Using %s (%s).", name, ", ".join(interface.addresses) or "no address")
        elif link.interface == interface:
            return
        link.interface = interface
        self._engine.link_up(link.profile)

    def _drop(self, link: InterfaceLink) -> None:
        name = link.interface.name
        self._close(link)
        del self._interfaces[name]
        self._gone(name)
        log.info("%s is gone.", name)

    @staticmethod
    def _close(link: InterfaceLink) -> None:
        asyncio.get_running_loop().remove_reader(link.socket.fileno())
        link.close()

    def _gone(self, name: str) -> None:
        del self._heard[name, False], self._heard[name, True]
        self._engine.link_down(name)

    def _report(self, listing: Mapping[str, Interface]) -> None:
        wanted = choose(self._config.interfaces, listing).union(self._config.interfaces)
        missing = {
            name: "is refused by the kernel" if name in listing and listing[name].up else "is not there or up"
            for name in sorted(wanted.difference(self._interfaces))
        }
        if missing != self._complained:
            self._complained = missing
            for name, reason in missing.items():
                log.warning("The interface %s %s; waiting for it.", name, reason)
            if not self._interfaces and not missing and not self._config.peers:
                reasons = reasons_not(listing)
                log.warning(
                    "No interface to a mesh yet: this router is on its own until one appears.%s",
                    f" Used only where --interface names it: {reasons}." if reasons else "",
                )

    def _changed(self) -> None:
        if self._watch is not None and self._watch.drain():
            self.refresh()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            self.refresh()
            self._peers.look_up()

    def _peer_up(self, peer: str) -> None:
        link = PeerLink(peer, self._peers.addresses, self._port.unicast, self._air)
        self._peer_links[link.profile.name] = link
        self._engine.link_up(link.profile)

    def _peer_down(self, peer: str) -> None:
        name = next(name for name, link in self._peer_links.items() if link.peer == peer)
        del self._peer_links[name]
        self._gone(name)

    # --- Datagrams --------------------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Sends a datagram; one that its link does not take is lost like any other."""
        link = self._interfaces.get(send.link) or self._peer_links.get(send.link)
        if link is not None:
            link.send(send.data, send.to)

    def _group_came(self, link: InterfaceLink) -> None:
        for received in link.socket.drain():
            self._came(link.interface.name, received)

    def _unicast_came(self) -> None:
        by_index = {link.interface.index: name for name, link in self._interfaces.items()}
        by_address = {link.address: link for link in self._peer_links.values()}
        for received in self._port.unicast.drain():
            peer = by_address.get(received.origin.address)
            if peer is not None and not received.multicast:
                peer.heard_from(received.origin)
                self._came(peer.profile.name, received)
            elif (name := by_index.get(received.ifindex)) is not None:
                self._came(name, received)
            else:
                self._drops["interface"] += 1
                self._note_stray(received)

    def _came(self, name: str, received: Received) -> None:
        self._heard[name, received.multicast] += 1
        self._engine.receive(received.data, name, received.origin)

    def _note_stray(self, received: Received) -> None:
        host = received.origin.host
        with contextlib.suppress(Malformed, LaterVersion):
            decode_datagram(received.data)
            if host in self._strays or len(self._strays) < _MAX_STRAYS:
                self._strays[host] += 1


def queues(links: Mapping[str, Link]) -> Iterator[Mapping[str, object]]:
    """For people: each link with the bytes that wait on it, and how many datagrams it lost."""
    for name, link in links.items():
        yield {"link": name, "queued": link.queued, "lost": link.lost}
