"""The rows of the table, in its order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench import (
    attack,
    cost,
    differences,
    floods,
    footprint,
    idle,
    imports,
    ingest,
    merging,
    publish,
    restore,
    sessions,
    terminal,
    wakes,
)
from tests.bench.figures import Effort, Figure


@dataclass(frozen=True)
class Row:
    """One row: its name on the command line, what it is about, and what measures it.

    `real_daemons` need root and network namespaces; `long_only` is measured with `--long` alone.
    """

    name: str
    title: str
    run: Callable[[Effort], Iterable[Figure]]
    real_daemons: bool = False
    long_only: bool = False


ROWS = (
    Row("idle", "traffic of a mesh at rest", idle.rows, real_daemons=True),
    Row("publish", "from the request to send until shown on all", publish.rows, real_daemons=True),
    Row("bytes", "air for one message", cost.rows, real_daemons=True),
    Row("floods", "large meshes, simulated", floods.rows),
    Row("scale", "a thousand routers, and a long history, simulated", floods.long_rows, long_only=True),
    Row("restore", "an empty router comes back among nine", restore.rows, real_daemons=True),
    Row("differences", "what two routers lack, found and mended", differences.rows),
    Row("ingest", "what one core takes in", ingest.rows),
    Row("attack", "chat beside a stranger who sends rubbish", attack.rows, real_daemons=True),
    Row("merge", "merge and order history", merging.rows),
    Row("daemon", "memory and start of the daemon", footprint.rows),
    Row("sessions", "many people behind one connection", sessions.rows),
    Row("terminal", "the front end at a terminal", terminal.rows),
    Row("imports", "what each import of the daemon costs", imports.rows),
    Row("wakes", "wake-ups and processor time at rest", wakes.rows, real_daemons=True),
)
