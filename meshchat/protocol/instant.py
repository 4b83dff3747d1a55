"""The one value by which time enters the daemon."""

from typing import NamedTuple


class Instant(NamedTuple):
    """A reading of the machine's clocks.

    `mono` is seconds on a clock that never jumps and counts while the machine sleeps; `wall_ms` is what the
    system clock claims, UTC milliseconds since 1970; `trusted` is whether the kernel has synchronised it
    since boot or the operator vouches for it.
    """

    mono: float
    wall_ms: int
    trusted: bool
