"""What a router must not forget, and what it does when the file is gone or damaged."""

import contextlib
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.storage import statestore
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.smallfile import checked_object
from meshchat.adapters.storage.statestore import State, StateStore
from meshchat.errors import ConfigError, StoreError
from meshchat.identity.meshkey import MeshKey, mesh_key_text
from meshchat.wire.records import make_position
from tests.sim.disk import PowerCut, SimFiles

STATE = State(horizon_ms=5, floor_ms=1_800_000_000_000, running_s=77, boot_id="b", clock_offset_ms=-12)


def test_a_router_is_the_same_after_a_restart_and_its_key_is_its_owners(tmp_path: Path) -> None:
    first = StateStore(DiskFiles(tmp_path)).identity()
    assert StateStore(DiskFiles(tmp_path)).identity() == first
    assert StateStore(DiskFiles(tmp_path / "other")).identity().id != first.id
    assert stat.S_IMODE((tmp_path / "router.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\0" * 65, b"abcd\n", b"\xff" * 64, b"0" * 63, b"0" * 4000])
def test_a_damaged_router_key_never_makes_a_new_router(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "router.key").write_bytes(content)
    with pytest.raises(StoreError, match=r"router\.key is damaged: restore it"):
        StateStore(DiskFiles(tmp_path)).identity()
    assert (tmp_path / "router.key").read_bytes() == content


def test_mesh_keys_are_kept_in_order_and_private(tmp_path: Path) -> None:
    store = StateStore(DiskFiles(tmp_path))
    assert store.mesh_keys() == ()
    keys = (MeshKey(bytes(32)), MeshKey(bytes(range(32))))
    store.save_mesh_keys(keys)
    assert StateStore(DiskFiles(tmp_path)).mesh_keys() == keys
    assert stat.S_IMODE((tmp_path / "mesh.keys").stat().st_mode) == 0o600


def test_mesh_keys_may_be_written_by_hand(tmp_path: Path) -> None:
    written = f"# ours\n\n  {mesh_key_text(MeshKey(bytes(32))).upper()}  \n"
    (tmp_path / "mesh.keys").write_text(written)
    assert StateStore(DiskFiles(tmp_path)).mesh_keys() == (bytes(32),)


def test_mesh_keys_may_come_from_an_editor_of_windows(tmp_path: Path) -> None:
    key = MeshKey(bytes(range(32)))
    written = f"\ufeff# the gr\u00fcne valley,\u0085 since May\r\n\r\n{mesh_key_text(key)}\r\n"
    (tmp_path / "mesh.keys").write_bytes(written.encode())
    assert StateStore(DiskFiles(tmp_path)).mesh_keys() == (key,)


def test_a_damaged_mesh_key_never_opens_the_mesh(tmp_path: Path) -> None:
    (tmp_path / "mesh.keys").write_bytes(b"# ours\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"mesh\.keys, line 2: A mesh key is"):
        StateStore(DiskFiles(tmp_path)).mesh_keys()


@given(
    st.builds(
        State,
        horizon_ms=st.integers(0, 2**48 - 1),
        floor_ms=st.integers(0, 2**48 - 1),
        running_s=st.integers(0, 2**53),
        boot_id=st.text(max_size=40),
        pace_ms=st.one_of(st.none(), st.integers(0, 2**48 - 1)),
        pace_run=st.integers(0, 2**53),
        held_ms=st.one_of(st.none(), st.integers(0, 2**48 - 1)),
        held_run=st.integers(0, 2**53),
        synchronised_boot=st.text(max_size=40),
        good_ms=st.one_of(st.none(), st.integers(0, 2**48 - 1)),
        clock_offset_ms=st.one_of(st.none(), st.integers(-(2**48) + 1, 2**48 - 1)),
        clock_over_kernel=st.booleans(),
    )
)
def test_the_state_comes_back_as_it_was_saved(state: State) -> None:
    files = SimFiles()
    StateStore(files).save(state)
    assert StateStore(files).load() == state


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\0" * 100,
        b"[" * 60_000,
        b'{"version": 1}',
        checked_object({"version": 2}),
        checked_object({"version": 1, "horizon_ms": -1}),
        checked_object({"version": 1, "horizon_ms": True}),
        checked_object({"version": 1, "floor_ms": "1"}),
        checked_object({"version": 1, "held_ms": -1}),
        checked_object({"version": 1, "pace_ms": False}),
        checked_object({"version": 1, "clock_over_kernel": 1}),
        checked_object({"version": 1, "clock_offset_ms": float("inf")}),
    ],
)
def test_a_damaged_state_is_set_aside_and_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    store = StateStore(DiskFiles(tmp_path))
    assert store.load() == State()
    assert "state.json is damaged and set aside" in store.report[0]
    assert (tmp_path / "state.json.damaged").read_bytes() == content
    store.save(STATE)
    assert StateStore(DiskFiles(tmp_path)).load() == STATE


def _with_every_bit_turned(whole: bytes) -> Iterator[bytes]:
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)


