"""What must never happen, looked at all the time: on every datagram, every record shown, every step."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from meshchat.constants import MAX_NEIGHBOURS
from meshchat.errors import StoreError
from meshchat.protocol.envelope import IP_UDP_HEADERS
from meshchat.protocol.flood.flooding import MAX_RELAY_QUEUE
from meshchat.state.fragments import MAX_REASSEMBLIES
from meshchat.state.store import RecordStore
from meshchat.wire.records import Grade, Record, stamp_ms
from tests.sim.world import SimRouter, World

MTU = 1500

SIZES = {"Neighbours": MAX_NEIGHBOURS, "Reassembly": MAX_REASSEMBLIES, "InterfaceFlood": MAX_RELAY_QUEUE}
"""The most that a table of these classes may hold; any other holds no more than `MOST`."""

MOST = 8192


class Safety:
    """Watches a world; what breaks a rule raises `AssertionError` at the moment it happens.

    That a record was signed by its author, and is shown once only, `SimRouter.delivered` sees to.
    """

    def __init__(self, world: World, honest: int) -> None:
        self._world, self._honest = world, honest
        world.taps.append(self._sent)
        world.viewers.append(self._shown)

    def _sent(self, sender: int, data: bytes) -> None:
        if sender < self._honest:
            assert len(data) + IP_UDP_HEADERS <= MTU, (
                f"router {sender} sent {len(data)} bytes in one datagram"
            )

    def _shown(self, number: int, record: Record) -> None:
        horizon = self._world.routers[number].up.engine.horizon.stamp
        dated = record.grade is not Grade.UNKNOWN and not record.permanent
        below_s = (stamp_ms(horizon) - stamp_ms(record.stamp)) / 1000
        assert not dated or record.stamp >= horizon, f"router {number} shows what lies {below_s} s too low"

    def check(self, routers: Iterable[SimRouter]) -> None:
        """The rules that hold between steps, looked at on those of `routers` that are on."""
        for router in routers:
            if router.node is not None:
                _assert_in_order(router)
                _assert_bounded(router)

    def read(self, router: SimRouter) -> None:
        """What a router shows of a room is all that it holds of it, or it says that it is not."""
        for room in router.mesh.rooms():
            shown = 0
            try:
                for _ in router.mesh.messages(room.name):
                    shown += 1
            except StoreError:
                continue
            assert shown == room.messages, (
                f"router {router.number} shows {shown} of {room.messages} in {room.name}, as if that were all"
            )


def _assert_in_order(router: SimRouter) -> None:
    """Everybody sees a room by stamp and id, so all see what they share in the same order."""
    for room in router.mesh.rooms():
        keys = [(record.stamp, record.id) for record in router.mesh.messages(room.name)]
        assert keys == sorted(set(keys)), f"router {router.number} shows room {room.name} out of order"


def _assert_bounded(router: SimRouter) -> None:
    for owner, name, size in _tables(router.up.engine, set()):
        most = SIZES.get(owner, MOST)
        assert size <= most, f"router {router.number}: {owner}.{name} holds {size}, more than {most}"


def _tables(thing: object, seen: set[int]) -> Iterator[tuple[str, str, int]]:
    """(class, attribute, entries) of every table of the engine, but for the record store itself.

    The store is held to its limits in bytes, which its own tests check.
    """
    seen.add(id(thing))
    for name, value in _attributes(thing):
        if isinstance(value, Sized) and not isinstance(value, str | bytes | bytearray):
            yield type(thing).__name__, name, len(value)
        for one in list(value.values()) if isinstance(value, dict) else [value]:
            own = type(one).__module__.startswith("meshchat.") and not isinstance(one, RecordStore)
            if own and id(one) not in seen:
                yield from _tables(one, seen)


def _attributes(thing: object) -> list[tuple[str, Any]]:
    named = list(getattr(thing, "__dict__", {}).items())
    slots = [name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ())]
    return named + [(name, getattr(thing, name)) for name in slots if hasattr(thing, name)]
