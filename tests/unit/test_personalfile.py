"""What a router remembers of its people: bounded, written rarely, and harmless to lose."""

import contextlib
import logging
import random
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.personalfile import PersonalFile
from meshchat.chat.personal import BELLS, Mark, Person
from meshchat.constants import (
    MAX_IGNORED,
    MAX_MARKS,
    MAX_OPEN_ROOMS,
    MAX_PEOPLE,
    MAX_PERSONAL,
    PERSONAL_EVERY,
)
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import MAX_STAMP
from tests.sim.disk import PowerCut, SimFiles

KEYS = [bytes([number]) * 32 for number in range(256)]
NAMES = st.sampled_from(["1", "café", "ｊａ", "a-b.c", "名前", "😀x"[1:], "x" * 32])
PEOPLE = st.builds(
    Person,
    st.sampled_from(KEYS),
    st.dictionaries(NAMES, st.builds(Mark, st.integers(0, MAX_STAMP), st.binary(min_size=16, max_size=16))),
    st.dictionaries(st.sampled_from(KEYS), NAMES),
    st.sampled_from(BELLS),
    st.lists(NAMES, max_size=MAX_OPEN_ROOMS).map(tuple),
    st.booleans(),
)


def mark(number: int) -> Mark:
    return Mark(number, number.to_bytes(16, "big"))


def people(files: SimFiles | DiskFiles) -> list[Person]:
    """What a daemon that starts now remembers."""
    return list(PersonalFile(files, 0.0).people)


def remember(files: SimFiles | DiskFiles, *persons: Person) -> None:
    kept = PersonalFile(files, 0.0)
    for person in persons:
        kept.people.put(person)
    kept.keep(0.0, last=True)


@given(st.lists(PEOPLE, unique_by=lambda person: person.key))
def test_what_people_left_comes_back_as_it_was(persons: list[Person]) -> None:
    files = SimFiles()
    remember(files, *persons)
    assert people(files) == [person for person in persons if person != Person(person.key)]


def test_it_is_written_when_who_changed_something_leaves_or_after_minutes_and_else_not() -> None:
    files = SimFiles()
    kept = PersonalFile(files, 0.0)
    kept.people.put(Person(PublicKey(KEYS[1])).marked("1", mark(1)))
    kept.people.left(PublicKey(KEYS[2]))
    kept.keep(10.0)
    assert people(files) == []
    kept.people.left(PublicKey(KEYS[1]))
    kept.keep(11.0)
    assert len(people(files)) == 1
    operations = files.operations
    for second in range(12, 10_000):
        kept.people.put(Person(PublicKey(KEYS[1])).marked("1", mark(1)))
        kept.people.left(PublicKey(KEYS[1]))
        kept.keep(float(second))
    assert files.operations == operations, "nothing has changed"
    kept.people.put(Person(PublicKey(KEYS[1])).marked("1", mark(2)))
    for second in range(10_000, 10_000 + int(PERSONAL_EVERY)):
        kept.people.put(Person(PublicKey(KEYS[1])).marked("1", mark(second)))
        kept.keep(float(second))
    assert people(files) == [Person(PublicKey(KEYS[1])).marked("1", mark(10_000))], (
        "it was written once, at the first"
    )


def test_everything_is_bounded_and_what_was_used_least_lately_goes_first() -> None:
    files = SimFiles()
    kept = PersonalFile(files, 0.0)
    for number in range(MAX_PEOPLE + 5):
        kept.people.put(Person(PublicKey(KEYS[number]), bell="all"))
        kept.people.get(PublicKey(KEYS[0]))
    assert len(list(kept.people)) == MAX_PEOPLE
    assert kept.people.get(PublicKey(KEYS[0])).bell == "all"
    assert kept.people.get(PublicKey(KEYS[5])).bell == "mentions"
    person = Person(PublicKey(KEYS[9]))
    for number in range(MAX_MARKS + 1):
        person = person.marked(f"r{number}", mark(number)).marked("r0", mark(1000 + number))
    assert len(person.marks) == MAX_MARKS
    assert "r0" in person.marks
    assert "r1" not in person.marks
    for key in KEYS[: MAX_IGNORED + 3]:
        person = person.ignoring(PublicKey(key), "x")
    assert list(person.ignored) == KEYS[3 : MAX_IGNORED + 3]
    assert person.opening(map(str, range(100))).rooms == tuple(map(str, range(MAX_OPEN_ROOMS)))


