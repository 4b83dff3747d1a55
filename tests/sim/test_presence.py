"""Who is present: seen everywhere soon, gone when gone, and never more than the mesh can bear."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.adapters.storage.logline import encode_line
from meshchat.constants import (
    ACTIVE_FOR,
    ACTIVE_GRACE,
    MAX_PRESENT,
    NEIGHBOUR_LIFETIME,
    PRESENCE_LIFETIME,
    PRESENCE_REFRESH,
    STATEMENT_BURST,
)
from meshchat.state.presence import MAX_PLACES
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import START, RouterId
from meshchat.wire.packets import Carried, Dump, Fragment, Records, decode_packets
from meshchat.wire.records import Grade, Record, make_stamp
from tests.sim.checkers import digests, disk_holds
from tests.sim.network import AirConditions
from tests.sim.people import Lobby, everywhere, names, seen, someone, statement
from tests.sim.topology import cell, line
from tests.sim.world import ClockModel, Stranger, World

ANN, BEN, EVE = someone(1), someone(2), someone(3)
MONTHS_MS = 100 * 86_400_000
SOON = 30.0
"""Seconds within which what no loss holds up is seen everywhere, tolerantly."""
FALLS_IDLE = ACTIVE_FOR + ACTIVE_GRACE + SOON


def awake(shape: Sequence[tuple[int, int]], count: int, loss: float = 0.0, seed: int = 1) -> World:
    """A mesh whose routers know each other."""
    world = World(seed, shape, count, AirConditions(loss=loss))
    world.boot()
    world.run(300)
    return world


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("shape", [line, cell])
def test_who_comes_and_goes_is_seen_to_do_so_on_all_routers(shape: object, loss: float) -> None:
    assert callable(shape)
    world = awake(shape(10), 10, loss)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1", "garden")
    assert world.run(100, until=lambda: everywhere(world, "ann"))
    (((_, router), (rooms, active)),) = seen(world.routers[9]).items()
    assert (router, rooms, active) == (world.routers[0].up.router, ("1", "garden"), False)
    ann.leaves()
    assert world.run(100, until=lambda: everywhere(world))


def test_who_stays_is_shown_for_hours_and_a_room_opened_meanwhile_too() -> None:
    world = awake(line(5), 5, 0.2)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1")
    for _ in range(3):
        world.run(PRESENCE_LIFETIME)
        assert everywhere(world, "ann")
    ann.shows("2", "1")
    world.run(100)
    assert {place[0] for router in world.routers for place in seen(router).values()} == {("2", "1")}


def test_one_person_on_several_routers_and_in_several_sessions_is_present_until_the_last_has_ended() -> None:
    world = awake(line(3), 3)
    first, last = Lobby(world.routers[0]), Lobby(world.routers[2])
    sessions = [first.enter("ann", ANN, "1"), first.enter("ann", ANN, "2"), last.enter("ann", ANN, "3")]
    world.run(SOON)
    here, there = (world.routers[number].up.router for number in (0, 2))
    assert seen(world.routers[1]) == {("ann", here): (("2", "1"), False), ("ann", there): (("3",), False)}
    sessions[1].leaves()
    world.run(SOON)
    assert seen(world.routers[1]) == {("ann", here): (("1",), False), ("ann", there): (("3",), False)}
    sessions[0].leaves()
    world.run(SOON)
    assert seen(world.routers[1]) == {("ann", there): (("3",), False)}


def test_who_types_is_active_everywhere_and_falls_idle_at_the_same_time() -> None:
    world = awake(line(4), 4)
    changes: list[tuple[int, bool]] = []
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1")
    world.run(SOON)
    world.watchers.append(lambda number, present: changes.append((number, present.active)))
    for _ in range(15):
        ann.shows("1", typed=True)
        world.run(20)
        assert all(active for router in world.routers for _, active in seen(router).values())
    world.run(FALLS_IDLE)
    assert not any(active for router in world.routers for _, active in seen(router).values())
    assert sorted(changes) == sorted((number, active) for number in range(4) for active in (True, False))


def test_a_message_says_that_its_author_is_active_and_costs_no_statement() -> None:
    world = awake(line(3), 3)
    writer = world.routers[0]
    lobby = Lobby(writer)
    ann = lobby.enter("ann", writer.user, "1")
    world.run(200)
    statements = count_statements(world)
    ann.shows("1", typed=True)
    world.run(2)
    for _ in range(9):
        assert writer.say("1", "hello")
        ann.wrote()
        ann.shows("1", typed=True)
        world.run(20)
        assert all(active for router in world.routers for _, active in seen(router).values())
    assert len(statements) == 1


def count_statements(world: World) -> set[bytes]:
    """The ids of the statements that go over the air from now on."""
    found: set[bytes] = set()

    def hear(_: int, data: bytes) -> None:
        for packet in overheard(data):
            if isinstance(packet, Records):
                found.update(item.data[4:12] for item in packet.items if item.ephemeral)

    world.taps.append(hear)
    return found


def overheard(data: bytes) -> list[object]:
    """The packets of an open datagram."""
    datagram = decode_datagram(data)
    assert isinstance(datagram, PlainDatagram)
    return list(decode_packets(datagram.packets))


# --- What breaks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_halves_that_were_apart_tell_each_other_who_came_and_went(loss: float) -> None:
    world = awake(line(6), 6, loss)
    left, right = Lobby(world.routers[0]), Lobby(world.routers[5])
    ann = left.enter("ann", ANN, "1")
    world.run(60)
    world.air.separate([0, 1, 2], [3, 4, 5])
    world.run(60)
    ann.leaves()
    left.enter("ben", BEN, "1")
    right.enter("eve", EVE, "1")
    world.run(NEIGHBOUR_LIFETIME + 60)
    assert [names(router) for router in world.routers] == [{"ben"}] * 3 + [{"ann", "eve"}] * 3
    world.air.heal()
    assert world.run(90, until=lambda: everywhere(world, "ben", "eve"))


def test_a_short_cut_is_made_good_by_the_next_refresh() -> None:
    world = awake(line(4), 4)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1")
    world.run(100)
    world.air.separate([0, 1], [2, 3])
    ann.leaves()
    Lobby(world.routers[3]).enter("ben", BEN, "1")
    world.run(100)
    world.air.heal()
    assert world.run(PRESENCE_LIFETIME, until=lambda: everywhere(world, "ben"))


def test_people_of_a_router_that_died_fall_idle_and_are_gone_in_time_and_may_come_back_at_once() -> None:
    world = awake(line(4), 4)
    first = world.routers[0]
    Lobby(first).enter("ann", ANN, "1", typed=True)
    world.run(SOON)
    first.kill()
    world.run(FALLS_IDLE)
    assert all(active is False for router in world.alive() for _, active in seen(router).values())
    first.restart()
    world.run(SOON)
    assert names(first) == set(), "it has no sessions"
    assert names(world.routers[3]) == {"ann"}
    back = Lobby(first).enter("ann", ANN, "2", typed=True)
    assert world.run(SOON, until=lambda: all(("2",) in dict(seen(r).values()) for r in world.routers))
    back.leaves()
    assert world.run(SOON, until=lambda: everywhere(world))
    Lobby(first).enter("ann", ANN, "1")
    world.run(SOON)
    first.kill()
    world.run(PRESENCE_LIFETIME + 1)
    assert everywhere(world)


def test_a_router_that_is_started_anew_is_told_by_its_neighbours_once() -> None:
    world = awake(cell(8), 8)
    lobbies = [Lobby(router, number) for number, router in enumerate(world.routers[:6])]
    for number, lobby in enumerate(lobbies):
        lobby.enter(f"user{number}", someone(number), "1")
    world.run(200)
    newcomer = world.routers[7]
    newcomer.kill()
    newcomer.restart()
    told = [0]

    def hear(sender: int, data: bytes) -> None:
        told[0] += sum(
            len(packet.items) for packet in overheard(data) if isinstance(packet, Records) and sender != 7
        )

    world.taps.append(hear)
    assert world.run(10, until=lambda: len(names(newcomer)) == 6)
    world.run(10)
    assert told[0] <= 2 * 6, "one tells, or a second one before it has heard that"


# --- Clocks ---------------------------------------------------------------------------------------------


def test_who_is_present_stays_so_when_a_mesh_without_clocks_learns_the_time() -> None:
    world = World(3, line(5), 5)
    for router in world.routers[:4]:
        router.model.clock = ClockModel(good=False)
    world.boot(range(4))
    world.run(300)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1")
    world.run(SOON)
    world.boot([4])
    assert world.run(60, until=lambda: everywhere(world, "ann"))
    ann.leaves()
    assert world.run(60, until=lambda: everywhere(world))


@pytest.mark.parametrize("ahead_ms", [MONTHS_MS, 14 * 60_000, 20 * 60_000])
def test_what_was_said_by_a_wrong_clock_holds_up_nothing_that_is_said_later(ahead_ms: int) -> None:
    world = World(4, line(4), 4)
    for router in world.routers:
        router.model.clock = ClockModel(good=False)
    world.boot()
    world.run(300)
    right_ms = world.routers[0].mesh.now_ms()
    world.routers[0].up.set_clock(right_ms + ahead_ms)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1")
    ben = Lobby(world.routers[3]).enter("ben", BEN, "1")
    assert world.run(200, until=lambda: everywhere(world, "ann", "ben"))
    world.run(100)
    world.routers[0].up.set_clock(right_ms + 300_000)
    world.run(200)
    assert everywhere(world, "ann", "ben")
    ann.leaves()
    ben.shows("2")
    assert world.run(200, until=lambda: everywhere(world, "ben"))
    assert all(("2",) in dict(seen(router).values()) for router in world.routers)


def test_a_router_whose_clock_is_minutes_slow_shows_and_is_shown() -> None:
    world = World(5, line(3), 3)
    world.routers[0].model.clock = ClockModel(offset_ms=-10 * 60_000)
    world.boot()
    world.run(300)
    Lobby(world.routers[0]).enter("ann", ANN, "1", typed=True)
    Lobby(world.routers[2]).enter("ben", BEN, "1", typed=True)
    world.run(SOON)
    assert all(
        seen(router).keys() >= {("ann", world.routers[0].up.router)}
        and all(active for _, active in seen(router).values())
        for router in world.routers
    )
    world.run(FALLS_IDLE)
    assert not any(active for router in world.routers for _, active in seen(router).values())
    assert everywhere(world, "ann", "ben")


# --- Strangers ------------------------------------------------------------------------------------------


@st.composite
def floods(draw: st.DrawFn) -> list[Record]:
    """Statements by two people on two routers, some of them by the same stamp."""
    base = make_stamp(World(0, [], 1).true_ms)
    choices = st.tuples(
        st.sampled_from([ANN, BEN]),
        st.sampled_from([b"router-1", b"router-2"]),
        st.integers(-3, 3),
        st.sampled_from([(), ("1",), ("2", "1")]),
        st.sampled_from([0, 30, 65_535]),
    )
    drawn = draw(st.lists(choices, min_size=1, max_size=int(STATEMENT_BURST), unique=True))
    return [
        statement(signer, RouterId(router), base + offset, rooms, idle=idle)
        for signer, router, offset, rooms, idle in drawn
    ]


@settings(max_examples=40, deadline=None)
@given(floods(), st.randoms(use_true_random=False))
def test_the_order_in_which_statements_come_does_not_matter(records: list[Record], random: object) -> None:
    views = []
    for turn in range(2):
        world = World(6, line(2), 2)
        world.boot([0])
        stranger = Stranger(world, 1)
        order = list(records)
        if turn:
            random.shuffle(order)  # type: ignore[attr-defined]
            order += order[: len(order) // 2]
        for record in order:
            stranger.send(Records((Carried(record.carried),)))
        world.run(1)
        views.append({(each.key, each.router): each for each in world.routers[0].mesh.present()})
    assert views[0] == views[1]


@pytest.mark.parametrize("ahead_ms", [0, 14 * 60_000])
def test_a_recording_of_somebody_changes_nothing_once_that_person_has_gone(ahead_ms: int) -> None:
    world = World(7, line(3), 3)
    world.routers[0].model.clock = ClockModel(offset_ms=ahead_ms)
    world.boot([0, 1])
    thief, recorded = Stranger(world, 2), list[bytes]()
    world.taps.append(lambda sender, data: recorded.append(data) if sender < 2 else None)
    ann = Lobby(world.routers[0]).enter("ann", ANN, "1", typed=True)
    world.run(SOON)
    ann.leaves()
    world.run(100)
    assert everywhere(world)
    kept = list(recorded)
    for wait in (0.0, PRESENCE_LIFETIME - 200, 300, PRESENCE_LIFETIME):
        world.run(wait)
        for data in kept:
            world.transmit(thief.number, None, data)
            world.run(0.01)
        world.run(5)
        assert everywhere(world)


def test_what_is_stated_under_anothers_key_or_for_another_time_is_not_believed() -> None:
    world = World(8, line(2), 2)
    world.boot([0])
    stranger, now_ms = Stranger(world, 1), world.true_ms
    forged = statement(stranger.key, stranger.id, make_stamp(now_ms))
    for record in (
        replace(forged, key=ANN.public),
        statement(ANN, stranger.id, make_stamp(now_ms + 3_600_000)),
        statement(ANN, stranger.id, make_stamp(now_ms - 3_600_000)),
        statement(ANN, stranger.id, make_stamp(now_ms), grade=Grade.GOOD),
        statement(ANN, stranger.id, make_stamp(now_ms), ("a room", "x" * 32)),
        statement(ANN, stranger.id, make_stamp(now_ms), tuple(f"room{number}" for number in range(60))),
        statement(ANN, world.routers[0].up.router, make_stamp(now_ms)),
    ):
        stranger.send(Records((Carried(record.carried),)))
    world.run(5)
    assert world.routers[0].mesh.present() == []
    stranger.send(Records((Carried(statement(ANN, stranger.id, make_stamp(now_ms)).carried),)))
    world.run(5)
    assert everywhere(world, "ann"), "the same, as it should be"


def test_ten_thousand_strangers_hide_nobody_and_fill_neither_memory_nor_air() -> None:
    world = World(9, line(4), 4)
    world.boot(range(3))
    world.run(300)
    near, far = world.routers[2], world.routers[0]
    assert near.say("1", "one who writes is no stranger")
    world.run(5)
    ann = Lobby(near).enter("ann", near.user, "1")
    world.run(SOON)
    stranger = Stranger(world, 3)
    before = world.air.octets[1]
    seconds = 200
    for number in range(10_000):
        record = statement(someone(1000 + number), stranger.id, make_stamp(world.true_ms), name=f"n{number}")
        stranger.send(Records((Carried(record.carried),)))
        world.run(seconds / 10_000)
    ann.shows("2")
    world.run(SOON)
    assert all(len(router.mesh.present()) <= MAX_PRESENT for router in world.alive())
    assert ("2",) in [rooms for (name, _), (rooms, _) in seen(far).items() if name == "ann"]
    assert near.up.engine.drops["presence-rate"] > 9_000
    assert (world.air.octets[1] - before) / seconds < 500, "bytes a second of who passes it on"


def test_the_table_is_full_of_strangers_and_somebody_known_comes() -> None:
    world = World(10, line(2), 2)
    world.boot([0])
    here = world.routers[0]
    stranger = Stranger(world, 1)
    for number in range(MAX_PRESENT + 200):
        record = statement(someone(1000 + number), stranger.id, make_stamp(world.true_ms), name=f"n{number}")
        stranger.send(Records((Carried(record.carried),)))
        world.run(1.01)
        if number == 100:
            assert here.say("1", "here")
            Lobby(here).enter("ann", here.user, "1")
    assert len(here.mesh.present()) == MAX_PRESENT
    assert "ann" in names(here)


def test_one_key_is_present_on_few_routers_and_states_little() -> None:
    world = World(11, line(2), 2)
    world.boot([0])
    stranger = Stranger(world, 1)
    for number in range(60):
        record = statement(EVE, RouterId(number.to_bytes(8, "big")), make_stamp(world.true_ms), name="eve")
        stranger.send(Records((Carried(record.carried),)))
        world.run(10 if number > 30 else 0.1)
    present = world.routers[0].mesh.present()
    assert len(present) == MAX_PLACES
    assert world.routers[0].up.engine.drops["presence-rate"] > 0


def test_a_stranger_who_starts_anew_all_the_time_is_told_little() -> None:
    world = World(12, line(2), 2)
    world.boot([0])
    lobby = Lobby(world.routers[0])
    for number in range(30):
        lobby.enter(f"user{number}", someone(number), "1")
    world.run(100)
    stranger = Stranger(world, 1)
    before = world.air.octets[0]
    for number in range(600):
        stranger.boot = number.to_bytes(8, "big")
        stranger.send(stranger.digest(Grade.UNKNOWN, world.true_ms))
        world.run(1)
    assert (world.air.octets[0] - before) / 600 < 400


# --- Never kept -----------------------------------------------------------------------------------------


def test_who_is_present_is_in_no_log_no_digest_and_no_count() -> None:
    world = awake(line(3), 3)
    before = digests(world.routers[1])
    Lobby(world.routers[0]).enter("ann", ANN, "hideaway", typed=True)
    world.run(PRESENCE_REFRESH * 2)
    for router in world.routers:
        assert names(router) == {"ann"}
        assert digests(router) == before
        assert router.up.engine.store.held == 0
        for files in (router.logs, router.state):
            assert not disk_holds(files, "hideaway")
        assert router.logs.folders("spaces") == []
        router.stop()
        router.boot()
        assert names(router) == set()


def test_no_other_door_lets_a_statement_in() -> None:
    world = World(13, line(2), 2)
    world.boot([0])
    here, stranger = world.routers[0], Stranger(world, 1)
    record = statement(ANN, stranger.id, make_stamp(world.true_ms))
    stranger.send(Dump(here.up.router, True, START, START, (Carried(record.carried),)))
    whole = record.carried
    stranger.send(Fragment(True, record.id, len(whole), 0, 0, whole))
    result = here.mesh.take_in([encode_line(record).decode()])
    world.run(5)
    assert here.mesh.present() == []
    assert here.up.engine.store.held == 0
    assert result.refused == {"ephemeral": 1}
    assert here.up.engine.drops["ephemeral"] == 2
