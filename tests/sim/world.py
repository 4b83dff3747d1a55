"""A deterministic world: real nodes (engine, logs, state) under virtual time, on simulated air and disks.

One seed decides everything, so a run that fails replays exactly.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from meshchat.adapters.links.udp import UdpOrigin
from meshchat.adapters.meshview import MeshView
from meshchat.adapters.node import Node, NodeSettings
from meshchat.adapters.storage.logstore import FsyncPolicy, LogStore
from meshchat.adapters.storage.statestore import StateStore
from meshchat.chat.localtime import Zone, last_wipe
from meshchat.chat.notices import Evicted, Notice, Wiped
from meshchat.constants import (
    CAP_ACCOUNTS,
    CAP_AUTHOR,
    CAP_ROOM,
    CAP_ROUTER,
    NEWS_SHARE,
    REPAIR_SHARE,
    TALK_SHARE,
)
from meshchat.errors import StoreError
from meshchat.identity.keys import KeySeed, SigningKey, sign_record, verify_record
from meshchat.identity.meshkey import MeshKey
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Deliver, Held, MeshState, PresenceChanged, Restate, Send
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import LinkProfile
from meshchat.state.caps import CapLimits
from meshchat.state.origin import Origin
from meshchat.state.presence import Present
from meshchat.state.recordset import RecordSet
from meshchat.state.store import StoreLimits
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import BootId, TokenSecret, record_id_of
from meshchat.wire.packets import ClockClaim, Digest, Packet, Scope, encode_packet
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, mesh_id, router_id
from tests.sim.disk import PowerCut, SimFiles
from tests.sim.network import Air, AirConditions, Link, Medium
from tests.sim.radio import Radio, RadioModel

DAY = 86_400.0
EPOCH_MS = 1_800_000_000_000
"""The true time at the start of every run: 2027-01-15T08:00Z."""

PORT = 8888
MESH = mesh_id("simulated")
AIR_RATE = 1_000_000
WLAN0 = LinkProfile(
    "wlan0", 1500, is_broadcast=True, air=AirShare(AIR_RATE, NEWS_SHARE, REPAIR_SHARE, TALK_SHARE)
)


_zone = lru_cache(Zone)
"""One zone for all routers that have it: each remembers what it computed."""


@lru_cache(maxsize=4096)
def origin_of(number: int) -> UdpOrigin:
    """Router `number` as its neighbours hear it."""
    return UdpOrigin(f"10.0.{number >> 8}.{number & 255}", PORT)


def number_of(origin: Origin | None) -> int | None:
    """The router that an origin stands for; None: all who are on the link."""
    if not isinstance(origin, UdpOrigin):
        return None
    *_, high, low = origin.host.split(".")
    return int(high) << 8 | int(low)


@dataclass
class ClockModel:
    """A router's clock: what the kernel claims beside the truth, and whether it says it is synchronised."""

    offset_ms: int = 0
    good: bool = True
    drift: float = 0.0


@dataclass
class RouterModel:
    """What stays of a router over its reboots."""

    clock: ClockModel = field(default_factory=ClockModel)
    retention_s: int | None = 86_400
    fsync: FsyncPolicy = "always"
    limits: StoreLimits = field(
        default_factory=lambda: StoreLimits(CapLimits(CAP_AUTHOR, CAP_ROOM, CAP_ROUTER), CAP_ACCOUNTS)
    )
    zone: str = "UTC"
    wipe_time: str = "04:00"
    mesh_keys: tuple[MeshKey, ...] = ()
    link: LinkProfile = WLAN0