def test_the_file_is_bounded_too() -> None:
    files = SimFiles()
    largest = [Person(PublicKey(key)) for key in KEYS[:20]]
    for number in range(MAX_MARKS):
        largest = [person.marked("名" * 30 + f"{number}", mark(number)) for person in largest]
    remember(files, *largest)
    assert (files.size("personal.jsonl") or 0) <= MAX_PERSONAL
    found = people(files)
    assert found
    assert found == largest[-len(found) :]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    remember(DiskFiles(tmp_path), Person(PublicKey(KEYS[1]), bell="off"))
    assert stat.S_IMODE((tmp_path / "personal.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("fault", ["read_only", "full"])
def test_a_disk_that_takes_nothing_leaves_what_was_there_and_gets_it_when_mended(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = SimFiles()
    remember(files, Person(PublicKey(KEYS[1]), bell="off"))
    kept = PersonalFile(files, 0.0)
    kept.people.put(Person(PublicKey(KEYS[1]), bell="all"))
    if fault == "full":
        files.capacity = files.used()
    else:
        files.read_only = True
    with caplog.at_level(logging.ERROR):
        for second in range(int(PERSONAL_EVERY) + 2):
            kept.keep(float(second))
    assert len(caplog.messages) == 1, "it is not tried each second"
    assert people(files) == [Person(PublicKey(KEYS[1]), bell="off")]
    files.capacity, files.read_only = None, False
    kept.keep(3 * PERSONAL_EVERY)
    assert people(files) == [Person(PublicKey(KEYS[1]), bell="all")]


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_while_saving_leaves_the_old_or_the_new(seed: int) -> None:
    rng = random.Random(seed)
    files = SimFiles()
    old, new = Person(PublicKey(KEYS[1]), bell="off"), Person(PublicKey(KEYS[1]), bell="all")
    remember(files, old)
    files.crash_at = files.operations + rng.randint(1, 4)
    with contextlib.suppress(PowerCut):
        remember(files, new)
    files.power_cut(rng)
    assert people(files) in ([old], [new])
    assert files.names() == ["personal.jsonl"]


def test_a_damaged_line_costs_one_person_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = DiskFiles(tmp_path)
    remember(files, *(Person(PublicKey(key), bell="all") for key in KEYS[:3]))
    path = tmp_path / "personal.jsonl"
    lines = path.read_bytes().splitlines()
    damaged = [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000, b'{"key":"00"}'),
        lines[0].replace(b'"all"', b'"loud"'),
        lines[0].replace(b'"rooms":[]', b'"rooms":["../x"]'),
        lines[0].replace(b'"marks":{}', b'"marks":{"1":[-1,"00"]}'),
        lines[0].replace(b'"times":true', b'"times":1'),
        lines[0].replace(b'"rooms":[]', b'"rooms":[["1"]]'),
    ]
    path.write_bytes(b"\n".join([lines[0], *damaged, lines[2]]))
    assert [person.key for person in people(files)] == [KEYS[0], KEYS[2]]
    assert f"{len(damaged)} damaged lines" in caplog.text


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "personal.jsonl").mkdir()
    assert people(DiskFiles(tmp_path)) == []
    assert "What people had read is not known" in caplog.text


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_what_the_disk_failed_to_give_is_remembered_at_the_next_start(fault: str) -> None:
    files = SimFiles()
    remember(files, Person(PublicKey(KEYS[1]), {"1": mark(1)}))
    getattr(files, fault).add("")
    assert people(files) == []
    remember(files, Person(PublicKey(KEYS[2]), {"1": mark(2)}))
    getattr(files, fault).clear()
    assert people(files) == [Person(PublicKey(KEYS[1]), {"1": mark(1)})]
