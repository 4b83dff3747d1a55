"""What a router marked as checked it need not check again; nothing else passes for that."""

import json
import random
import re
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.adapters.storage.logline import Outline, StoredRecord, encode_line
from meshchat.adapters.storage.logmark import MARK_SIZE
from meshchat.adapters.storage.logstore import LogStore
from meshchat.identity.keys import KeySeed, RouterIdentity, SigningKey, sign_record, verify_record
from meshchat.wire.ids import Bound, Position, RouterId, Signature
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, mesh_id
from tests.sim.disk import SimFiles
from tests.sim.world import MESH as SIMULATED
from tests.sim.world import World

MESH = mesh_id("test")
START_MS = 1_795_219_200_000
AUTHORS = [SigningKey.from_seed(KeySeed(bytes([number]) * 32)) for number in range(3)]
ROUTER = RouterIdentity(SigningKey.from_seed(KeySeed(b"r" * 32)))
ANOTHER = RouterIdentity(SigningKey.from_seed(KeySeed(b"s" * 32)))
LOG = "rooms/1.log"


def message(
    number: int,
    *,
    body: bytes | None = None,
    room: str = "1",
    space: int = Space.ROOM,
    grade: Grade = Grade.GOOD,
) -> Record:
    return sign_record(
        AUTHORS[number % 3],
        mesh=MESH,
        space=space,
        log=room,
        kind=Kind.MESSAGE,
        author=("ja", "Åse", "𝔅ob")[number % 3],
        router=RouterId(bytes(8)),
        stamp=make_stamp(START_MS + 1000 * number),
        grade=grade,
        body=f"message {number}".encode() if body is None else body,
    )


@dataclass
class Machine:
    """A disk, a router's identity, and how many signatures its last start verified."""

    files: SimFiles = field(default_factory=SimFiles)
    identity: RouterIdentity = ROUTER
    verified: int = 0

    def _verify(self, record: Record) -> bool:
        self.verified += 1
        return verify_record(record)

    def start(self) -> tuple[LogStore, list[Outline | StoredRecord]]:
        self.verified = 0
        self.files.kill()
        store = LogStore(self.files, self.files, MESH)
        store.open()
        return store, list(store.load(self.identity.mark_key(MESH), self._verify))

    def found(self) -> list[Position]:
        """The positions that a start finds, in order of arrival."""
        return [item.position for item in self.start()[1]]

    def lines(self) -> list[bytes]:
        return self.files.read(LOG).splitlines()

    def edit(self, lines: list[bytes], name: str = LOG) -> None:
        self.files.replace(name, [line + b"\n" for line in lines])


@pytest.fixture
def machine() -> Machine:
    """A router whose room 1 holds the messages 0 to 9."""
    machine = Machine()
    store, _ = machine.start()
    store.append([StoredRecord(message(number)) for number in range(10)])
    return machine


def numbered(*numbers: int) -> list[Position]:
    return [message(number).position for number in numbers]


def test_what_was_verified_once_is_not_verified_again(machine: Machine) -> None:
    for _ in range(2):
        assert machine.found() == numbered(*range(10))
        assert machine.verified == 0


def test_an_edited_text_does_not_profit_from_its_mark(machine: Machine) -> None:
    lines = machine.lines()
    lines[4] = lines[4].replace(b"message 4", b"message X")
    machine.edit(lines)
    assert machine.found() == numbered(0, 1, 2, 3, 5, 6, 7, 8, 9)
    assert machine.verified == 0
    assert b"message X" in machine.files.read(LOG + ".damaged")


def test_a_forgery_with_a_right_id_and_a_mark_taken_from_elsewhere_is_set_aside(machine: Machine) -> None:
    lines = machine.lines()
    genuine = message(4)
    forged = replace(genuine, body=b"message X")
    lines[4] = encode_line(forged)[:-2] + lines[4][-MARK_SIZE:]
    machine.edit(lines)
    store, _ = machine.start()
    assert machine.verified == 1
    assert store.read(forged.position) is None
    assert "signature" in store.report[0]
    assert b"message X" not in machine.files.read(LOG)


def test_a_bad_signature_does_not_push_out_the_genuine_record(machine: Machine) -> None:
    # The id covers no signature: both lines name the same record.
    forged = replace(message(4), signature=Signature(bytes(64)))
    machine.edit([Position(Bound(encode_line(forged)[:-1])), *machine.lines()])
    store, _ = machine.start()
    assert store.read(message(4).position) == message(4)


def test_an_edited_age_is_checked_like_a_stranger_s_record() -> None:
    machine = Machine()
    store, _ = machine.start()
    store.append([StoredRecord(message(1, grade=Grade.UNKNOWN), 100, 50)])
    machine.edit([Position(Bound(machine.lines()[0].replace(b'"age":100', b'"age":999')))])
    assert len(machine.found()) == 1
    assert machine.verified == 1


def test_lines_may_change_places_and_files(machine: Machine) -> None:
    lines = machine.lines()
    machine.edit([lines[3], lines[1], lines[2], lines[0], *lines[4:9]])
    machine.edit([lines[9]], "rooms/2.log")
    assert sorted(machine.found()) == numbered(*range(10))
    assert machine.verified == 0
    assert machine.found() == numbered(*range(10))


