"""What nftables does with the mesh's datagrams as they come in: `nft -j list ruleset`, rule by rule.

Only root may read it, so this is for the command and not for the daemon. Where a rule asks what is not known
here, such as who sends, nothing is said: a guess would send people to mend what is well.
"""

import ipaddress
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_PATIENCE = 10.0
"""Seconds that nft may take, on a router with a long list."""

_DEPTH = 16
"""Jumps that nftables itself allows (NFT_JUMP_STACK_SIZE)."""

_NO_OTHER_MATTER = {"counter", "log", "comment", "notrack", "mangle", "meter", "last"}
"""Statements that pass the packet on to what follows in the rule."""


class _Unknown(Exception):
    """It depends on what is not known here."""


@dataclass(frozen=True)
class Packet:
    """A UDP datagram of a neighbour: to the group, or (`multicast` False) to this router alone."""

    interface: str
    destination: str
    port: int
    multicast: bool = True


@dataclass(frozen=True)
class Refusal:
    """Who does not let a packet in: the chain it ends in, and those it was sent through on the way there.

    `hook` is the chain of the hook that it began in, as nft names it: "inet fw4 input".
    """

    hook: str
    chains: Sequence[str]

    @property
    def zone(self) -> str:
        """The zone of OpenWrt's firewall that the interface is in; empty where there is none."""
        zones = (chain.removeprefix("input_") for chain in self.chains if chain.startswith("input_"))
        return next(zones, "")


def read_rules() -> list[dict[str, Any]] | None:
    """The ruleset, or None where there is no nft or it may not be read."""
    command = ["nft", "-j", "list", "ruleset"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
        listed = json.loads(done.stdout)["nftables"] if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, RecursionError, KeyError, TypeError):
        return None
    return listed if isinstance(listed, list) else None


def refusal(rules: Sequence[dict[str, Any]], packet: Packet) -> Refusal | None:
    """Who refuses a packet; None where it comes in, or where that cannot be told."""
    try:
        return _Ruleset(rules).judge(packet)
    except (_Unknown, KeyError, TypeError, ValueError, AttributeError):  # or rules of a form not known here
        return None


_Chain = tuple[str, str, str]
"""Family, table, name."""


class _Ruleset:
    def __init__(self, listed: Sequence[dict[str, Any]]) -> None:
        self._rules: dict[_Chain, list[list[Any]]] = {}
        self._hooks: list[tuple[int, _Chain, str]] = []
        self._sets: dict[_Chain, list[Any]] = {}
        for item in listed:
            if (chain := item.get("chain")) is not None:
                place = chain["family"], chain["table"], chain["name"]
                self._rules.setdefault(place, [])
                if chain.get("hook") in ("prerouting", "input") and chain["family"] in ("ip", "inet"):
                    order = chain["prio"] + (1_000_000 if chain["hook"] == "input" else 0)
                    self._hooks.append((order, place, chain.get("policy", "accept")))
            elif (rule := item.get("rule")) is not None:
                place = rule["family"], rule["table"], rule["chain"]
                self._rules.setdefault(place, []).append(rule["expr"])
            elif (named := item.get("set")) is not None:
                place = named["family"], named["table"], named["name"]
                self._sets[place] = named.get("elem", [])

    def judge(self, packet: Packet) -> Refusal | None:
        """Each hook's chain may refuse it."""
        for _, place, policy in sorted(self._hooks):
            walk = _Walk(self._rules, self._sets, place[:2], packet)
            verdict = walk.through(place[2]) or policy
            if verdict in ("drop", "reject"):
                return Refusal(" ".join(place), tuple(walk.passed))
        return None


