"""Which neighbours are known to hold the messages that were written on this router.

A neighbour is counted when it was heard with the message, has confirmed it, or its digest equals that of this
router and speaks for the message; never because it should have heard it. A router is one holder, on however
many interfaces it is heard. When it has started anew, it holds nothing until it shows that again.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice

from meshchat.constants import MAX_NEIGHBOURS
from meshchat.state.neighbour import Neighbour
from meshchat.state.store import HISTORY_START
from meshchat.wire.ids import (
    CONFIRM_KEY_SIZE,
    NO_BOOT,
    BootId,
    ConfirmKey,
    Position,
    PublicKey,
    RecordId,
    RouterId,
    Span,
    confirm_key_of,
    record_id_of,
)
from meshchat.wire.records import Record

MAX_RECEIPTS = 1024
"""Messages written on a router of which it remembers which neighbours hold them: over five minutes of one
person who types as fast as he may, in 300 KB of RAM."""

_FORGOTTEN_AT_ONCE = 64
"""Routers that give way together where there are too many, for each costs a look at all messages."""


@dataclass(slots=True)
class Receipt:
    """A message: its position, its room, its author's key; `holders` has a bit for each router.

    `number` grows from message to message; `told` is the last count that was told.
    """

    position: Position
    room: str
    author: PublicKey
    number: int
    holders: int = 0
    told: int = 0

    @property
    def id(self) -> RecordId:
        """The record's id."""
        return record_id_of(self.position)

    @property
    def by(self) -> int:
        """How many routers hold it, as far as is known."""
        return self.holders.bit_count()


@dataclass(slots=True)
class _Holder:
    """A router: its bit, the boot of its digests, the number up to which its digests can tell no more."""

    bit: int
    boot: BootId = NO_BOOT
    settled: int = 0

    def is_still(self, neighbour: Neighbour) -> bool:
        """Whether the neighbour has not started anew since, as far as its digests tell."""
        said = neighbour.said.digest.boot if neighbour.said.digest else NO_BOOT
        self.boot = self.boot or said
        return self.boot == said


class Receipts:
    """The newest `MAX_RECEIPTS` messages; `watched` has them by their `ConfirmKey`.

    `grown` has the keys of those of which `tell` may have something.
    """

    def __init__(self, holds: Callable[[Position], bool]) -> None:
        """`holds` says whether a position is held here."""
        self._holds = holds
        self.watched: OrderedDict[ConfirmKey, Receipt] = OrderedDict()
        self._holders: OrderedDict[RouterId, _Holder] = OrderedDict()
        self._free = [1 << number for number in range(MAX_NEIGHBOURS)]
        self._number = 0
        self.grown: dict[ConfirmKey, None] = {}

    def add(self, record: Record) -> None:
        """A message was written here; as yet nobody else has it."""
        self._number += 1
        receipt = Receipt(record.position, record.log, record.key, self._number)
        self.watched[confirm_key_of(record.position)] = receipt
        if len(self.watched) > MAX_RECEIPTS:
            self.watched.popitem(last=False)

    def discard(self, record_id: RecordId) -> None:
        """The message could not be kept."""
        self.watched.pop(ConfirmKey(record_id[:CONFIRM_KEY_SIZE]), None)

    def get(self, record_id: RecordId) -> Receipt | None:
        """What is known of a message; None where it was not written here since the start, or long ago."""
        return self.watched.get(ConfirmKey(record_id[:CONFIRM_KEY_SIZE]))

    # --- What is learnt ---------------------------------------------------------------------------------

    def has(self, key: ConfirmKey, neighbour: Neighbour) -> None:
        """A neighbour was heard with the record that has this `ConfirmKey`."""
        receipt = self.watched.get(key)
        if receipt is not None:
            self._credit(key, receipt, self._holder(neighbour))

    def agrees(self, neighbour: Neighbour, undated: Span, dated: Span) -> None:
        """A neighbour accounts for just what is accounted for here in these spans of the two strata."""
        if not self.watched:
            return
        holder = self._holder(neighbour)
        settled = self._number
        for key, receipt in reversed(self.watched.items()):
            if receipt.number <= holder.settled:
                break
            low, high = undated if receipt.position < HISTORY_START else dated
            if receipt.position >= high:
                settled = receipt.number - 1
            elif receipt.position >= low and self._holds(receipt.position):
                self._credit(key, receipt, holder)
        holder.settled = settled

    def spoke(self, neighbour: Neighbour) -> None:
        """A neighbour's digest was taken in: one that has started anew may have lost all."""
        holder = self._holders.get(neighbour.router)
        if holder is not None and not holder.is_still(neighbour):
            self._forget([neighbour.router])

    def _credit(self, key: ConfirmKey, receipt: Receipt, holder: _Holder) -> None:
        if not receipt.holders & holder.bit:
            receipt.holders |= holder.bit
            if receipt.by > receipt.told:
                self.grown[key] = None

    def _holder(self, neighbour: Neighbour) -> _Holder:
        holder = self._holders.get(neighbour.router)
        if holder is None:
            if not self._free:
                self._forget(list(islice(self._holders, _FORGOTTEN_AT_ONCE)))
            holder = self._holders[neighbour.router] = _Holder(self._free.pop())
        holder.is_still(neighbour)
        self._holders.move_to_end(neighbour.router)
        return holder

    def _forget(self, routers: Collection[RouterId]) -> None:
        """They hold nothing, as far as is known."""
        gone = [self._holders.pop(router).bit for router in routers]
        self._free += gone
        left = ~sum(gone)
        for receipt in self.watched.values():
            receipt.holders &= left
            receipt.told = min(receipt.told, receipt.by)

    # --- What is told -----------------------------------------------------------------------------------

    def tell(self) -> list[Receipt]:
        """The messages that more routers hold than was told, which counts as told now."""
        told = []
        for key in self.grown:
            receipt = self.watched.get(key)
            if receipt is not None and receipt.by > receipt.told:
                receipt.told = receipt.by
                told.append(receipt)
        self.grown.clear()
        return told
