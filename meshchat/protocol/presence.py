"""Who is present: statements that people sign, flooded like news and kept in memory only.

A statement is a record of `Space.PRESENCE`. It is taken once, and relayed only then; of two by one key on one
router the later stamp counts, in whatever order they come. It expires by the age that it travels with. No
digest counts it, so nothing but the next one repairs what was lost; only a router that is new to its
neighbours, or restarted, is told by them what they know.
"""

import math
from dataclasses import dataclass

from meshchat.constants import AHEAD_MS, MAX_PRESENT, PRESENCE_LIFETIME, STATEMENT_BURST, STATEMENT_RATE
from meshchat.errors import Malformed
from meshchat.protocol.admission import Admission
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import NeighbourDue, OfNeighbour, OfPlace
from meshchat.protocol.door import Door
from meshchat.protocol.events import PresenceChanged, Restate
from meshchat.protocol.flood.relay import Relay
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.state.limits import BucketTable, TokenBucket
from meshchat.state.neighbour import Neighbour
from meshchat.state.origin import Origin
from meshchat.state.presence import Entry, PresenceTable, Present, place
from meshchat.wire.ids import ConfirmKey, Place, PublicKey, RouterId, confirm_key_of
from meshchat.wire.packets import NO_NUMBER, RECORDS_FIELDS, Carried, Confirm, Digest, Records
from meshchat.wire.presence import read_statement
from meshchat.wire.records import Kind, Record, Space, decode_record, stamp_ms

STATEMENTS_RATE = 10.0
STATEMENTS_BURST = 256.0
"""Statements of all people with an account or a message here, a second and in a burst: 600 who type at once.
They cost 2 KB/s of the air of a router at the most, and a hundredth of a router's core to verify."""

STRANGERS_RATE = 1.0
STRANGERS_BURST = 64.0
"""The same for all other keys, which anyone makes at will; 64 are enough for who starts with no accounts."""

MAX_UNTIMELY = 256
"""Statements set aside that are stamped for another time than it is here, 128 KB in all: a clock that is
adopted a moment later makes them good."""

MAX_TOLD = 256
"""Statements told to one new neighbour, the latest first."""

TELL_JITTER = 2.0
"""Longest random wait before that: in a cell one tells, and the others hear what the new one confirms."""

TELL_RATE = 1 / 60
TELL_BURST = 3.0
"""New neighbours told for one address, a second and in a burst: a stranger who starts anew with each frame,
100 bytes of it, gets 60 KB in all a minute, within `PRESENCE_SHARE`."""

TELL_ALL_RATE = 1.0
TELL_ALL_BURST = 16.0
"""The same for all addresses: to look through what is known takes a router 5 ms, and addresses are free."""

_MAX_ORIGINS = 1024
"""Origins whose tellings are counted apart, some 150 bytes each; beyond, all share `TELL_ALL_RATE` anyway."""

_MAX_UNTOLD = 8
"""New neighbours that are told at the same time; the first of more learns the rest from the next refresh."""


@dataclass(frozen=True)
class _Untimely:
    """A statement as it came, and when (seconds, monotonic): stamped for another time than it is here."""

    carried: Carried
    neighbour: Neighbour
    link: Link
    since: float