def test_an_older_copy_of_a_log_is_what_it_was(machine: Machine) -> None:
    older = machine.lines()
    store, _ = machine.start()
    store.append([StoredRecord(message(10))])
    machine.edit(older)
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 0


@pytest.mark.parametrize("cut", [1, MARK_SIZE - 1, MARK_SIZE, MARK_SIZE + 1, 200])
def test_a_line_that_lost_its_mark_with_its_end_is_cut_off(machine: Machine, cut: int) -> None:
    machine.files.truncate(LOG, len(machine.files.read(LOG)) - 1 - cut)
    assert machine.found() == numbered(*range(9))
    assert machine.verified == 0


def test_a_mark_with_a_flipped_bit_costs_one_verification_and_is_renewed(machine: Machine) -> None:
    lines = machine.lines()
    lines[7] = lines[7][:-3] + bytes([lines[7][-3] ^ 1]) + lines[7][-2:]
    machine.edit(lines)
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 1
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 0


def test_a_copy_of_another_router_s_logs_is_verified_once(machine: Machine) -> None:
    machine.identity = ANOTHER
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 10
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 0
    assert [list(json.loads(line)).count("mark") for line in machine.lines()] == [1] * 10


def test_where_marks_cannot_be_written_everything_still_counts(machine: Machine) -> None:
    machine.identity = ANOTHER
    machine.files.read_only = True
    assert machine.found() == numbered(*range(10))
    assert machine.found() == numbered(*range(10))
    assert machine.verified == 10
    machine.files.read_only = False
    store, _ = machine.start()
    store.remove(numbered(0))
    assert machine.found() == numbered(*range(1, 10))
    assert machine.verified == 0


def test_each_mesh_and_each_router_has_marks_of_its_own() -> None:
    keys = {identity.mark_key(mesh) for identity in (ROUTER, ANOTHER) for mesh in (MESH, SIMULATED)}
    assert len(keys) == 4


def test_wiped_text_put_back_with_its_marks_does_not_come_back() -> None:
    world = World(1, [], 1)
    world.boot()
    router = world.routers[0]
    for number in range(4):
        assert router.say("1", f"secret {number}")
    copied = router.logs.read(LOG)
    router.up.wipe(None)
    router.stop()
    router.logs.replace(LOG, [copied])
    router.boot()
    assert router.texts() == []
    assert router.logs.size(LOG) is None


def test_who_has_written_is_known_after_a_restart_and_forgotten_with_it() -> None:
    world = World(2, [], 1)
    world.boot()
    router = world.routers[0]
    for name in ("ja", "Åse", "ja"):
        router.up.submit(router.draft("1", f"I am {name}", name=name))
    router.stop()
    router.boot()
    assert set(router.mesh.authors()) == {("ja", router.user.public), ("Åse", router.user.public)}
    router.up.wipe(None)
    router.stop()
    router.boot()
    assert set(router.mesh.authors()) == set()


# --- With marks as without ----------------------------------------------------------------------------------

TEXTS = st.text(max_size=60).map(str.encode) | st.binary(max_size=20)
PLACES = st.sampled_from([(1, "1"), (1, "Café-2"), (1, "\u0378x"), (7, ""), (7, "b"), (129, "1"), (200, "c")])
STEPS = st.lists(
    st.tuples(st.integers(0, 30), PLACES, TEXTS, st.sampled_from(Grade))
    | st.sampled_from(["restart", "remove"]),
    max_size=25,
)


def unmarked(files: SimFiles) -> SimFiles:
    """A copy of the disk on which no line has a mark."""
    bare = SimFiles()
    for folder in ["", "rooms", *(f"spaces/{number}" for number in files.folders("spaces"))]:
        for last in files.names(folder):
            name = f"{folder}/{last}" if folder else last
            bare.replace(name, [re.sub(rb',"mark":"[^"]{12}"}\n', b"}\n", files.read(name))])
    return bare


@settings(max_examples=60, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_a_start_by_marks_finds_what_a_start_by_signatures_finds(
    steps: list[Literal["restart", "remove"] | tuple[int, tuple[int, str], bytes, Grade]], rng: random.Random
) -> None:
    machine = Machine()
    store, found = machine.start()
    for step in steps:
        if step == "restart":
            store, found = machine.start()
        elif step == "remove":
            store.remove(rng.sample([item.position for item in found], len(found) // 2))
        else:
            number, (space, room), body, grade = step
            record = message(number, body=body, room=room, space=space, grade=grade)
            undated = grade is Grade.UNKNOWN
            store.append([StoredRecord(record, 7 if undated else None, number if undated else None)])
    by_signature = Machine(unmarked(machine.files))
    expected = outlines(by_signature)
    assert by_signature.verified == len(expected)
    assert outlines(machine) == expected
    assert machine.verified == 0


def outlines(machine: Machine) -> list[Outline]:
    """What a start finds, but for the order of arrival; of permanent records, too, what the engine needs."""
    _, found = machine.start()
    known = (item if isinstance(item, Outline) else item.outline for item in found)
    return sorted(item._replace(arrival=None, late=False) for item in known)
