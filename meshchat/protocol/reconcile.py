"""Narrowing a difference between two sets, one datagram a step (range-based set reconciliation, Meyer 2023).

Pure functions over a record set. The first step lists the ids of the newest records and fingerprints the
rest; an answer splits what differs, or lists it where it is small, until both know which records are missing.
Every answer speaks of smaller ranges than the question, so the conversation ends whatever the other side
says.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from meshchat.constants import LEAF_IDS, RECENT_IDS, SHORT_ID, SPLIT
from meshchat.state.recordset import RecordSet
from meshchat.wire.packets import (
    Block,
    Fingerprinted,
    Having,
    Listed,
    Range,
    Skip,
    encoded_range_size,
)
from meshchat.wire.records import RECORD_ID_SIZE

Span = tuple[bytes, bytes]
"""Low bound (inside) and high bound (outside)."""

MAX_SCAN = 4096
"""Ids hashed for one packet, 1 microsecond each on a PC: honest lists cover at most a few hundred records,
and one datagram of lists over the whole set must not cost a router a second."""

_LIST_MARGIN = 4 * LEAF_IDS
"""A list of so many fewer ids than are held here is answered by splitting the range, not by one long list."""


def short_id(salt: bytes, record_id: bytes) -> bytes:
    """The 6 bytes by which a step names the record: a collision made for one salt is none for the next."""
    return hashlib.blake2b(record_id, digest_size=SHORT_ID, salt=salt).digest()


def _short(salt: bytes, position: bytes) -> bytes:
    return short_id(salt, position[-RECORD_ID_SIZE:])


def after(position: bytes) -> bytes:
    """The bound just above a position."""
    return (int.from_bytes(position, "big") + 1).to_bytes(len(position), "big")


@dataclass
class _Scan:
    """Hashes ids with one salt, within the limit for a packet."""

    records: RecordSet
    salt: bytes
    left: int = MAX_SCAN

    def short_ids(self, low: bytes, high: bytes) -> dict[bytes, bytes] | None:
        """The positions of a range by their short ids; None where that would be too many."""
        self.left -= self.records.count(low, high)
        if self.left < 0:
            return None
        return {_short(self.salt, place): place for place in self.records.positions(low, high)}


@dataclass
class Findings:
    """What a step told: what to say in return, what to ask for, what the other side lacks."""

    reply: list[Range] = field(default_factory=list)
    wants: list[Block] = field(default_factory=list)
    extra: list[Having] = field(default_factory=list)
    extra_positions: list[bytes] = field(default_factory=list)


def opening(records: RecordSet, spans: Sequence[Span], salt: bytes, *, full: bool) -> list[Range]:
    """The first step: the newest records of the spans by their ids; the rest, if `full`, by fingerprint."""
    parts: list[Range] = []
    for low, high in spans:
        mine = records.summary(low, high)
        if full and ((low, high) != spans[-1] or mine.count == 0):
            parts.append(Fingerprinted(low, high, mine))
            continue
        if mine.count > RECENT_IDS or (mine.count and not full):
            cut = records.at_rank(records.rank(high) - min(mine.count, RECENT_IDS))
            if full:
                parts.append(Fingerprinted(low, cut, records.summary(low, cut)))
            low = cut
        parts.append(_listed(records, low, high, salt))
    return parts


def examine(records: RecordSet, parts: Iterable[Range], salt: bytes, reply_salt: bytes) -> Findings:
    """Compares a step that was received (listed with `salt`) with what is held here."""
    findings = Findings()
    scan = _Scan(records, salt)
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


def _want_lacking(part: Listed | Having, mine: dict[bytes, bytes], findings: Findings) -> None:
    lacking = tuple(one for one in part.ids if one not in mine)
    if lacking:
        findings.wants.append(Block(part.low, part.high, lacking))


def _examine_fingerprint(records: RecordSet, part: Fingerprinted, salt: bytes, findings: Findings) -> None:
    mine = records.summary(part.low, part.high)
    if mine == part.summary:
        return
    if mine.count == 0:
        findings.wants.append(Block(part.low, part.high, None))
    elif part.summary.count == 0 and mine.count > LEAF_IDS:
        findings.reply.append(Fingerprinted(part.low, part.high, mine))
    elif mine.count <= LEAF_IDS:
        findings.reply.append(_listed(records, part.low, part.high, salt))
    else:
        findings.reply.extend(_split(records, part.low, part.high, mine.count))


def _examine_list(scan: _Scan, part: Listed, reply_salt: bytes, findings: Findings) -> None:
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
    unknown = (place for short, place in mine.items() if short not in theirs)
    extra = [place for place in unknown if (entry := records.get(place)) and not entry.absent]
    if extra:
        ids = tuple(_short(reply_salt, place) for place in extra)
        findings.extra.append(Having(part.low, part.high, ids))
        findings.extra_positions.extend(extra)


def _listed(records: RecordSet, low: bytes, high: bytes, salt: bytes) -> Listed:
    held: list[bytes] = []
    gone: list[bytes] = []
    for entry in records.entries(low, high):
        (gone if entry.absent else held).append(_short(salt, entry.position))
    return Listed(low, high, tuple(held), tuple(gone))


def _split(records: RecordSet, low: bytes, high: bytes, count: int) -> list[Range]:
    """The range in `SPLIT` parts with equally many of this router's records."""
    first = records.rank(low)
    pieces = min(SPLIT, count)
    cuts = [low, *(records.at_rank(first + count * part // pieces) for part in range(1, pieces)), high]
    return [Fingerprinted(a, b, records.summary(a, b)) for a, b in pairwise(cuts) if a < b]


def lacking(records: RecordSet, blocks: Iterable[Block], salt: bytes) -> list[Block]:
    """The blocks less the listed records that are here by now."""
    scan = _Scan(records, salt)
    left = []
    for block in blocks:
        mine = scan.short_ids(block.low, block.high) if block.ids is not None else None
        ids = block.ids if mine is None or block.ids is None else tuple(i for i in block.ids if i not in mine)
        if ids is None or ids:
            left.append(Block(block.low, block.high, ids))
    return left


def find(records: RecordSet, blocks: Iterable[Block], salt: bytes) -> list[bytes]:
    """The positions that listed blocks ask for, each once; what exceeds `MAX_SCAN` is left out."""
    scan = _Scan(records, salt)
    found: dict[bytes, None] = {}
    for block in blocks:
        mine = scan.short_ids(block.low, block.high)
        if mine is None:
            break
        found.update((mine[short], None) for short in block.ids or () if short in mine)
    return list(found)


def fit(parts: Sequence[Range], capacity: int) -> tuple[bytes, tuple[Range, ...]]:
    """As many of the parts as fit into `capacity` bytes, the newest first; (lower bound, parts in order).

    Gaps between them become `Skip`s. What does not fit is found again in the next exchange.
    """
    chosen: list[Range] = []
    room = capacity
    for part in sorted(parts, key=lambda one: one.low, reverse=True):
        overhead = encoded_range_size(Skip(part.low, part.high))
        if isinstance(part, Having):
            part = Having(part.low, part.high, part.ids[: max(0, room - 2 * overhead - 2) // SHORT_ID])
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
    return (filled[0].low if filled else b""), tuple(filled)


# --- Spans that are still wanted ------------------------------------------------------------------------


def subtract(spans: Sequence[Span], low: bytes, high: bytes) -> list[Span]:
    """The spans less low <= position < high."""
    left: list[Span] = []
    for begin, end in spans:
        if high <= begin or end <= low:
            left.append((begin, end))
            continue
        if begin < low:
            left.append((begin, low))
        if high < end:
            left.append((high, end))
    return left


def coalesce(spans: Iterable[Span]) -> list[Span]:
    """The same spans, in order, those that touch made one."""
    joined: list[Span] = []
    for low, high in sorted(spans):
        if joined and joined[-1][1] >= low:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined
