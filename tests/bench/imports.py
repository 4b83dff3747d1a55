"""What each import of the daemon costs, in the order in which it is made."""

import json
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.figures import Effort, Figure, median
from tests.bench.machine import TOP

ORDER = (
    *("pathlib", "typing", "dataclasses", "logging", "json", "tomllib", "ipaddress", "unicodedata"),
    *("click", "asyncio", "netifaces", "nacl.bindings", "ctypes"),
    *("meshchat.cli", "meshchat.config", "meshchat.identity.keys", "meshchat.protocol.router"),
    *("meshchat.adapters.node", "meshchat.chat.service", "meshchat.daemon"),
)
"""Each counts for what those before it have not brought; the last one is all that the daemon imports."""

LAZY = ("dateutil.parser", "prompt_toolkit", "ssl")
"""What it imports when somebody asks for it, or never."""

RUNS = 5

PROGRAM = """
import importlib, json, re, sys, time
from meshchat.without_openssl import without_openssl
def memory():
    with open("/proc/self/smaps_rollup") as rollup:
        return int(re.search(r"^Pss:\\s+(\\d+)", rollup.read(), re.MULTILINE)[1])
costs, known = {"python": (0.0, memory())}, len(sys.modules)
def bring(name):
    before, started = memory(), time.process_time()
    try:
        importlib.import_module(name)
    except ImportError:
        return
    took = time.process_time() - started
    costs[name] = took, memory() - before
with without_openssl():
    for name in sys.argv[1].split():
        bring(name)
for name in sys.argv[2].split():
    bring(name)
print(json.dumps(costs))
"""


def rows(effort: Effort) -> Iterator[Figure]:
    """Proportional memory (PSS) that is more after it than before, and processor time."""
    runs = [_costs() for _ in range(effort.pick(RUNS, 2))]
    for name in runs[0]:
        seconds = median([run[name][0] for run in runs])
        kib = median([run[name][1] for run in runs])
        when = ", when it is asked for" if name in LAZY else ""
        yield Figure(f"{name}{when}", kib, "KiB", note=f"{seconds * 1000:.1f} ms")
    whole = [sum(cost[1] for name, cost in run.items() if name not in LAZY) for run in runs]
    yield Figure("the daemon, before it opens anything", median(whole), "KiB")


def _costs() -> dict[str, tuple[float, float]]:
    # -S: an environment's .pth files import what is none of the daemon's.
    path = ":".join((str(TOP), *filter(None, sys.path)))
    command = [sys.executable, "-S", "-c", PROGRAM, " ".join(ORDER), " ".join(LAZY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": path})
    costs: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return costs
