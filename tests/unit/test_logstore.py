"""The log store keeps what it acknowledged, opens after every crash, and wipes what it was told to wipe."""

import contextlib
import json
import random
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshchat.adapters.storage import logstore
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.files import DirectoryInUse
from meshchat.adapters.storage.logfile import MAX_DAMAGED
from meshchat.adapters.storage.logline import StoredRecord, encode_line
from meshchat.adapters.storage.logmark import MARK_SIZE
from meshchat.adapters.storage.logstore import AppendFailed, FsyncPolicy, LogStore
from meshchat.adapters.storage.smallfile import checked_line
from meshchat.errors import StoreError
from meshchat.identity.keys import MarkKey
from meshchat.wire.ids import Position, PublicKey, RouterId, Signature
from meshchat.wire.records import Grade, Kind, Record, Space, make_stamp, mesh_id
from tests.sim.disk import PowerCut, SimFiles

MESH = mesh_id("test")
START_MS = 1_795_219_200_000


def record(
    number: int, *, room: str = "1", space: int = Space.ROOM, text: str = "", grade: Grade = Grade.GOOD
) -> Record:
    """Record `number`, later than those with lower numbers. The store never checks signatures."""
    body = (text or f"message {number}").encode()
    stamp = make_stamp(START_MS + 1000 * number)
    author = SIGNER_KEY
    return Record(
        MESH,
        space,
        room,
        Kind.MESSAGE,
        "ja",
        PublicKey(author),
        RouterId(bytes(8)),
        stamp,
        grade,
        body,
        Signature(bytes(64)),
    )


SIGNER_KEY = bytes(range(32))
KEY = b"a router's own secret, 32 bytes."


def stored(*numbers: int, room: str = "1") -> list[StoredRecord]:
    return [StoredRecord(record(number, room=room)) for number in numbers]


def loaded(store: LogStore, key: bytes = KEY) -> list[StoredRecord]:
    """What the store finds at its start, whole. Whatever it checks passes: records here are not signed."""
    found = list(store.load(MarkKey(key), lambda record: True))
    whole = []
    for item in found:
        kept = store.read(item.position)
        assert kept is not None
        assert kept.position == item.position
        whole.append(StoredRecord(kept, item.age, item.run))
    return whole


