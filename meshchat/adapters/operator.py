"""What only the machine's operator may see and do: `status`, `peers`, `check`, `clock` and the mesh keys."""

import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from meshchat.adapters.checkup import Checkup
from meshchat.adapters.host.machine import Machine
from meshchat.adapters.links.network import Network, queues
from meshchat.adapters.node import Node
from meshchat.adapters.storage.logstore import LogStore
from meshchat.adapters.storage.statestore import StateStore
from meshchat.chat.localtime import format_rfc3339
from meshchat.config import Config
from meshchat.constants import VERSION
from meshchat.errors import ConfigError
from meshchat.identity.meshkey import MeshKey, mesh_key_text, parse_mesh_key, random_mesh_key
from meshchat.protocol.instant import Instant
from meshchat.state.neighbour import Neighbour

MAX_KEYS = 2
"""An old and a new one, while a mesh changes over."""


class OperatorView:
    """Reads the node and the network; see `chat.ports.Operator`."""

    def __init__(
        self,
        config: Config,
        node: Node,
        network: Network,
        state: StateStore,
        logs: LogStore,
        machine: Machine | None = None,
    ) -> None:
        self.config, self._machine = config, machine or Machine()
        self._node, self._network, self._state, self._logs = node, network, state, logs
        self._keys = state.mesh_keys()
        self._started = node.instant().mono

    # --- Reports ----------------------------------------------------------------------------------------

    def status(self) -> Mapping[str, object]:
        """The `status` object, less the rooms. Bytes of datagrams are without IP and UDP headers."""
        now = self._node.instant()
        report, logs = self._node.engine.report(now), self._logs.describe()
        return {
            "router": self._node.router.hex(),
            "mesh": self.config.mesh,
            "group": self.config.group,
            "port": self.config.port,
            "sealed": bool(self._keys),
            "version": VERSION,
            "uptime_s": round(now.mono - self._started),
            "rss_kb": _resident_kb(),
            "interfaces": [
                {"name": one.name, "addresses": list(one.addresses), "mtu": one.mtu}
                for one in self._network.used.values()
            ],
            "neighbours": report.neighbours,
            "clock": self.clock(),
            "horizon": format_rfc3339(report.horizon_ms),
            "records": report.records,
            "remembered": report.remembered,
            "quarantined": report.quarantined,
            "fetching": report.fetching,
            "logs": {"files": logs.files, "bytes": logs.bytes, "fsync": logs.fsync},
            "disk_trouble": " ".join([*self._node.troubles(), *self._node.unread()]),
            "later_versions": {
                self._network.words(link, origin): version
                for (link, origin), version in report.later_versions.items()
            },
            "links": list(queues(self._network.links)),
            "counters": {
                "datagrams_in": report.traffic.datagrams_in,
                "datagrams_out": report.traffic.datagrams_out,
                "bytes_in": report.traffic.bytes_in,
                "bytes_out": report.traffic.bytes_out,
                "dropped": dict(sorted((report.drops + Counter(self._network.drops)).items())),
                "network": dict(sorted(self._network.errors.items())),
            },
        }

    def peers(self) -> list[Mapping[str, object]]:
        """The neighbours."""
        now = self._node.instant()
        return [self._peer(neighbour, now) for neighbour in self._node.engine.heard(now)]

    def _peer(self, neighbour: Neighbour, now: Instant) -> Mapping[str, object]:
        peer: dict[str, object] = {
            "router": neighbour.router.hex(),
            "address": self._network.words(neighbour.link, neighbour.origin),
            "interface": neighbour.link,
            "heard_s": round(now.mono - neighbour.last_heard, 1),
        }
        digest = neighbour.said.digest
        if digest is not None:
            behind_ms = int((now.mono - neighbour.said.at) * 1000)
            peer |= {
                "clock": digest.clock.grade.name.lower(),
                "time": format_rfc3339(digest.clock.time_ms + behind_ms),
                "version": ".".join(map(str, digest.release)),
                "records": digest.undated.count + digest.history.count,
                "in_step": neighbour.difference.differs_since is None,
            }
        return peer

    def clock(self) -> Mapping[str, object]:
        """Mesh time and how far it is trusted."""
        now = self._node.instant()
        clock = self._node.engine.clock_report(now)
        shown: dict[str, object] = {
            "time": format_rfc3339(clock.time_ms),
            "quality": clock.grade.name.lower(),
            "offset_ms": clock.time_ms - now.wall_ms,
        }
        if clock.by_operator:
            shown["set_by"] = "operator"
        if (source := clock.followed) is not None:
            shown |= {"from": source.router.hex(), "hops": source.hops, "age_s": source.age_s}
        return shown

    def check(self) -> list[Mapping[str, object]]:
        """What is well and what is not, each with the command that mends it."""
        checkup = Checkup(self.config, self._node, self._network, self._machine, closed=bool(self._keys))
        return [finding._asdict() for finding in checkup.findings()]

    # --- Clock and keys ---------------------------------------------------------------------------------

    def set_clock(self, ms: int) -> None:
        """The operator vouches for this time (UTC ms), until the kernel synchronises its clock."""
        self._node.set_clock(ms)

    def keys(self) -> list[Mapping[str, object]]:
        """The mesh keys that this router uses; the first one sends."""
        return [{"key": mesh_key_text(key), "sends": number == 0} for number, key in enumerate(self._keys)]

    def change_keys(self, do: str, key: str | None) -> None:
        """Changes the mesh keys: see `chat.ports.Operator`. A new one is accepted; `use` sends with it."""
        keys = list(self._state.mesh_keys())
        chosen = random_mesh_key() if do == "new" else parse_mesh_key(key or "")
        if do in ("new", "add"):
            if chosen not in keys and len(keys) >= MAX_KEYS:
                raise ConfigError("Two keys are in use already: drop one with `meshchat key drop KEY` first.")
            keys = [*(one for one in keys if one != chosen), chosen]
        elif chosen not in keys:
            raise ConfigError("That key is not in use here: see `meshchat key show`.")
        elif do == "use":
            keys = [chosen, *(one for one in keys if one != chosen)]
        else:
            keys.remove(chosen)
        self._state.save_mesh_keys(keys)
        self._use(tuple(keys))

    def read_keys(self) -> None:
        """Takes the mesh keys as they are on disk. Raises `ConfigError`, and changes nothing."""
        self._use(self._state.mesh_keys())

    def _use(self, keys: tuple[MeshKey, ...]) -> None:
        self._keys = keys
        self._node.use_keys(keys)


def _resident_kb() -> int:
    """Resident memory of this process in KiB, now; the peak where the kernel does not tell."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * resource.getpagesize() // 1024
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
