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

Span = tuple[bytes, bytes]
"""Low bound (inside) and high bound (outside)."""

_RECORD_ID_AT = 9


def short_id(salt: bytes, position: bytes) -> bytes:
    """The 6 bytes by which a step names the record: a collision made for one salt is none for the next."""
    return hashlib.blake2b(position[_RECORD_ID_AT:], digest_size=SHORT_ID, salt=salt).digest()


def after(position: bytes) -> bytes:
    """The bound just above a position."""
    return (int.from_bytes(position, "big") + 1).to_bytes(len(position), "big")


@dataclass
class Findings:
    """What a step told: what to say in return, what to ask for, what the other side lacks."""

    reply: list[Range] = field(default_factory=list)
    wants: list[Block] = field(default_factory=list)
    extra: list[Having] = field(default_factory=list)
    extra_positions: list[bytes] = field(default_factory=list)


def opening(records: RecordSet, spans: Sequence[Span], salt: bytes) -> list[Range]:
    """The first step about the spans that differ: the newest by their ids, the rest by fingerprint."""
    parts: list[Range] = []
    for low, high in spans:
        mine = records.summary(low, high)
        if (low, high) != spans[-1] or mine.count == 0:
            parts.append(Fingerprinted(low, high, mine))
            continue
        last = records.rank(high)
        if mine.count > RECENT_IDS:
            cut = records.at_rank(last - RECENT_IDS)
            parts.append(Fingerprinted(low, cut, records.summary(low, cut)))
            low = cut
        parts.append(_listed(records, low, high, salt))
    return parts


def examine(records: RecordSet, parts: Iterable[Range], salt: bytes, reply_salt: bytes) -> Findings:
    """Compares a step that was received (listed with `salt`) with what is held here."""
    findings = Findings()
    for part in parts:
        match part:
            case Skip():
                pass
            case Fingerprinted():
                _examine_fingerprint(records, part, reply_salt, findings)
            case Listed():
                _examine_list(records, part, salt, reply_salt, findings)
            case Having():
                lacking = _lacking(records, part.low, part.high, part.ids, salt)
                if lacking:
                    findings.wants.append(Block(part.low, part.high, lacking))
    return findings


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


def _examine_list(
    records: RecordSet, part: Listed, salt: bytes, reply_salt: bytes, findings: Findings
) -> None:
    theirs = set(part.ids)
    mine = {short_id(salt, place): place for place in records.positions(part.low, part.high)}
    lacking = tuple(one for one in part.ids if one not in mine)
    if lacking:
        findings.wants.append(Block(part.low, part.high, lacking))
    extra = [place for short, place in mine.items() if short not in theirs]
    if not theirs and len(extra) > LEAF_IDS:
        findings.reply.append(Fingerprinted(part.low, part.high, records.summary(part.low, part.high)))
    elif extra:
        ids = tuple(short_id(reply_salt, place) for place in extra)
        findings.extra.append(Having(part.low, part.high, ids))
        findings.extra_positions.extend(extra)


def _lacking(
    records: RecordSet, low: bytes, high: bytes, ids: Sequence[bytes], salt: bytes
) -> tuple[bytes, ...]:
    mine = {short_id(salt, place) for place in records.positions(low, high)}
    return tuple(one for one in ids if one not in mine)


def _listed(records: RecordSet, low: bytes, high: bytes, salt: bytes) -> Listed:
    return Listed(low, high, tuple(short_id(salt, place) for place in records.positions(low, high)))


def _split(records: RecordSet, low: bytes, high: bytes, count: int) -> list[Range]:
    """The range in `SPLIT` parts with equally many of this router's records."""
    first = records.rank(low)
    pieces = min(SPLIT, count)
    cuts = [low, *(records.at_rank(first + count * part // pieces) for part in range(1, pieces)), high]
    return [Fingerprinted(a, b, records.summary(a, b)) for a, b in pairwise(cuts) if a < b]


def find(records: RecordSet, block: Block, salt: bytes) -> list[bytes]:
    """The positions that a listed block asks for."""
    wanted = set(block.ids or ())
    return [place for place in records.positions(block.low, block.high) if short_id(salt, place) in wanted]


def fit(parts: Sequence[Range], capacity: int) -> tuple[bytes, tuple[Range, ...]]:
    """As many of the parts as fit into `capacity` bytes, the newest first; (lower bound, parts in order).

    Gaps between them become `Skip`s. What does not fit is found again in the next exchange.
    """
    chosen: list[Range] = []
    room = capacity
    for part in sorted(parts, key=lambda one: one.low, reverse=True):
        size = encoded_range_size(part) + encoded_range_size(Skip(part.low, part.high))
        if size > room:
            break
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
