"""What one core takes in: signed messages, duplicates, garbage and forgeries, from datagram to disk."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import nacl.bindings

from meshchat.protocol.admission import FORGERY_BURST, FORGERY_RATE
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import MeshId, RouterId, Signature
from meshchat.wire.records import Record
from tests.bench import load
from tests.bench.engine import feed, rate, running, scratch
from tests.bench.figures import Effort, Figure, Peer, median

TRIES = 3


def rows(effort: Effort) -> Iterator[Figure]:
    """Each rate is the median of three, of one process."""
    count = effort.pick(10_000, 1_000)
    records = load.messages(count)
    limits = (
        Peer("bare Ed25519 verification", _middle(lambda: _verify(records))),
        Peer("bare append and flush of a log line", _middle(lambda: _append(records))),
    )
    raw = Peer("bare reads of a UDP socket", _middle(lambda: _sockets(count)))
    kinds: tuple[tuple[str, int | None], ...] = (("full datagrams", None), ("a datagram each", 1))
    for name, each in kinds:
        datagrams = load.datagrams(records, each)
        runs = [_ingest(datagrams, count) for _ in range(TRIES)]
        yield Figure(
            f"signed messages to disk, {name}",
            median([run[0][0] for run in runs]),
            "a second",
            goal=5_000,
            at_least=True,
            peers=limits,
            note=f"{count} of them; by processor time {median([run[0][1] for run in runs]):,.0f}",
        )
        yield Figure(
            f"duplicates dropped, {name}",
            median([run[1][0] for run in runs]),
            "records a second",
            goal=100_000,
            at_least=True,
            peers=(raw,),
            note=f"by processor time {median([run[1][1] for run in runs]):,.0f}",
        )
    for name, data in _garbage(records[0], count).items():
        drops = [_drop(data) for _ in range(TRIES)]
        yield Figure(
            f"garbage dropped: {name}",
            median([drop[0] for drop in drops]),
            "datagrams a second",
            goal=100_000,
            at_least=True,
            peers=(raw,),
            note=f"by processor time {median([drop[1] for drop in drops]):,.0f}",
        )
    yield from _forgeries(records, count)


def _middle(measure: Callable[[], float]) -> float:
    return median([measure() for _ in range(TRIES)])


def _ingest(datagrams: Sequence[bytes], count: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rates, by wall and by processor, of messages taken in, and of the same ones once more."""
    with scratch() as home, running(home) as (node, listener):
        new = rate(count, lambda: feed(node, listener, datagrams))
        assert node.engine.store.held == count, f"{node.engine.store.held} of {count} kept"
        before = node.engine.drops["duplicate"]
        again = rate(count, lambda: feed(node, listener, datagrams))
        assert node.engine.drops["duplicate"] - before == count
    return new, again


def _garbage(record: Record, count: int) -> dict[str, list[bytes]]:
    """Datagrams that no signature is checked of, by name."""
    random = Random(1)
    whole = load.datagrams([record])[0]
    other = PlainDatagram(MeshId(bytes(8)), RouterId(bytes(8)), whole[19:]).encode()
    return {
        "random bytes": [random.randbytes(200) for _ in range(count)],
        "another mesh's": [other] * count,
        "a record cut short": [_cut(whole)] * count,
    }


def _cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def _drop(datagrams: Sequence[bytes]) -> tuple[float, float]:
    with scratch() as home, running(home) as (node, listener):
        dropped = rate(len(datagrams), lambda: feed(node, listener, datagrams))
        assert node.engine.store.held == 0
        assert node.engine.drops.total() >= len(datagrams)
    return dropped


def _forgeries(records: Sequence[Record], count: int) -> Iterator[Figure]:
    forged = load.datagrams([replace(record, signature=Signature(bytes(64))) for record in records], 1)
    with scratch() as home, running(home) as (node, listener):
        started = time.monotonic()
        by_wall, by_processor = rate(count, lambda: feed(node, listener, forged))
        took = time.monotonic() - started
        checked = node.engine.drops["signature"]
        assert node.engine.store.held == 0
    allowed = FORGERY_BURST + FORGERY_RATE * took + 1
    yield Figure(
        "forged signatures dropped, of one neighbour",
        by_wall,
        "datagrams a second",
        note=f"by processor time {by_processor:,.0f}",
    )
    yield Figure(
        "forged signatures that were checked",
        checked,
        f"of {count}",
        goal=allowed,
        note=f"the budget: {FORGERY_BURST:g} at once and {FORGERY_RATE:g} a second",
    )


def _verify(records: Sequence[Record]) -> float:
    signed = [(record.signature + record.signed, record.key) for record in records]

    def verify() -> None:
        for message, key in signed:
            nacl.bindings.crypto_sign_open(message, key)

    return rate(len(signed), verify)[0]


def _append(records: Sequence[Record]) -> float:
    lines = [b"x" * (2 * len(record.carried)) for record in records]

    def append(path: Path) -> None:
        with path.open("ab") as log:
            for line in lines:
                log.write(line)
                log.flush()

    with scratch() as home:
        return rate(len(lines), lambda: append(home / "log"))[0]


def _sockets(count: int) -> float:
    """Datagrams a second that one process reads; they wait in the kernel, a batch at a time."""
    batch, spent = 100, 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as writer:
            data = os.urandom(200)
            for _ in range(count // batch):
                for _ in range(batch):
                    writer.sendto(data, reader.getsockname())
                started = time.perf_counter()
                for _ in range(batch):
                    reader.recvfrom(2048)
                spent += time.perf_counter() - started
    return count // batch * batch / spent
