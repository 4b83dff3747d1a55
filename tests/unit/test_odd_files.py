"""What stands where a store's or an export's file should be: it is not destroyed, waited for or followed."""

import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshchat import byhand
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.client.exportfile import write_whole
from meshchat.config import load
from meshchat.errors import ConfigError, FileRefused, StoreError

LINES = [b"one\n", b"two\n"]


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path)


# --- The stores -----------------------------------------------------------------------------------------


def test_a_pipe_or_a_device_in_a_folder_is_refused_and_hides_nothing(
    files: DiskFiles, tmp_path: Path
) -> None:
    (tmp_path / "good.log").write_text("here\n")
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "loop.log").symlink_to("loop.log")
    (tmp_path / "gone.log").symlink_to("nothing")
    (tmp_path / "full.log").symlink_to("/dev/full")
    (tmp_path / "folder.log").mkdir()
    assert files.names() == ["good.log"]
    for name in ("pipe.log", "full.log", "folder.log", "loop.log"):
        for use in (
            lambda name=name: files.read(name, 0, 100),
            lambda name=name: files.append(name, b"x"),
            lambda name=name: files.sync(name),
            lambda name=name: files.replace(name, [b"x"]),
        ):
            with pytest.raises(StoreError, match=name):
                use()
    assert stat.S_ISFIFO((tmp_path / "pipe.log").stat().st_mode)


def test_what_is_replaced_keeps_mode_owner_and_the_link_to_it(files: DiskFiles, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    kept.write_text("old")
    kept.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(kept, 12, 34)
    (tmp_path / "state.json").symlink_to(kept)
    files.replace("state.json", [b"new"])
    assert (tmp_path / "state.json").is_symlink()
    assert kept.read_text() == "new"
    found = kept.stat()
    assert stat.S_IMODE(found.st_mode) == 0o604
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (12, 34)


def test_no_inodes_is_not_a_full_disk(
    files: DiskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    for inodes, told in ((5, "the disk is full"), (0, "no more files can be made there")):
        left = SimpleNamespace(f_files=10, f_favail=inodes, f_bavail=1000)
        monkeypatch.setattr(os, "statvfs", lambda _, left=left: left)
        with pytest.raises(StoreError, match=told):
            files.append("1.log", b"x")


# --- Exports --------------------------------------------------------------------------------------------


def test_an_export_replaces_no_device_no_pipe_and_no_link(tmp_path: Path) -> None:
    pipe, link, target, new = (tmp_path / name for name in ("pipe", "link", "target", "new"))
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert write_whole(pipe, LINES) == 2
    reader.join()
    assert got == [b"one\ntwo\n"]
    assert write_whole(Path("/dev/null"), LINES) == 2
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    new_link = tmp_path / "dangling"
    new_link.symlink_to(new)
    for place in (link, new_link):
        assert write_whole(place, LINES) == 2
        assert place.is_symlink()
    assert target.read_bytes() == new.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_an_export_that_nothing_can_take_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byhand, "PATIENCE", 0.1)
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for place, why in (
        (pipe, "nobody reads"),
        (loop, "symbolic links"),
        (tmp_path, "Is a directory"),
        (Path("/dev/full"), "No space left"),
    ):
        with pytest.raises(FileRefused, match=why):
            write_whole(place, LINES)
    assert loop.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["loop", "pipe"]


# --- Settings -------------------------------------------------------------------------------------------


def test_settings_that_windows_saved_are_read(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b'\xef\xbb\xbf# valley\r\nmesh = "valley"\r\nport = 9000')
    config = load(file)
    assert (config.mesh, config.port) == ("valley", 9000)


@pytest.mark.parametrize("content", [b"port = " + b"[" * 100_000, b'mesh = "\xe9"', b"x" * 300_000])
def test_settings_that_cannot_be_read_are_one_line_with_the_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml") as refusal:
        load(file)
    assert len(str(refusal.value)) < 300
