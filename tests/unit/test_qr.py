"""The mesh key as a QR code: what a phone would see on the terminal."""

import re
import sys

import pytest
import segno

from meshchat.errors import MeshchatError
from meshchat.terminal.qr import QUIET, qr_lines

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRST"

CELL = re.compile("\x1b\\[(30|97);(40|107)m\u2580")


def seen(lines: list[str]) -> list[list[bool]]:
    """The modules that a terminal shows for these lines, dark or not, row by row."""
    rows = []
    for line in lines:
        assert CELL.sub("", line) == "\x1b[0m"
        cells = CELL.findall(line)
        rows += [[ink == "30" for ink, _ in cells], [ground == "40" for _, ground in cells]]
    return rows


def test_the_terminal_shows_the_code_of_the_key_and_light_all_around() -> None:
    lines = list(qr_lines(KEY, "utf-8"))
    rows = seen(lines)
    code = segno.make(KEY, error="m", micro=False)
    size = len(code.matrix)
    inner = [row[QUIET : QUIET + size] for row in rows[QUIET : QUIET + size]]
    assert inner == [[bool(module) for module in row] for row in code.matrix]
    assert sum(map(sum, rows)) == sum(map(sum, inner))
    assert all(len(row) == size + 2 * QUIET for row in rows)


def test_a_key_fits_a_terminal_of_80_by_24() -> None:
    lines = list(qr_lines(KEY, "utf-8"))
    assert len(lines) < 24
    assert len(CELL.findall(lines[0])) < 80


def test_without_the_library_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    with pytest.raises(MeshchatError, match=r"segno, is not installed: .*meshchat-terminal"):
        list(qr_lines(KEY, "utf-8"))


def test_a_terminal_without_the_characters_is_told_so() -> None:
    with pytest.raises(MeshchatError, match="UTF-8"):
        list(qr_lines(KEY, "ascii"))
