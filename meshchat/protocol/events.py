"""What the engine hands back: frozen values that say what to do, in order."""

from dataclasses import dataclass

from meshchat.wire.records import Record


@dataclass(frozen=True)
class Send:
    """Put `data` on the air of `interface`: to the group, or to one address (IPv4, port)."""

    interface: str
    address: tuple[str, int] | None
    data: bytes


@dataclass(frozen=True)
class Stored:
    """A record to keep, with the age in seconds that it came with (only unknown grades have one)."""

    record: Record
    age: int


@dataclass(frozen=True)
class Append:
    """Write these to the logs, then call `Router.appended` or, for those that failed, `append_failed`.

    Nothing of them is shown, acknowledged or relayed before.
    """

    batch: tuple[Stored, ...]


@dataclass(frozen=True)
class Deliver:
    """Show a record to front ends. `live`: it is new, not something caught up with."""

    record: Record
    live: bool


@dataclass(frozen=True)
class Remove:
    """Take these positions off the disk, wiped text included; `why` is "wipe", "age", "hand" or "limit"."""

    positions: tuple[bytes, ...]
    why: str


@dataclass(frozen=True)
class Remember:
    """Keep these positions on flash: what was removed must not be fetched again."""

    positions: tuple[bytes, ...]


@dataclass(frozen=True)
class Save:
    """Something was wiped by date: write the small state (horizon, clock floor) before it goes."""


Output = Send | Append | Deliver | Remove | Remember | Save
