"""Merging and ordering a day's history in memory."""

import time
from collections.abc import Iterator, Sequence
from random import Random

from meshchat.adapters.storage.logline import encode_line
from meshchat.identity.keys import verify_record
from meshchat.state.store import RecordStore
from meshchat.wire.records import Record, decode_record
from tests.bench import first_generation, load
from tests.bench.engine import LIMITS, scratch, viewed
from tests.bench.figures import Effort, Figure, Peer, median

TRIES = 5


def rows(effort: Effort) -> Iterator[Figure]:
    """The log of a neighbour is merged into one that holds every other record of it."""
    count = effort.pick(10_000, 1_000)
    records = load.messages(count)
    Random(1).shuffle(records)
    baseline = _first_generation(effort, count)
    sizes = f"{count} records"
    yield Figure(
        f"merge and order {sizes}",
        1000 * median([_merge(records) for _ in range(TRIES)]),
        "ms",
        goal=effort.goal(50),
        peers=baseline,
        note=f"decoded, ids known, in random order, half of them held already; median of {TRIES}",
    )
    carried = [record.carried for record in records]
    yield Figure(
        f"the same, {sizes} decoded and all signatures verified",
        1000 * median([_merge_verified(carried) for _ in range(TRIES)]),
        "ms",
        goal=effort.goal(1500),
        peers=(Peer("signatures alone", 1000 * median([_verify(records) for _ in range(TRIES)])),),
    )
    lines = _lines(records)
    yield Figure(
        f"import {sizes} into a node on disk",
        1000 * median([_import(lines) for _ in range(2)]),
        "ms",
        note="log lines parsed, decoded, verified, appended and flushed, in batches",
    )


def _merge(records: Sequence[Record]) -> float:
    """Seconds to add the records to a store that holds every other one, and to list it in order."""
    store = RecordStore(LIMITS)
    store.add_all([(record, 0) for record in records[::2]], 0)
    fresh = [_undecoded(record) for record in records]
    for record in fresh:
        record.position  # noqa: B018  its id is known by then: the duplicate check comes first
    started = time.perf_counter()
    store.add_all([(record, 0) for record in fresh], 0)
    places = [entry.position for entry in store.held_entries()]
    took = time.perf_counter() - started
    assert places == sorted(record.position for record in records), "not in order, or not all"
    return took


def _undecoded(record: Record) -> Record:
    """A record that remembers nothing of what was computed of it before, such as its id."""
    return decode_record(load.MESH, record.carried)


def _merge_verified(carried: Sequence[bytes]) -> float:
    store = RecordStore(LIMITS)
    started = time.perf_counter()
    decoded = (decode_record(load.MESH, data) for data in carried)
    store.add_all([(record, 0) for record in decoded if verify_record(record)], 0)
    places = [entry.position for entry in store.held_entries()]
    took = time.perf_counter() - started
    assert len(places) == len(carried)
    return took


def _verify(records: Sequence[Record]) -> float:
    started = time.perf_counter()
    assert all(verify_record(record) for record in records)
    return time.perf_counter() - started


def _lines(records: Sequence[Record]) -> list[str]:
    return [encode_line(record).decode() for record in records]


def _import(lines: Sequence[str]) -> float:
    with scratch() as home, viewed(home) as mesh:
        started = time.perf_counter()
        result = mesh.take_in(lines)
        took = time.perf_counter() - started
    assert result.added == len(lines), result
    return took


def _first_generation(effort: Effort, count: int) -> tuple[Peer, ...]:
    peers = []
    took = 0.0
    sizes = (100, 500, 1000) if not effort.quick else (100, 300)
    for size in sizes:
        took = _first_generation_s(size)
        peers.append(Peer(f"first generation, {size} lines", 1000 * took))
    note = f"EXTRAPOLATED from {sizes[-1]} lines, as the square"
    peers.append(Peer(f"first generation, {count} lines", 1000 * took * (count / sizes[-1]) ** 2, note))
    return tuple(peers)


def _first_generation_s(size: int) -> float:
    """Seconds to merge two logs one of which holds every other line of the other."""
    records = load.messages(size)
    Random(1).shuffle(records)
    lines = [first_generation.line_of(record) for record in records]
    held = "".join(f"{line}\n" for line in lines[::2])
    started = time.perf_counter()
    first_generation.merge(held, lines)
    return time.perf_counter() - started
