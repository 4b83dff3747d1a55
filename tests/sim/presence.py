"""What presence costs and how soon it is seen: `python -m tests.sim.presence` prints it, in a minute or two.

Ten routers in a line and in one cell. For the cost, ten people are present, one a router, and do nothing, or
nobody is. For the delay, sixty people come one after the other; each is timed from when his own router shows
him until each other one does.
"""

from collections.abc import Callable, Sequence

from meshchat.state.presence import Present
from tests.sim.network import AirConditions, Link
from tests.sim.people import Lobby, someone
from tests.sim.topology import cell, line
from tests.sim.world import World

COUNT = 10
HOUR = 3600.0
_HOURS = 3
_NEWCOMERS = 60
_UNTIL = 700.0
"""Seconds that a newcomer is waited for: a refresh is among them."""


def awake(shape: Callable[[int], Sequence[Link]], loss: float) -> tuple[World, list[Lobby]]:
    """A mesh whose routers have known each other for long."""
    world = World(7, shape(COUNT), COUNT, AirConditions(loss=loss))
    world.boot()
    world.run(1800)
    return world, [Lobby(router, router.number) for router in world.routers]


def idle_bytes(shape: Callable[[int], Sequence[Link]], people: int, loss: float) -> float:
    """Bytes a second and router, all headers, while so many people are present and idle."""
    world, lobbies = awake(shape, loss)
    for number, lobby in enumerate(lobbies[:people]):
        lobby.enter(f"user{number}", someone(number), "1")
    world.run(300)
    before = world.air.octets.total()
    world.run(_HOURS * HOUR)
    return (world.air.octets.total() - before) / (_HOURS * HOUR * COUNT)


def delays(shape: Callable[[int], Sequence[Link]], loss: float) -> list[float]:
    """Seconds from one's own router to each other one, sorted."""
    world, lobbies = awake(shape, loss)
    found: list[float] = []
    for number in range(_NEWCOMERS):
        shown: dict[int, float] = {}

        def watch(router: int, present: Present, shown: dict[int, float] = shown) -> None:
            if present.rooms:
                shown.setdefault(router, world.now)

        world.watchers = [watch]
        person = lobbies[number % COUNT].enter(f"user{number}", someone(number), "1")
        world.run(_UNTIL, until=lambda shown=shown: len(shown) == COUNT)  # type: ignore[misc]
        here = shown.pop(number % COUNT)
        found += [moment - here for moment in shown.values()]
        found += [_UNTIL] * (COUNT - 1 - len(shown))
        world.watchers = []
        person.leaves()
        world.run(100)
    return sorted(found)


def main() -> None:
    """Prints both tables."""
    for shape in (line, cell):
        for loss in (0.0, 0.2):
            nobody, ten = (idle_bytes(shape, people, loss) for people in (0, COUNT))
            print(f"{shape.__name__}, {loss:.0%} loss: nobody {nobody:.2f} B/s a router, ten idle {ten:.2f}")
    for shape in (line, cell):
        for loss in (0.0, 0.2, 0.5):
            found = delays(shape, loss)
            half, most = (found[int(len(found) * share)] for share in (0.5, 0.99))
            seen = f"after {half:.3f} s, 99% after {most:.2f} s, all after {found[-1]:.1f} s"
            print(f"{shape.__name__}, {loss:.0%} loss: a newcomer is seen {seen}")


if __name__ == "__main__":
    main()
