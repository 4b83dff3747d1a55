"""What the engine does later: the kinds of deadline, and whose each is.

Each kind has one handler, in a table of `router.py` that `handled` checks when the program is loaded.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, TypeAlias, TypeVar

from meshchat.wire.ids import Place, RouterId


class RouterDue(Enum):
    """What falls due for the router as a whole."""

    HOUSEKEEPING = "the wipe, the quarantine and the neighbours' clocks are looked at"
    CLOCKS = "the clocks heard are compared"
    HELD = "front ends are told how many neighbours hold what was written here"
    MESH = "front ends are told how the mesh looks"
    SKETCH = "more of what was held at the start is mixed into the sketch"
    CHOOSE = "one of those that offered is named as the source"
    FETCH = "the source is asked again, or replaced"


class LinkDue(Enum):
    """What falls due on one link."""

    TRICKLE = "the Trickle timer"
    FLOOD = "something is to be relayed, confirmed or looked after"
    DUMP = "the next datagram of a dump"
    ASK = "the next ASK-FILE"
    DIGEST = "a digest answers an ASK-FILE"
    REST = "news has come to rest: a digest, if a neighbour is in doubt"


class NeighbourDue(Enum):
    """What falls due towards one neighbour."""

    STEP = "the first step towards one whose digest differs"
    OFFER = "an OFFER answers its ASK-FILE"
    TELL = "the next datagram of who is present"


class OfLink(NamedTuple):
    """A deadline of the link with this name."""

    due: LinkDue
    link: str


class OfNeighbour(NamedTuple):
    """A deadline of a neighbour on the link with this name."""

    due: NeighbourDue
    link: str
    router: RouterId


class OfPlace(NamedTuple):
    """Somebody falls idle on a router, or was not heard of for too long."""

    place: Place


Deadline: TypeAlias = RouterDue | OfLink | OfNeighbour | OfPlace

_Due = TypeVar("_Due", bound=Enum)
_Handler = TypeVar("_Handler")


def handled(kinds: type[_Due], table: Mapping[_Due, _Handler]) -> Mapping[_Due, _Handler]:
    """The table; raises `LookupError` where a kind has no handler, which is a bug."""
    missing = [kind.name for kind in kinds if kind not in table]
    if missing:
        raise LookupError(f"{kinds.__name__} without a handler: {', '.join(missing)}")
    return table
