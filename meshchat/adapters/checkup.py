"""`meshchat check`: what is wrong with this router's set-up, in words, and the command that mends it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from meshchat.adapters.host.machine import Machine, Mount
from meshchat.adapters.links.interfaces import Interface, choose, reasons_not
from meshchat.adapters.links.network import Network
from meshchat.adapters.node import Node
from meshchat.chat.localtime import format_rfc3339
from meshchat.config import Config
from meshchat.constants import NEIGHBOUR_LIFETIME, VERSION
from meshchat.state.neighbour import Neighbour
from meshchat.wire.records import Grade

CLOCK_CURE = "meshchat clock set 'YYYY-MM-DD HH:MM'"

NEARLY_FULL = 1024 * 1024
"""Bytes free, or a twentieth of the file system if that is less, below which it is said."""

DIFFERS_LONG = 600.0
"""Seconds for which a neighbour holds other records before that is more than catching up."""

UNICAST_ENOUGH = 5
"""Datagrams that came by unicast alone before multicast is said not to arrive: digests are multicast."""


class Finding(NamedTuple):
    """`level` is "ok", "warn" or "bad"; `cure` the command that mends it, empty where there is none."""

    level: str
    what: str
    text: str
    cure: str = ""


class Checkup:
    """Looks at one router; `closed`: it has a mesh key."""

    def __init__(
        self, config: Config, node: Node, network: Network, machine: Machine, *, closed: bool
    ) -> None:
        self._closed = closed
        self._config, self._node, self._network, self._machine = config, node, network, machine
        self._now = node.instant()
        self._report = node.engine.report(self._now)
        self._clock = node.engine.clock_report(self._now)
        self._neighbours = node.engine.heard(self._now)

    def findings(self) -> Iterator[Finding]:
        """What is well and what is not."""
        yield from self._check_interfaces()
        yield from self._check_peers()
        yield from self._check_sending()
        yield from self._check_clock()
        yield from self._check_neighbours()
        yield from self._check_twins()
        yield from self._check_strangers()
        yield from self._check_disks()

    def _on_openwrt(self, there: str, elsewhere: str) -> str:
        return there if self._machine.is_openwrt else elsewhere

    # --- Interfaces -------------------------------------------------------------------------------------

    def _check_interfaces(self) -> Iterator[Finding]:
        used, listing = self._network.used, self._machine.interfaces()
        for name in sorted(choose(self._config.interfaces, listing).union(self._config.interfaces)):
            if name not in used:
                yield self._unused(name, listing.get(name))
        if not used and not self._config.peers:
            reasons = reasons_not(listing)
            text = "No interface to a mesh: this router is on its own." + (
                f" Not used unless named: {reasons}." if reasons else ""
            )
            yield Finding("bad", "interface", text, f"{self._use('NAME')}   (names: ip -br link)")
        for one in used.values():
            found = [*self._check_address(one), *self._check_place(one), *self._check_arrival(one)]
            if one.addresses and all(finding.level != "bad" for finding in found):
                yield Finding("ok", "interface", f"{one.name} is up, {', '.join(one.addresses)}.")
            yield from found

    def _unused(self, name: str, interface: Interface | None) -> Finding:
        """Why an interface that is to be used is not."""
        if interface is None or not interface.up:
            return Finding("bad", "interface", f"{name} is not there or not up.", f"ip link set {name} up")
        why = ", ".join(
            what.partition(" ")[2]
            for what, count in self._network.errors.items()
            if what.startswith("join ") and count
        )
        text = (
            f"{name} is up, but the kernel does not let this router join {self._config.group} on it ({why})."
        )
        cures = {
            "ENOBUFS": "sysctl -w net.ipv4.igmp_max_memberships=100",
            "EMFILE": "raise the limit of open files (ulimit -n), and start the daemon again",
        }
        return Finding("bad", "interface", text, cures.get(why, f"ip link show {name}; dmesg"))

    def _check_address(self, one: Interface) -> Iterator[Finding]:
        """Can it be answered? The chat speaks IPv4, and each link needs an address of its own."""
        if not one.addresses:
            heard = self._network.heard[one.name, True] or self._network.heard[one.name, False]
            text = (
                f"{one.name} has no IPv4 address, and IPv6 does not count here: what this router sends there "
                "goes under another interface's address or none, so that nobody can answer, or hears it."
            )
            cure = self._on_openwrt(
                f"give the interface of {one.name} in /etc/config/network proto static and an ipaddr; "
                "/etc/init.d/network reload",
                f"ip address add 10.X.Y.Z/16 dev {one.name}   (X.Y.Z another on each router)",
            )
            yield Finding("warn" if heard else "bad", "address", text, cure)
        by_host: dict[str, list[Neighbour]] = {}
        for neighbour in self._neighbours:
            if neighbour.link == one.name:
                by_host.setdefault(self._network.words(one.name, neighbour.origin), []).append(neighbour)
        for host, sharing in by_host.items():
            twins = [each for each in sharing if _were_heard_at_once(each, sharing)]
            if twins:
                names = " and ".join(sorted(each.router.hex() for each in twins))
                text = f"The routers {names} both have the address {host}: each hears only one of two."
                yield Finding("bad", "address", text, "give one of them another address on the mesh")

    def _use(self, name: str) -> str:
        return self._on_openwrt(
            f"uci add_list meshchat.main.interfaces={name}; uci commit meshchat; "
            "/usr/share/meshchat/network add; reload_config",
            f"meshchat daemon --interface {name}",
        )

    def _check_place(self, one: Interface) -> Iterator[Finding]:
        """Is it the interface on top, where the group arrives?"""
        if one.master:
            top = self._machine.top(one.master)
            text = f"{one.name} belongs to {one.master}, which swallows the group: nothing arrives here."
            instead = self._on_openwrt(
                f"uci del_list meshchat.main.interfaces={one.name}; {self._use(top)}",
                f"use --interface {top} instead",
            )
            yield Finding("bad", "multicast", text, instead)
        if not one.multicast:
            cure = f"ip link set {one.name} multicast on"
            yield Finding("bad", "multicast", f"{one.name} cannot multicast.", cure)
        if self._machine.snoops_unasked(one.name):
            text = (
                f"{one.name} forwards a group only where it is reported (IGMP snooping), and asks for no "
                "reports: routers behind it may hear nothing after some minutes."
            )
            now = f"echo 0 >/sys/class/net/{one.name}/bridge/multicast_snooping"
            kept = f"in the device section of {one.name} in /etc/config/network: option igmp_snooping '0'"
            yield Finding("warn", "multicast", text, self._on_openwrt(f"{now}   (to keep it: {kept})", now))

    def _check_arrival(self, one: Interface) -> Iterator[Finding]:
        """Does multicast come in where unicast does?"""
        by_unicast = self._network.heard[one.name, False]
        if self._network.heard[one.name, True] or by_unicast < UNICAST_ENOUGH:
            return
        text = f"{one.name} brought {by_unicast} datagrams of neighbours by unicast, none by multicast: "
        if self._machine.is_batman(one.name):
            text += "batman-adv sends the group elsewhere, as it does when the group was joined too early."
            again = self._on_openwrt("/etc/init.d/meshchat restart", "stop and start the daemon")
            cure = f"{again}   (does it not last: batctl meshif bat0 multicast_forceflood 1 on all routers)"
        else:
            text += f"something on the way filters {self._config.group}."
            cure = self._on_openwrt(
                "/usr/share/meshchat/network add; reload_config   (or name the neighbours: option peers)",
                "let it through, or name the neighbours with --peer   (nft list ruleset; bridge -d link)",
            )
        yield Finding("bad", "multicast", text, cure)

    # --- Peers ------------------------------------------------------------------------------------------

    def _check_peers(self) -> Iterator[Finding]:
        """Does each configured peer answer, and from where it is configured?"""
        links = {link.peer: link for link in self._network.peers.values()}
        for peer in self._config.peers:
            link = links.get(peer)
            if link is None:
                text = f"The peer {peer} has no address: its name is not known, or not now."
                yield Finding("warn", "peer", text, f"nslookup {peer.partition(':')[0]}")
            elif link.is_heard:
                yield Finding("ok", "peer", f"The peer {peer} answers ({link.address[0]}).")
            else:
                yield self._silent_peer(peer, link.address[0])

    def _silent_peer(self, peer: str, address: str) -> Finding:
        """Somebody whom nobody asked may be this peer, answering from another of its addresses."""
        others = [host for host in self._network.strays if host != address]
        if not others:
            text = f"The peer {peer} has not answered."
            return Finding("warn", "peer", text, f"ping {address}   (there: meshchat check; its firewall)")
        text = (
            f"The peer {peer} has not answered; {' and '.join(others)} did, which is no peer here: a router "
            "with several addresses answers from another one than is configured."
        )
        return Finding("bad", "peer", text, self._peer_cure(peer, others[0]))

    def _peer_cure(self, peer: str, other: str) -> str:
        return self._on_openwrt(
            f"uci del_list meshchat.main.peers={peer}; uci add_list meshchat.main.peers={other}; "
            "uci commit meshchat; reload_config",
            f"meshchat daemon --peer {other}   (in place of {peer})",
        )

    # --- Sending ----------------------------------------------------------------------------------------

    def _check_sending(self) -> Iterator[Finding]:
        group, used = self._config.group, self._network.used
        name = next(iter(used), "NAME")
        refused = {
            what.partition(" ")[2]: count
            for what, count in self._network.errors.items()
            if what.startswith("send ") and count
        }
        route = self._on_openwrt(
            "/usr/share/meshchat/network add; reload_config", f"ip route add {group}/32 dev {name}"
        )
        cures = {
            "ENETUNREACH": route,
            "EHOSTUNREACH": route,
            "ENODEV": route,
            "EPERM": "nft list ruleset   (a rule for the output refuses it)",
            "ENETDOWN": f"ip link set {name} up",
            "ENOBUFS": "wait: the radio is busier than it can be",
            "EAGAIN": "wait: the radio is busier than it can be",
        }
        for why, count in refused.items():
            text = f"The kernel refused {count} datagrams ({why})."
            level = "bad" if cures.get(why) == route else "warn"
            yield Finding(level, "sending", text, cures.get(why, "ip route; nft list ruleset"))
        if used and not refused and self._machine.route_to(group) is None:
            text = (
                f"No route leads to {group}. This daemon needs none; a program that does: ip route add "
                f"{group}/32 dev {name}"
            )
            yield Finding("ok", "route", text, route)

    # --- Clocks -----------------------------------------------------------------------------------------

    def _check_clock(self) -> Iterator[Finding]:
        clock = self._clock
        shown = format_rfc3339(clock.time_ms)
        if clock.grade is Grade.UNKNOWN:
            text = (
                f"No clock to trust here or nearby: {shown} is a guess, and history is wiped by its age. "
                "Messages stay in order all the same."
            )
            yield Finding("warn", "clock", text, CLOCK_CURE)
        elif (source := clock.followed) is not None:
            text = f"The clock follows router {source.router.hex()}, {source.hops} hops away: {shown}."
            yield Finding("ok", "clock", text)
        else:
            yield Finding("ok", "clock", f"The clock is {clock.grade.name.lower()}: {shown}.")
        if clock.behind_it:
            text = f"This clock is ahead of {clock.behind_it} neighbours: what is written here waits there."
            yield Finding("bad", "clock", text, CLOCK_CURE)
        if clock.grade is Grade.GOOD and clock.ahead_of_it:
            text = f"{clock.ahead_of_it} neighbours with a good clock are ahead of this one."
            yield Finding("warn", "clock", text, CLOCK_CURE)

    # --- Neighbours -------------------------------------------------------------------------------------

    def _check_neighbours(self) -> Iterator[Finding]:
        heard = self._routers(lambda _: True)
        if not heard:
            cure = "compare --mesh, --group and --port; meshchat check there"
            yield Finding("warn", "neighbours", "No other router has been heard.", cure)
            return
        yield Finding("ok", "neighbours", f"{heard} heard.")
        yield from self._check_sync()
        yield from self._check_versions()

    def _routers(self, wanted: Callable[[Neighbour], bool]) -> int:
        """How many routers are neighbours of that kind on some interface: one on two interfaces is one."""
        return len({one.router for one in self._neighbours if wanted(one)})

    def _check_sync(self) -> Iterator[Finding]:
        """Digests tell what to catch up with: is there any, and do they agree sooner or later?"""
        now = self._now.mono
        silent = self._routers(lambda one: now - max(one.first_heard, one.said.at) > NEIGHBOUR_LIFETIME)
        if silent:
            text = (
                f"{silent} neighbours are heard, but no digest of theirs for {NEIGHBOUR_LIFETIME:.0f} s: "
                "what is missed here is not caught up with."
            )
            yield Finding("bad", "sync", text, "meshchat peers; meshchat check on those routers")
        long = self._routers(lambda one: _since(one.difference.differs_since, now) > DIFFERS_LONG)
        differ = self._routers(lambda one: one.difference.differs_since is not None) - long
        if long:
            text = (
                f"{long} neighbours have held other records for more than {DIFFERS_LONG / 60:.0f} minutes: "
                "catching up goes slowly, or was stopped by a wipe or by limits that differ."
            )
            yield Finding("warn", "sync", text, "meshchat peers; compare cap_router and retention on both")
        if differ:
            text = f"{differ} of them hold other records than this router; catching up."
            yield Finding("warn", "sync", text)

    def _check_versions(self) -> Iterator[Finding]:
        mine = tuple(map(int, VERSION.split(".")))
        theirs = {
            one.router: tuple(one.said.digest.release)
            for one in self._neighbours
            if one.said.digest is not None
        }
        counts = Counter(theirs.values())
        for version, count in sorted(counts.items()):
            shown = ".".join(map(str, version))
            if version < mine:
                text = f"{count} neighbours run version {shown}, older than {VERSION} here."
                yield Finding("warn", "version", text, "upgrade those routers: meshchat peers shows which")
            elif version > mine:
                text = f"{count} neighbours run version {shown}, later than {VERSION} here."
                yield Finding("warn", "version", text, "upgrade this router")

    def _check_twins(self) -> Iterator[Finding]:
        """Is there another router with this one's key? Such two never hear each other."""
        mine = {host for one in self._machine.interfaces().values() for host in one.addresses}
        for (link, origin), heard_at in self._report.twins.items():
            # The loopback interface gives a machine its own datagrams back.
            is_echo = self._network.words(link, origin) in mine
            if is_echo or self._now.mono - heard_at > NEIGHBOUR_LIFETIME:
                continue
            text = (
                f"{self._network.words(link, origin)} on {link} speaks under this router's own key: both "
                "come from one image or backup, and neither hears the other."
            )
            key = self._config.state / "router.key"
            cure = self._on_openwrt(
                f"on one of the two: /etc/init.d/meshchat stop; rm {key}; /etc/init.d/meshchat start",
                f"on one of the two: stop the daemon; rm {key}; start it",
            )
            yield Finding("bad", "key", text, cure)

    def _check_strangers(self) -> Iterator[Finding]:
        drops, mesh = self._report.drops, self._config.mesh
        for count, text, cure in (
            (
                drops["mesh"],
                f"are of a mesh with another name than {mesh}: two meshes share the group.",
                "give all routers one name (mesh), or each mesh a group or port of its own",
            ),
            (
                drops["unsealed"],
                f"are of {mesh} without a mesh key, and this router has one. "
                "It and those routers do not hear each other.",
                "on those routers: meshchat key add KEY   (here: meshchat key show --qr)",
            ),
            (
                drops["sealed"],
                "are sealed with a mesh key that this router does not have: "
                f"{'another key than its own' if self._closed else 'it has none'}. "
                "It and those routers do not hear each other.",
                "if they are of this mesh: meshchat key add KEY   (there: meshchat key show --qr)",
            ),
        ):
            if count:
                yield Finding(
                    "warn", "mesh", f"{count} of {self._report.traffic.datagrams_in} datagrams {text}", cure
                )
        for (link, origin), version in self._report.later_versions.items():
            who = self._network.words(link, origin)
            text = f"{who} speaks version {version} of the protocol, later than this router."
            yield Finding("warn", "version", text, "upgrade this router")

    # --- Disks ------------------------------------------------------------------------------------------

    def _check_disks(self) -> Iterator[Finding]:
        restart = self._on_openwrt("/etc/init.d/meshchat restart", "stop and start the daemon")
        troubles, unread = self._node.troubles(), self._node.unread()
        for trouble in troubles:
            yield Finding("bad", "disk", trouble, "df -h; dmesg")
        for trouble in unread:
            yield Finding("bad", "disk", trouble, f"dmesg; then {restart}")
        if not troubles and not unread:
            yield Finding("ok", "disk", f"{self._report.records} records are kept.")
        for place in dict.fromkeys(self._node.displaced()):
            text = f"Another directory is at {place} than at the start; it is not used before the next one."
            yield Finding("warn", "disk", text, restart)
        logs, state = self._config.logs, self._config.state
        missing = self._config.storage_missing
        if missing:
            text = f"{missing} is not there: history is in RAM ({logs}) and ends with the power."
            cure = "mount the disk (block mount), then /etc/init.d/meshchat restart"
            yield Finding("warn", "disk", text, cure)
        mounts = {path: self._machine.mount_of(path) for path in (state, logs)}
        for path, mount in mounts.items():
            if mount is not None:
                yield from self._check_room(path, mount)
        if (mount := mounts[state]) is not None and mount.kind == "ram":
            text = f"{state} is in RAM: the router's key and the accounts end with the power."
            yield Finding("bad", "disk", text, "choose a directory on flash: --state /etc/meshchat")
        if (mount := mounts[logs]) is not None:
            yield from self._check_logs(logs, mount)

    def _check_room(self, path: Path, mount: Mount) -> Iterator[Finding]:
        if mount.read_only:
            text = f"{path} lies on {mount.point}, which is read-only: nothing new is kept."
            yield Finding("bad", "disk", text, f"mount -o remount,rw {mount.point}")
        elif mount.free < min(NEARLY_FULL, mount.size // 20):
            text = f"{path}: {mount.free // 1024} KiB are free of {mount.size // 1024} on {mount.point}."
            yield Finding("warn", "disk", text, f"free some: df -h {mount.point}; du -d 1 {mount.point}")

    def _check_logs(self, logs: Path, mount: Mount) -> Iterator[Finding]:
        """Where history is, and whether the policy of writing suits the place."""
        fsync = self._config.fsync
        policy = self._on_openwrt(
            "uci set meshchat.main.fsync=interval; uci commit meshchat; /etc/init.d/meshchat restart",
            'fsync = "interval" in the configuration',
        )
        if logs.parts[1:2] in (("mnt",), ("media",)) and mount.point == Path("/"):
            text = f"Nothing is mounted where {logs} should be: history goes to the router's own flash."
            yield Finding("bad", "disk", text, "block mount; /etc/init.d/meshchat restart")
        elif mount.kind == "ram":
            text = f"History is in RAM ({logs}): after a power cut it comes back from the neighbours."
            yield Finding("ok", "disk", text)
        if mount.kind == "flash" and fsync == "always":
            text = f"{logs} is on flash, and each message is forced onto it: that wears it out."
            yield Finding("warn", "disk", text, policy)
        elif mount.kind == "flash" and fsync == "never":
            text = f"{logs} is on flash and never forced onto it: a power cut takes the last minutes."
            yield Finding("warn", "disk", text, policy)


def _were_heard_at_once(one: Neighbour, others: Iterable[Neighbour]) -> bool:
    """Whether another of them was heard before `one` and after it: no router that was given a new key."""
    return any(
        other.router != one.router
        and other.last_heard > one.first_heard
        and one.last_heard > other.first_heard
        for other in others
    )


def _since(moment: float | None, now: float) -> float:
    return 0.0 if moment is None else now - moment