class SimRouter:
    """One router of the world. It is the node's listener, and the person sitting at it."""

    def __init__(self, world: "World", number: int, model: RouterModel) -> None:
        self.world, self.number, self.model = world, number, model
        self.logs = SimFiles(f"/logs{number}")
        self.state = SimFiles(f"/state{number}")
        self.user = SigningKey.from_seed(KeySeed(world.rng.randbytes(32)))
        self.node: Node | None = None
        self._view: MeshView | None = None
        self.shown: set[bytes] = set()
        self.shown_live: set[bytes] = set()
        self.acknowledged: list[Record] = []
        self.notices: list[str] = []
        self.restated: Callable[[], None] = lambda: None
        self.told: list[Held] = []
        self.mesh_state: MeshState | None = None
        self._boots = 0
        self._starts = 0
        self._deadline: float | None = None
        self._booted_at = 0.0
        self._free_at = 0.0
        if model.mesh_keys:
            StateStore(self.state).save_mesh_keys(model.mesh_keys)

    # --- Clocks -----------------------------------------------------------------------------------------

    def instant(self) -> Instant:
        """What the node reads: monotonic time since boot, the kernel's claim, and its trust."""
        clock = self.model.clock
        mono = (self.world.now - self._booted_at) * (1 + clock.drift)
        wall = EPOCH_MS + int(self.world.now * 1000) + clock.offset_ms
        return Instant(mono, wall if wall > 0 else 0, clock.good)

    # --- Life -------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """The machine comes up: starts the daemon on what the disks hold."""
        self._boots += 1
        self._booted_at = self.world.now
        self.restart()

    def restart(self) -> None:
        """Starts the daemon again on a machine that was not rebooted meanwhile."""
        self._starts += 1
        self._guarded(self._start)

    def _start(self) -> None:
        rng = random.Random(self.world.rng.randrange(2**63))
        model = self.model
        zone = _zone(model.zone)
        store = LogStore(self.logs, self.state, MESH, fsync=model.fsync)
        store.open()
        settings = NodeSettings(
            mesh=MESH,
            limits=model.limits,
            wipe_moment=lambda ms: last_wipe(ms, model.wipe_time, zone),
            retention_ms=None if model.retention_s is None else model.retention_s * 1000,
            boot=BootId(rng.randbytes(8)),
            secret=TokenSecret(rng.randbytes(16)),
            boot_id=f"{self.number}-{self._boots}",
        )
        state = StateStore(self.state, new_key=lambda: SigningKey.from_seed(KeySeed(rng.randbytes(32))))
        self.node = Node(settings, store, state, self.instant, rng, self)
        self._view = MeshView(self.node, store)
        self.node.start()
        self.node.link_up(self.model.link)

    @property
    def up(self) -> Node:
        """The running node."""
        assert self.node is not None, f"router {self.number} is off"
        return self.node

    @property
    def mesh(self) -> MeshView:
        """The mesh as the people at the running node see it."""
        assert self._view is not None, f"router {self.number} is off"
        return self._view

    def stop(self) -> None:
        """A clean stop."""
        self._guarded(self.up.close)
        self._gone()

    def kill(self) -> None:
        """kill -9: what was written stays, the process is gone."""
        self._gone()
        self.logs.kill()
        self.state.kill()

    def power_cut(self) -> None:
        """Writes that were not forced to the disk are lost or torn."""
        self._gone()
        self.logs.power_cut(self.world.rng)
        self.state.power_cut(self.world.rng)

    def lose_logs(self) -> None:
        """The history was in RAM: nothing of it is left."""
        self.logs = SimFiles(f"/logs{self.number}")

    def lose_state(self) -> None:
        """A new router stands in its place."""
        self.state = SimFiles(f"/state{self.number}")

    def _gone(self) -> None:
        self.node = self._view = None
        self.shown.clear()
        self._deadline = None
        self._free_at = 0.0

    # --- The node's listener ----------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Onto the air."""
        to = self.world.number_of(send.to)
        self.world.transmit(self.number, to, send.data)

    def tell(self, notice: Notice) -> None:
        """Something happened that the people at this router are shown."""
        match notice:
            case Deliver(record, live):
                self._show(record, live)
            case Wiped():
                # Should it be fetched again one day, it may be shown again.
                held = self.up.engine.store.held_entries()
                self.shown = {record_id_of(entry.position) for entry in held}
            case PresenceChanged(present):
                for watcher in self.world.watchers:
                    watcher(self.number, present)
            case Restate():
                self.restated()
            case Held():
                self.told.append(notice)
            case MeshState():
                self.mesh_state = notice
            case Evicted():
                pass

    def _show(self, record: Record, live: bool) -> None:
        """Its author must have signed it, and nothing is shown twice."""
        assert verify_record(record), "shown though its author did not sign it"
        assert record.id not in self.shown, "shown twice"
        self.shown.add(record.id)
        if live:
            self.shown_live.add(record.id)
        for viewer in self.world.viewers:
            viewer(self.number, record)

    def wake_at(self, deadline: float | None) -> None:
        """Schedules the node's next tick."""
        if deadline is None or (self._deadline is not None and self._deadline <= deadline):
            return
        self._deadline = deadline
        # A microsecond late, lest rounding makes it early and the node asks for the same moment again.
        at = self._booted_at + deadline / (1 + self.model.clock.drift) + 1e-6
        start = self._starts
        self.world.at(max(at, self.world.now), self._tick, start, deadline)

    def _tick(self, start: int, deadline: float) -> None:
        if self.node is None or start != self._starts or self._deadline != deadline:
            return
        if self.world.now < self._free_at:
            self.world.at(self._free_at, self._tick, start, deadline)
            return
        self._deadline = None
        self._guarded(self.node.tick)

    def receive(self, data: bytes, sender: int) -> None:
        """A frame arrived; it waits while the disk lets the process wait."""
        if self.world.now < self._free_at:
            self.world.at(self._free_at, self.receive, data, sender)
        elif self.node is not None:
            self._guarded(self.node.receive, data, self.model.link.name, self.world.origin_of(sender))

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except PowerCut:
            self.power_cut()
        waited, self.logs.waited = self.logs.waited, 0.0
        self._free_at = max(self._free_at, self.world.now) + waited

    # --- The person -------------------------------------------------------------------------------------

    def draft(self, room: str, text: str, *, name: str | None = None) -> Record:
        """A signed message that is not submitted yet."""
        stamp, grade = self.mesh.stamp()
        return sign_record(
            self.user,
            mesh=MESH,
            space=Space.ROOM,
            log=room,
            kind=Kind.MESSAGE,
            author=name or f"user{self.number}",
            router=self.up.router,
            stamp=stamp,
            grade=grade,
            body=text.encode(),
        )

    def say(self, room: str, text: str) -> Record | None:
        """Writes a message; the record once it is acknowledged, None where the disk refused it."""
        return self.submit(self.draft(room, text))

    def submit(self, record: Record) -> Record | None:
        """Hands in a draft; the record once it is acknowledged, None where the disk refused it."""
        try:
            notice = self.mesh.submit(record)
        except StoreError:
            return None
        if notice:
            self.notices.append(notice)
        self.acknowledged.append(record)
        return record

    def texts(self, room: str = "1") -> list[str]:
        """The room as a person sees it here."""
        return [record.body.decode() for record in self.mesh.messages(room)]

    def ids(self, room: str = "1") -> list[bytes]:
        """The ids of a room's messages in order."""
        return [record.id for record in self.mesh.messages(room)]


