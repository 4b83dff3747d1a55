"""The engine's face: datagrams, records and deadlines in; what to send, keep and show out.

It orders the steps, other modules decide them. It reads no clock, socket, file or random source: each call is
given the time, the dice are given at the start, and every call returns frozen outputs to carry out in order.

A record from whatever door goes one way: decode, authenticate, deduplicate (`Keeper.consider`), append (an
`Append` output, answered by `appended`), deliver, relay.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from meshchat.constants import (
    AHEAD_MS,
    ANSWER_BURST,
    ANSWER_RATE,
    AUTHOR_BURST,
    AUTHOR_RATE,
    HELD_WAIT,
    MAX_SEEN,
    MESH_STATE_WAIT,
    NEWS_MS,
    STALL,
)
from meshchat.errors import Malformed
from meshchat.identity import Sealer
from meshchat.protocol.asker import Asker
from meshchat.protocol.clock import Heard, MeshClock
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.events import Append, Deliver, Held, MeshState, Output, Send, Stored
from meshchat.protocol.exchange import Exchange
from meshchat.protocol.fetch import Fetch
from meshchat.protocol.giver import Giver
from meshchat.protocol.horizon import Horizon, HorizonState
from meshchat.protocol.instant import Instant
from meshchat.protocol.keeper import Admitted, Keeper
from meshchat.protocol.news import News
from meshchat.protocol.port import AirShare, Desk, Port
from meshchat.protocol.presence import Presence
from meshchat.protocol.standing import Standing
from meshchat.state.fragments import Reassembly
from meshchat.state.limits import BucketTable
from meshchat.state.neighbours import Neighbour, Neighbours
from meshchat.state.receipts import Receipts
from meshchat.state.seen import SeenCache
from meshchat.state.store import HistoryRow, RecordStore, StoreLimits
from meshchat.wire.datagram import LaterVersion
from meshchat.wire.packets import (
    CONFIRM_KEY,
    Ask,
    Carried,
    Confirm,
    Digest,
    Dump,
    Fragment,
    Offer,
    Packet,
    Ranges,
    Records,
    Sketch,
    Want,
    decode_packets,
)
from meshchat.wire.records import Grade, Record, Space, carried_position, stamp_ms

HOUSEKEEPING = 30.0
"""Seconds between looks at the wipe, the quarantine and the neighbours' clocks: short against the 15 minutes
by which clocks may differ, and the rarest of the reasons for which a router at rest wakes up."""

DISK_RETRY = 15.0
"""Seconds for which nothing is fetched after the disk refused a record."""

CLOCKS_WAIT = 0.2
"""Longest wait before the clocks heard are compared: once for all the digests of a busy moment."""

_SKETCH_STEPS = 512
_SKETCH_PAUSE = 0.05
"""What is held at the start is mixed into the sketch in steps of 2.5 ms on a PC, 25 ms on a router."""

_MAX_AUTHORS = 4096
_MAX_ADDRESSES = 1024
Address = tuple[str, int]


@dataclass(frozen=True)
class RouterSettings:
    """What a router is told at the start.

    `mesh` and `router` are ids; `boot` is 8 and `secret` 16 random bytes, new at each start; `wipe_moment`
    gives the last daily wipe at or before a mesh time (UTC milliseconds); `retention_ms` None keeps for ever;
    `run` is cumulative running seconds before this start; `clock_floor_ms` the latest time known for sure;
    `clock_resume_ms` mesh time before this start, 0 where it is not known.
    """

    mesh: bytes
    router: bytes
    boot: bytes
    secret: bytes
    limits: StoreLimits
    air: AirShare
    wipe_moment: Callable[[int], int]
    retention_ms: int | None
    horizon: HorizonState
    run: int
    clock_floor_ms: int
    clock_resume_ms: int = 0


@dataclass
class Traffic:
    """What went in and out, for `status`."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Router:
    """One router's engine."""

    def __init__(
        self,
        settings: RouterSettings,
        sealer: Sealer,
        read: Callable[[bytes], Record | None],
        random: Random,
        now: Instant,
    ) -> None:
        """`read` gives a held record by position, or None where the disk lost it."""
        self.settings = settings
        self.clock = MeshClock(now, settings.clock_floor_ms, settings.clock_resume_ms)
        self.store = RecordStore(settings.limits)
        self.horizon = Horizon(settings.retention_ms, settings.horizon)
        self.keeper = Keeper(
            settings.mesh, self.store, self.clock, self.horizon, settings.wipe_moment, settings.run, now
        )
        self.neighbours = Neighbours()
        self.receipts = Receipts(self.store.holds, self._tell_held_soon)
        self.traffic = Traffic()
        self.later_versions: dict[str, int] = {}
        self._read = read
        self._now = now
        self._desk = Desk(random, Envelope(settings.mesh, settings.router, settings.boot, sealer))
        fetch = Fetch()
        self._standing = Standing(
            *(self._desk, self.keeper, self.neighbours, self.receipts, fetch),
            *(settings.boot, settings.secret),
        )
        shared = (self._desk, self.keeper, self.neighbours, self._standing)
        self.asker = Asker(*shared, fetch, settings.router)
        self._giver = Giver(*shared, settings.router, self._may_answer)
        self._exchange = Exchange(
            *(self._desk, self.keeper, self._standing, self.asker, self._giver),
            *(settings.router, self._may_answer),
        )
        self._news = News(self._desk, self.neighbours, settings.mesh)
        self.presence = Presence(self._desk, self.keeper, self._news, settings.mesh, settings.router)
        self._answers: BucketTable[str] = BucketTable(ANSWER_RATE, ANSWER_BURST, _MAX_ADDRESSES)
        self._reassembly = Reassembly()
        self._seen = SeenCache(MAX_SEEN)
        self._authors: BucketTable[bytes] = BucketTable(AUTHOR_RATE, AUTHOR_BURST, _MAX_AUTHORS)
        self._pending: dict[bytes, _Pending] = {}
        self._mesh_state: MeshState | None = None
        self._desk.timers.set(("housekeeping",), now.mono)
        self._desk.timers.set(("sketch",), now.mono + _SKETCH_PAUSE)

    @property
    def drops(self) -> Counter[str]:
        """What was refused, by reason."""
        return self.keeper.drops

    # --- Outside events ---------------------------------------------------------------------------------

    def load(self, record: Record, age: int, run: int, now: Instant) -> list[Output]:
        """A record from this router's own log, verified by the caller, with age and running time of then."""
        held = age + max(0, self.keeper.run(now) - run)
        if not self.store.accounts_for(record.position):
            self._desk.emit(*self.keeper.store_records([(record, held)], now))
        return self._done(now)

    def restore(self, rows: Sequence[HistoryRow], now: Instant) -> list[Output]:
        """History from this router's own log, verified by the caller; what is accounted for is skipped."""
        self._desk.emit(*self.keeper.restore(rows, now))
        return self._done(now)

    def recall(self, places: Iterable[bytes]) -> None:
        """Positions that were removed before the restart and shall not be fetched again."""
        for place in places:
            self.store.remember(place)

    def interface_up(self, name: str, mtu: int, now: Instant, *, is_peer: bool = False) -> list[Output]:
        """An interface, or with `is_peer` a configured unicast peer, can be used; asks there what is missing.

        `mtu` is bytes. Called again for an interface that is up, it takes the new MTU.
        """
        port = self._desk.ports.get(name)
        if port is not None:
            port.mtu = mtu
            return []
        air, random = self.settings.air, self._desk.random
        port = Port(name, mtu, random, now.mono, air, self.store, self._carry, is_peer=is_peer)
        self._desk.ports[name] = port
        self._desk.timers.set(("trickle", name), port.trickle.deadline)
        self._desk.timers.set(("ask", name), now.mono)
        return self._done(now)

    def interface_down(self, name: str, now: Instant) -> list[Output]:
        """An interface is gone."""
        self._desk.ports.pop(name, None)
        self.neighbours.forget_interface(name)
        self._mesh_may_have_changed(now)
        return self._done(now)

    def receive(self, data: bytes, interface: str, address: Address, now: Instant) -> list[Output]:
        """A datagram came in on an interface from `address`."""
        self._now = now
        self.traffic.datagrams_in += 1
        self.traffic.bytes_in += len(data)
        port = self._desk.ports.get(interface)
        if port is None:
            self.drops["interface"] += 1
            return self._done(now)
        try:
            sender, body = self._desk.envelope.unwrap(data)
            neighbour = self.neighbours.heard(sender, interface, address, now.mono)
            if not neighbour.greeted:
                # New, or back from afar: it may hold what is not known here, so do not wait half a minute.
                neighbour.greeted = True
                self._desk.hurry(port, now.mono)
                self._mesh_may_have_changed(now)
            for packet in decode_packets(body):
                if isinstance(packet, int):
                    self.drops["unknown-packet"] += 1
                else:
                    self._handle(packet, neighbour, port, now)
        except LaterVersion as later:
            self.drops[later.reason] += 1
            if len(self.later_versions) < 64 or address[0] in self.later_versions:
                self.later_versions[address[0]] = later.version
        except Malformed as refusal:
            self.drops[refusal.reason] += 1
        return self._done(now)

    def submit(self, record: Record, now: Instant) -> list[Output]:
        """A record made on this router; its `Append` is among the outputs."""
        if record.space == Space.ROOM:
            self.receipts.add(record)
        self._offer(Admitted(record, 0), None, now, live=True)
        return self._done(now)

    def announce(self, record: Record, now: Instant) -> list[Output]:
        """A statement, made on this router, of who is present here."""
        self.presence.announce(record, now)
        self._news.send_due(now)
        return self._done(now)

    def merge(self, carried: Iterable[Carried], now: Instant) -> tuple[int, Counter[str], list[Output]]:
        """Records from a file, by the same door as a neighbour's.

        Returns how many were known, how many were refused or have to wait by reason, and the outputs.
        """
        known = 0
        before = Counter(self.drops)
        for one in carried:
            if self.keeper.knows(carried_position(self.settings.mesh, one.data)):
                known += 1
            elif (admitted := self.keeper.consider(one, None, now)) is not None:
                self._offer(admitted, None, now, live=False)
        refused = self.drops - before
        for port in self._desk.ports.values():
            self._desk.hurry(port, now.mono)
        return known, refused, self._done(now)

    def wipe(self, room: str | None, now: Instant) -> list[Output]:
        """Deletes a room's history, or all, on this router by hand."""
        self._desk.emit(*self.keeper.wipe(room, now))
        return self._done(now)

    def set_clock(self, time_ms: int, now: Instant) -> list[Output]:
        """The operator vouches for a time (UTC milliseconds)."""
        self.clock.set_by_operator(now, time_ms)
        self._clock_moved(now)
        return self._done(now)

    def lost(self, places: Iterable[bytes], now: Instant) -> list[Output]:
        """The disk no longer has these records: they are fetched again."""
        for place in places:
            self.store.forget(place, remember=False)
        for port in self._desk.ports.values():
            self._desk.hurry(port, now.mono)
        return self._done(now)

    def sent(self, send: Send) -> None:
        """A `Send` was carried out: it counts as traffic."""
        self.traffic.datagrams_out += 1
        self.traffic.bytes_out += len(send.data)

    def use_sealer(self, sealer: Sealer) -> None:
        """The mesh keys changed."""
        self._desk.envelope.sealer = sealer

    # --- After an Append --------------------------------------------------------------------------------

    def appended(self, ids: Iterable[bytes], now: Instant) -> list[Output]:
        """These records of an `Append` are on disk: they are held, shown and relayed from now on."""
        stored = [self._pending.pop(one) for one in ids]
        admitted = [pending.admitted for pending in stored]
        removed = self.keeper.store_records([(one.record, one.age) for one in admitted], now)
        shown: list[Output] = []
        for pending in stored:
            record = pending.admitted.record
            self._seen.add(record.position)
            if self.store.holds(record.position):
                shown.append(Deliver(record, pending.live))
                self.presence.wrote(record, now)
                if pending.relay:
                    self._relay(pending, now)
        self._news.send_due(now)
        self._desk.emit(*shown, *removed)
        return self._done(now)

    def append_failed(self, ids: Iterable[bytes], now: Instant) -> list[Output]:
        """These records of an `Append` could not be written; for a while nothing more is fetched."""
        for one in ids:
            del self._pending[one]
            self.receipts.discard(one)
            self.drops["disk"] += 1
        self.asker.block(now, DISK_RETRY)
        return self._done(now)

    # --- Time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `tick` is to be called, monotonic seconds."""
        return self._desk.timers.next()

    def tick(self, now: Instant) -> list[Output]:
        """Does everything whose time has come."""
        self._now = now
        for key in self._desk.timers.due(now.mono):
            self._expire(key, now)
        return self._done(now)

    def _expire(self, key: Hashable, now: Instant) -> None:
        match key:
            case ("housekeeping",):
                self._housekeep(now)
            case ("clocks",):
                self._follow_clocks(now)
            case ("held",):
                self._tell_held(now)
            case ("mesh",):
                self._tell_mesh_state(now)
            case ("sketch",):
                if self.store.records.sketch_on(_SKETCH_STEPS):
                    self._desk.timers.set(("sketch",), now.mono + _SKETCH_PAUSE)
            case ("choose",):
                self.asker.choose(now)
            case ("fetch",):
                self.asker.check_fetch(now)
            case ("presence", bytes(place)):
                self.presence.expire(place, now)
            case (str(what), str(interface)) if interface in self._desk.ports:
                self._expire_port(what, self._desk.ports[interface], now)
            case (str(what), str(interface), bytes(router)) if interface in self._desk.ports:
                neighbour = self.neighbours.get(router, interface)
                if neighbour is not None:
                    self._expire_neighbour(what, self._desk.ports[interface], neighbour, now)

    def _expire_port(self, what: str, port: Port, now: Instant) -> None:
        match what:
            case "trickle":
                if port.trickle.expire(now.mono):
                    self._standing.send_digest(port, now)
                self._desk.timers.set(("trickle", port.name), port.trickle.deadline)
            case "flood":
                self._news.expire(port, now)
            case "dump":
                self._giver.send_dump(port, now)
            case "ask":
                self.asker.ask(port, now)
            case "digest":
                self._standing.send_digest(port, now)
            case "rest" if port.doubted:
                self._standing.send_digest(port, now)

    def _expire_neighbour(self, what: str, port: Port, neighbour: Neighbour, now: Instant) -> None:
        if what == "ranges":
            self._exchange.begin(port, neighbour, now)
        elif what == "offer":
            self._giver.send_offer(port, neighbour, now)
        elif what == "tell":
            self.presence.tell(port, neighbour, now)

    def _housekeep(self, now: Instant) -> None:
        self._follow_clocks(now)
        self._desk.emit(*self.keeper.housekeep(now))
        self._release_quarantine(now)
        self._mesh_may_have_changed(now)
        self._desk.timers.set(("housekeeping",), now.mono + HOUSEKEEPING)

    # --- What front ends are told of the mesh -----------------------------------------------------------

    def neighbours_heard(self, now: Instant) -> int:
        """How many routers are heard: one that is heard on two interfaces is one."""
        return len({one.router for one in self.neighbours.alive(now.mono)})

    def mesh_state(self, now: Instant) -> MeshState:
        """How the mesh looks from here by now."""
        differs = any(one.differs_since is not None for one in self.neighbours.alive(now.mono))
        in_step = not differs and not self._standing.is_fetching(now)
        return MeshState(self.neighbours_heard(now), in_step, self.clock.grade(now))

    def _mesh_may_have_changed(self, now: Instant) -> None:
        if self.mesh_state(now) != self._mesh_state:
            self._desk.timers.set_if_unset(("mesh",), now.mono + MESH_STATE_WAIT)

    def _tell_mesh_state(self, now: Instant) -> None:
        state = self.mesh_state(now)
        if state != self._mesh_state:
            self._mesh_state = state
            self._desk.emit(state)

    def _tell_held_soon(self) -> None:
        self._desk.timers.set_if_unset(("held",), self._now.mono + HELD_WAIT)

    def _tell_held(self, now: Instant) -> None:
        heard = self.neighbours_heard(now)
        for each in self.receipts.tell():
            self._desk.emit(Held(each.id, each.room, each.author, each.by, heard))

    # --- Clocks -----------------------------------------------------------------------------------------

    def heard_clocks(self, now: Instant) -> Iterator[Heard]:
        """The neighbours' clock claims; under a mesh key only of those that cannot be a recording."""
        sealed = bool(self._desk.envelope.sealer)
        for neighbour in self.neighbours.alive(now.mono):
            if neighbour.digest is not None and (neighbour.live or not sealed):
                yield Heard(neighbour.router, neighbour.digest.clock, neighbour.digest_at)

    def _clock_heard(self, now: Instant) -> None:
        """A neighbour claims a time; who has a good clock follows nobody."""
        if self.clock.grade(now) is not Grade.GOOD:
            self._desk.soon(("clocks",), now.mono, CLOCKS_WAIT)

    def _follow_clocks(self, now: Instant) -> None:
        if self.clock.follow(now, self.heard_clocks(now)):
            self._clock_moved(now)

    def _clock_moved(self, now: Instant) -> None:
        self.keeper.reset_stamps(now)
        self._desk.emit(*self.keeper.housekeep(now))
        self._release_quarantine(now)
        self.presence.clock_moved(now)

    def _release_quarantine(self, now: Instant) -> None:
        for admitted in self.keeper.ripe(now):
            placed = self.keeper.place(admitted, now)
            if placed is not None:
                self._offer(placed, None, now, live=True)

    def ahead_of(self, now: Instant) -> int:
        """How many neighbours with a clock of their own show a time over 15 minutes before this router's."""
        mine = self.clock.now_ms(now)
        claims = self.heard_clocks(now)
        return sum(
            heard.claim.grade is not Grade.UNKNOWN and mine > heard.time_ms(now) + AHEAD_MS
            for heard in claims
        )

    # --- Packets ----------------------------------------------------------------------------------------

    def _handle(self, packet: Packet, neighbour: Neighbour, port: Port, now: Instant) -> None:
        match packet:
            case Records():
                neighbour.link.heard(packet.number)
                self._take_in(packet.items, neighbour, port, now, live=True)
            case Confirm():
                neighbour.link.heard(packet.number)
                self._news.on_confirm(packet, neighbour, port)
                self.presence.on_confirm(packet, neighbour, port)
                for key in packet.keys:
                    self.receipts.has(key, neighbour)
            case Digest():
                self.presence.met(neighbour, packet, port, now)
                self._exchange.on_digest(neighbour, packet, port, now)
                self._clock_heard(now)
                self._mesh_may_have_changed(now)
            case Ask():
                self.presence.met(neighbour, packet.digest, port, now)
                self._giver.on_ask(neighbour, packet, port, now)
                self._clock_heard(now)
            case Offer():
                self.asker.on_offer(neighbour, packet, port, now)
            case Ranges():
                self._exchange.on_ranges(neighbour, packet, port, now)
            case Sketch():
                self._exchange.on_sketch(neighbour, packet, port, now)
            case Want() if packet.to != self.settings.router:
                self.asker.overheard(packet, port, now)
            case Want():
                if self._giver.on_want(neighbour, packet, port, now):
                    self._exchange.on_want(neighbour, packet, port, now)
            case Dump():
                self._on_dump(packet, neighbour, port, now)
            case Fragment():
                self._on_fragment(packet, neighbour, port, now)

    def _may_answer(self, neighbour: Neighbour, now: Instant) -> bool:
        """Takes from the budget of answers to the neighbour's address."""
        if self._answers.take(neighbour.address[0], now.mono):
            return True
        self.drops["answer-budget"] += 1
        return False

    def _on_dump(self, dump: Dump, neighbour: Neighbour, port: Port, now: Instant) -> None:
        self._take_in(dump.items, neighbour, port, now, live=False)
        self._flush(now)
        self.asker.on_dump(neighbour, dump, port, now)

    def _on_fragment(self, piece: Fragment, neighbour: Neighbour, port: Port, now: Instant) -> None:
        place = self._seen.place(piece.id)
        if place is not None and self.keeper.knows(place):
            if not piece.offset:  # once for all its pieces
                self._known_here(place, neighbour, port, now, live=not piece.repair)
            return
        whole = self._reassembly.add(neighbour.router, piece, now.mono)
        if whole is not None and len(whole) >= 4:
            self._seen.add(carried_position(self.settings.mesh, whole))
            self._take_in((Carried(whole, piece.age),), neighbour, port, now, live=not piece.repair)

    # --- Records ----------------------------------------------------------------------------------------

    def _take_in(
        self, items: Sequence[Carried], neighbour: Neighbour, port: Port, now: Instant, *, live: bool
    ) -> None:
        for carried in items:
            place = carried_position(self.settings.mesh, carried.data)
            if self.keeper.knows(place):
                self.drops["duplicate"] += 1
                self._known_here(place, neighbour, port, now, live=live)
                self._strike(place, carried, neighbour, port, now, live=live)
                continue
            if live and carried.ephemeral:
                self.presence.take_in(carried, neighbour, port, now)
                continue
            if self._is_too_old(carried) and (live or not self.asker.is_asked_for(neighbour, port, now)):
                self.drops["age"] += 1
                continue
            admitted = self.keeper.consider(carried, neighbour.address[0], now)
            if admitted is not None:
                self._strike(place, carried, neighbour, port, now, live=live)
                self._offer(admitted, neighbour, now, live=live)
                if not live:
                    neighbour.gives_until = now.mono + STALL / 2
            elif self.asker.is_source(neighbour, port):
                # Refused, and so not wanted: an honest source that offers it again is not to be shunned.
                self.asker.strike(place)

    def _strike(
        self, place: bytes, carried: Carried, neighbour: Neighbour, port: Port, now: Instant, *, live: bool
    ) -> None:
        """The record is wanted no more. In a range that is coming in, one that is flooded leaves no hole."""
        if live:
            self.asker.strike(place)
        else:
            self.asker.received(place, carried.size, neighbour, port, now)

    @staticmethod
    def _is_too_old(carried: Carried) -> bool:
        """Whether its age is that of no news: who was not asked for it could have it wiped early."""
        return carried.wiped_by_age and carried.age > NEWS_MS // 1000

    def _known_here(
        self, place: bytes, neighbour: Neighbour, port: Port, now: Instant, *, live: bool
    ) -> None:
        """A neighbour was heard with a record that is known, as news or in a repair."""
        if (key := place[CONFIRM_KEY]) in self.receipts.watched:
            self.receipts.has(key, neighbour)
        if live:
            self._news.copy_heard(place, neighbour, port, now)
        else:
            self._news.has(place, neighbour, port)

    def _offer(self, admitted: Admitted, sender: Neighbour | None, now: Instant, *, live: bool) -> None:
        """Into the batch for the disk, once. What is repaired while still news is relayed like news."""
        record = admitted.record
        if record.id in self._pending:
            return
        is_news = live or stamp_ms(record.stamp) > self.clock.now_ms(now) - NEWS_MS
        relay = live or (is_news and not self.asker.fetch.spans)
        self._pending[record.id] = _Pending(admitted, sender, live, is_news, relay)

    def _flush(self, now: Instant) -> None:
        """One `Append` for all that this call brought in."""
        if not self._pending:
            return
        fresh = [pending for pending in self._pending.values() if not pending.handed_out]
        if fresh:
            for pending in fresh:
                pending.handed_out = True
            batch = tuple(Stored(one.admitted.record, one.admitted.age) for one in fresh)
            self._desk.emit(Append(batch))

    def _relay(self, pending: "_Pending", now: Instant) -> None:
        record = pending.admitted.record
        self._standing.arrived(record.stamp, now)
        if not self._authors.take(record.key, now.mono):
            self.drops["author-rate"] += 1
            return
        carried = Carried(record.carried, pending.admitted.age)
        self._news.flood(record.position, carried, pending.sender, now, by_news=pending.by_news)

    def _carry(self, place: bytes) -> Carried | None:
        """A held record as it goes into a packet, with its age by now."""
        if not self.store.holds(place):
            return None
        record = self._read(place)
        if record is None:
            return None
        return Carried(record.carried, self.store.age(place, self.keeper.run(self._now)))

    def _done(self, now: Instant) -> list[Output]:
        self._now = now
        self._flush(now)
        return self._desk.collect()


@dataclass
class _Pending:
    """A record on its way to the disk: who sent it, as news or not, whether it is, whether to relay it."""

    admitted: Admitted
    sender: Neighbour | None
    by_news: bool
    live: bool
    relay: bool
    handed_out: bool = False
