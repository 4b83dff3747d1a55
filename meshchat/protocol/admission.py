"""What may come in: the same checks for a record, whatever door it came by."""

from collections.abc import Hashable
from dataclasses import dataclass

from meshchat.errors import Malformed
from meshchat.identity.keys import verify_record
from meshchat.protocol.context import Context
from meshchat.protocol.instant import Instant
from meshchat.protocol.retention import Retention
from meshchat.state.limits import BucketTable
from meshchat.state.quarantine import Waiting
from meshchat.wire.ids import Position, record_id_of
from meshchat.wire.packets import Carried
from meshchat.wire.records import Record, decode_record

FORGERY_RATE = 20.0
FORGERY_BURST = 200.0
"""Bad signatures checked for one source address: 75 microseconds each on a PC and ten times that on a
router, so a forger costs at most 2% of a core after his burst."""

_MAX_SOURCES = 1024
"""Origins whose forgeries are counted apart, some 150 bytes each; whoever has more of them than these pushes
out his own, and pays for each check with a datagram."""


@dataclass(frozen=True)
class Admitted:
    """A record that passed every check and is not held yet, with the age in seconds that it came with."""

    record: Record
    age: int


class Admission:
    """Authenticates what comes in, and places it in time. Refusals are counted in `drops`."""

    def __init__(self, context: Context, retention: Retention) -> None:
        self._context, self._retention = context, retention
        self._held = context.store.records
        self._forgeries: BucketTable[Hashable] = BucketTable(FORGERY_RATE, FORGERY_BURST, _MAX_SOURCES)

    def knows(self, position: Position) -> bool:
        """Whether the record at this position is accounted for or in quarantine: no need to decode it."""
        return self.holds(position) or self.awaits(position)

    def holds(self, position: Position) -> bool:
        """Whether it is accounted for."""
        return position in self._held

    def awaits(self, position: Position) -> bool:
        """Whether it is in quarantine."""
        return record_id_of(position) in self._retention.quarantine

    def consider(self, carried: Carried, source: Hashable, now: Instant) -> Admitted | None:
        """Decode and authenticate what is not known, and place it in time.

        Returns what to store, or None where it was refused or waits in quarantine. `source` is whom a forgery
        is charged to: None for the operator's own file.
        """
        try:
            record = decode_record(self._context.mesh, carried.data)
        except Malformed as refusal:
            self._context.drops[refusal.reason] += 1
            return None
        if record.ephemeral:
            self._context.drops["ephemeral"] += 1
            return None
        if not self.authentic(record, source, now):
            return None
        return self._place(Admitted(record, carried.age), now)

    def authentic(self, record: Record, source: Hashable, now: Instant) -> bool:
        """Whether its author signed it; a forgery is charged to `source`, and whose budget is used up is not
        heard.
        """
        if source is None:
            return verify_record(record) or self._refuse_signature()
        budget = self._forgeries.bucket(source)
        if budget.ready_in(now.mono) > 0:
            self._context.drops["forgery-budget"] += 1
            return False
        if verify_record(record):
            return True
        budget.take(now.mono)
        return self._refuse_signature()

    def _refuse_signature(self) -> bool:
        self._context.drops["signature"] += 1
        return False

    def _place(self, admitted: Admitted, now: Instant) -> Admitted | None:
        """The record where its time allows it to be stored now, else None."""
        retention, record = self._retention, admitted.record
        if record.dated and record.stamp < self._context.extent.floor:
            self._context.drops["horizon"] += 1
            return None
        if retention.let_go(record):
            self._context.drops["let-go"] += 1
            self._context.store.remember(record.position)
            return None
        if retention.is_too_old(record, admitted.age, now):
            self._context.drops["age"] += 1
            return None
        if self._context.clock.is_ahead(now, record.stamp):
            self._context.drops["quarantine"] += 1
            retention.quarantine.add(Waiting(record, admitted.age, now.mono))
            return None
        if record.dated:
            retention.horizon.arrived(record.stamp)
        return admitted

    # --- Quarantine -------------------------------------------------------------------------------------

    def released(self, now: Instant) -> list[Admitted]:
        """Takes out of quarantine what may be stored: its time has come."""
        clock = self._context.clock
        ripe = self._retention.quarantine.take(lambda record: not clock.is_ahead(now, record.stamp))
        placed = (self._place_aged(one, now) for one in ripe)
        return [one for one in placed if one is not None]

    def release(self, position: Position, now: Instant) -> Admitted | None:
        """The same for the one that is awaited at this position; None where it still has to wait."""
        record_id = record_id_of(position)
        if self._context.clock.is_ahead(now, self._retention.quarantine.get(record_id).record.stamp):
            return None
        return self._place_aged(self._retention.quarantine.pop(record_id), now)

    def _place_aged(self, waited: Waiting, now: Instant) -> Admitted | None:
        return self._place(Admitted(waited.record, waited.age_by(now.mono)), now)