def test_no_bit_of_a_key_can_turn_and_make_another_router_or_mesh() -> None:
    files = SimFiles()
    store = StateStore(files)
    store.identity()
    key = b"\x10" + bytes(31)  # its text begins with a letter that a bit makes the mark of a comment
    store.save_mesh_keys([MeshKey(key)])
    for damaged in _with_every_bit_turned(files.read("router.key")):
        files.replace("router.key", [damaged])
        with pytest.raises(StoreError, match=r"router\.key is damaged: restore it"):
            StateStore(files).identity()
    for damaged in _with_every_bit_turned(files.read("mesh.keys")):
        files.replace("mesh.keys", [damaged])
        with contextlib.suppress(ConfigError):
            keys = StateStore(files).mesh_keys()
            assert keys == (key,), "a capital letter or white space was made, and nothing else"


def test_no_bit_of_the_state_can_turn_unsaid() -> None:
    files = SimFiles()
    StateStore(files).save(STATE)
    for damaged in _with_every_bit_turned(files.read("state.json")):
        files.replace("state.json", [damaged])
        store = StateStore(files)
        assert store.load() == State()
        assert "state.json is damaged and set aside" in store.report[0]


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_what_the_disk_failed_to_give_is_not_written_over(fault: str) -> None:
    """It says so, and all is as it was at the next start."""
    files = SimFiles()
    StateStore(files).save(STATE)
    StateStore(files).add_wiped([make_position(1, 1)])
    getattr(files, fault).update(("state.json", "wiped.log"))
    store = StateStore(files)
    assert store.load() == State()
    assert store.wiped() == []
    assert [name in line for name, line in zip(("state.json", "wiped.log"), store.report, strict=True)]
    with pytest.raises(StoreError, match="could not be read and is left as it is: restart meshchat"):
        store.save(State(horizon_ms=9))
    with pytest.raises(StoreError, match="left as it is"):
        store.save_wiped([make_position(1, 2)])
    store.add_wiped([make_position(1, 3)])
    getattr(files, fault).clear()
    after = StateStore(files)
    assert after.load() == STATE
    assert after.wiped() == [make_position(1, 1), make_position(1, 3)]
    assert after.report == ()


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_a_router_key_that_the_disk_failed_to_give_stops_the_start_and_is_kept(fault: str) -> None:
    files = SimFiles()
    mine = StateStore(files).identity()
    getattr(files, fault).add("router.key")
    with pytest.raises(StoreError, match=r"router\.key: the disk"):
        StateStore(files).identity()
    getattr(files, fault).clear()
    assert StateStore(files).identity() == mine


def test_mesh_keys_that_go_while_it_runs_do_not_open_the_mesh() -> None:
    files = SimFiles()
    store = StateStore(files)
    store.save_mesh_keys([MeshKey(bytes(32))])
    files.remove("mesh.keys")
    with pytest.raises(ConfigError, match=r"mesh\.keys has gone: put it back"):
        store.mesh_keys()
    store.save_mesh_keys([])
    assert store.mesh_keys() == ()


def test_a_disk_that_takes_nothing_leaves_the_old_state() -> None:
    files = SimFiles()
    store = StateStore(files)
    store.save(STATE)
    store.add_wiped([make_position(1, 1)])
    for fault in ("read_only", "capacity"):
        setattr(files, fault, True if fault == "read_only" else files.used())
        with pytest.raises(StoreError):
            store.save(State())
        with pytest.raises(StoreError):
            store.add_wiped([make_position(1, 2)])
        files.read_only = False
    assert StateStore(files).load() == STATE
    assert StateStore(files).wiped() == [make_position(1, 1)]


@pytest.mark.parametrize("seed", range(60))
def test_a_power_cut_while_saving_leaves_the_old_state_or_the_new(seed: int) -> None:
    rng = random.Random(seed)
    files = SimFiles()
    StateStore(files).save(STATE)
    StateStore(files).add_wiped([make_position(1, 1), make_position(1, 2)])
    files.crash_at = files.operations + rng.randint(1, 8)
    store = StateStore(files)
    store.wiped()
    new = State(horizon_ms=9)
    try:
        store.save(new)
        store.add_wiped([make_position(1, 3)])
        store.save_wiped([make_position(1, 2), make_position(1, 3)])
    except PowerCut:
        pass
    files.power_cut(rng)
    after = StateStore(files)
    assert after.load() in (STATE, new)
    assert after.report == ()
    wiped = after.wiped()
    assert make_position(1, 2) in wiped
    assert set(wiped) <= {make_position(1, 1), make_position(1, 2), make_position(1, 3)}
    assert files.names() == ["state.json", "wiped.log"]
    after.add_wiped([make_position(0, 4)])
    assert StateStore(files).wiped() == [*wiped, make_position(0, 4)]


def test_what_is_no_position_is_passed_over(tmp_path: Path) -> None:
    good = [make_position(1, stamp) for stamp in range(3)]
    lines = [good[0].hex(), "zz", good[1].hex(), "", good[0].hex(), good[2].hex(), good[2].hex()[:20]]
    (tmp_path / "wiped.log").write_text("\n".join(lines))
    assert StateStore(DiskFiles(tmp_path)).wiped() == good
    assert (tmp_path / "wiped.log").read_text() == "".join(place.hex() + "\n" for place in good)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statestore, "MAX_REMEMBERED", 10)
    files = SimFiles()
    store = StateStore(files)
    assert store.wiped() == []
    for stamp in range(100):
        store.add_wiped([make_position(1, stamp)])
        assert (files.size("wiped.log") or 0) <= 20 * 51
    assert StateStore(files).wiped() == [make_position(1, stamp) for stamp in range(90, 100)]
