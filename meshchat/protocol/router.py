"""The engine's face: datagrams, records and deadlines in; what to send, keep and show out.

It orders the steps, other modules decide them. It reads no clock, socket, file or random source: each call is
given the time, the dice are given at the start, and every call returns frozen outputs to carry out in order.

A record from whatever door goes one way, which is `Intake`'s.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from meshchat.constants import AHEAD_MS
from meshchat.errors import Malformed
from meshchat.identity.meshkey import Sealer
from meshchat.protocol.admission import Admission
from meshchat.protocol.clock import Heard, MeshClock
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import (
    Deadline,
    LinkDue,
    NeighbourDue,
    OfLink,
    OfNeighbour,
    OfPlace,
    RouterDue,
    handled,
)
from meshchat.protocol.door import Door
from meshchat.protocol.envelope import Envelope
from meshchat.protocol.events import Appended, Held, MeshState, Output, Send
from meshchat.protocol.extent import Extent
from meshchat.protocol.flood.relay import Relay
from meshchat.protocol.holdings import Holdings
from meshchat.protocol.horizon import Horizon, HorizonState
from meshchat.protocol.instant import Instant
from meshchat.protocol.intake import Intake
from meshchat.protocol.link import Link, LinkProfile
from meshchat.protocol.presence import Presence
from meshchat.protocol.repair.asking import Asking
from meshchat.protocol.repair.digests import Digests
from meshchat.protocol.repair.fetch import Fetch
from meshchat.protocol.repair.ladder import Ladder
from meshchat.protocol.repair.serving import Serving
from meshchat.protocol.report import ClockReport, Followed, Lasting, Report, Traffic
from meshchat.protocol.retention import Retention
from meshchat.state.limits import BucketTable
from meshchat.state.neighbour import Neighbour
from meshchat.state.origin import Origin
from meshchat.state.presence import Present
from meshchat.state.receipts import Receipts
from meshchat.state.store import HistoryRow, RecordStore, StoreLimits
from meshchat.wire.datagram import LaterVersion
from meshchat.wire.ids import BootId, MeshId, Position, RouterId, TokenSecret
from meshchat.wire.packets import (
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
from meshchat.wire.records import Grade, Record

ANSWER_RATE = 8.0
ANSWER_BURST = 32.0
"""Digests, ASK-FILEs and ranges answered for one origin, a second and in a burst. An exchange
over 100,000 records takes five steps; a flood of requests gains no more than this."""

HELD_WAIT = 0.3
"""Seconds in which more neighbours that hold a message are told of together: those that relay it or confirm
it do so within 0.15 s."""

MESH_STATE_WAIT = 1.0
"""Seconds from what may have changed how the mesh looks to telling front ends of it: at most one a second."""

HOUSEKEEPING = 30.0
"""Seconds between looks at the wipe, the quarantine and the neighbours' clocks: short against the 15 minutes
by which clocks may differ, and the rarest of the reasons for which a router at rest wakes up."""

CLOCKS_WAIT = 0.2
"""Longest wait before the clocks heard are compared: once for all the digests of a busy moment."""

_SKETCH_STEPS = 512
_SKETCH_PAUSE = 0.05
"""What is held at the start is mixed into the sketch in steps of 2.5 ms on a PC, 25 ms on a router."""

_MAX_ORIGINS = 1024
"""Origins whose answers are counted apart, some 150 bytes each. Who has more addresses than these gets a full
bucket again for each: what he draws then is bounded by the share of the air alone."""

_MAX_LATER = 64
"""Origins of which `status` names the later version that they speak."""


@dataclass(frozen=True)
class RouterSettings:
    """What a router is told at the start."""

    mesh: MeshId
    router: RouterId
    """This router's id."""

    boot: BootId
    """Random, new at each start."""

    secret: TokenSecret
    """Random, new at each start."""

    limits: StoreLimits
    wipe_moment: Callable[[int], int]
    """Gives the last daily wipe at or before a mesh time, both UTC milliseconds."""

    retention_ms: int | None
    """How long history is kept; None for ever."""

    horizon: HorizonState
    run: int
    """Seconds that this router had run before this start, in all."""

    clock_floor_ms: int
    """The latest time known for sure."""

    clock_resume_ms: int = 0
    """Mesh time before this start, 0 where it is not known."""


