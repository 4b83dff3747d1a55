"""Records to measure with: messages of 100 bytes, signed, of several people, on disk or in datagrams."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from string import ascii_letters, digits

from meshchat.adapters.storage.logline import encode_line
from meshchat.constants import MAX_MTU
from meshchat.identity.keys import KeySeed, SigningKey, sign_record
from meshchat.protocol.envelope import IP_UDP_HEADERS
from meshchat.wire.datagram import PlainDatagram
from meshchat.wire.ids import MeshId, PublicKey, RouterId
from meshchat.wire.packets import RECORDS_FIELDS, Carried, Records, encode_packet
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, mesh_id, router_id

MESH = mesh_id("meshchat")
"""That of a daemon with default settings."""

TEXT_BYTES = 100
PEOPLE = 20
ROOM = "1"
_SPACING_MS = 200
_LETTERS = ascii_letters + digits


def text(number: int) -> str:
    """A message text of `TEXT_BYTES` bytes that no other number has.

    Letters at random: a peer that compresses what it sends would make next to nothing of words.
    """
    start = f"message {number} "
    return start + "".join(Random(number).choices(_LETTERS, k=TEXT_BYTES - len(start)))


def messages(count: int, *, seed: int = 1, until_ms: int | None = None, mesh: MeshId = MESH) -> list[Record]:
    """`count` messages of `PEOPLE` people in one room, in order, the last one stamped `until_ms` or now.

    The same seed gives the same people.
    """
    random = Random(seed)
    people = [SigningKey.from_seed(KeySeed(random.randbytes(32))) for _ in range(PEOPLE)]
    router = router_id(PublicKey(random.randbytes(32)))
    last = int(time.time() * 1000) if until_ms is None else until_ms
    first = last - (count - 1) * _SPACING_MS
    return [
        sign_record(
            people[number % PEOPLE],
            mesh=mesh,
            space=Space.ROOM,
            log=ROOM,
            kind=Kind.MESSAGE,
            author=f"person{number % PEOPLE}",
            router=router,
            stamp=make_stamp(first + number * _SPACING_MS),
            grade=Grade.GOOD,
            body=text(number).encode(),
        )
        for number in range(count)
    ]


def signed_bytes(records: Iterable[Record]) -> int:
    """Bytes of the records as they are carried, signatures included: what no transfer can do without."""
    return sum(len(record.carried) for record in records)


def write_logs(records: Sequence[Record], home: Path) -> Path:
    """Writes the log files of a router that holds `records`; returns its logs directory, `home`/logs.

    They carry no router's mark: the first daemon started on them verifies every signature.
    """
    rooms = home / "logs" / "rooms"
    rooms.mkdir(parents=True)
    (rooms / f"{ROOM}.log").write_bytes(b"".join(map(encode_line, records)))
    return home / "logs"


def datagrams(records: Sequence[Record], each: int | None = None) -> list[bytes]:
    """The records as another router's new ones: `each` a datagram, or as many as fit."""
    room = (
        MAX_MTU - IP_UDP_HEADERS - len(PlainDatagram(MESH, RouterId(bytes(8)), b"").encode()) - RECORDS_FIELDS
    )
    sender = router_id(PublicKey(b"the bench"))
    batches: list[list[Carried]] = [[]]
    used = 0
    for record in records:
        item = Carried(record.carried, 0)
        if used + item.size > room or len(batches[-1]) == each:
            batches.append([])
            used = 0
        batches[-1].append(item)
        used += item.size
    return [
        PlainDatagram(MESH, sender, encode_packet(Records(tuple(batch)))).encode()
        for batch in batches
        if batch
    ]