def opened(directory: Path, fsync: FsyncPolicy = "interval") -> tuple[LogStore, list[StoredRecord]]:
    files = DiskFiles(directory)
    store = LogStore(files, files, MESH, fsync=fsync)
    store.open()
    return store, loaded(store)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A directory whose room 1 holds the records 0 to 9."""
    store, _ = opened(tmp_path)
    store.append(stored(*range(10)))
    store.close()
    return tmp_path


def texts(found: list[StoredRecord]) -> list[str]:
    return [item.record.body.decode() for item in found]


# --- What is where ------------------------------------------------------------------------------------------


def test_each_log_has_its_file_and_comes_back(tmp_path: Path) -> None:
    history, state = DiskFiles(tmp_path / "logs"), DiskFiles(tmp_path / "state")
    store = LogStore(history, state, MESH)
    store.open()
    assert loaded(store) == []
    batch = [
        StoredRecord(record(1, room="Zürich")),
        StoredRecord(record(2, space=Space.ACCOUNTS, room="")),
        StoredRecord(record(3, space=Space.ROOMS, room="garden")),
        StoredRecord(record(4, space=200, room="x")),
        StoredRecord(record(5, space=7, room="")),
        StoredRecord(record(6, space=7, room="a.b")),
        StoredRecord(record(7, grade=Grade.UNKNOWN), age=30, run=400),
    ]
    store.append(batch)
    status = store.describe()
    store.close()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.log")}
    assert found == {
        "logs/rooms/Zürich.log",
        "logs/rooms/1.log",
        "logs/spaces/7/_.log",
        "logs/spaces/7/a.b.log",
        "state/accounts.log",
        "state/rooms.log",
        "state/space-200.log",
    }
    assert status.files == len(found)
    assert status.records == len(batch)
    assert status.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.log"))
    again = LogStore(DiskFiles(tmp_path / "logs"), DiskFiles(tmp_path / "state"), MESH)
    again.open()
    assert sorted(loaded(again), key=lambda item: item.record.order) == batch
    assert [again.read(item.record.position) for item in batch] == [item.record for item in batch]
    assert again.report == ()
    again.close()


def test_the_log_is_json_lines(logs: Path) -> None:
    lines = (logs / "rooms/1.log").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"message {number}" for number in range(10)]


def test_a_flood_of_rooms_does_not_make_a_flood_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logstore, "MAX_NAMED_LOGS", 5)
    store, _ = opened(tmp_path)
    batch = [StoredRecord(record(number, room=f"room{number}")) for number in range(50)]
    store.append(batch)
    store.remove([batch[30].record.position])
    store.close()
    assert len(list(tmp_path.rglob("*.log"))) == 6
    store, found = opened(tmp_path)
    assert len(found) == 49
    store.close()


def test_a_record_is_stored_once(logs: Path) -> None:
    store, _ = opened(logs)
    before = (logs / "rooms/1.log").read_bytes()
    store.append(stored(3, 4))
    assert (logs / "rooms/1.log").read_bytes() == before
    store.append(stored(20, 20))
    store.close()
    store, found = opened(logs)
    assert texts(found)[10:] == ["message 20"]
    assert store.report == ()
    store.close()


def test_two_daemons_on_one_directory_are_refused(tmp_path: Path) -> None:
    first, _ = opened(tmp_path)
    with pytest.raises(DirectoryInUse, match="in use by another meshchat daemon: stop that one"):
        opened(tmp_path)
    first.close()
    opened(tmp_path)[0].close()


def test_a_directory_of_another_mesh_is_refused_and_kept(logs: Path) -> None:
    before = (logs / "rooms/1.log").read_bytes()
    files = DiskFiles(logs)
    with pytest.raises(StoreError, match="holds another mesh"):
        LogStore(files, files, mesh_id("other")).open()
    assert (logs / "rooms/1.log").read_bytes() == before
    opened(logs)[0].close()


@pytest.mark.parametrize("apart", [True, False])
def test_a_directory_without_records_becomes_that_of_a_new_name(tmp_path: Path, apart: bool) -> None:
    """A name is often set only after the first start."""
    logs, state = (tmp_path / "logs", tmp_path / "state") if apart else (tmp_path, tmp_path)
    for mesh in (mesh_id("first"), MESH, mesh_id("first"), MESH):
        store = LogStore(DiskFiles(logs), DiskFiles(state), mesh)
        store.open()
        list(store.load(MarkKey(bytes(32)), lambda _: True))
        (state / "state.json").write_text("{}")
        (logs / "rooms").mkdir(exist_ok=True)
        (logs / "rooms/1.log").write_text("")
        store.close()
        for folder in (logs, state):
            assert (folder / "mesh.id").read_bytes() == checked_line(mesh.hex())


@pytest.mark.parametrize("log", ["rooms/2.log", "spaces/7/_.log", "accounts.log", "space-200.log"])
def test_one_record_of_whatever_kind_keeps_a_directory_for_its_mesh(tmp_path: Path, log: str) -> None:
    files = DiskFiles(tmp_path)
    LogStore(files, files, MESH).open()
    files.close()
    (tmp_path / log).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / log).write_text("a line\n")
    with pytest.raises(StoreError, match="holds another mesh"):
        LogStore(DiskFiles(tmp_path), DiskFiles(tmp_path), mesh_id("other")).open()
    assert (tmp_path / "mesh.id").read_bytes() == checked_line(MESH.hex())


def test_a_bit_that_turned_in_the_mesh_id_is_said_and_makes_no_other_mesh(logs: Path) -> None:
    whole = (logs / "mesh.id").read_bytes()
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        (logs / "mesh.id").write_bytes(damaged)
        files = DiskFiles(logs)
        store = LogStore(files, files, MESH)
        store.open()
        assert ["mesh.id was damaged" in line for line in store.report] == [True]
        store.close()
        assert (logs / "mesh.id").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", bytes(26), b"0" * 16 + b"\n", b"\xff" * 100])
def test_a_mesh_id_of_which_nothing_is_left_stops_the_start(logs: Path, content: bytes) -> None:
    (logs / "mesh.id").write_bytes(content)
    files = DiskFiles(logs)
    with pytest.raises(StoreError, match=r"mesh\.id is damaged: if .* is of this mesh, remove that file"):
        LogStore(files, files, MESH).open()
    assert (logs / "mesh.id").read_bytes() == content
    (logs / "mesh.id").unlink()
    store, found = opened(logs)
    assert len(found) == 10
    store.close()


# --- Mending ------------------------------------------------------------------------------------------------


def test_a_log_in_order_is_left_alone(logs: Path) -> None:
    before = (logs / "rooms/1.log").stat()
    store, found = opened(logs)
    store.close()
    after = (logs / "rooms/1.log").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(found) == 10


def test_a_log_out_of_order_is_sorted(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.append(stored(5, 3, 9, 1))
    store.append(stored(2, 8, 4))
    store.close()
    store, found = opened(tmp_path)
    assert all(store.read(item.record.position) == item.record for item in found)
    store.append(stored(7))
    store.close()
    store, found = opened(tmp_path)
    assert texts(found) == [f"message {number}" for number in (1, 2, 3, 4, 5, 8, 9, 7)]
    store.close()
    assert texts(opened(tmp_path)[1])[-3:] == ["message 7", "message 8", "message 9"]


@pytest.mark.parametrize("cut", [1, 2, 100, 300])
def test_a_torn_last_line_is_cut_off_and_reported(logs: Path, cut: int) -> None:
    log = logs / "rooms/1.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-cut])
    store, found = opened(logs)
    if cut == 1:  # nothing but the newline is gone
        assert len(found) == 10
        assert log.read_bytes() == whole
    else:
        assert len(found) == 9
        assert "the last line was cut short" in store.report[0]
        assert whole.startswith(log.read_bytes())
        assert log.read_bytes().endswith(b"\n")
    store.append(stored(30))
    store.close()
    assert texts(opened(logs)[1])[-1] == "message 30"


def test_a_tail_of_zeros_is_cut_off(logs: Path) -> None:
    log = logs / "rooms/1.log"
    whole = log.read_bytes()
    log.write_bytes(whole + bytes(5000))
    store, found = opened(logs)
    assert len(found) == 10
    assert log.read_bytes() == whole
    store.close()


def test_a_damaged_line_is_set_aside_and_can_be_stored_again(logs: Path) -> None:
    log = logs / "rooms/1.log"
    log.write_bytes(log.read_bytes().replace(b"message 4", b"massage 4\x1b[2J\xff"))
    store, found = opened(logs)
    assert "message 4" not in texts(found)
    assert len(found) == 9
    assert "1 damaged lines" in store.report[0]
    damaged = (logs / "rooms/1.log.damaged").read_text()
    assert "massage 4" in damaged
    assert "\x1b" not in damaged
    assert "massage" not in log.read_text()
    store.append(stored(4))
    assert store.read(record(4).position) == record(4)
    store.close()
    opened(logs)[0].close()
    assert texts(opened(logs)[1]) == [f"message {number}" for number in range(10)]


def test_duplicates_blank_lines_and_half_written_files_go(logs: Path) -> None:
    log = logs / "rooms/1.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"\n" + lines[0] + b"     \n" + b"".join(lines) + lines[3])
    (logs / "rooms/1.log.meshchat-new").write_bytes(lines[0])
    store, found = opened(logs)
    assert len(found) == 10
    store.close()
    assert log.read_bytes() == b"".join(lines)
    assert not (logs / "rooms/1.log.meshchat-new").exists()


def test_an_endless_line_costs_no_memory_and_loses_nothing_else(logs: Path) -> None:
    log = logs / "rooms/1.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:5]) + b"x" * 3_000_000 + b"\n" + b"".join(lines[5:]))
    store, found = opened(logs)
    assert len(found) == 10
    store.close()
    assert log.read_bytes() == b"".join(lines)
    assert (logs / "rooms/1.log.damaged").stat().st_size <= MAX_DAMAGED


def test_other_files_are_left_alone_and_reported(logs: Path) -> None:
    for name in ("rooms/notes.txt", "rooms/-x.log", "rooms/a b.log"):
        (logs / name).write_text("mine\n")
    store, found = opened(logs)
    assert len(found) == 10
    assert len([line for line in store.report if "not a log" in line]) == 3
    store.close()
    assert (logs / "rooms/notes.txt").read_text() == "mine\n"


def test_arbitrary_damage_never_stops_a_start(logs: Path) -> None:
    rng = random.Random(1)
    log = logs / "rooms/1.log"
    whole = log.read_bytes()
    known = {record(number).position for number in range(10)}
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(content))
            content[at : at + rng.choice([0, 1, 50])] = rng.randbytes(rng.choice([0, 1, 40]))
        log.write_bytes(content)
        store, found = opened(logs)
        assert {item.record.position for item in found} <= known
        assert all(store.read(item.record.position) == item.record for item in found)
        store.close()
        again, same = opened(logs)
        assert same == found
        assert again.report == ()
        again.close()


# --- While it runs ------------------------------------------------------------------------------------------


def test_a_line_edited_while_running_is_noticed_and_can_be_stored_again(logs: Path) -> None:
    store, _ = opened(logs)
    log = logs / "rooms/1.log"
    log.write_bytes(log.read_bytes().replace(b"message 4", b"massage 4"))
    assert store.read(record(4).position) is None
    assert store.take_damaged() == [record(4).position]
    assert store.take_damaged() == []
    assert store.read(record(5).position) == record(5)
    store.append(stored(4))
    assert store.read(record(4).position) == record(4)
    store.close()


@pytest.mark.parametrize("what", ["rooms/1.log", "rooms"])
def test_what_was_moved_away_can_be_put_back(logs: Path, what: str) -> None:
    store, _ = opened(logs)
    store.append(stored(10))
    (logs / what).rename(logs / "aside")
    with pytest.raises(StoreError, match=r"rooms/1\.log is not there: put it back"):
        store.read(record(3).position)
    store.append(stored(11))
    assert store.read(record(11).position) == record(11)
    with pytest.raises(StoreError, match="is not there"):
        store.remove([record(4).position])
    assert ["rooms/1.log is not there" in line for line in store.unread()] == [True]
    (logs / "aside").rename(logs / what)
    assert list(store.unread()) == []
    assert store.take_damaged() == []
    store.append(stored(12))
    store.remove([record(4).position])
    store.close()
    store, found = opened(logs)
    assert {item.record.position for item in found} == {record(n).position for n in range(13) if n != 4}
    assert store.report == ()
    store.close()


def test_what_was_cut_off_can_be_put_back(logs: Path) -> None:
    store, _ = opened(logs)
    log = logs / "rooms/1.log"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="is shorter than it was: put back"):
        store.read(record(8).position)
    store.append(stored(11))
    assert ["is shorter than it was" in line for line in store.unread()] == [True]
    log.write_bytes(whole)
    assert store.read(record(8).position) == record(8)
    assert list(store.unread()) == []
    store.close()
    assert len(opened(logs)[1]) == 11


def test_a_log_that_is_gone_for_good_is_begun_anew_at_the_next_start(logs: Path) -> None:
    store, _ = opened(logs)
    (logs / "rooms/1.log").unlink()
    store.append(stored(11))
    with pytest.raises(StoreError, match=r"rooms/1\.log"):
        store.close()
    store, found = opened(logs)
    assert texts(found) == ["message 11"]
    store.append(stored(12, 3))
    store.close()
    assert sorted(texts(opened(logs)[1])) == ["message 11", "message 12", "message 3"]


def test_what_another_program_wrote_into_a_log_is_never_rewritten_away(logs: Path) -> None:
    store, _ = opened(logs)
    log = logs / "rooms/1.log"
    other, _ = opened(logs.parent / "other")
    other.append(stored(*range(20, 30)))
    other.close()
    with log.open("ab") as file:
        file.write((logs.parent / "other/rooms/1.log").read_bytes())
    store.append(stored(11))
    assert ["was written to by another program" in line for line in store.unread()] == [True]
    store.remove([record(number).position for number in (0, 1, 2, 3, 11)])
    store.remove([record(number).position for number in range(4, 10)])
    store.close()
    assert not on_disk(logs / "rooms", '"text":"message 5"')
    assert texts(opened(logs)[1]) == [f"message {number}" for number in range(20, 30)]


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_reads_that_fail_damage_nothing(fault: str) -> None:
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    store.append(stored(*range(300)))
    getattr(files, fault).add("rooms")
    for number in (0, 150, 299):
        with pytest.raises(StoreError, match="the disk"):
            store.read(record(number).position)
    with pytest.raises(StoreError, match="the disk"):
        store.remove([record(number).position for number in range(100)])
    assert store.take_damaged() == []
    assert ["the disk" in line for line in store.unread()] == [True]
    getattr(files, fault).clear()
    assert list(store.unread()) == []
    store.remove([record(number).position for number in range(100)])
    assert store.read(record(150).position) == record(150)
    store.close()
    again = LogStore(files, files, MESH)
    again.open()
    assert texts(loaded(again)) == [f"message {number}" for number in range(100, 300)]
    assert again.report == ()


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_a_log_that_could_not_be_read_at_the_start_is_whole_at_the_next(fault: str) -> None:
    """And in between nothing of it is rewritten, cut off or removed, whatever is stored there and goes."""
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    store.append(stored(*range(300)))
    store.close()
    getattr(files, fault).add("rooms/1.log")
    store = LogStore(files, files, MESH)
    store.open()
    assert list(store.load(MarkKey(KEY), lambda record: True)) == []
    assert ["the disk" in line for line in store.report] == [True]
    assert ["restart meshchat to read the rest" in line for line in store.unread()] == [True]
    getattr(files, fault).clear()
    store.append(stored(7, *range(300, 400)))
    store.remove([record(number).position for number in range(300, 390)])
    store.remove([record(number).position for number in (7, *range(390, 400))])
    store.close()
    again = LogStore(files, files, MESH)
    again.open()
    assert texts(loaded(again)) == [f"message {number}" for number in range(300)]


def test_an_edit_that_moved_the_lines_makes_a_wipe_blank_nobody_elses(logs: Path) -> None:
    store, _ = opened(logs)
    log = logs / "rooms/1.log"
    log.write_bytes(b"x" * 200 + b"\n" + log.read_bytes())
    with pytest.raises(StoreError, match="was changed by another program: restart meshchat"):
        store.remove([record(4).position])
    assert store.take_damaged() == []
    store.close()
    assert {f"message {number}" for number in range(10)} <= set(texts(opened(logs)[1]))


def test_history_files_are_not_for_everybody(logs: Path) -> None:
    assert not stat.S_IMODE((logs / "rooms/1.log").stat().st_mode) & 0o007


# --- Wiping -------------------------------------------------------------------------------------------------


def on_disk(directory: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_wiped_text_leaves_the_disk_and_the_rest_stays(logs: Path) -> None:
    log = logs / "rooms/1.log"
    log.write_bytes(log.read_bytes().replace(b"message 7", b"message 7 damaged"))
    store, _ = opened(logs)
    store.append(stored(50, room="other"))
    store.remove([record(number).position for number in (2, 3)])
    assert not on_disk(logs, "message 2")
    assert not on_disk(logs, "message 7"), "what was set aside goes too"
    kept = [record(number) for number in (0, 1, 4, 5, 6, 8, 9)]
    assert [store.read(item.position) for item in kept] == kept
    store.append(stored(60))
    store.close()
    assert texts(opened(logs)[1]) == [
        *(item.body.decode() for item in kept),
        "message 60",
        "message 50",
    ]


def test_a_wiped_room_has_no_file_and_can_be_used_again(logs: Path) -> None:
    store, found = opened(logs)
    store.remove([item.record.position for item in found])
    assert not (logs / "rooms/1.log").exists()
    assert len(store) == 0
    store.append(stored(11))
    store.close()
    assert texts(opened(logs)[1]) == ["message 11"]


def test_the_oldest_can_go_one_by_one_without_rewriting_the_log_each_time(tmp_path: Path) -> None:
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    batch = [StoredRecord(record(number, text="x" * 400)) for number in range(200)]
    store.append(batch)
    size = files.size("rooms/1.log") or 0
    rewritten = 0
    for number, item in enumerate(batch[:150]):
        before = files.size("rooms/1.log")
        store.remove([item.record.position])
        rewritten += files.size("rooms/1.log") != before
        kept = batch[number + 1].record
        assert store.read(kept.position) == kept
    assert rewritten < 20
    assert (files.size("rooms/1.log") or 0) < size / 3
    store.close()
    again = LogStore(files, files, MESH)
    again.open()
    assert loaded(again) == batch[150:]
    again.close()


def test_a_wipe_on_a_full_disk_works_and_frees_space() -> None:
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    store.append(stored(*range(20)))
    store.append(stored(*range(20, 40), room="2"))
    files.capacity = files.used()
    store.remove([record(number).position for number in range(10)])
    assert b"message 9" not in files.read("rooms/1.log")
    store.remove([record(number, room="2").position for number in range(20, 40)])
    assert files.size("rooms/2.log") is None
    store.append(stored(41))
    store.close()
    again = LogStore(files, files, MESH)
    again.open()
    assert texts(loaded(again)) == [f"message {number}" for number in [*range(10, 20), 41]]
    again.close()


def test_a_wipe_of_the_one_log_that_fills_the_disk_gives_room_for_new_messages() -> None:
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    batch = [StoredRecord(record(number, text="x" * (number * 37 % 500))) for number in range(200)]
    store.append(batch)
    files.capacity = files.used()
    kept = batch[40:100] + batch[110:]
    store.remove([item.record.position for item in batch if item not in kept])
    assert files.used() < files.capacity * 0.8
    assert [store.read(item.record.position) for item in kept] == [item.record for item in kept]
    store.append(stored(300))
    store.close()
    again = LogStore(files, files, MESH)
    again.open()
    assert loaded(again) == [*kept, *stored(300)]
    assert again.report == ()


def test_what_a_wipe_had_half_blanked_when_the_power_went_is_gone(logs: Path) -> None:
    log = logs / "rooms/1.log"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[4] = b" " * 30 + lines[4][30:]
    log.write_bytes(b"".join(lines))
    store, found = opened(logs)
    assert len(found) == 9
    assert not on_disk(logs, "message 4")
    assert store.report == ()
    store.close()


def test_a_wipe_on_a_read_only_disk_says_so_and_can_be_repeated() -> None:
    files = SimFiles()
    store = LogStore(files, files, MESH)
    store.open()
    loaded(store)
    store.append(stored(1, 2))
    files.read_only = True
    with pytest.raises(StoreError, match="read-only"):
        store.remove([record(1).position])
    assert store.read(record(1).position) == record(1)
    files.read_only = False
    store.remove([record(1).position])
    assert store.read(record(1).position) is None
    assert store.read(record(2).position) == record(2)


# --- Disks that refuse --------------------------------------------------------------------------------------


def test_of_a_batch_that_fills_the_disk_the_others_are_named() -> None:
    history, state = SimFiles("/logs"), SimFiles("/state")
    store = LogStore(history, state, MESH)
    store.open()
    loaded(store)
    store.append(stored(1))
    history.capacity = history.used()
    account = StoredRecord(record(2, space=Space.ACCOUNTS, room=""))
    with pytest.raises(AppendFailed, match="full") as caught:
        store.append([*stored(1, 3), account])
    assert [item.record for item in caught.value.stored] == [record(1), account.record]
    assert record(3).position not in store
    history.capacity = None
    store.append(stored(3))
    store.close()
    again = LogStore(history, state, MESH)
    again.open()
    assert texts(loaded(again)) == ["message 2", "message 1", "message 3"]
    assert again.report == ()


@pytest.mark.parametrize("fault", ["read_only", "capacity", "failing"])
def test_a_disk_that_takes_nothing_at_start_still_opens(fault: str) -> None:
    history, state = SimFiles("/logs"), SimFiles("/state")
    store = LogStore(history, state, MESH)
    store.open()
    loaded(store)
    store.append(stored(5, 3, 1))
    store.close()
    history.append("rooms/1.log", b'{"half":')
    if fault == "failing":
        history.failing = set(range(history.operations, history.operations + 100))
    else:
        setattr(history, fault, True if fault == "read_only" else history.used())
    again = LogStore(history, state, MESH)
    again.open()
    found = loaded(again)
    assert sorted(texts(found)) == ["message 1", "message 3", "message 5"]
    assert any("could not be mended" in line or "cut short" in line for line in again.report)
    history.read_only, history.capacity, history.failing = False, None, set()
    again.append(stored(9))
    again.close()
    last = LogStore(history, state, MESH)
    last.open()
    assert texts(loaded(last))[-1] == "message 9"


def test_a_write_cut_short_by_the_kernel_leaves_no_torn_line(tmp_path: Path) -> None:
    """A real partial write, as on a full disk: the limit on file sizes lets only a part of it through."""
    store, _ = opened(tmp_path)
    store.append(stored(1))
    size = (tmp_path / "rooms/1.log").stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, old[1]))
    try:
        with pytest.raises(AppendFailed, match=r"rooms/1\.log: "):
            store.append(stored(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (tmp_path / "rooms/1.log").stat().st_size == size
    store.append(stored(3))
    store.close()
    store, found = opened(tmp_path)
    assert texts(found) == ["message 1", "message 3"]
    assert store.report == ()
    store.close()


# --- Crashes ------------------------------------------------------------------------------------------------


@dataclass
class Lives:
    """One disk through many crashes, and what the store has promised about it."""

    rng: random.Random
    fsync: FsyncPolicy
    files: SimFiles = field(default_factory=SimFiles)
    given: dict[bytes, StoredRecord] = field(default_factory=dict)
    written: set[Position] = field(default_factory=set)
    safe: set[Position] = field(default_factory=set)
    gone: set[Position] = field(default_factory=set)
    gone_safely: set[Position] = field(default_factory=set)

    def live(self) -> None:
        """Opens, checks every promise, works until it is killed or the power goes."""
        self.files.failing, self.files.capacity = set(), None
        store = LogStore(self.files, self.files, MESH, fsync=self.fsync)
        if self.rng.random() < 0.3:  # some die while they mend
            self.files.crash_at = self.files.operations + self.rng.randint(1, 6)
        try:
            self.check(store)
            self.files.crash_at = self.files.operations + self.rng.randint(1, 60)
            if self.rng.random() < 0.3:
                soon = self.files.operations
                self.files.failing = {soon + self.rng.randint(1, 40) for _ in range(3)}
            for _ in range(25):
                if self.rng.random() < 0.05:  # somebody else fills the disk
                    self.files.capacity = self.files.used() + self.rng.randint(0, 3000)
                self.work(store)
        except PowerCut:
            pass
        if self.rng.random() < 0.5:
            self.files.kill()
        else:
            self.files.power_cut(self.rng)
            self.written = set(self.safe)
            self.gone = set(self.gone_safely)

    def live_blind(self) -> None:
        """A life in which reads fail or logs are away, from its start or from some moment on to its end."""
        begin = self.rng.choice((self.files.unreadable.add, self.files.short.add, self.files.vanish))
        self.files.failing, self.files.capacity = set(), None
        store = LogStore(self.files, self.files, MESH, fsync=self.fsync)
        store.open()
        late = self.rng.random() < 0.5
        if not late:
            begin(self.rng.choice(("rooms", "rooms/a.log", "spaces", "accounts.log")))
        for _ in store.load(MarkKey(KEY), lambda record: True):
            pass
        if late:
            begin(self.rng.choice(("rooms", "rooms/a.log", "spaces", "accounts.log")))
        for _ in range(10):
            before = set(self.written)
            self.append(store)
            new = self.written - before
            for position in self.rng.sample(sorted(self.written), min(3, len(self.written))):
                with contextlib.suppress(StoreError):
                    store.read(position)
            assert store.take_damaged() == []
            if new and self.rng.random() < 0.5:
                with contextlib.suppress(StoreError):
                    store.remove(new)
                    self.gone |= new
                self.written -= new
                self.safe -= new
        self.files.unreadable.clear()
        self.files.short.clear()
        self.files.put_back()
        self.files.kill()

    def check(self, store: LogStore) -> None:
        store.open()
        # Now and then the router has a new key: all lines are to be marked anew.
        found = loaded(store, self.rng.choice([KEY, KEY, KEY, bytes(32)]))
        held = {item.record.position for item in found}
        assert len(held) == len(found)
        for item in found:
            assert self.given[item.record.position] == item
        assert self.written <= held, "an acknowledged record was lost"
        assert not self.gone & held, "a wiped record came back"
        for position in held:
            assert store.read(position) == self.given[position].record

    def work(self, store: LogStore) -> None:
        choice = self.rng.random()
        if choice < 0.6:
            self.append(store)
        elif choice < 0.75:
            try:
                store.sync_due()
            except StoreError:
                return
            if self.fsync == "interval":
                self.safe |= self.written
                self.gone_safely |= self.gone
        elif self.written:
            self.remove(store)

    def append(self, store: LogStore) -> None:
        batch = []
        for _ in range(self.rng.randint(1, 4)):
            space, room = self.rng.choice([(1, "a"), (1, "a"), (1, "b"), (7, ""), (128, "")])
            number = len(self.given)
            text = "x" * self.rng.choice([1, 50, 4000])
            item = StoredRecord(record(number ^ self.rng.randint(0, 7), space=space, room=room, text=text))
            if item.record.position not in self.given:
                batch.append(item)
                self.given[item.record.position] = item
        try:
            store.append(batch)
            done = tuple(batch)
        except AppendFailed as error:
            done = error.stored
        for item in done:
            self.written.add(item.record.position)
            if self.fsync == "always" or item.record.permanent:
                self.safe.add(item.record.position)

    def remove(self, store: LogStore) -> None:
        count = self.rng.choice([1, 2, len(self.written)])
        victims = set(self.rng.sample(sorted(self.written), min(count, len(self.written))))
        self.written -= victims
        self.safe -= victims
        try:
            store.remove(victims)
        except StoreError:
            return
        self.gone |= victims
        if self.fsync == "always":
            self.gone_safely |= victims


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
@pytest.mark.parametrize("seed", range(60))
def test_through_crashes_every_promise_is_kept(fsync: FsyncPolicy, seed: int) -> None:
    lives = Lives(random.Random(seed), fsync)
    for _ in range(8):
        lives.live()
        if lives.rng.random() < 0.3:
            lives.live_blind()


_APPENDER = """
import sys
from tests.unit.test_logstore import opened, record
from meshchat.adapters.storage.logline import StoredRecord
from pathlib import Path
store, found = opened(Path(sys.argv[1]))
number = len(found) * 100
while True:
    batch = [record(number + step, room=str(step % 3)) for step in range(7)]
    store.append([StoredRecord(item) for item in batch])
    sys.stdout.write("".join(item.position.hex() + "\\n" for item in batch))
    sys.stdout.flush()
    if number % 5 == 0:
        store.remove([batch[3].position])
        sys.stdout.write("-" + batch[3].position.hex() + "\\n")
        sys.stdout.flush()
    number += 7
