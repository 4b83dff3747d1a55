"""What a router says of itself: frozen values, made at the moment that somebody asks.

Nobody outside the engine reads its parts: what is to be known of them is a field here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from meshchat.protocol.horizon import HorizonState
from meshchat.state.origin import Origin
from meshchat.wire.ids import RouterId
from meshchat.wire.records import Grade


@dataclass
class Traffic:
    """What went in and out, in datagrams and in their bytes without IP and UDP headers."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True)
class Report:
    """How the router does."""

    traffic: Traffic

    drops: Counter[str]
    """What was refused, by reason."""

    later_versions: Mapping[tuple[str, Origin], int]
    """Who speaks a later version of the protocol: the link and the origin, with that version."""

    twins: Mapping[tuple[str, Origin], float]
    """When somebody was last heard who speaks under this router's own key, by link and origin."""

    neighbours: int
    """How many routers are heard."""

    horizon_ms: int
    """The wipe horizon, UTC milliseconds."""

    records: int
    """Records held."""

    remembered: int
    """Positions known to have been removed."""

    quarantined: int
    """Records that wait for their time to come."""

    fetching: bool
    """Whether a dump is coming in."""


@dataclass(frozen=True)
class Followed:
    """The neighbour whose clock was adopted."""

    router: RouterId

    hops: int
    """From here to the router that has the good clock."""

    age_s: int
    """Seconds since that router spoke."""


@dataclass(frozen=True)
class ClockReport:
    """The router's clock beside those of its neighbours."""

    time_ms: int
    """Mesh time, UTC milliseconds."""

    grade: Grade

    by_operator: bool
    """Whether the operator vouched for it."""

    followed: Followed | None
    """Whom it follows, where it was adopted."""

    behind_it: int
    """Neighbours with a clock of their own that show a time over 15 minutes before this one."""

    ahead_of_it: int
    """Neighbours with a good clock that show a time over 15 minutes after this one."""


@dataclass(frozen=True)
class Lasting:
    """What has to outlast a restart. Milliseconds are UTC since 1970."""

    horizon: HorizonState

    running_s: int
    """Seconds that the router has run in all."""

    time_ms: int
    """Mesh time, a neighbour's claim perhaps."""

    floor_ms: int
    """The latest time known for sure."""

    good: bool
    """Whether mesh time is this router's own good clock."""

    operator_offset_ms: int | None
    """Mesh time less monotonic time as the operator set it, None where he did not."""

    operator_over_kernel: bool
    """Whether the kernel's clock was synchronised when he did, and is since."""