class Presence:
    """The statements known to one router. Each method takes the time, and leaves outputs in the context."""

    def __init__(self, context: Context, admission: Admission, relay: Relay) -> None:
        self._context, self._admission, self._relay = context, admission, relay
        self._table = PresenceTable(context.store.knows)
        self._keys: BucketTable[PublicKey] = BucketTable(STATEMENT_RATE, STATEMENT_BURST, MAX_PRESENT)
        self._people = TokenBucket(STATEMENTS_RATE, STATEMENTS_BURST)
        self._strangers = TokenBucket(STRANGERS_RATE, STRANGERS_BURST)
        self._tellings: BucketTable[Origin] = BucketTable(TELL_RATE, TELL_BURST, _MAX_ORIGINS)
        self._tellings_in_all = TokenBucket(TELL_ALL_RATE, TELL_ALL_BURST)
        self._untimely: dict[Place, _Untimely] = {}
        self._untold: dict[tuple[str, RouterId], dict[ConfirmKey, Place]] = {}

    def view(self, now: Instant) -> list[Present]:
        """Who is present, in any order."""
        return [entry.present(now.mono) for entry in self._table if entry.rooms]

    # --- What comes in ----------------------------------------------------------------------------------

    def announce(self, record: Record, now: Instant) -> None:
        """A statement made on this router."""
        self._accept(Entry(record, read_statement(record), now.mono), None, now)

    def take_in(self, carried: Carried, neighbour: Neighbour, link: Link, now: Instant) -> None:
        """A neighbour sent an ephemeral record as news."""
        try:
            record = decode_record(self._context.mesh, carried.data)
            statement = read_statement(record)
        except Malformed as refusal:
            self._context.drops[refusal.reason] += 1
            return
        self._strike(confirm_key_of(record.position), neighbour, link)
        if self._is_superseded(record):
            self._context.drops["duplicate"] += 1
            self._relay.copy_heard(record.position, neighbour, link, now)
        elif not self._is_of_now(record.stamp, now):
            self._context.drops["statement"] += 1
            self._set_aside(place(record.key, record.router), _Untimely(carried, neighbour, link, now.mono))
        elif self._may_pass(record, neighbour, now):
            if record.router == self._context.router:
                self._said_before_restart(record)
                return
            entry = Entry(record, statement, now.mono - self._age(record.stamp, now, carried.age))
            self._accept(entry, neighbour, now)

    def _is_superseded(self, record: Record) -> bool:
        """Whether this statement, or one as late, is known."""
        known = self._table.get(place(record.key, record.router))
        return known is not None and (known.id == record.id or (record.stamp, record.id) <= known.order)

    def _is_of_now(self, stamp: int, now: Instant) -> bool:
        """Whether it can be a statement that counts: a recording of an earlier one does not."""
        ahead_ms = stamp_ms(stamp) - self._context.clock.now_ms(now)
        return -PRESENCE_LIFETIME * 1000 <= ahead_ms <= AHEAD_MS

    def _set_aside(self, where: Place, untimely: "_Untimely") -> None:
        """It may be this router whose clock is wrong: when that has moved, it is looked at again."""
        self._untimely.pop(where, None)
        self._untimely[where] = untimely
        if len(self._untimely) > MAX_UNTIMELY:
            del self._untimely[next(iter(self._untimely))]

    def _may_pass(self, record: Record, neighbour: Neighbour, now: Instant) -> bool:
        """Whether it is signed, and within what its author and all together may say."""
        everybody = self._people if self._context.store.knows(record.key) else self._strangers
        if everybody.ready_in(now.mono):
            self._context.drops["presence-rate"] += 1
            return False
        if not self._admission.authentic(record, neighbour.origin, now):
            return False
        if not self._keys.take(record.key, now.mono):
            self._context.drops["presence-rate"] += 1
            return False
        return everybody.take(now.mono)

    def _said_before_restart(self, record: Record) -> None:
        """What this router does not know of itself: its next statement has to be later than that."""
        self._context.drops["statement"] += 1
        self._context.clock.shown(record.stamp)
        if self._table.get(place(record.key, record.router)) is not None:
            self._context.emit(Restate())

    def _age(self, stamp: int, now: Instant, claimed: float = math.inf) -> float:
        """Seconds since it was made: what the routers it came by say, but no more than its stamp does."""
        by_stamp = max(0.0, (self._context.clock.now_ms(now) - stamp_ms(stamp)) / 1000)
        return min(claimed, by_stamp)

    def _accept(self, entry: Entry, sender: Neighbour | None, now: Instant) -> None:
        before = self._shown(entry.place, now)
        gone = self._table.put(entry)
        for each in gone:
            self._context.timers.cancel(OfPlace(each.place))
            if each is not entry:
                self._tell_people(each.place, each.present(now.mono), now)
        if entry not in gone:
            self._watch(entry, now)
            self._tell_people(entry.place, before, now)
            door = Door.OWN if sender is None else Door.NEWS
            self._relay.flood(entry.position, self._carried(entry, now), door, sender, now)

    def wrote(self, record: Record, now: Instant) -> None:
        """A message was stored: its author is active where it was written, if present there."""
        entry = self._table.get(place(record.key, record.router))
        if entry is None or (record.space, record.kind) != (Space.ROOM, Kind.MESSAGE):
            return
        before = entry.present(now.mono)
        entry.wrote_at = max(entry.wrote_at, now.mono - self._age(record.stamp, now))
        self._watch(entry, now)
        self._tell_people(entry.place, before, now)

    # --- Time -------------------------------------------------------------------------------------------

    def expire(self, place: Place, now: Instant) -> None:
        """Somebody fell idle, or was not heard of for too long."""
        entry = self._table.get(place)
        if entry is None:
            return
        if now.mono >= entry.expires_at:
            self._table.remove(place)
            if entry.rooms:
                self._context.emit(PresenceChanged(_gone(entry.present(now.mono))))
            return
        self._watch(entry, now)
        self._context.emit(PresenceChanged(entry.present(now.mono)))

    def clock_moved(self, now: Instant) -> None:
        """Mesh time moved: what was of another time may be of now, and what was said here be it no more.

        Where it was set back, what is stamped later than now holds up nothing that is said from now on.
        """
        for entry in self._table:
            if stamp_ms(entry.stamp) > self._context.clock.now_ms(now):
                entry.stamp = 0
        again, self._untimely = self._untimely, {}
        for each in again.values():
            age = each.carried.age + int(now.mono - each.since)
            self.take_in(Carried(each.carried.data, age), each.neighbour, each.link, now)
        if any(entry.router == self._context.router for entry in self._table):
            self._context.emit(Restate())

    def _watch(self, entry: Entry, now: Instant) -> None:
        self._context.timers.set(OfPlace(entry.place), entry.deadline(now.mono))

    def _shown(self, place: Place, now: Instant) -> Present | None:
        entry = self._table.get(place)
        return None if entry is None else entry.present(now.mono)

    def _tell_people(self, place: Place, before: Present | None, now: Instant) -> None:
        """Tells front ends where what they see is another than before."""
        after = self._shown(place, now)
        if after is None and before is not None and before.rooms:
            self._context.emit(PresenceChanged(_gone(before)))
        elif after is not None:
            was = (before.rooms, before.active) if before else ((), False)
            if was != (after.rooms, after.active):
                self._context.emit(PresenceChanged(after))

    def _carried(self, entry: Entry, now: Instant) -> Carried:
        return Carried(entry.carried, max(0, int(now.mono - entry.stated_at)))

    # --- New neighbours ---------------------------------------------------------------------------------

    def met(self, neighbour: Neighbour, digest: Digest, link: Link, now: Instant) -> None:
        """A neighbour said what it holds: who is new here, or started anew, is told who is present."""
        if neighbour.told == digest.boot or (len(self._table) and not self._may_tell(neighbour, now)):
            return
        neighbour.tell(digest.boot)
        if not len(self._table):
            return
        latest = sorted(self._table, key=lambda entry: entry.stated_at, reverse=True)[:MAX_TOLD]
        ids = {confirm_key_of(entry.position): entry.place for entry in latest}
        self._untold[link.name, neighbour.router] = ids
        if len(self._untold) > _MAX_UNTOLD:
            del self._untold[next(iter(self._untold))]
        self._context.soon(OfNeighbour(NeighbourDue.TELL, link.name, neighbour.router), now.mono, TELL_JITTER)

    def _may_tell(self, neighbour: Neighbour, now: Instant) -> bool:
        """Takes from the budget of its origin, and of all: else its next digest asks again."""
        if self._tellings_in_all.ready_in(now.mono):
            return False
        return self._tellings.take(neighbour.origin, now.mono) and self._tellings_in_all.take(now.mono)

    def on_confirm(self, confirm: Confirm, neighbour: Neighbour, link: Link) -> None:
        """A neighbour has records: of these it is told no more."""
        for key in confirm.keys:
            self._strike(key, neighbour, link)

    def _strike(self, key: ConfirmKey, neighbour: Neighbour, link: Link) -> None:
        untold = self._untold.get((link.name, neighbour.router))
        if untold is not None:
            untold.pop(key, None)

    def tell(self, link: Link, neighbour: Neighbour, now: Instant) -> None:
        """The next datagram of what a neighbour is told, by unicast, when the share of the air allows it."""
        untold = self._untold.get((link.name, neighbour.router))
        if untold is None:
            return
        if not link.air.presence.ready_in(now.mono):
            items = self._next(untold, self._context.capacity(link) - RECORDS_FIELDS, now)
            if items:
                sent = self._context.send(link, [Records(items, NO_NUMBER)], neighbour.origin)
                link.air.presence.spend(now.mono, sent)
        if untold:
            wait = link.air.presence.ready_in(now.mono)
            self._context.timers.set(
                OfNeighbour(NeighbourDue.TELL, link.name, neighbour.router), now.mono + wait
            )
        else:
            del self._untold[link.name, neighbour.router]

    def _next(self, untold: dict[ConfirmKey, Place], room: int, now: Instant) -> tuple[Carried, ...]:
        """Takes what fits into `room` bytes, less what has been said anew or is not of now any more."""
        items: list[Carried] = []
        for key, where in list(untold.items()):
            entry = self._table.get(where)
            if entry and confirm_key_of(entry.position) == key and self._is_of_now(entry.stamp, now):
                carried = self._carried(entry, now)
                room -= carried.size
                if room < 0:
                    break
                items.append(carried)
            del untold[key]
        return tuple(items)


def _gone(present: Present) -> Present:
    return Present(present.key, present.name, present.router, (), False, present.idle_s)