class World:
    """Routers, the air between them, and virtual time in seconds."""

    def __init__(
        self,
        seed: int,
        links: Sequence[Link],
        count: int,
        conditions: AirConditions | None = None,
        radio: RadioModel | None = None,
    ) -> None:
        """Makes `count` routers, all off; with `radio`, frames take time and collide."""
        self.rng = random.Random(seed)
        self.now = 0.0
        rng = random.Random(self.rng.randrange(2**63))
        self.air: Medium
        if radio is None:
            self.air = Air(rng, conditions or AirConditions(), self)
        else:
            self.air = Radio(rng, conditions or AirConditions(delay=0.0), self, radio, count)
        self.air.connect(links)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self.routers = [SimRouter(self, number, RouterModel()) for number in range(count)]
        self.origin_of: Callable[[int], Origin] = origin_of
        self.number_of: Callable[[Origin | None], int | None] = number_of
        self.taps: list[Callable[[int, bytes], None]] = []
        self.viewers: list[Callable[[int, Record], None]] = []
        self.watchers: list[Callable[[int, Present], None]] = []

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Calls `action(*arguments)` at a moment."""
        self._order += 1
        heapq.heappush(self._events, (moment, self._order, action, arguments))

    @property
    def true_ms(self) -> int:
        """The true time, UTC milliseconds."""
        return EPOCH_MS + int(self.now * 1000)

    def boot(self, only: Iterable[int] | None = None) -> None:
        """Starts the routers `only`, or every one that is off, within two seconds."""
        chosen = self.routers if only is None else [self.routers[number] for number in only]
        for router in chosen:
            if router.node is None:
                self.at(self.now + self.rng.uniform(0, 2), router.boot)
        self.run(2.1)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass; ends early, with True, when `until` holds (looked at each virtual second)."""
        end = self.now + seconds
        looked = self.now
        while self._events and self._events[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)
            if until is not None and self.now - looked >= 1.0:
                looked = self.now
                if until():
                    return True
        self.now = end
        return until() if until is not None else True

    def transmit(self, sender: int, to: int | None, data: bytes) -> None:
        """A frame of router `sender` goes on the air."""
        for tap in self.taps:
            tap(sender, data)
        self.air.transmit(sender, to, data)

    def arrived(self, receiver: int, sender: int, data: bytes) -> None:
        """A frame of `sender` reached `receiver`."""
        self.routers[receiver].receive(data, sender)

    def alive(self) -> list[SimRouter]:
        """The routers that are on."""
        return [router for router in self.routers if router.node is not None]


