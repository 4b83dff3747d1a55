"""What the application is told, as it happens: a union of frozen values, each with one sender.

A new one is a class, here or in `protocol/events.py`, its sender, and an arm of `Service.tell`.
"""

from typing import NamedTuple

from meshchat.protocol.events import EngineNotice
from meshchat.wire.records import Record


class Wiped(NamedTuple):
    """So many records of history have gone from the disk, of one room or (None) of several."""

    room: str | None
    messages: int


class Evicted(NamedTuple):
    """These records of accounts or rooms have gone because they exceeded their budget."""

    records: tuple[Record, ...]


Notice = EngineNotice | Wiped | Evicted
