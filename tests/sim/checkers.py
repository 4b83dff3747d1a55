"""What must hold, apart from the workloads that try to break it."""

from collections.abc import Iterable, Sequence

from meshchat.wire.records import Record
from tests.sim.disk import SimFiles
from tests.sim.world import SimRouter, World

IDLE_BYTES = 30.0
"""Bytes a second and router, headers included, that count as idle traffic: digests at their longest interval
cost about 5, and at their shortest about 600."""


def digests(router: SimRouter) -> dict[str, str]:
    """The rooms of a router with the digest that people compare."""
    return {room.name: room.digest for room in router.mesh.rooms()}


def agree(routers: Sequence[SimRouter]) -> bool:
    """Whether all hold the same rooms."""
    first = digests(routers[0])
    return all(digests(router) == first for router in routers[1:])


def assert_same_history(routers: Sequence[SimRouter]) -> None:
    """One set and one order everywhere, nothing twice."""
    rooms = sorted({name for router in routers for name in digests(router)})
    for room in rooms:
        first = routers[0].ids(room)
        assert len(first) == len(set(first)), f"a message twice in {room}"
        for router in routers[1:]:
            assert router.ids(room) == first, f"router {router.number} shows another {room}"


def assert_kept(router: SimRouter, records: Iterable[Record]) -> None:
    """Every one of the records is shown by the router."""
    shown = {record_id for name in digests(router) for record_id in router.ids(name)}
    lost = [record.body[:40].decode(errors="replace") for record in records if record.id not in shown]
    assert not lost, f"router {router.number} lost {len(lost)}: {lost[:5]}"


def disk_holds(files: SimFiles, text: str, folder: str = "") -> bool:
    """Whether the text stands anywhere in a file of this disk."""
    needle = text.encode()
    prefix = f"{folder}/" if folder else ""
    if any(needle in files.read(prefix + name) for name in files.names(folder)):
        return True
    return any(disk_holds(files, text, prefix + inner) for inner in files.folders(folder))


def assert_nowhere(routers: Iterable[SimRouter], text: str) -> None:
    """The text is neither shown nor on any disk."""
    for router in routers:
        shown = [room for room in digests(router) if any(text in said for said in router.texts(room))]
        assert not shown, f"router {router.number} still shows {text!r} in {shown}"
        for files in (router.logs, router.state):
            assert not disk_holds(files, text), f"{text!r} is still on the disk {files.name}"


def assert_converges(world: World, seconds: float) -> float:
    """All routers come to hold the same within `seconds`; returns how long it took."""
    began = world.now
    routers = world.alive()
    done = world.run(seconds, until=lambda: agree(routers))
    held = [sum(room.messages for room in router.mesh.rooms()) for router in routers]
    assert done, f"no agreement after {seconds} s: {held}"
    assert_same_history(routers)
    return world.now - began


def traffic(world: World, seconds: float) -> float:
    """Bytes a second and router over the next `seconds`."""
    before = sum(world.air.octets.values())
    world.run(seconds)
    return (sum(world.air.octets.values()) - before) / seconds / max(1, len(world.alive()))


def assert_idle(world: World, settle: float = 180.0, watch: float = 600.0) -> float:
    """After `settle` seconds the air is quiet: no exchange repeats for ever. Returns bytes a second each."""
    world.run(settle)
    rate = traffic(world, watch)
    assert rate < IDLE_BYTES, f"{rate:.1f} bytes a second and router: something does not come to rest"
    return rate