"""


def test_kill_9_during_heavy_appends_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(9)
    kept: set[str] = set()
    wiped: set[str] = set()
    for _ in range(8):
        appender = subprocess.Popen([sys.executable, "-c", _APPENDER, str(tmp_path)], stdout=subprocess.PIPE)
        assert appender.stdout is not None
        with appender.stdout as pipe:
            lines = [pipe.readline() for _ in range(rng.randint(1, 400))]
            appender.send_signal(signal.SIGKILL)
            lines += pipe.read().splitlines(keepends=True)
        assert appender.wait() == -signal.SIGKILL
        for line in lines:
            if line.endswith(b"\n"):
                name = line.decode().strip()
                (wiped if name.startswith("-") else kept).add(name.removeprefix("-"))
        store, found = opened(tmp_path)
        held = {item.record.position.hex() for item in found}
        maybe_wiped = {name for name in kept - held if name not in wiped}
        assert len(maybe_wiped) <= 1, "only a wipe that was under way may have taken one"
        kept -= maybe_wiped | wiped
        assert kept <= held
        assert not wiped & held
        store.close()
    assert len(kept) > 500


def test_encoded_lines_are_what_the_log_holds_before_its_mark(logs: Path) -> None:
    lines = (logs / "rooms/1.log").read_bytes().splitlines()
    written = [encode_line(record(number), arrival=number + 1) for number in range(10)]
    assert [line[:-MARK_SIZE] + b"}\n" for line in lines] == written
