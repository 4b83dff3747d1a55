"""The first generation of this design, as the baseline: logs are text, and a merge looks for lines in it.

A router that starts asks; every router in reach answers with its whole log, lines of `date user: text`. A
heard line is added unless the log contains it (a substring test), and the log is then brought in order by a
selection sort that parses both dates at each comparison. It signs nothing, and it repairs nothing: a line
that is lost on the way is missing until somebody starts again.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from meshchat.constants import MAX_MTU
from meshchat.protocol.envelope import IP_UDP_HEADERS
from meshchat.wire.records import Record, stamp_ms

DATE = "%Y-%m-%d %H:%M:%S"
DATE_CHARS = 19


def line_of(record: Record) -> str:
    """The record as a line of the log."""
    moment = datetime.fromtimestamp(stamp_ms(record.stamp) // 1000, UTC)
    return f"{moment.strftime(DATE)} {record.author}: {record.body.decode()}"


def merge(log: str, heard: Iterable[str]) -> str:
    """The log with the heard lines that it does not contain yet, in order."""
    for line in heard:
        if line not in log:
            log += line + "\n"
    return "".join(f"{line}\n" for line in in_order(log.splitlines()))


def in_order(lines: Sequence[str]) -> list[str]:
    """The lines by date, by selection: the earliest of the rest comes next."""
    rest = list(lines)
    for at in range(len(rest)):
        earliest = at
        for other in range(at + 1, len(rest)):
            if _date(rest[other]) < _date(rest[earliest]):
                earliest = other
        rest[at], rest[earliest] = rest[earliest], rest[at]
    return rest


def _date(line: str) -> datetime:
    return datetime.strptime(line[:DATE_CHARS], DATE)


def answer(log: str) -> list[bytes]:
    """The datagrams by which one responder sends its whole log: whole lines, as many as fit."""
    room = MAX_MTU - IP_UDP_HEADERS
    packed = [b""]
    for line in log.encode().splitlines(keepends=True):
        if packed[-1] and len(packed[-1]) + len(line) > room:
            packed.append(b"")
        packed[-1] += line
    return packed


def restore_bytes(log: str, responders: int, headers: int) -> int:
    """Bytes on the air, with `headers` a datagram, when so many responders hold this log."""
    return responders * sum(len(data) + headers for data in answer(log))
