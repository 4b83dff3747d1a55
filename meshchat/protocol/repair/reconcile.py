"""Narrowing a difference between two sets, one datagram a step (range-based set reconciliation, Meyer 2023).

Pure functions over a record set. The first step fingerprints the newest records and the rest; an answer
splits what differs, or lists it where it is small, until both know which records are missing. Every answer
speaks of smaller ranges than the question, so the conversation ends whatever the other side says.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from meshchat.protocol.repair.spans import after
from meshchat.state.recordset import RecordSet
from meshchat.wire.ids import (
    SHORT_ID_SIZE,
    START,
    Bound,
    Position,
    RecordId,
    Salt,
    ShortId,
    Span,
    record_id_of,
)
from meshchat.wire.packets import (
    Block,
    BySketchKey,
    Fingerprinted,
    Having,
    Listed,
    Range,
    Skip,
    Wanted,
    encoded_range_size,
)

RECENT_IDS = 16
"""Ids of the newest records, compared by themselves where older ones differ for good."""

WINDOW_IDS = 200
"""Ids in a request for all of a range but these: as many as fit a datagram."""

DENSE_PARTS = 6
"""Of at least so many small parts of a step three quarters differ: then a window of records is exchanged as
it is."""

SPLIT = 16
LEAF_IDS = 32
"""A differing range is split in 16; at or below 32 records its ids are listed instead."""

MAX_SCAN = 4096
"""Ids hashed for one packet, 1 microsecond each on a PC: honest lists cover at most a few hundred records,
and one datagram of lists over the whole set must not cost a router a second."""

_LIST_MARGIN = 4 * LEAF_IDS
"""A list of so many fewer ids than are held here is answered by splitting the range, not by one long list."""


def short_id(salt: Salt, record_id: RecordId) -> ShortId:
    """The 6 bytes by which a step names the record: a collision made for one salt is none for the next."""
    return ShortId(hashlib.blake2b(record_id, digest_size=SHORT_ID_SIZE, salt=salt).digest())


def _short(salt: Salt, position: Position) -> ShortId:
    return short_id(salt, record_id_of(position))


@dataclass
class _Scan:
    """Hashes ids with one salt, within the limit for a packet."""

    records: RecordSet
    salt: Salt
    left: int = MAX_SCAN

    def short_ids(self, low: Bound, high: Bound) -> dict[ShortId, Position] | None:
        """The positions of a range by their short ids; None where that would be too many."""
        self.left -= self.records.count(low, high)
        if self.left < 0:
            return None
        return {_short(self.salt, position): position for position in self.records.positions(low, high)}


@dataclass
class Findings:
    """What a step told: what to say in return, what to ask for, what the other side lacks.

    `open` is what differs and a sketch may answer.
    """

    reply: list[Range] = field(default_factory=list)
    open: Fingerprinted | None = None
    wants: list[Block] = field(default_factory=list)
    extra: list[Having] = field(default_factory=list)
    extra_positions: list[Position] = field(default_factory=list)


def newest(records: RecordSet, spans: Sequence[Span], salt: Salt) -> list[Range]:
    """The newest records of each span by their ids: what got lost lately, where older ones differ."""
    parts: list[Range] = []
    for low, high in spans:
        count = min(records.count(low, high), RECENT_IDS)
        cut = records.at_rank(records.rank(high) - count) if count else low
        parts.append(_listed(records, cut, high, salt))
    return parts


def opening(records: RecordSet, spans: Sequence[Span], lead: int, *, sketch: bool) -> list[Range]:
    """The first step by ranges: fingerprints of the spans, the last one's newest records apart.

    `lead` is how many more records are here than there. Were just the newest missing, they would be these;
    where fewer are here, they are all above the newest. So one fingerprint of what lies below tells it.
    With `sketch`, one may answer it where that differs.
    """
    parts: list[Range] = []
    for low, high in spans:
        mine = records.count(low, high)
        cut = high
        if (low, high) == spans[-1] and lead and 0 < max(lead, 0) < mine:
            cut = records.at_rank(records.rank(high) - lead)
        elif (low, high) == spans[-1] and lead < 0 < mine:
            cut = min(high, after(records.at_rank(records.rank(high) - 1)))
        parts.append(Fingerprinted(low, cut, records.summary(low, cut), sketch))
        if cut < high:
            parts.append(Fingerprinted(cut, high, records.summary(cut, high)))
    return parts


def examine(records: RecordSet, parts: Sequence[Range], salt: Salt, reply_salt: Salt) -> Findings:
    """Compares a step that was received (listed with `salt`) with what is held here."""
    findings = Findings()
    scan = _Scan(records, salt)
    if window := _window(records, parts):
        findings.wants.append(window)
        return findings
    for part in parts:
        match part:
            case Skip():
                pass
            case Fingerprinted():
                _examine_fingerprint(records, part, reply_salt, findings)
            case Listed():
                _examine_list(scan, part, reply_salt, findings)
            case Having():
                mine = scan.short_ids(part.low, part.high)
                if mine is not None:
                    _want_lacking(part, mine, findings)
    return findings


def _window(records: RecordSet, parts: Sequence[Range]) -> Block | None:
    """The newest records to exchange as they are, where nearly all of many small parts differ; else None.

    Splitting would find over and over that nothing is in common: what is wanted is all but what is here.
    """
    fingerprints = [part for part in parts if isinstance(part, Fingerprinted)]
    mine = [records.summary(part.low, part.high) for part in fingerprints]
    while fingerprints and mine[-1] == fingerprints[-1].summary:
        del fingerprints[-1], mine[-1]
    counts = [*(part.summary.count for part in fingerprints), *(summary.count for summary in mine)]
    differ = sum(part.summary != summary for part, summary in zip(fingerprints, mine, strict=True))
    if len(fingerprints) < DENSE_PARTS or 4 * differ < 3 * len(fingerprints):
        return None
    if not 0 < min(counts) <= max(counts) <= WINDOW_IDS // 2:
        return None
    window = window_below(records, fingerprints[-1].high)
    return window and window._replace(low=max(window.low, fingerprints[0].low))


def window_below(records: RecordSet, high: Bound) -> Block | None:
    """A range up to `high` with as many records as one request can list; None where none are there."""
    rank = records.rank(high)
    return Block(records.at_rank(max(0, rank - WINDOW_IDS)), high, None) if rank else None


def _want_lacking(part: Listed | Having, mine: dict[ShortId, Position], findings: Findings) -> None:
    lacking = tuple(one for one in part.ids if one not in mine)
    if lacking:
        findings.wants.append(Block(part.low, part.high, lacking))


def _examine_fingerprint(records: RecordSet, part: Fingerprinted, salt: Salt, findings: Findings) -> None:
    mine = records.summary(part.low, part.high)
    if mine == part.summary:
        return
    if part.open and min(mine.count, part.summary.count) > LEAF_IDS:
        findings.open = part
    if mine.count == 0:
        findings.wants.append(Block(part.low, part.high, None))
    elif part.summary.count == 0 and mine.count > LEAF_IDS:
        findings.reply.append(Fingerprinted(part.low, part.high, mine))
    elif mine.count <= LEAF_IDS:
        findings.reply.append(_listed(records, part.low, part.high, salt))
    else:
        findings.reply.extend(_split(records, part.low, part.high, mine.count))


def _examine_list(scan: _Scan, part: Listed, reply_salt: Salt, findings: Findings) -> None:
    records = scan.records
    count = records.count(part.low, part.high)
    if count > len(part.ids) + len(part.gone) + _LIST_MARGIN:
        findings.reply.extend(_split(records, part.low, part.high, count))
        return
    mine = scan.short_ids(part.low, part.high)
    if mine is None:
        return
    _want_lacking(part, mine, findings)
    theirs = {*part.ids, *part.gone}
    unknown = (position for short, position in mine.items() if short not in theirs)
    extra = [position for position in unknown if (entry := records.get(position)) and not entry.absent]
    if extra:
        ids = tuple(_short(reply_salt, position) for position in extra)
        findings.extra.append(Having(part.low, part.high, ids))
        findings.extra_positions.extend(extra)


def _listed(records: RecordSet, low: Bound, high: Bound, salt: Salt) -> Listed:
    held: list[ShortId] = []
    gone: list[ShortId] = []
    for entry in records.entries(low, high):
        (gone if entry.absent else held).append(_short(salt, entry.position))
    return Listed(low, high, tuple(held), tuple(gone))


def _split(records: RecordSet, low: Bound, high: Bound, count: int) -> list[Range]:
    """The range in `SPLIT` parts with equally many of this router's records."""
    first = records.rank(low)
    pieces = min(SPLIT, count)
    cuts = [low, *(records.at_rank(first + count * part // pieces) for part in range(1, pieces)), high]
    return [Fingerprinted(a, b, records.summary(a, b)) for a, b in pairwise(cuts) if a < b]


def all_but_mine(records: RecordSet, block: Wanted, salt: Salt, most: int) -> Wanted:
    """All of a range, less what is here, where so few records are that they can be listed.

    At most `most` ids: where there are more, of the upper end of the range; with room for none, all of it.
    """
    if isinstance(block, BySketchKey) or block.ids is not None:
        return block
    count, low = records.count(block.low, block.high), block.low
    if not 0 < count <= WINDOW_IDS or not most:
        return block
    if count > most:
        low = records.at_rank(records.rank(block.high) - most)
    mine = tuple(_short(salt, position) for position in records.positions(low, block.high))
    return Block(low, block.high, None, mine)


def lacking(records: RecordSet, blocks: Iterable[Wanted], salt: Salt) -> list[Wanted]:
    """The blocks less the named records that are here by now."""
    scan = _Scan(records, salt)
    left: list[Wanted] = []
    for block in blocks:
        if isinstance(block, BySketchKey):
            if keys := tuple(key for key in block.keys if records.find_sketched(key) is None):
                left.append(BySketchKey(keys))
            continue
        mine = scan.short_ids(block.low, block.high) if block.ids is not None else None
        ids = block.ids if mine is None or block.ids is None else tuple(i for i in block.ids if i not in mine)
        if ids is None or ids:
            left.append(Block(block.low, block.high, ids))
    return left


def offered(records: RecordSet, blocks: Iterable[Wanted], salt: Salt) -> list[Block]:
    """What a request shows its sender to have and this router to lack: of all but these, some of these."""
    scan = _Scan(records, salt)
    found = []
    for block in blocks:
        if isinstance(block, BySketchKey) or not block.but:
            continue
        mine = scan.short_ids(block.low, block.high)
        if mine is None:
            break
        if ids := tuple(one for one in block.but if one not in mine):
            found.append(Block(block.low, block.high, ids))
    return found


def find(records: RecordSet, blocks: Iterable[Wanted], salt: Salt) -> list[Position]:
    """The positions of the records that blocks name, each once; what exceeds `MAX_SCAN` is left out."""
    scan = _Scan(records, salt)
    found: dict[Position, None] = {}
    for block in blocks:
        if isinstance(block, BySketchKey):
            known = map(records.find_sketched, block.keys)
            found.update((position, None) for position in known if position is not None)
            continue
        mine = scan.short_ids(block.low, block.high)
        if mine is None:
            break
        found.update((mine[short], None) for short in block.ids or () if short in mine)
    return list(found)


def fit(parts: Sequence[Range], capacity: int) -> tuple[Bound, tuple[Range, ...]]:
    """As many of the parts as fit into `capacity` bytes, the newest first; (lower bound, parts in order).

    Gaps between them become `Skip`s. What does not fit is found again in the next exchange.
    """
    chosen: list[Range] = []
    room = capacity
    for part in sorted(parts, key=lambda one: one.low, reverse=True):
        overhead = encoded_range_size(Skip(part.low, part.high))
        if isinstance(part, Having):
            part = Having(part.low, part.high, part.ids[: max(0, room - 2 * overhead - 2) // SHORT_ID_SIZE])
        size = encoded_range_size(part) + overhead
        if size > room:
            continue
        room -= size
        chosen.append(part)
    chosen.reverse()
    filled: list[Range] = []
    for part in chosen:
        if filled and filled[-1].high < part.low:
            filled.append(Skip(filled[-1].high, part.low))
        filled.append(part)
    return (filled[0].low if filled else START), tuple(filled)
