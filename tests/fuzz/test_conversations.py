"""Conversations: a few real routers and their disks, people, bad weather, and a stranger who says anything.

Hypothesis chooses what happens next and, where something breaks, finds the shortest way there. Each step is
followed by what must hold at any time; at the end the stranger falls silent, and the routers must agree,
show all that was acknowledged, and come to rest.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshchat.constants import CAP_ACCOUNTS, CAP_ROUTER, MAX_NEIGHBOURS, MAX_PRESENT
from meshchat.wire.records import Grade, Record
from tests.fuzz import corpus, search
from tests.fuzz.stranger import Overheard, datagrams
from tests.sim.checkers import assert_converges, assert_idle, assert_kept
from tests.sim.network import AirConditions
from tests.sim.people import Lobby, Person, names
from tests.sim.topology import cell
from tests.sim.world import SimRouter, Stranger, World, origin_of

EVENTS_A_SECOND = 2000
"""Ticks and arrivals of a busy world of four, ten times over: what needs more is going round in a circle."""

ANSWER_BYTES = 16 * 1024
"""What one datagram, of up to 2 KiB, may draw at once: a burst of the share of the air that talk has."""

COMES_OF_AGE = 1800.0
"""Seconds after which nothing waits for its time any more: stamps lie up to 15 minutes ahead of the clock of
whoever accepts them, and clocks slip by up to 5 minutes either way."""

HEALED_WITHIN = 2 * 3600.0
"""Seconds. A neighbour in whose name nonsense was spoken is left alone for up to an hour."""


class CountingWorld(World):
    """A world in which nothing may happen endlessly often in no time."""

    def __init__(self, seed: int, count: int) -> None:
        self._allowed = 10_000.0
        super().__init__(seed, cell(count), count)

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Counts what is to happen."""
        self._allowed -= 1
        assert self._allowed > 0, f"no end of {action}"
        super().at(moment, action, *arguments)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass, in which so much may happen."""
        self._allowed = 10_000 + EVENTS_A_SECOND * seconds
        return super().run(seconds, until)


class Conversation(RuleBasedStateMachine):
    """Two or three honest routers and a stranger, all within reach of each other."""

    begun = False
    world: CountingWorld
    stranger: Stranger
    overheard: Overheard
    honest: list[SimRouter]
    wanted: list[Record]
    people: dict[int, Person]
    present: set[str]

    @initialize(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 3))
    def begin(self, seed: int, count: int) -> None:
        self.world = CountingWorld(seed, count + 1)
        self.honest = self.world.routers[:count]
        self.stranger = Stranger(self.world, count)
        self.overheard = Overheard()
        for path in corpus.paths():
            self.overheard.hear(corpus.read(path))
        self.wanted = []
        self.people, self.present = {}, set()
        self._answered = 0
        self.world.taps.append(self._overhear)
        self.world.boot(range(count))
        # So that the stranger has heard something of every kind: new messages, a large one, and a restart.
        for router in self.honest:
            self.wanted += [one for size in (5, 3000, 30) if (one := router.say("1", "x" * size))]
            self.world.run(1)
        self.honest[0].kill()
        self.honest[0].lose_logs()
        self.honest[0].boot()
        self.world.run(3)
        self.begun = True

    def _overhear(self, sender: int, data: bytes) -> None:
        if sender != self.stranger.number:
            self._answered += len(data)
            self.overheard.hear(data)

    def _alive(self, number: int) -> SimRouter | None:
        router = self.honest[number % len(self.honest)]
        return router if router.node is not None else None

    # --- What people and the weather do -----------------------------------------------------------------

    @rule(
        number=st.integers(0, 2),
        room=st.sampled_from(["1", "2"]),
        size=st.sampled_from([1, 30, 30, 700, 5000]),
        count=st.integers(1, 5),
    )
    def talk(self, number: int, room: str, size: int, count: int) -> None:
        router = self._alive(number)
        if router is not None:
            said = [router.say(room, f"{len(self.wanted)}-{each} " + "x" * size) for each in range(count)]
            self.wanted += [record for record in said if record is not None]

    @rule(number=st.integers(0, 2), rooms=st.sampled_from([(), ("1",), ("2", "1")]), typed=st.booleans())
    def come_and_go(self, number: int, rooms: tuple[str, ...], typed: bool) -> None:
        router = self._alive(number)
        if router is None:
            return
        name = f"user{router.number}"
        if router.number not in self.people:
            self.people[router.number] = Lobby(router).enter(name, router.user, *rooms, typed=typed)
        self.people[router.number].shows(*rooms, typed=typed)
        self.present.discard(name)
        if rooms:
            self.present.add(name)

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 1.0, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(loss=st.sampled_from([0.0, 0.3, 0.7]), twice=st.sampled_from([0.0, 0.5]), delay=st.floats(0.001, 2))
    def weather(self, loss: float, twice: float, delay: float) -> None:
        self.world.air.conditions = AirConditions(loss, twice, delay)

    @rule(number=st.integers(0, 2))
    def out_of_reach(self, number: int) -> None:
        self.world.air.separate(
            [number], [router.number for router in self.honest if router.number != number]
        )

    @rule()
    def in_reach_again(self) -> None:
        self.world.air.heal()

    @rule(number=st.integers(0, 2), seconds=st.integers(-300, 300))
    def clock_slips(self, number: int, seconds: int) -> None:
        self.honest[number % len(self.honest)].model.clock.offset_ms = seconds * 1000

    @rule(number=st.integers(0, 2), how=st.sampled_from(["stop", "kill", "power", "logs"]))
    def goes_off(self, number: int, how: str) -> None:
        router = self._alive(number)
        if router is None:
            return
        self.people.pop(router.number, None)
        self.present.discard(f"user{router.number}")
        if how == "stop":
            router.stop()
        elif how == "power":
            router.power_cut()
        else:
            router.kill()
        if how == "logs":
            router.lose_logs()
            others = [other.up.engine.store for other in self.honest if other.node is not None]
            self.wanted = [one for one in self.wanted if any(held.holds(one.position) for held in others)]

    @rule(number=st.integers(0, 2))
    def comes_back(self, number: int) -> None:
        router = self.honest[number % len(self.honest)]
        if router.node is None:
            router.boot()

    @rule(number=st.integers(0, 2), room=st.sampled_from([0, 300, 10_000]))
    def disk_fills(self, number: int, room: int) -> None:
        router = self.honest[number % len(self.honest)]
        router.logs.capacity = router.logs.used() + room

    @rule()
    def disks_have_room(self) -> None:
        for router in self.honest:
            router.logs.capacity = None

    # --- What the stranger does -------------------------------------------------------------------------

    @rule(data=st.data(), number=st.integers(0, 2), whose=st.integers(0, 3))
    def stranger_speaks(self, data: st.DataObject, number: int, whose: int) -> None:
        """Straight into one router's antenna, from its own address or in another's name."""
        router = self._alive(number)
        if router is None:
            return
        origin = origin_of(whose if whose < len(self.honest) else self.stranger.number)
        for said in data.draw(st.lists(datagrams(self.overheard, self.stranger), min_size=1, max_size=8)):
            self._answered = 0
            router.up.receive(said, "wlan0", origin)
            assert self._answered <= ANSWER_BYTES, f"{len(said)} bytes drew {self._answered}"

    @rule(data=st.data(), times=st.integers(1, 40))
    def stranger_speaks_to_all(self, data: st.DataObject, times: int) -> None:
        said = data.draw(datagrams(self.overheard, self.stranger))
        for _ in range(times):
            self.world.transmit(self.stranger.number, None, said)

    @rule(every=st.sampled_from([0.5, 10.0]), ahead_ms=st.sampled_from([0, 10**6, -(10**7), 10**11]))
    def stranger_lies_about_time(self, every: float, ahead_ms: int) -> None:
        self.stranger.lie(Grade.GOOD, ahead_ms, every=every)

    # --- What must hold at any time ---------------------------------------------------------------------

    @precondition(lambda self: bool(self.begun))
    @invariant()
    def bounded(self) -> None:
        """A stranger fills no table, and makes no router wait for a moment that is over."""
        self.world.run(0.001)
        for router in self.honest:
            if router.node is None:
                continue
            engine, now = router.up.engine, router.instant()
            assert sum(1 for _ in engine.neighbours.alive(now.mono)) <= MAX_NEIGHBOURS
            assert engine.store.bytes_held <= CAP_ROUTER + CAP_ACCOUNTS
            assert len(router.mesh.present()) <= MAX_PRESENT
            assert len(engine.drops) <= 40
            deadline = engine.next_deadline()
            assert deadline is not None
            assert deadline > now.mono - 1e-4, "a deadline was not kept"

    def teardown(self) -> None:
        if not self.begun:
            return
        self.stranger.quiet()
        self.world.air.heal()
        self.world.air.conditions = AirConditions()
        self.disks_have_room()
        for router in self.honest:
            if router.node is None:
                router.boot()
        self.world.run(COMES_OF_AGE)
        assert_converges(self.world, HEALED_WITHIN)
        for router in self.honest:
            assert_kept(router, self.wanted)
            assert names(router) == self.present
        assert_idle(self.world)


TestConversation = Conversation.TestCase
TestConversation.settings = search(40)
