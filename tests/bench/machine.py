"""The conditions that a table was measured under."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from meshchat.constants import AIR_RATE, REPAIR_SHARE, VERSION
from tests.bench.figures import Effort

TOP = Path(__file__).resolve().parents[2]
"""The checkout."""

Conditions = dict[str, str]


def conditions(effort: Effort) -> Conditions:
    """What the figures depend on, by name, for people."""
    return {
        "meshchat": f"{VERSION} {_commit()}".strip(),
        "machine": f"{os.cpu_count()} cores, {_cpu()}; load before the run {os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, " + ", ".join(_packages("PyNaCl", "click", "netifaces2")),
        "sizes": "small ones (--quick), for which many goals were not set" if effort.quick else "full",
        "air of real daemons": (
            "network namespaces, TAP interfaces, one process that moves frames; no airtime. Loss is random "
            "for each receiver of a multicast frame; a unicast frame is tried up to 7 times, as 802.11 does"
        ),
        "simulated air": (
            "802.11 in the row floods: 1 Mb/s for multicast, 6 Mb/s for unicast, carrier sense, hidden "
            "terminals, collisions, and loss beside them; in the row differences a link that loses nothing"
        ),
        "bytes": "Ethernet frames with all headers; a multicast frame counts once, a unicast one each try",
        "messages": "100 bytes of text, signed, open mesh, clocks good",
        "pacing": f"as by default: {REPAIR_SHARE:.0%} of {AIR_RATE / 1e6:g} Mb/s for repair and dumps",
    }


def _commit() -> str:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=TOP, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return f"({asked.stdout.strip()})" if asked.returncode == 0 else ""


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _packages(*names: str) -> list[str]:
    installed = []
    for name in names:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            installed.append(f"no {name}")
    return installed
