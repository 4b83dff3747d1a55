"""One router: a real node whose clocks stand still until they are moved; and its neighbours, by hand."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

from meshchat.adapters.host.machine import Machine
from meshchat.adapters.links.interfaces import list_interfaces
from meshchat.adapters.links.network import Network
from meshchat.adapters.links.udp import UdpOrigin
from meshchat.adapters.meshview import MeshView
from meshchat.adapters.node import Node, NodeSettings
from meshchat.adapters.operator import OperatorView
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.logline import encode_line
from meshchat.adapters.storage.logstore import LogStore
from meshchat.adapters.storage.statestore import StateStore
from meshchat.chat.notices import Notice
from meshchat.config import Config
from meshchat.constants import CAP_ACCOUNTS, DEFAULT_PORT, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Send
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import LinkProfile
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import CONFIRM_KEY_SIZE, BootId, ConfirmKey, Fingerprint, TokenSecret
from meshchat.wire.packets import (
    Carried,
    ClockClaim,
    Confirm,
    Digest,
    Packet,
    Records,
    Scope,
    Summary,
    encode_packet,
)
from meshchat.wire.presence import Statement
from meshchat.wire.records import Grade, Kind, Record, Space, mesh_id, router_id
from tests.sim.disk import SimFiles

START_MS = 1_795_300_000_000
"""The time at a router's start: 2026-11-21T22:26:40Z."""

START = 1000.0
"""Its monotonic time then, in seconds."""

NOWHERE = Path("/nowhere")
"""Where the operator is told that a disk in memory is."""

WLAN0 = "wlan0"
LOOPBACK = list_interfaces()["lo"]
NOTHING = Summary(0, Fingerprint(bytes(16)))


def key(number: int) -> SigningKey:
    """A key pair that is the same in every run."""
    return SigningKey.from_seed(KeySeed(number.to_bytes(32, "big")))


def interface_link(name: str, mtu: int = 1500) -> LinkProfile:
    """What the engine is told of an interface."""
    return LinkProfile(name, mtu, True, AirShare(1_000_000, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE))


class Router:
    """One router without a radio, whose clocks stand still.

    `told` is called with each notice of the node, and `sent` has what went on the air.
    """

    def __init__(
        self,
        folder: Path | None = None,
        number: int = 0,
        *,
        disk: SimFiles | None = None,
        machine: Machine | None = None,
        trusted: bool = True,
    ) -> None:
        """In a folder of its own below `folder`, or else on `disk`, which is a new one in memory.

        The same `number`, the same router.
        """
        home = (folder or NOWHERE) / str(number)
        self._disk = disk or SimFiles()
        files = self._disk if folder is None else DiskFiles(home)
        self.config = Config(logs=home, state=home, socket=home / "s", people=home / "p")
        self.sent: list[Send] = []
        self.told: Callable[[Notice], object] = lambda notice: None
        self.mono, self._trusted, self._ahead_ms = START, trusted, 0
        self._deadline: float | None = None
        mesh = mesh_id(self.config.mesh)
        logs = LogStore(files, files, mesh)
        logs.open()
        self.state = StateStore(files, new_key=lambda: key(1_000_000 + number))
        caps = CapLimits(self.config.cap_author, self.config.cap_room, self.config.cap_router)
        settings = NodeSettings(
            mesh=mesh,
            limits=StoreLimits(caps, CAP_ACCOUNTS),
            wipe_moment=lambda now_ms: now_ms,
            retention_ms=None,
            boot=BootId(number.to_bytes(8, "big")),
            secret=TokenSecret(bytes(16)),
            boot_id=str(number),
        )
        self.node = Node(settings, logs, self.state, self._now, Random(number), self)
        self.mesh = MeshView(self.node, logs)
        self.node.start()
        self.network = SimpleNamespace(
            used={"lo": LOOPBACK},
            links={},
            peers={},
            strays=Counter(),
            words=lambda link, origin: origin.host,
            errors=Counter(),
            drops=Counter(),
            heard=Counter(),
        )
        self.operator = OperatorView(
            self.config, self.node, cast(Network, self.network), self.state, logs, machine
        )
        self.logs = logs

    # --- The node's listener ----------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Nobody hears it."""
        self.sent.append(send)

    def tell(self, notice: Notice) -> None:
        """Passed on."""
        self.told(notice)

    def wake_at(self, deadline: float | None) -> None:
        """Noted for `let_pass`."""
        self._deadline = deadline

    # --- Time -------------------------------------------------------------------------------------------

    @property
    def ms(self) -> int:
        """What the machine's clock shows, UTC milliseconds."""
        return START_MS + round((self.mono - START) * 1000) + self._ahead_ms

    @ms.setter
    def ms(self, ms: int) -> None:
        self._ahead_ms += ms - self.ms

    def _now(self) -> Instant:
        return Instant(self.mono, self.ms, self._trusted)

    def let_pass(self, seconds: float) -> None:
        """Time passes; what is due meanwhile is done."""
        end = self.mono + seconds
        while (due := self._deadline) is not None and due <= end:
            self.mono = max(self.mono, due)
            self._deadline = None
            self.node.tick()
        self.mono = end

    def says(self) -> list[bytes]:
        """The datagrams that it puts on the air in a minute."""
        self.sent.clear()
        self.let_pass(60.0)
        return [send.data for send in self.sent]

    def fill_disk(self, *, full: bool = True) -> None:
        """Its disk in memory takes nothing more, or something again."""
        self._disk.capacity = 0 if full else None

    # --- What it holds ----------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All of them."""
        held = (self.logs.read(place) for place in self.node.engine.holdings.all(None))
        return [record for record in held if record is not None]

    def record(self, record_id: str) -> Record:
        """The one with this id, in hex."""
        return next(record for record in self.records() if record.id.hex() == record_id)

    def take(self, *records: Record) -> None:
        """The records come, as out of a file."""
        self.mesh.take_in([encode_line(record).decode() for record in records])

    def meet(self, other: "Router") -> None:
        """Both hold the union afterwards, as when a link heals."""
        other.mesh.take_in(list(self.mesh.export(None)))
        self.mesh.take_in(list(other.mesh.export(None)))

    def finds(self, what: str) -> list[tuple[str, str, str]]:
        """Level, text and cure of what `check` says about `what`."""
        said = [finding for finding in self.operator.check() if finding["what"] == what]
        return [(str(one["level"]), str(one["text"]), str(one["cure"])) for one in said]


