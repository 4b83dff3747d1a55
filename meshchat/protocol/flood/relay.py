"""New records on every link: relayed, confirmed, and sent again to whom they may not have reached."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from meshchat.constants import TRICKLE_K
from meshchat.protocol.context import Context
from meshchat.protocol.deadlines import LinkDue, OfLink
from meshchat.protocol.door import Door
from meshchat.protocol.instant import Instant
from meshchat.protocol.link import Link
from meshchat.protocol.pieces import fragments
from meshchat.state.neighbour import Neighbour
from meshchat.wire.ids import Position, RouterId
from meshchat.wire.packets import NO_NUMBER, RECORDS_FIELDS, Carried, Confirm, Packet, Records
from meshchat.wire.records import record_id

RESEND_UP_TO = 2
"""A record that so few neighbours may have missed is sent to each once more, by unicast, which a radio
repeats until it is acknowledged; more of them are left to the digests, which serve all at once."""

MAX_CONFIRM_KEYS = 64
"""Keys in one CONFIRM: half a kilobyte, what 0.1 s of the fastest honest flood leaves to confirm."""


class Relay:
    """Floods what is new. Each method takes the time and leaves its outputs in the context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def flood(
        self, position: Position, carried: Carried, door: Door, sender: Neighbour | None, now: Instant
    ) -> None:
        """A record is new here; `sender` is the neighbour it came from, None where it came from none."""
        for link in self._context.links.values():
            heard_from = sender if sender and sender.link == link.name else None
            link.flood.begin(position, carried, now.mono, is_own=door.begins_here)
            if heard_from and door is Door.NEWS:
                link.flood.copy_heard(position, heard_from, now.mono)
            elif heard_from:
                link.flood.has(position, heard_from)
            self._arm(link)

    def send_due(self, now: Instant) -> None:
        """What was made here leaves now, before it is shown here: the others have to wait for it."""
        for link in self._context.links.values():
            if link.flood.relay_due(now.mono):
                self.expire(link, now)

    def copy_heard(self, position: Position, sender: Neighbour, link: Link, now: Instant) -> None:
        """A neighbour sent, as news, a record that is known."""
        if link.flood.copy_heard(position, sender, now.mono):
            self._arm(link)

    def has(self, position: Position, neighbour: Neighbour, link: Link) -> None:
        """A neighbour was heard with a known record in a repair."""
        link.flood.has(position, neighbour)

    def on_confirm(self, confirm: Confirm, neighbour: Neighbour, link: Link) -> None:
        """A neighbour has records that it need not relay."""
        link.flood.confirmed(confirm.keys, neighbour)

    def _arm(self, link: Link) -> None:
        deadline = link.flood.deadline
        if deadline is not None:
            self._context.timers.set(OfLink(LinkDue.FLOOD, link.name), deadline)

    def expire(self, link: Link, now: Instant) -> None:
        """The time of something on this link has come."""
        if wait := self._hold(link, now):
            self._context.timers.set(OfLink(LinkDue.FLOOD, link.name), now.mono + wait)
            return
        around = self._context.neighbours.around(now.mono, link.name)
        self._relay(link, around, now)
        self._confirm(link, now)
        self._look(link, around, now)
        self._arm(link)

    def _hold(self, link: Link, now: Instant) -> float:
        """For how many seconds nothing may be sent, so that more records share a frame or the air rests."""
        wait = link.air.news.ready_in(now.mono)
        if wait or not link.flood.relay_due(now.mono):
            return wait
        return (
            0.0
            if link.flood.fills(self._context.capacity(link) - RECORDS_FIELDS)
            else link.air.frames.ready_in(now.mono)
        )

    def _relay(self, link: Link, around: Sequence[Neighbour], now: Instant) -> None:
        if not link.flood.relay_due(now.mono):
            return
        capacity = self._context.capacity(link)
        items = link.flood.take(now.mono, around, capacity - RECORDS_FIELDS)
        if not items:
            return
        link.air.frames.take(now.mono)
        for packet in self._packets(items, link, capacity):
            link.air.news.spend(now.mono, self._context.send(link, [packet]))

    def _packets(self, items: Sequence[Carried], link: Link, capacity: int) -> list[Packet]:
        if len(items) == 1 and items[0].size > capacity - RECORDS_FIELDS:
            known = record_id(self._context.mesh, items[0].data)
            return list(fragments(known, items[0], capacity, repair=False))
        return [Records(tuple(items), link.next_number())]

    def _confirm(self, link: Link, now: Instant) -> None:
        keys = link.flood.take_confirms(now.mono, MAX_CONFIRM_KEYS)
        if keys:
            link.air.news.spend(now.mono, self._context.send(link, [Confirm(keys, link.next_number())]))

    def _look(self, link: Link, around: Sequence[Neighbour], now: Instant) -> None:
        """Sends once more what few neighbours may have missed; the digests look after the rest."""
        again: dict[RouterId, list[Carried]] = defaultdict(list)
        capacity = self._context.capacity(link) - RECORDS_FIELDS
        fresh = {one.router: one for one in around if one.fresh(now.mono)}
        for flood in link.flood.watched(now.mono):
            missed = [one for one in flood.underserved(around) if one.router in fresh]
            worth = flood.sent == 1 and len(missed) <= RESEND_UP_TO and flood.carried.size <= capacity
            # What no digest tells of is worth it on the slightest doubt.
            if missed and worth and (flood.carried.ephemeral or flood.likely_missed(missed)):
                for one in missed:
                    again[one.router].append(flood.carried)
                link.flood.watch_again(flood, now.mono)
                continue
            link.flood.forget(flood)
            if flood.carried.ephemeral:
                continue
            if missed:
                if any(self._is_remote(one, around) for one in missed):
                    link.insist(now.mono)
                self._context.hurry(link, now.mono)
            elif residue := flood.residue(fresh.values()):
                self._tell_at_rest(link, residue, now)
        for router, items in again.items():
            self._send_again(link, fresh[router], items, capacity, now)

    @staticmethod
    def _is_remote(neighbour: Neighbour, around: Sequence[Neighbour]) -> bool:
        """Whether it may hear so few others here that it would miss what keeps this router silent."""
        return sum(neighbour.router in one.said.reach for one in around) < TRICKLE_K

    def _tell_at_rest(self, link: Link, residue: Iterable[RouterId], now: Instant) -> None:
        """A digest is to follow when no more news comes, unless these neighbours hear an equal one before."""
        self._context.timers.set(OfLink(LinkDue.REST, link.name), link.doubts.add(residue, now.mono))

    def _send_again(
        self, link: Link, neighbour: Neighbour, items: Sequence[Carried], capacity: int, now: Instant
    ) -> None:
        batch: list[Carried] = []
        room = capacity
        for item in items:
            if batch and item.size > room:
                self._send_to(link, neighbour, batch, now)
                batch, room = [], capacity
            batch.append(item)
            room -= item.size
        self._send_to(link, neighbour, batch, now)

    def _send_to(self, link: Link, neighbour: Neighbour, items: Sequence[Carried], now: Instant) -> None:
        packet = Records(tuple(items), NO_NUMBER)
        link.air.news.spend(now.mono, self._context.send(link, [packet], neighbour.origin))
