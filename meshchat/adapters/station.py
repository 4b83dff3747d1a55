"""The router as its operator sees it: `status`, `peers`, `check`, `clock` and the mesh keys."""

import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from meshchat.adapters.logstore import LogStore
from meshchat.adapters.network import Network
from meshchat.adapters.node import Node
from meshchat.adapters.statestore import StateStore
from meshchat.chat.localtime import format_rfc3339
from meshchat.config import Config
from meshchat.constants import AHEAD_MS, VERSION
from meshchat.errors import ConfigError
from meshchat.identity import mesh_key_text, parse_mesh_key, random_mesh_key
from meshchat.protocol.instant import Instant
from meshchat.state.neighbours import Neighbour
from meshchat.wire.records import Grade

MAX_KEYS = 2
"""An old and a new one, while a mesh changes over."""

_CLOCK_CURE = "meshchat clock set 'YYYY-MM-DD HH:MM'"


Finding = tuple[str, str, str, str]
"""Level (ok, warn, bad), what it is about, the text, and the command that mends it."""


class LocalStation:
    """Reads the node and the network; see `chat.ports.Station`."""

    def __init__(
        self, config: Config, node: Node, network: Network, state: StateStore, logs: LogStore
    ) -> None:
        self.config = config
        self._node, self._network, self._state, self._logs = node, network, state, logs
        self._keys = state.mesh_keys()
        self._started = node.instant().mono

    # --- Reports ----------------------------------------------------------------------------------------

    def status(self) -> Mapping[str, object]:
        """The `status` object, less the rooms. Bytes of datagrams are without IP and UDP headers."""
        engine, now = self._node.engine, self._node.instant()
        traffic, logs = engine.traffic, self._logs.describe()
        return {
            "router": self._node.router.hex(),
            "mesh": self.config.mesh,
            "sealed": bool(self._keys),
            "version": VERSION,
            "uptime_s": round(now.mono - self._started),
            "rss_kb": _resident_kb(),
            "interfaces": [
                {"name": one.name, "addresses": list(one.addresses), "mtu": one.mtu}
                for one in self._network.used.values()
            ],
            "neighbours": engine.neighbours_heard(now),
            "clock": self.clock(),
            "horizon": format_rfc3339(engine.horizon.state.horizon_ms),
            "records": engine.store.held,
            "remembered": engine.store.remembered,
            "quarantined": engine.keeper.quarantined,
            "fetching": engine.asker.fetch.active,
            "logs": {"files": logs.files, "bytes": logs.bytes, "fsync": logs.fsync},
            "disk_trouble": self._node.disk_trouble,
            "later_versions": dict(engine.later_versions),
            "counters": {
                "datagrams_in": traffic.datagrams_in,
                "datagrams_out": traffic.datagrams_out,
                "bytes_in": traffic.bytes_in,
                "bytes_out": traffic.bytes_out,
                "dropped": dict(sorted((engine.drops + Counter(self._network.drops)).items())),
                "network": dict(sorted(self._network.errors.items())),
            },
        }

    def peers(self) -> list[Mapping[str, object]]:
        """The neighbours."""
        now = self._node.instant()
        return [self._peer(neighbour, now) for neighbour in self._node.engine.neighbours.alive(now.mono)]

    def _peer(self, neighbour: Neighbour, now: Instant) -> Mapping[str, object]:
        peer: dict[str, object] = {
            "router": neighbour.router.hex(),
            "address": neighbour.address[0],
            "interface": neighbour.interface,
            "heard_s": round(now.mono - neighbour.last_heard, 1),
        }
        digest = neighbour.digest
        if digest is not None:
            behind_ms = int((now.mono - neighbour.digest_at) * 1000)
            peer |= {
                "clock": digest.clock.grade.name.lower(),
                "time": format_rfc3339(digest.clock.time_ms + behind_ms),
                "version": ".".join(map(str, digest.release)),
                "records": digest.undated.count + digest.history.count,
                "in_step": neighbour.differs_since is None,
            }
        return peer

    def clock(self) -> Mapping[str, object]:
        """Mesh time and how far it is trusted."""
        clock, now = self._node.engine.clock, self._node.instant()
        time_ms = clock.now_ms(now)
        shown: dict[str, object] = {
            "time": format_rfc3339(time_ms),
            "quality": clock.grade(now).name.lower(),
            "offset_ms": time_ms - now.wall_ms,
        }
        if clock.operator_offset_ms is not None:
            shown["set_by"] = "operator"
        if clock.grade(now) is Grade.ADOPTED and (followed := clock.followed()) is not None:
            claim = clock.claim(now)
            shown |= {"from": followed[0].hex(), "hops": followed[1], "age_s": claim.age}
        return shown

    # --- Check ------------------------------------------------------------------------------------------

    def check(self) -> list[Mapping[str, object]]:
        """What is well and what is not, each with the command that mends it."""
        found = (*self._check_network(), *self._check_clock(), *self._check_mesh(), *self._check_disk())
        return [
            {"level": level, "what": what, "text": text, "cure": cure} for level, what, text, cure in found
        ]

    def _check_network(self) -> Iterator[Finding]:
        used = self._network.used
        for name in self.config.interfaces:
            if name not in used:
                yield "bad", "interface", f"{name} is not there or not up.", f"ip link set {name} up"
        if not used:
            text = (
                "No interface to a mesh: this router is on its own. The one to the Internet has to be named."
            )
            yield "bad", "interface", text, "meshchat daemon --interface NAME   (names: ip -br link)"
        for one in used.values():
            yield "ok", "interface", f"{one.name} is up, {', '.join(one.addresses) or 'no address'}.", ""
            if one.master:
                text = f"{one.name} belongs to {one.master}, which swallows the group."
                yield "bad", "multicast", text, f"use --interface {one.master} instead"
            if not one.multicast:
                yield (
                    "bad",
                    "multicast",
                    f"{one.name} cannot multicast.",
                    f"ip link set {one.name} multicast on",
                )
        for name, count in self._network.errors.items():
            if name.startswith("send"):
                yield (
                    "warn",
                    "sending",
                    f"The kernel refused {count} datagrams ({name[5:]}).",
                    "ip route; nft list ruleset",
                )

    def _check_clock(self) -> Iterator[Finding]:
        engine, now = self._node.engine, self._node.instant()
        grade = engine.clock.grade(now)
        if grade is Grade.UNKNOWN:
            text = "No clock to trust here or nearby: times are guesses and history is wiped by age."
            yield "warn", "clock", text, _CLOCK_CURE
        else:
            yield "ok", "clock", f"The clock is {grade.name.lower()}.", ""
        ahead = engine.ahead_of(now)
        if ahead:
            text = f"This clock is ahead of {ahead} neighbours: what is written here waits there."
            yield "bad", "clock", text, _CLOCK_CURE
        mine = engine.clock.now_ms(now)
        if grade is Grade.GOOD:
            late = sum(
                heard.claim.grade is Grade.GOOD and heard.time_ms(now) > mine + AHEAD_MS
                for heard in engine.heard_clocks(now)
            )
            if late:
                text = f"{late} neighbours with a good clock are ahead of this one."
                yield "warn", "clock", text, _CLOCK_CURE

    def _check_mesh(self) -> Iterator[Finding]:
        engine, now = self._node.engine, self._node.instant()
        neighbours = list(engine.neighbours.alive(now.mono))
        if not neighbours:
            yield (
                "warn",
                "neighbours",
                "No other router has been heard.",
                "compare --mesh, --group and --port",
            )
        else:
            differ = len({one.router for one in neighbours if one.differs_since is not None})
            yield "ok", "neighbours", f"{engine.neighbours_heard(now)} heard.", ""
            if differ:
                yield (
                    "warn",
                    "sync",
                    f"{differ} of them hold other records than this router; catching up.",
                    "",
                )
        strangers = engine.drops["mesh"] + engine.drops["sealed"] + engine.drops["unsealed"]
        if strangers:
            text = f"{strangers} datagrams of another mesh or mesh key were heard."
            yield "warn", "mesh", text, "compare mesh and key: meshchat key show"
        for address, version in engine.later_versions.items():
            yield "warn", "version", f"{address} speaks version {version}, later than this router.", "upgrade"

    def _check_disk(self) -> Iterator[Finding]:
        trouble = self._node.disk_trouble
        missing = self.config.storage_missing
        if missing:
            text = f"{missing} is not there: history is in RAM ({self.config.logs}) and ends with the power."
            yield "warn", "disk", text, "mount the disk (block mount), then /etc/init.d/meshchat restart"
        if trouble:
            yield "bad", "disk", trouble, "df -h"
        else:
            yield "ok", "disk", f"{self._node.engine.store.held} records are kept.", ""

    # --- Clock and keys ---------------------------------------------------------------------------------

    def set_clock(self, ms: int) -> None:
        """The operator vouches for this time (UTC ms), until the kernel synchronises its clock."""
        self._node.set_clock(ms)

    def keys(self) -> list[Mapping[str, object]]:
        """The mesh keys that this router uses; the first one sends."""
        return [{"key": mesh_key_text(key), "sends": number == 0} for number, key in enumerate(self._keys)]

    def change_keys(self, do: str, key: str | None) -> None:
        """Changes the mesh keys: see `chat.ports.Station`. A new one is accepted; `use` sends with it."""
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

    def _use(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self._node.use_keys(keys)


def _resident_kb() -> int:
    """Resident memory of this process in KiB, now; the peak where the kernel does not tell."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * resource.getpagesize() // 1024
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