class Neighbour:
    """A router that `of` hears on wlan0; a test says what it sends."""

    def __init__(self, of: Router, number: int) -> None:
        """It is heard at once."""
        self._of, self._key = of, key(2_000_000 + number)
        self.id = router_id(self._key.public)
        self._origin = UdpOrigin(f"10.0.{number >> 8}.{number & 255}", DEFAULT_PORT)
        of.node.link_up(interface_link(WLAN0))
        self.sends()

    def sends(self, *packets: Packet) -> None:
        """A datagram of these."""
        body = b"".join(encode_packet(packet) for packet in packets)
        datagram = PlainDatagram(self._of.node.mesh, self.id, body)
        self._of.node.receive(datagram.encode(), WLAN0, self._origin)

    def differs(self) -> None:
        """It says that it holds something else."""
        self.sends(self._digest(self._of.ms, Summary(7, Fingerprint(bytes(16)))))

    def shows(self, ms: int) -> None:
        """It holds nothing, and has a good clock that shows this time."""
        self.sends(self._digest(ms, NOTHING))

    def _digest(self, ms: int, history: Summary) -> Digest:
        claim = ClockClaim(Grade.GOOD, 0, 0, ms)
        return Digest(BootId(self.id), BootId(bytes(8)), bytes(3), claim, Scope.ALL, 0, NOTHING, history)

    def confirms(self, record: Record) -> None:
        """It has the record."""
        self.sends(Confirm((ConfirmKey(record.id[:CONFIRM_KEY_SIZE]),)))

    def states(self, signer: SigningKey, name: str, *rooms: str, idle: int = 0) -> None:
        """Somebody is present there, who last typed so many seconds ago."""
        record = sign_record(
            signer,
            mesh=self._of.node.mesh,
            space=Space.PRESENCE,
            log="",
            kind=Kind.PRESENCE,
            author=name,
            router=self.id,
            stamp=self._of.mesh.stamp()[0],
            grade=Grade.UNKNOWN,
            body=Statement(idle, rooms).encode(),
        )
        self.sends(Records((Carried(record.carried),)))