class Stranger:
    """Somebody at the place of router `number`, which stays off: sends whatever a test wants, heeds nothing.

    Its records are signed as they should be: anyone can make a key. `boot` is what it calls its present run.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.key = SigningKey.from_seed(KeySeed(world.rng.randbytes(32)))
        self.id = router_id(self.key.public)
        self.boot = bytes(8)
        self._talking = 0

    def send(self, *packets: Packet, to: int | None = None) -> None:
        """The packets in one datagram, to all in reach or to one."""
        body = b"".join(encode_packet(packet) for packet in packets)
        self.world.transmit(self.number, to, PlainDatagram(MESH, self.id, body).encode())

    def digest(self, grade: Grade, ms: int, *, floor_ms: int = 0) -> Digest:
        """That of a router that holds nothing and claims this clock and this floor."""
        nothing = RecordSet().summary()
        claim = ClockClaim(grade, 0, 0, ms)
        return Digest(
            BootId(self.boot),
            BootId(bytes(8)),
            bytes(3),
            claim,
            Scope.ALL,
            make_stamp(floor_ms),
            nothing,
            nothing,
        )

    def lie(self, grade: Grade, ahead_ms: int, *, floor_ms: int = 0, every: float = 10.0) -> None:
        """Claims a clock that is `ahead_ms` before the truth, again and again until it is `quiet`."""
        self._talking += 1
        talk = self._talking

        def claim() -> None:
            if talk == self._talking:
                self.send(self.digest(grade, self.world.true_ms + ahead_ms, floor_ms=floor_ms))
                self.world.at(self.world.now + every, claim)

        claim()

    def quiet(self) -> None:
        """Says no more."""
        self._talking += 1

    def record(
        self,
        text: str,
        stamp: int,
        *,
        grade: Grade = Grade.GOOD,
        room: str = "1",
        kind: int = Kind.MESSAGE,
        space: int = Space.ROOM,
    ) -> Record:
        """A record of its own making."""
        return sign_record(
            self.key,
            mesh=MESH,
            space=space,
            log=room,
            kind=kind,
            author="stranger",
            router=self.id,
            stamp=stamp,
            grade=grade,
            body=text.encode(),
        )
