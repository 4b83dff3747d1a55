"""What the engine hands back: immutable values that say what to do, in order."""

from typing import NamedTuple

from meshchat.state.origin import Origin
from meshchat.state.presence import Present
from meshchat.wire.ids import Position, PublicKey, RecordId
from meshchat.wire.records import Grade, Record


class Send(NamedTuple):
    """Send `data` over the link of this name: to all who are on it (None), or to one."""

    link: str
    to: Origin | None
    data: bytes


class Stored(NamedTuple):
    """A record to keep, with the age in seconds that it came with (only unknown grades have one)."""

    record: Record
    age: int


class Append(NamedTuple):
    """Write these to the logs, then call `Router.appended` with what came of it, once for the whole batch.

    Nothing of them is shown, acknowledged or relayed before.
    """

    batch: tuple[Stored, ...]


class Appended(NamedTuple):
    """What came of an `Append`: by id, the records that are on disk, and those that could not be written.

    `reason` is the line that says why, for people; empty where none failed.
    """

    stored: tuple[RecordId, ...]
    failed: tuple[RecordId, ...] = ()
    reason: str = ""


class Deliver(NamedTuple):
    """Show a record to front ends. `live`: it is news, by the way it came or its stamp."""

    record: Record
    live: bool


class Remove(NamedTuple):
    """Take these positions off the disk, wiped text included; `why` is "wipe", "age", "hand" or "limit"."""

    positions: tuple[Position, ...]
    why: str


class Remember(NamedTuple):
    """Keep these positions on flash: what was removed must not be fetched again."""

    positions: tuple[Position, ...]


class Save(NamedTuple):
    """Something was wiped by date: write the small state (horizon, clock floor) before it goes."""


class PresenceChanged(NamedTuple):
    """Somebody came, went, opened or closed a room, began to type or fell idle, on any router."""

    present: Present


class Restate(NamedTuple):
    """What was stated of the people here may not count elsewhere: each is to be stated again."""


class Held(NamedTuple):
    """A message that was written here: `by` neighbours are known to hold it, more than was told before.

    `record` is its id, `author` its author's key, `of` how many neighbours are heard now.
    """

    record: RecordId
    room: str
    author: PublicKey
    by: int
    of: int


class MeshState(NamedTuple):
    """How the mesh looks from here, whenever it changed: neighbours heard, whether none is known to hold
    other records and no dump is coming in, and the grade of this router's clock.
    """

    neighbours: int
    in_step: bool
    clock: Grade


EngineNotice = Deliver | PresenceChanged | Restate | Held | MeshState
"""What is only to be passed on to the application."""

Output = Send | Append | Remove | Remember | Save | EngineNotice
