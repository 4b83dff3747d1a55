"""One router without a radio: a real node on a disk, whose clocks stand still until they are moved."""

from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

from meshchat.adapters.files import DiskFiles
from meshchat.adapters.links.interfaces import list_interfaces
from meshchat.adapters.links.network import Network
from meshchat.adapters.logstore import LogStore
from meshchat.adapters.machine import Machine
from meshchat.adapters.node import Listener, Node, NodeSettings
from meshchat.adapters.statestore import StateStore
from meshchat.adapters.station import LocalStation
from meshchat.config import Config
from meshchat.constants import CAP_ACCOUNTS, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE
from meshchat.protocol.events import Send
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import AirShare, LinkProfile
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.records import mesh_id
from tests.unit.fakes import START_MS


def interface_link(name: str, mtu: int = 1500) -> LinkProfile:
    """What the engine is told of an interface."""
    air = AirShare(1_000_000, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE)
    return LinkProfile(name, mtu, is_broadcast=True, air=air)


class Router:
    """One router without a radio, whose clocks stand still."""

    def __init__(
        self, folder: Path, number: int = 0, *, machine: Machine | None = None, trusted: bool = True
    ) -> None:
        home = folder / str(number)
        self.config = Config(logs=home, state=home, socket=home / "s", people=home / "p")
        self.sent: list[Send] = []
        self.mono, self._trusted = 1000.0, trusted
        files = DiskFiles(home)
        logs = LogStore(files, files, mesh_id("meshchat"))
        logs.open()
        self.state = StateStore(files)
        limits = CapLimits(self.config.cap_author, self.config.cap_room, self.config.cap_router)
        settings = NodeSettings(
            mesh=mesh_id("meshchat"),
            limits=StoreLimits(limits, CAP_ACCOUNTS),
            wipe_moment=lambda now_ms: now_ms,
            retention_ms=None,
            boot=bytes([number] * 8),
            secret=bytes(16),
            boot_id=str(number),
        )
        listener = SimpleNamespace(
            send=self.sent.append,
            wake_at=lambda deadline: None,
            tell=lambda notice: None,
        )
        self.node = Node(settings, logs, self.state, self._now, Random(number), cast(Listener, listener))
        self.node.start()
        self.network = SimpleNamespace(
            used={"lo": list_interfaces()["lo"]},
            links={},
            peers={},
            strays=Counter(),
            words=lambda link, origin: origin.host,
            errors=Counter(),
            drops=Counter(),
            heard=Counter(),
        )
        self.station = LocalStation(
            self.config, self.node, cast(Network, self.network), self.state, logs, machine
        )

    def _now(self) -> Instant:
        return Instant(self.mono, START_MS + round(self.mono * 1000), self._trusted)

    def says(self) -> list[bytes]:
        """The datagrams that it puts on the air in a minute."""
        self.sent.clear()
        for _ in range(60):
            self.mono += 1.0
            self.node.tick()
        return [send.data for send in self.sent]

    def finds(self, what: str) -> list[tuple[str, str, str]]:
        """Level, text and cure of what `check` says about `what`."""
        said = [finding for finding in self.station.check() if finding["what"] == what]
        return [(str(one["level"]), str(one["text"]), str(one["cure"])) for one in said]
