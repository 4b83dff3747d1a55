"""The engine's interfaces on this machine: which are used, what goes out of them, what comes in.

An engine interface is a network interface by name, or `@host:port` for a configured unicast peer. Interfaces
may appear, vanish and change their address or MTU while the daemon runs.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping

from meshchat.adapters.interfaces import Interface, choose, list_interfaces, watch_interfaces
from meshchat.adapters.multicast import MulticastPort
from meshchat.adapters.node import Node
from meshchat.adapters.peers import Peers, report_end
from meshchat.config import Config
from meshchat.constants import MAX_MTU
from meshchat.protocol.events import Send

POLL = 15.0
"""Seconds between listings of the interfaces, beside the kernel's reports of changes, and between look-ups of
the peers' names: an address may change while the daemon runs."""

PEER_MTU = 1280
"""A peer lies behind tunnels of unknown depth; this fits each of them (RFC 8200's minimum MTU)."""

log = logging.getLogger(__name__)


class Network:
    """Keeps the engine's interfaces those of the machine. Runs in the event loop."""

    def __init__(self, config: Config, node: Node, port: MulticastPort) -> None:
        """`port` is opened already; it is closed by `close`."""
        self._config, self._node, self._port = config, node, port
        self._used: dict[str, Interface] = {}
        self._peers = Peers(config.port, self._peer_up, self._peer_down)
        self._drops: Counter[str] = Counter()
        self._heard: Counter[tuple[str, bool]] = Counter()
        self._watch = watch_interfaces()
        self._polling: asyncio.Task[None] | None = None
        self._complained: frozenset[str] | None = None

    @property
    def used(self) -> Mapping[str, Interface]:
        """The interfaces in use, by name."""
        return self._used

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
        """Datagrams that came by an interface since it is used: (its name, whether by multicast)."""
        return self._heard

    def start(self) -> None:
        """Begins to listen."""
        loop = asyncio.get_running_loop()
        self.refresh()
        self._peers.configure(self._config.peers)
        loop.add_reader(self._port.fileno(), self._readable)
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._changed)
        self._polling = loop.create_task(self._poll())
        report_end(self._polling, "Looking after the interfaces")

    async def close(self) -> None:
        """Stops listening."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._port.fileno())
        if self._watch is not None:
            loop.remove_reader(self._watch.fileno())
            self._watch.close()
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
        await self._peers.close()
        self._port.close()

    def reconfigure(self, config: Config) -> None:
        """Takes the interfaces and peers of a configuration that was read again."""
        self._config = config
        self.refresh()
        self._peers.configure(config.peers)

    # --- Interfaces -------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Compares the machine's interfaces with those in use."""
        listing = list_interfaces()
        chosen = {name: listing[name] for name in choose(self._config.interfaces, listing)}
        for name, before in list(self._used.items()):
            now = chosen.get(name)
            if now is None or now.index != before.index:
                self._drop(before)
        for name, interface in chosen.items():
            self._take(name, interface)
        self._report()

    def _take(self, name: str, interface: Interface) -> None:
        before = self._used.get(name)
        if before == interface or not self._port.join(interface.index):
            return
        self._used[name] = interface
        if before is None:
            log.info("Using %s (%s).", name, ", ".join(interface.addresses) or "no address")
        self._node.interface_up(name, min(interface.mtu, MAX_MTU))

    def _drop(self, interface: Interface) -> None:
        self._port.leave(interface.index)
        del self._used[interface.name]
        del self._heard[interface.name, False], self._heard[interface.name, True]
        self._node.interface_down(interface.name)
        log.info("%s is gone.", interface.name)

    def _report(self) -> None:
        missing = frozenset(self._config.interfaces).difference(self._used)
        if missing != self._complained:
            self._complained = missing
            for name in sorted(missing):
                log.warning("The interface %s is not there or not up; waiting for it.", name)
            if not self._used and not missing:
                log.warning(
                    "No interface to a mesh yet: this router is on its own until one appears. The interface "
                    "that holds the default route is used only where --interface names it."
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
        self._node.interface_up(f"@{peer}", PEER_MTU, is_peer=True)

    def _peer_down(self, peer: str) -> None:
        self._node.interface_down(f"@{peer}")

    # --- Datagrams --------------------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Puts a datagram on the air; one that the kernel refuses is lost like any other."""
        if send.interface.startswith("@"):
            address = self._peers.addresses.get(send.interface[1:])
            if address is not None:
                self._port.send_to(send.data, address)
            return
        interface = self._used.get(send.interface)
        if interface is None:
            return
        if send.address is None:
            self._port.send_group(send.data, interface.index)
        else:
            self._port.send_to(send.data, send.address, interface.index)

    def _readable(self) -> None:
        by_index = {interface.index: name for name, interface in self._used.items()}
        by_address = {address: f"@{peer}" for peer, address in self._peers.addresses.items()}
        for received in self._port.drain():
            name = by_address.get(received.address) if not received.multicast else None
            interface = name or by_index.get(received.ifindex)
            if interface is None:
                self._drops["interface"] += 1
            else:
                self._heard[interface, received.multicast] += 1
                self._node.receive(received.data, interface, received.address)