def _context(settings: RouterSettings, sealer: Sealer, random: Random, now: Instant) -> Context:
    clock = MeshClock(now, settings.clock_floor_ms, settings.clock_resume_ms)
    store, horizon = RecordStore(settings.limits), Horizon(settings.retention_ms, settings.horizon)
    return Context(
        mesh=settings.mesh,
        router=settings.router,
        random=random,
        envelope=Envelope(settings.mesh, settings.router, settings.boot, sealer),
        clock=clock,
        store=store,
        horizon=horizon,
        extent=Extent(store, clock, horizon),
    )


class Router:
    """One router's engine."""

    def __init__(
        self,
        settings: RouterSettings,
        sealer: Sealer,
        read: Callable[[Position], Record | None],
        random: Random,
        now: Instant,
    ) -> None:
        """`read` gives a held record by position, or None where the disk lost it."""
        self.settings = settings
        self._context = context = _context(settings, sealer, random, now)
        self.clock, self.store, self.horizon = context.clock, context.store, context.horizon
        self.extent, self.neighbours = context.extent, context.neighbours
        self.receipts = Receipts(self.store.holds)
        self._traffic = Traffic()
        self._later_versions: dict[tuple[str, Origin], int] = {}
        self._twins: dict[tuple[str, Origin], float] = {}
        self._read = read
        self._answers: BucketTable[Origin] = BucketTable(ANSWER_RATE, ANSWER_BURST, _MAX_ORIGINS)
        self.retention = Retention(
            context, wipe_moment=settings.wipe_moment, run_at_start=settings.run, now=now
        )
        self.holdings = Holdings(context, self.retention, self.receipts)
        fetch = Fetch()
        self._digests = Digests(context, self.receipts, fetch, boot=settings.boot, secret=settings.secret)
        self.asking = Asking(context, self._digests, fetch)
        self._serving = Serving(context, self._digests, self._may_answer)
        self._ladder = Ladder(
            context=context,
            digests=self._digests,
            asking=self.asking,
            serving=self._serving,
            may_answer=self._may_answer,
        )
        self._relay = Relay(context)
        admission = Admission(context, self.retention)
        self.presence = Presence(context, admission, self._relay)
        self._intake = Intake(
            context=context,
            retention=self.retention,
            admission=admission,
            asking=self.asking,
            relay=self._relay,
            presence=self.presence,
            receipts=self.receipts,
            digests=self._digests,
        )
        self._mesh_state: MeshState | None = None
        self._context.timers.set(RouterDue.HOUSEKEEPING, now.mono)
        self._context.timers.set(RouterDue.SKETCH, now.mono + _SKETCH_PAUSE)

    @property
    def drops(self) -> Counter[str]:
        """What was refused, by reason."""
        return self._context.drops

    # --- Outside events ---------------------------------------------------------------------------------

    def load(self, record: Record, age: int, run: int, now: Instant) -> list[Output]:
        """A record from this router's own log, verified by the caller, with age and running time of then."""
        held = age + max(0, self.retention.run(now) - run)
        if not self.store.accounts_for(record.position):
            self._context.emit(*self.retention.store_records([(record, held)], now))
        return self._done(now)

    def restore(self, rows: Sequence[HistoryRow], now: Instant) -> list[Output]:
        """History from this router's own log, verified by the caller; what is accounted for is skipped."""
        self._context.emit(*self.retention.restore(rows, now))
        return self._done(now)

    def recall(self, positions: Iterable[Position]) -> None:
        """Positions that were removed before the restart and shall not be fetched again."""
        for position in positions:
            self.store.remember(position)

    def link_up(self, profile: LinkProfile, now: Instant) -> list[Output]:
        """A link can be used; asks there what is missing.

        Called again for a link that is up, by its name, it takes the new MTU.
        """
        name = profile.name
        link = self._context.links.get(name)
        if link is not None:
            link.profile = profile
            return []
        link = Link(profile, self._context.random, now.mono, self.store, self._carry)
        self._context.links[name] = link
        self._context.timers.set(OfLink(LinkDue.TRICKLE, name), link.trickle.deadline)
        self._context.timers.set(OfLink(LinkDue.ASK, name), now.mono)
        return self._done(now)

    def link_down(self, name: str, now: Instant) -> list[Output]:
        """A link is gone."""
        self._context.links.pop(name, None)
        self.neighbours.forget_link(name)
        self._mesh_may_have_changed(now)
        return self._done(now)

    def receive(self, data: bytes, link_name: str, origin: Origin, now: Instant) -> list[Output]:
        """A datagram came in by a link, from `origin`."""
        self._traffic.datagrams_in += 1
        self._traffic.bytes_in += len(data)
        link = self._context.links.get(link_name)
        if link is None:
            self.drops["interface"] += 1
            return self._done(now)
        try:
            sender, body = self._context.envelope.unwrap(data)
            neighbour = self.neighbours.heard(sender, link_name, origin, now.mono)
            if neighbour.greet():
                # New, or back from afar: it may hold what is not known here, so do not wait half a minute.
                self._context.hurry(link, now.mono)
                self._mesh_may_have_changed(now)
            for packet in decode_packets(body):
                if isinstance(packet, int):
                    self.drops["unknown-packet"] += 1
                else:
                    self._handle(packet, neighbour, link, now)
        except LaterVersion as later:
            self.drops[later.reason] += 1
            if len(self._later_versions) < _MAX_LATER or (link_name, origin) in self._later_versions:
                self._later_versions[link_name, origin] = later.version
        except Malformed as refusal:
            self.drops[refusal.reason] += 1
            if refusal.reason == "own":
                self._note_twin(link_name, origin, now)
        return self._done(now)

    def _note_twin(self, link_name: str, origin: Origin, now: Instant) -> None:
        """Somebody else has this key, or an interface gives back what was sent: the address tells which."""
        if len(self._twins) < _MAX_LATER or (link_name, origin) in self._twins:
            self._twins[link_name, origin] = now.mono

    def submit(self, record: Record, now: Instant) -> list[Output]:
        """A record made on this router; its `Append` is among the outputs."""
        self._intake.own(record, now)
        return self._done(now)

    def announce(self, record: Record, now: Instant) -> list[Output]:
        """A statement, made on this router, of who is present here."""
        self.presence.announce(record, now)
        self._relay.send_due(now)
        return self._done(now)

    def merge(self, carried: Iterable[Carried], now: Instant) -> tuple[int, Counter[str], list[Output]]:
        """Records from a file, through the same checks as a neighbour's.

        Returns how many were known, how many were refused or have to wait by reason, and the outputs.
        """
        known, refused = self._intake.from_file(carried, now)
        for link in self._context.links.values():
            self._context.hurry(link, now.mono)
        return known, refused, self._done(now)

    def wipe(self, room: str | None, now: Instant) -> list[Output]:
        """Deletes a room's history, or all, on this router by hand."""
        self._context.emit(*self.retention.wipe(room, now))
        return self._done(now)

    def set_clock(self, time_ms: int, now: Instant) -> list[Output]:
        """The operator vouches for a time (UTC milliseconds)."""
        self.clock.set_by_operator(now, time_ms)
        self._clock_moved(now)
        return self._done(now)

    def lost(self, positions: Iterable[Position], now: Instant) -> list[Output]:
        """The disk no longer has these records: they are fetched again."""
        for position in positions:
            self.store.forget(position, remember=False)
        for link in self._context.links.values():
            self._context.hurry(link, now.mono)
        return self._done(now)

    def sent(self, send: Send) -> None:
        """A `Send` was carried out: it counts as traffic."""
        self._traffic.datagrams_out += 1
        self._traffic.bytes_out += len(send.data)

    def set_retention(self, milliseconds: int | None) -> None:
        """How long history is kept from now on; None: for ever."""
        self.horizon.retention_ms = milliseconds

    def use_sealer(self, sealer: Sealer) -> None:
        """The mesh keys changed."""
        self._context.envelope.sealer = sealer

    # --- After an Append --------------------------------------------------------------------------------

    def appended(self, outcome: Appended, now: Instant) -> list[Output]:
        """What came of an `Append`."""
        self._intake.appended(outcome, now)
        return self._done(now)

    # --- Time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `tick` is to be called, monotonic seconds."""
        return self._context.timers.next()

    def tick(self, now: Instant) -> list[Output]:
        """Does everything whose time has come."""
        for deadline in self._context.timers.due(now.mono):
            self._expire(deadline, now)
        return self._done(now)

    def _expire(self, deadline: Deadline, now: Instant) -> None:
        match deadline:
            case RouterDue():
                _OF_ROUTER[deadline](self, now)
            case OfPlace(place):
                self.presence.expire(place, now)
            case OfLink(due, name):
                if (link := self._context.links.get(name)) is not None:
                    _OF_LINK[due](self, link, now)
            case OfNeighbour(due, name, router):
                link, neighbour = self._context.links.get(name), self.neighbours.get(router, name)
                if link is not None and neighbour is not None:
                    _OF_NEIGHBOUR[due](self, link, neighbour, now)

    def _expire_trickle(self, link: Link, now: Instant) -> None:
        if link.trickle.expire(now.mono):
            self._digests.send_digest(link, now)
        self._context.timers.set(OfLink(LinkDue.TRICKLE, link.name), link.trickle.deadline)

    def _news_at_rest(self, link: Link, now: Instant) -> None:
        if link.doubts:
            self._digests.send_digest(link, now)

    def _sketch_on(self, now: Instant) -> None:
        if self.store.records.sketch_on(_SKETCH_STEPS):
            self._context.timers.set(RouterDue.SKETCH, now.mono + _SKETCH_PAUSE)

    def _housekeep(self, now: Instant) -> None:
        self._follow_clocks(now)
        self._context.emit(*self.retention.housekeep(now))
        self._intake.release(now)
        self._mesh_may_have_changed(now)
        self._context.timers.set(RouterDue.HOUSEKEEPING, now.mono + HOUSEKEEPING)

    # --- What front ends are told of the mesh -----------------------------------------------------------

    def neighbours_heard(self, now: Instant) -> int:
        """How many routers are heard: one that is heard on two links is one."""
        return len({one.router for one in self.neighbours.alive(now.mono)})

    def mesh_state(self, now: Instant) -> MeshState:
        """How the mesh looks from here by now."""
        differs = any(one.difference.differs_since is not None for one in self.neighbours.alive(now.mono))
        in_step = not differs and not self._digests.is_fetching(now)
        return MeshState(self.neighbours_heard(now), in_step, self.clock.grade(now))

    def _mesh_may_have_changed(self, now: Instant) -> None:
        if self.mesh_state(now) != self._mesh_state:
            self._context.timers.set_if_unset(RouterDue.MESH, now.mono + MESH_STATE_WAIT)

    def _tell_mesh_state(self, now: Instant) -> None:
        state = self.mesh_state(now)
        if state != self._mesh_state:
            self._mesh_state = state
            self._context.emit(state)

    def _tell_held(self, now: Instant) -> None:
        heard = self.neighbours_heard(now)
        for each in self.receipts.tell():
            self._context.emit(Held(each.id, each.room, each.author, each.by, heard))

    # --- Clocks -----------------------------------------------------------------------------------------

    def heard_clocks(self, now: Instant) -> Iterator[Heard]:
        """The neighbours' clock claims; under a mesh key only of those that cannot be a recording."""
        sealed = bool(self._context.envelope.sealer)
        for neighbour in self.neighbours.alive(now.mono):
            if neighbour.said.digest is not None and (neighbour.said.live or not sealed):
                yield Heard(neighbour.router, neighbour.said.digest.clock, neighbour.said.at)

    def _clock_heard(self, now: Instant) -> None:
        """A neighbour claims a time; who has a good clock follows nobody."""
        if self.clock.grade(now) is not Grade.GOOD:
            self._context.soon(RouterDue.CLOCKS, now.mono, CLOCKS_WAIT)

    def _follow_clocks(self, now: Instant) -> None:
        if self.clock.follow(now, self.heard_clocks(now)):
            self._clock_moved(now)

    def _clock_moved(self, now: Instant) -> None:
        self.retention.reset_stamps(now)
        self._context.emit(*self.retention.housekeep(now))
        self._intake.release(now)
        self.presence.clock_moved(now)

    def ahead_of(self, now: Instant) -> int:
        """How many neighbours with a clock of their own show a time over 15 minutes before this router's."""
        mine = self.clock.now_ms(now)
        claims = self.heard_clocks(now)
        return sum(
            heard.claim.grade is not Grade.UNKNOWN and mine > heard.time_ms(now) + AHEAD_MS
            for heard in claims
        )

    def _behind(self, now: Instant) -> int:
        """How many neighbours with a good clock show a time over 15 minutes after this router's."""
        mine = self.clock.now_ms(now)
        claims = self.heard_clocks(now)
        return sum(
            heard.claim.grade is Grade.GOOD and heard.time_ms(now) > mine + AHEAD_MS for heard in claims
        )

    def restore_clock(self, offset_ms: int, *, over_kernel: bool) -> None:
        """The operator had set the clock in this boot of the machine; see `MeshClock.restore_operator`."""
        self.clock.restore_operator(offset_ms, over_kernel=over_kernel)

    def stamp(self, now: Instant) -> tuple[int, Grade]:
        """The next stamp for a record made here, later than any before, with the clock's grade."""
        grade = self.clock.grade(now)
        return self.clock.stamp(now, 0 if grade is Grade.UNKNOWN else self.horizon.stamp), grade

    # --- What it says of itself -------------------------------------------------------------------------

    def time_ms(self, now: Instant) -> int:
        """Mesh time, UTC milliseconds."""
        return self.clock.now_ms(now)

    def running_s(self, now: Instant) -> int:
        """Seconds that this router has run in all."""
        return self.retention.run(now)

    def present(self, now: Instant) -> list[Present]:
        """Who is present on which router, in any order."""
        return self.presence.view(now)

    def heard(self, now: Instant) -> list[Neighbour]:
        """The neighbours, once for each link that one is heard on: to look at."""
        return list(self.neighbours.alive(now.mono))

    def report(self, now: Instant) -> Report:
        """How it does."""
        return Report(
            traffic=replace(self._traffic),
            drops=self.drops.copy(),
            later_versions=dict(self._later_versions),
            twins=dict(self._twins),
            neighbours=self.neighbours_heard(now),
            horizon_ms=self.horizon.state.horizon_ms,
            records=self.store.held,
            remembered=self.store.remembered,
            quarantined=self.retention.quarantined,
            fetching=self.asking.fetch.active,
        )

    def clock_report(self, now: Instant) -> ClockReport:
        """Its clock beside those of its neighbours."""
        clock, grade = self.clock, self.clock.grade(now)
        source = clock.followed() if grade is Grade.ADOPTED else None
        return ClockReport(
            time_ms=clock.now_ms(now),
            grade=grade,
            by_operator=clock.operator_offset_ms is not None,
            followed=None if source is None else Followed(*source, clock.claim(now).age),
            behind_it=self.ahead_of(now),
            ahead_of_it=self._behind(now),
        )

    def lasting(self, now: Instant) -> Lasting:
        """What has to outlast a restart."""
        clock = self.clock
        return Lasting(
            horizon=self.horizon.state,
            running_s=self.retention.run(now),
            time_ms=clock.now_ms(now),
            floor_ms=clock.floor_ms(now),
            good=clock.grade(now) is Grade.GOOD,
            operator_offset_ms=clock.operator_offset_ms,
            operator_over_kernel=clock.operator_over_kernel,
        )

    # --- Packets ----------------------------------------------------------------------------------------

    def _handle(self, packet: Packet, neighbour: Neighbour, link: Link, now: Instant) -> None:
        match packet:
            case Records():
                neighbour.reception.heard(packet.number)
                self._intake.take_in(packet.items, Door.NEWS, neighbour, link, now)
            case Confirm():
                neighbour.reception.heard(packet.number)
                self._relay.on_confirm(packet, neighbour, link)
                self.presence.on_confirm(packet, neighbour, link)
                for key in packet.keys:
                    self.receipts.has(key, neighbour)
            case Digest():
                self.presence.met(neighbour, packet, link, now)
                self._ladder.on_digest(neighbour, packet, link, now)
                self._clock_heard(now)
                self._mesh_may_have_changed(now)
            case Ask():
                self.presence.met(neighbour, packet.digest, link, now)
                self._serving.on_ask(neighbour, packet, link, now)
                self._clock_heard(now)
            case Offer():
                self.asking.on_offer(neighbour, packet, link, now)
            case Ranges():
                self._ladder.on_ranges(neighbour, packet, link, now)
            case Sketch():
                self._ladder.on_sketch(neighbour, packet, link, now)
            case Want() if packet.to != self.settings.router:
                self.asking.overheard(packet, link, now)
            case Want():
                if self._serving.on_want(neighbour, packet, link, now):
                    self._ladder.on_want(neighbour, packet, link, now)
            case Dump():
                self._on_dump(packet, neighbour, link, now)
            case Fragment():
                self._intake.take_piece(packet, neighbour, link, now)

    def _may_answer(self, neighbour: Neighbour, now: Instant) -> bool:
        """Takes from the budget of answers to the neighbour's origin."""
        if self._answers.take(neighbour.origin, now.mono):
            return True
        self.drops["answer-budget"] += 1
        return False

    def _on_dump(self, dump: Dump, neighbour: Neighbour, link: Link, now: Instant) -> None:
        self._intake.take_in(dump.items, Door.REPAIR, neighbour, link, now)
        self._intake.flush()
        self.asking.on_dump(neighbour, dump, link, now)

    def _carry(self, position: Position, now: Instant) -> Carried | None:
        """A held record as it goes into a packet, with its age by now."""
        if not self.store.holds(position):
            return None
        record = self._read(position)
        if record is None:
            return None
        return Carried(record.carried, self.store.age(position, self.retention.run(now)))

    def _done(self, now: Instant) -> list[Output]:
        if self.receipts.grown:
            self._context.timers.set_if_unset(RouterDue.HELD, now.mono + HELD_WAIT)
        self._intake.flush()
        return self._context.collect()


