"""One record's way, whatever door it comes by: authenticate, deduplicate, append, deliver, relay.

What a call brings in is gathered into one `Append`. Nothing of it is shown, acknowledged or relayed before
the outcome of that comes back (`appended`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshchat.constants import NEWS_MS
from meshchat.protocol.admission import Admission, Admitted
from meshchat.protocol.context import Context
from meshchat.protocol.door import Door
from meshchat.protocol.events import Append, Appended, Deliver, Stored
from meshchat.protocol.flood.relay import Relay
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.presence import Presence
from meshchat.protocol.repair.asking import Asking
from meshchat.protocol.repair.digests import Digests
from meshchat.protocol.retention import Retention
from meshchat.state.fragments import Reassembly
from meshchat.state.limits import BucketTable
from meshchat.state.neighbour import Neighbour
from meshchat.state.receipts import Receipts
from meshchat.state.seen import SeenCache
from meshchat.wire.ids import Position, PublicKey, RecordId, confirm_key_of
from meshchat.wire.packets import Carried, Fragment
from meshchat.wire.records import Record, Space, carried_position, stamp_ms

AUTHOR_RATE = 20.0
AUTHOR_BURST = 1000.0
"""New messages of one author that are flooded, a second and in a burst. What exceeds it still spreads,
through digests at the paced rate: a script that floods slows itself down and nobody else."""

MAX_SEEN = 1024
"""Records seen lately, some 250 bytes each, of which a piece is recognised by the id alone: several minutes
of a busy mesh. A piece of any other is collected once more, in the room that `MAX_REASSEMBLIES` bounds."""

DISK_RETRY = 15.0
"""Seconds for which nothing is fetched after the disk refused a record."""

_MAX_AUTHORS = 4096
"""Authors whose rates are told apart, some 150 bytes each. Keys cost nothing: who makes more of them than
these pushes out other people's buckets, which are then full again; nobody is slowed down by it."""

_SHORTEST = 4
"""Bytes of a record whose position can be told at all; pieces of a shorter one are passed over."""


@dataclass
class _Pending:
    """A record on its way to the disk: how it came, from whom, and what is to be done when it is there."""

    admitted: Admitted
    door: Door
    sender: Neighbour | None
    is_live: bool
    is_relayed: bool
    is_handed_out: bool = False


