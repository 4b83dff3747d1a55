"""What people write by hand is read as they meant it, or refused by one line; nothing hangs."""

import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat import byhand
from meshchat.byhand import lines_of, open_input, read_bytes, read_text
from meshchat.errors import FileRefused


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byhand, "PATIENCE", 0.2)


def refused(path: Path, limit: int = 1000) -> str:
    with pytest.raises(FileRefused) as refusal:
        read_bytes(path, limit)
    line = str(refusal.value)
    assert str(path) in line
    assert "\n" not in line
    with pytest.raises(FileRefused):
        open_input(path).read(1)
    return line


# A lone carriage return stays what it is, and one before a line feed goes.
_LINES = st.lists(st.text(st.characters(blacklist_characters="\r\n\ufeff", blacklist_categories=["Cs"])))


@given(_LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_text_is_the_same_whatever_editor_saved_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, marked: bool, ended: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "saved"
    text = end.join(lines) + (end if ended else "")
    file.write_bytes((b"\xef\xbb\xbf" if marked else b"") + text.encode())
    assert read_text(file) == "\n".join(lines) + ("\n" if ended else "")


def test_what_other_encodings_left_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin"
    file.write_bytes(b"one\ntwo\nM\xfcller\n")
    with pytest.raises(FileRefused, match=r"latin is not UTF-8 text \(line 3\)"):
        read_text(file)
    file.write_bytes("sixteen bits".encode("utf-16"))
    with pytest.raises(FileRefused, match="UTF-8"):
        read_text(file)


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "nobody has written" in refused(pipe)
    assert "Is a directory" in refused(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "symbolic links" in refused(loop)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nothing")
    assert "No such file" in refused(dangling)


def test_an_endless_device_is_refused_at_its_bound() -> None:
    for device in ("/dev/zero", "/dev/full"):
        with pytest.raises(FileRefused, match="more than 1000 bytes"):
            read_bytes(Path(device), 1000)


def test_a_pipe_that_somebody_writes_to_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for read in (read_bytes, lambda path: open_input(path).read()):
        writer = threading.Thread(target=pipe.write_bytes, args=(b"secret\n",))
        writer.start()
        try:
            assert read(pipe) == b"secret\n"
        finally:
            writer.join()


@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"").rstrip(b"\r"))), st.booleans())
def test_lines_of_a_stream_and_none_for_each_that_is_too_long(lines: list[bytes], ended: bool) -> None:
    written = b"\n".join(lines) + (b"\n" if ended else b"")
    whole = written.split(b"\n")
    if whole[-1] == b"":
        whole.pop()
    expected = [line if len(line) <= 5 else None for line in whole]
    if whole and whole[0][:3] == b"\xef\xbb\xbf" and expected[0]:
        expected[0] = expected[0][3:]
    assert list(lines_of(io.BytesIO(written), 5)) == list(enumerate(expected, 1))


def test_of_an_endless_line_nothing_is_kept() -> None:
    class Endless(io.RawIOBase):
        left = 3_000_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    stream = io.BufferedReader(Endless())  # type: ignore[type-var]
    assert list(lines_of(stream, 100)) == [(1, None)]