_OF_ROUTER: Mapping[RouterDue, Callable[[Router, Instant], None]] = handled(
    RouterDue,
    {
        RouterDue.HOUSEKEEPING: Router._housekeep,
        RouterDue.CLOCKS: Router._follow_clocks,
        RouterDue.HELD: Router._tell_held,
        RouterDue.MESH: Router._tell_mesh_state,
        RouterDue.SKETCH: Router._sketch_on,
        RouterDue.CHOOSE: lambda router, now: router.asking.choose(now),
        RouterDue.FETCH: lambda router, now: router.asking.check_fetch(now),
    },
)
_OF_LINK: Mapping[LinkDue, Callable[[Router, Link, Instant], None]] = handled(
    LinkDue,
    {
        LinkDue.TRICKLE: Router._expire_trickle,
        LinkDue.FLOOD: lambda router, link, now: router._relay.expire(link, now),
        LinkDue.DUMP: lambda router, link, now: router._serving.send_dump(link, now),
        LinkDue.ASK: lambda router, link, now: router.asking.ask(link, now),
        LinkDue.DIGEST: lambda router, link, now: router._digests.send_digest(link, now),
        LinkDue.REST: Router._news_at_rest,
    },
)
_OF_NEIGHBOUR: Mapping[NeighbourDue, Callable[[Router, Link, Neighbour, Instant], None]] = handled(
    NeighbourDue,
    {
        NeighbourDue.STEP: lambda router, link, neighbour, now: router._ladder.begin(link, neighbour, now),
        NeighbourDue.OFFER: lambda router, link, neighbour, now: router._serving.send_offer(
            link, neighbour, now
        ),
        NeighbourDue.TELL: lambda router, link, neighbour, now: router.presence.tell(link, neighbour, now),
    },
)