class _Walk:
    """One packet on its way from one hook."""

    def __init__(
        self,
        rules: dict[_Chain, list[list[Any]]],
        sets: dict[_Chain, list[Any]],
        table: tuple[str, str],
        packet: Packet,
    ) -> None:
        self._rules, self._sets, self._table, self._packet = rules, sets, table, packet
        self.passed: list[str] = []

    def through(self, chain: str, depth: int = 0) -> str | None:
        """The verdict of a chain; None where it comes to its end."""
        if depth > _DEPTH:
            raise _Unknown
        self.passed.append(chain)
        for statements in self._rules[(*self._table, chain)]:
            verdict = self._apply(statements, depth)
            if verdict == "return":
                break
            if verdict is not None:
                return verdict
        if depth:
            self.passed.pop()
        return None

    def _apply(self, statements: Sequence[dict[str, Any]], depth: int) -> str | None:
        for statement in statements:
            ((what, value),) = statement.items()
            if what == "match":
                if not self._matches(value):
                    return None
            elif what == "vmap":
                chosen = self._chosen(value)
                return self._apply([chosen], depth) if chosen is not None else None
            elif what in ("accept", "drop", "reject", "return"):
                return str(what)
            elif what in ("jump", "goto"):
                verdict = self.through(value["target"], depth + 1)
                if verdict is not None or what == "jump":
                    return verdict
                return "return"
            elif what not in _NO_OTHER_MATTER:
                raise _Unknown
        return None

    def _chosen(self, vmap: dict[str, Any]) -> dict[str, Any] | None:
        """The verdict that a map has for the packet."""
        if not isinstance(vmap["data"], dict):  # a map with a name, whose elements are not listed here
            raise _Unknown
        for key, verdict in vmap["data"]["set"]:
            if self._is(vmap["key"], key):
                return dict(verdict)
        return None

    def _matches(self, match: dict[str, Any]) -> bool:
        operator, left, right = match["op"], match["left"], match["right"]
        if operator in ("==", "in"):
            return self._is(left, right)
        if operator == "!=":
            return not self._is(left, right)
        raise _Unknown

    # --- What is known of the packet --------------------------------------------------------------------

    def _is(self, left: dict[str, Any], right: Any) -> bool:
        if isinstance(right, str) and right.startswith("@"):
            right = {"set": self._sets[(*self._table, right[1:])]}
        if isinstance(right, dict) and "set" in right:
            return any(self._is(left, one) for one in right["set"])
        if isinstance(right, list):
            return any(self._is(left, one) for one in right)
        if isinstance(right, dict) and "elem" in right:
            right = right["elem"]["val"]
        ((what, value),) = left.items()
        match what:
            case "meta":
                return self._is_meta(value["key"], right)
            case "payload":
                return self._is_payload(value["protocol"], value["field"], right)
            case "ct" if value["key"] == "state":
                return bool(right == "new")
            case "fib" if value["result"] == "type" and value["flags"] == ["daddr"]:
                return bool(right == ("multicast" if self._packet.multicast else "local"))
            case "&" if (protocol := _protocol(value[0])) not in (None, "ip", "udp", "th"):
                return self._is_payload(str(protocol), "", right)
        raise _Unknown

    def _is_meta(self, key: str, right: Any) -> bool:
        packet = self._packet
        match key:
            case "iif" | "iifname":
                name = str(right)
                if name.endswith("*"):
                    return packet.interface.startswith(name[:-1])
                return packet.interface == name
            case "l4proto":
                return right in ("udp", 17)
            case "nfproto":
                return right in ("ipv4", 2)
            case "protocol":
                return right in ("ip", 0x0800)
            case "pkttype":
                return bool(right == ("multicast" if packet.multicast else "host"))
        raise _Unknown

    def _is_payload(self, protocol: str, name: str, right: Any) -> bool:
        match protocol, name:
            case "ip", "daddr":
                return _within(self._packet.destination, right)
            case "ip", "protocol":
                return right in ("udp", 17)
            case (("udp" | "th"), ("dport" | "sport")):
                low, high = right["range"] if isinstance(right, dict) else (right, right)
                return int(low) <= self._packet.port <= int(high)
            case (("ip" | "udp" | "th" | "ether"), _):
                raise _Unknown
        return False  # a field of another protocol


def _protocol(left: Any) -> str | None:
    return left.get("payload", {}).get("protocol") if isinstance(left, dict) else None


def _within(address: str, right: Any) -> bool:
    mine = ipaddress.IPv4Address(address)
    if isinstance(right, dict) and "prefix" in right:
        return mine in ipaddress.IPv4Network(f"{right['prefix']['addr']}/{right['prefix']['len']}")
    if isinstance(right, dict):
        low, high = right["range"]
        return ipaddress.IPv4Address(low) <= mine <= ipaddress.IPv4Address(high)
    return mine == ipaddress.IPv4Address(right)


def findings(
    status: dict[str, Any], rules: Sequence[dict[str, Any]], *, openwrt: bool
) -> Iterator[dict[str, Any]]:
    """What is to be said of the firewall to the daemon whose `status` this is, as the items of `check`."""
    group, port = status["group"], status["port"]
    for one in status["interfaces"]:
        name, addresses = one["name"], one["addresses"]
        packets = [
            Packet(name, group, port),
            *(Packet(name, each, port, multicast=False) for each in addresses),
        ]
        for packet in packets:
            refused = refusal(rules, packet)
            if refused is not None:
                yield {"level": "bad", "what": "firewall", **_told(packet, refused, openwrt=openwrt)}
                break


def _told(packet: Packet, refused: Refusal, *, openwrt: bool) -> dict[str, Any]:
    name, to = packet.interface, packet.destination
    if refused.zone:
        where = f"{name} is in the firewall zone {refused.zone}, which"
    else:
        where = f"The firewall (chain {refused.hook}) of {name}"
    zone = f"; is {name} in the right zone? uci show firewall" if refused.zone == "wan" else ""
    by_hand = f'nft insert rule {refused.hook} iifname "{name}" udp dport {packet.port} accept'
    cure = f"/usr/share/meshchat/network add; reload_config{zone}" if openwrt else by_hand
    return {"text": f"{where} lets no UDP {packet.port} to {to} in.", "cure": cure}
