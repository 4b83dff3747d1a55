"""The engine's interfaces on this machine: which are used, what goes out of them, what comes in.

An engine interface is a network interface by name, or `@host:port` for a configured unicast peer. Interfaces
may appear, vanish and change their address or MTU while the daemon runs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from meshchat.adapters.interfaces import Interface, choose, list_interfaces, watch_interfaces
from meshchat.adapters.multicast import Address, MulticastPort, resolve_peers
from meshchat.adapters.node import Node
from meshchat.config import Config
from meshchat.constants import MAX_MTU
from meshchat.protocol.events import Send

POLL = 15.0
"""Seconds between listings where the kernel reports no changes, and between look-ups of peers not found."""

PEER_MTU = 1280
"""A peer lies behind tunnels of unknown depth; this fits each of them (RFC 8200's minimum MTU)."""

log = logging.getLogger(__name__)


class Network:
    """Keeps the engine's interfaces those of the machine. Runs in the event loop."""

    def __init__(self, config: Config, node: Node, port: MulticastPort) -> None:
        """`port` is opened already; it is closed by `close`."""
        self._config, self._node, self._port = config, node, port
        self._used: dict[str, Interface] = {}
        self._peers: dict[str, Address] = {}
        self._watch = watch_interfaces()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained: frozenset[str] | None = None

    @property
    def used(self) -> Mapping[str, Interface]:
        """The interfaces in use, by name."""
        return self._used

    @property
    def errors(self) -> Mapping[str, int]:
        """What the kernel refused, by its name for it."""
        return self._port.errors

    def start(self) -> None:
        """Begins to listen."""
        loop = asyncio.get_running_loop()
        self.refresh()
        loop.add_reader(self._port.fileno(), self._readable)
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._changed)
        self._tasks = [loop.create_task(self._poll()), loop.create_task(self._look_up_peers())]

    async def close(self) -> None:
        """Stops listening."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._port.fileno())
        if self._watch is not None:
            loop.remove_reader(self._watch.fileno())
            self._watch.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._port.close()

    def reconfigure(self, config: Config) -> None:
        """Takes the interfaces and peers of a configuration that was read again."""
        self._config = config
        for peer in [peer for peer in self._peers if peer not in config.peers]:
            del self._peers[peer]
            self._node.interface_down(f"@{peer}")
        self.refresh()
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._look_up_peers()))

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
        self._node.interface_down(interface.name)
        log.info("%s is gone.", interface.name)

    def _report(self) -> None:
        missing = frozenset(self._config.interfaces).difference(self._used)
        if missing != self._complained:
            self._complained = missing
            for name in sorted(missing):
                log.warning("The interface %s is not there or not up; waiting for it.", name)
            if not self._used and not missing:
                log.warning("No interface to a mesh yet: this router is on its own until one appears.")

    def _changed(self) -> None:
        if self._watch is not None and self._watch.drain():
            self.refresh()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            self.refresh()

    async def _look_up_peers(self) -> None:
        while len(self._peers) < len(self._config.peers):
            missing = [peer for peer in self._config.peers if peer not in self._peers]
            for peer, address in (await resolve_peers(missing, self._config.port)).items():
                self._peers[peer] = address
                self._node.interface_up(f"@{peer}", PEER_MTU, is_peer=True)
                log.info("Using the peer %s (%s).", peer, address[0])
            if len(self._peers) < len(self._config.peers):
                await asyncio.sleep(POLL)

    # --- Datagrams --------------------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Puts a datagram on the air; one that the kernel refuses is lost like any other."""
        if send.interface.startswith("@"):
            address = self._peers.get(send.interface[1:])
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
        by_address = {address: f"@{peer}" for peer, address in self._peers.items()}
        for received in self._port.drain():
            name = by_address.get(received.address) if not received.multicast else None
            interface = name or by_index.get(received.ifindex)
            if interface is not None:
                self._node.receive(received.data, interface, received.address)
