"""What a router remembers of logouts and codes, over restarts, power cuts and damage."""

import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.storage.accessfile import WRITE_EVERY, AccessFile, decode_access
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.smallfile import checked_object
from meshchat.errors import TicketVoid
from meshchat.identity.boxes import BoxKey
from meshchat.wire.ids import MeshId
from tests.sim.disk import SimFiles
from tests.unit.routers import START_MS, key

MESH = b"the mesh"


def opened(folder: Path, now: float = 0.0) -> AccessFile:
    return AccessFile(DiskFiles(folder), MeshId(MESH), now, START_MS)


def test_tickets_logouts_and_codes_outlive_a_restart_and_are_nobody_else_s(tmp_path: Path) -> None:
    access = opened(tmp_path)
    _, stays = access.tickets.give(key(1), 1, START_MS)
    ended, text = access.tickets.give(key(1), 1, START_MS)
    access.tickets.void(ended)
    code = access.codes.make(bytes(10))
    access.codes.enter(code, key(2).public)
    access.keep(0.0)
    again = opened(tmp_path)
    assert again.tickets.take(stays, START_MS).signer == key(1)
    with pytest.raises(TicketVoid):
        again.tickets.take(text, START_MS)
    assert list(again.codes) == [(code, [key(2).public])]
    for name in ("ticket.key", "access.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert text not in (tmp_path / "access.json").read_text()


def test_logouts_are_written_rarely_codes_at_once_and_all_at_the_end(tmp_path: Path) -> None:
    access, file = opened(tmp_path), tmp_path / "access.json"
    access.tickets.void(access.tickets.give(key(1), 1, START_MS)[0])
    access.keep(WRITE_EVERY - 1)
    assert not file.exists()
    access.keep(WRITE_EVERY)
    assert file.exists()
    file.unlink()
    access.keep(2 * WRITE_EVERY)
    assert not file.exists(), "nothing has changed since"
    access.codes.make(bytes(10))
    access.keep(2 * WRITE_EVERY)
    assert file.exists()
    file.unlink()
    access.tickets.void(access.tickets.give(key(1), 1, START_MS)[0])
    access.keep(2 * WRITE_EVERY + 1, last=True)
    assert file.exists()


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[", b"\xff\xfe", checked_object({"version": 2}), b"[" * 100_000]
)
def test_a_damaged_file_lets_nobody_in_that_had_logged_out(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    access = opened(tmp_path)
    ticket, text = access.tickets.give(key(1), 1, START_MS)
    access.tickets.void(ticket)
    access.keep(0.0, last=True)
    (tmp_path / "access.json").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path)
    assert len(caplog.records) == 1
    assert (tmp_path / "access.json.damaged").read_bytes() == damage
    with pytest.raises(TicketVoid):
        again.tickets.take(text, START_MS)
    later = again.tickets.give(key(1), 1, START_MS + 1)[1]
    assert again.tickets.take(later, START_MS + 1)


@pytest.mark.parametrize("damage", [b"", b"zz", b"00" * 31, b"\xff"])
def test_a_damaged_key_voids_all_tickets_and_is_said(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    text = opened(tmp_path).tickets.give(key(1), 1, START_MS)[1]
    (tmp_path / "ticket.key").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path)
    assert ["damaged" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(TicketVoid):
        again.tickets.take(text, START_MS)
    assert opened(tmp_path).tickets.take(again.tickets.give(key(1), 1, START_MS)[1], START_MS)


@pytest.mark.parametrize("fault", ["unreadable", "short"])
def test_what_the_disk_failed_to_give_counts_again_at_the_next_start(fault: str) -> None:
    files = SimFiles()
    before = AccessFile(files, MeshId(MESH), 0.0, START_MS)
    stays = before.tickets.give(key(1), 1, START_MS)[1]
    ended, text = before.tickets.give(key(1), 1, START_MS)
    before.tickets.void(ended)
    before.keep(0.0, last=True)
    getattr(files, fault).add("")
    meanwhile = AccessFile(files, MeshId(MESH), 0.0, START_MS)
    for ticket in (stays, text):
        with pytest.raises(TicketVoid):
            meanwhile.tickets.take(ticket, START_MS)
    meanwhile.codes.make(bytes(10))
    meanwhile.keep(0.0, last=True)
    getattr(files, fault).clear()
    after = AccessFile(files, MeshId(MESH), 0.0, START_MS)
    assert after.tickets.take(stays, START_MS).signer == key(1)
    with pytest.raises(TicketVoid):
        after.tickets.take(text, START_MS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"version": st.just(1)},
        optional={"floor_ms": json_values, "voided": json_values, "watch": json_values},
    )
)
def test_whatever_the_file_says_it_is_read_or_refused(content: dict[str, object]) -> None:
    try:
        tickets, _ = decode_access(checked_object(content), BoxKey(bytes(32)), MeshId(MESH))
    except ValueError:
        return
    assert tickets.floor_ms >= -1