class Intake:
    """The one way into the store. Each method takes the time and leaves its outputs in the context."""

    def __init__(
        self,
        context: Context,
        retention: Retention,
        admission: Admission,
        asking: Asking,
        relay: Relay,
        presence: Presence,
        receipts: Receipts,
        digests: Digests,
    ) -> None:
        self._context, self._retention, self._admission, self._asking = context, retention, admission, asking
        self._relay, self._presence, self._receipts, self._digests = relay, presence, receipts, digests
        self._pending: dict[RecordId, _Pending] = {}
        self._reassembly = Reassembly()
        self._seen = SeenCache(MAX_SEEN)
        self._authors: BucketTable[PublicKey] = BucketTable(AUTHOR_RATE, AUTHOR_BURST, _MAX_AUTHORS)

    # --- The doors --------------------------------------------------------------------------------------

    def own(self, record: Record, now: Instant) -> None:
        """A record made and signed on this router."""
        if record.space == Space.ROOM:
            self._receipts.add(record)
        self._gather(Admitted(record, 0), Door.OWN, None, now)

    def from_file(self, carried: Iterable[Carried], now: Instant) -> tuple[int, Counter[str]]:
        """Records of the operator's file: how many were known, and how many refused or waiting, by reason."""
        known, before = 0, Counter(self._context.drops)
        for one in carried:
            if self._admission.knows(carried_position(self._context.mesh, one.data)):
                known += 1
            elif (admitted := self._admission.consider(one, None, now)) is not None:
                self._gather(admitted, Door.FILE, None, now)
        return known, self._context.drops - before

    def release(self, now: Instant) -> None:
        """What waited in quarantine, as far as its time has come."""
        for admitted in self._admission.released(now):
            self._gather(admitted, Door.RELEASED, None, now)

    def take_in(
        self, items: Sequence[Carried], door: Door, neighbour: Neighbour, link: Link, now: Instant
    ) -> None:
        """A neighbour's records, as news or as a repair."""
        is_news = door is Door.NEWS
        mesh = self._context.mesh
        for carried in items:
            position = carried_position(mesh, carried.data)
            if self._admission.holds(position):
                self._context.drops["duplicate"] += 1
                self._heard_with(position, door, neighbour, link, now)
                self._strike(position, carried, door, neighbour, link, now)
            elif self._admission.awaits(position):
                self._waits(position, door, neighbour, link, now)
                self._strike(position, carried, door, neighbour, link, now)
            elif is_news and carried.ephemeral:
                self._presence.take_in(carried, neighbour, link, now)
            elif _is_too_old(carried) and (is_news or not self._asking.is_asked_for(neighbour, link, now)):
                self._context.drops["age"] += 1
            else:
                self._is_new(position, carried, door, neighbour, link, now)

    def take_piece(self, piece: Fragment, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """A neighbour's piece of a record that is larger than a datagram."""
        door = Door.REPAIR if piece.repair else Door.NEWS
        position = self._seen.position(piece.id)
        if position is not None and self._admission.knows(position):
            if not piece.offset:  # once for all its pieces
                self._heard_with(position, door, neighbour, link, now)
            return
        whole = self._reassembly.add(neighbour.router, piece, now.mono)
        if whole is not None and len(whole) >= _SHORTEST:
            self._seen.add(carried_position(self._context.mesh, whole))
            self.take_in((Carried(whole, piece.age),), door, neighbour, link, now)

    # --- Authenticate and deduplicate -------------------------------------------------------------------

    def _is_new(
        self, position: Position, carried: Carried, door: Door, sender: Neighbour, link: Link, now: Instant
    ) -> None:
        admitted = self._admission.consider(carried, sender.origin, now)
        if admitted is not None:
            self._strike(position, carried, door, sender, link, now)
            self._gather(admitted, door, sender, now)
            if door is Door.REPAIR:
                sender.as_source.gave(now.mono)
        elif self._asking.is_source(sender, link):
            # Refused, and so not wanted: an honest source that offers it again is not to be shunned.
            self._asking.strike(position)

    def _waits(self, position: Position, door: Door, sender: Neighbour, link: Link, now: Instant) -> None:
        """It is in quarantine; where its time has come it comes in now, from this neighbour.

        Else each router would send it, unasked, when it looks into its own quarantine.
        """
        released = self._admission.release(position, now)
        if released is not None:
            self._gather(released, door, sender, now)
            return
        self._context.drops["duplicate"] += 1
        self._heard_with(position, door, sender, link, now)

    def _heard_with(
        self, position: Position, door: Door, neighbour: Neighbour, link: Link, now: Instant
    ) -> None:
        """A neighbour was heard with a record that is known."""
        if (key := confirm_key_of(position)) in self._receipts.watched:
            self._receipts.has(key, neighbour)
        if door is Door.NEWS:
            self._relay.copy_heard(position, neighbour, link, now)
        else:
            self._relay.has(position, neighbour, link)

    def _strike(
        self, position: Position, carried: Carried, door: Door, sender: Neighbour, link: Link, now: Instant
    ) -> None:
        """The record is wanted no more. In a range that is coming in, one that is flooded leaves no hole."""
        if door is Door.NEWS:
            self._asking.strike(position)
        else:
            self._asking.received(position, carried.size, sender, link, now)

    # --- Append -----------------------------------------------------------------------------------------

    def _gather(self, admitted: Admitted, door: Door, sender: Neighbour | None, now: Instant) -> None:
        """Into the batch for the disk, once. What is repaired while still news is relayed like news."""
        record = admitted.record
        if record.id in self._pending:
            return
        is_live = door.is_news or stamp_ms(record.stamp) > self._context.clock.now_ms(now) - NEWS_MS
        is_relayed = door.is_news or (is_live and not self._asking.fetch.outstanding.spans)
        self._pending[record.id] = _Pending(admitted, door, sender, is_live=is_live, is_relayed=is_relayed)

    def flush(self) -> None:
        """One `Append` for all that came in since the last one."""
        if not self._pending:
            return
        fresh = [pending for pending in self._pending.values() if not pending.is_handed_out]
        if fresh:
            for pending in fresh:
                pending.is_handed_out = True
            self._context.emit(Append(tuple(Stored(one.admitted.record, one.admitted.age) for one in fresh)))

    def appended(self, outcome: Appended, now: Instant) -> None:
        """What came of an `Append`: what is on disk is held, shown and relayed from now on.

        What is not is forgotten, and for a while nothing more is fetched.
        """
        self._lose(outcome.failed, now)
        stored = [self._pending.pop(one) for one in outcome.stored]
        removed = self._retention.store_records(
            [(one.admitted.record, one.admitted.age) for one in stored], now
        )
        shown: list[Deliver] = []
        for pending in stored:
            record = pending.admitted.record
            self._seen.add(record.position)
            if self._context.store.holds(record.position):
                shown.append(Deliver(record, pending.is_live))
                self._presence.wrote(record, now)
                if pending.is_relayed:
                    self._pass_on(pending, now)
        self._relay.send_due(now)
        self._context.emit(*shown, *removed)

    def _lose(self, failed: Sequence[RecordId], now: Instant) -> None:
        for one in failed:
            del self._pending[one]
            self._receipts.discard(one)
            self._context.drops["disk"] += 1
        if failed:
            self._asking.block(now, DISK_RETRY)

    # --- Relay ------------------------------------------------------------------------------------------

    def _pass_on(self, pending: _Pending, now: Instant) -> None:
        record = pending.admitted.record
        self._digests.arrived(record.stamp, now)
        if not self._authors.take(record.key, now.mono):
            self._context.drops["author-rate"] += 1
            return
        carried = Carried(record.carried, pending.admitted.age)
        self._relay.flood(record.position, carried, pending.door, pending.sender, now)


def _is_too_old(carried: Carried) -> bool:
    """Whether its age is that of no news: who was not asked for it could have it wiped early."""
    return carried.wiped_by_age and carried.age > NEWS_MS // 1000
