"""The line editor: what was typed comes out whole, and the screen shows it undamaged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.chat.render import safe
from meshchat.terminal.editor import MAX_TYPED, Editor
from meshchat.terminal.front import Leave
from meshchat.terminal.widths import columns
from tests.unit.screen import Screen

TEXTS = st.text(
    st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from("\u00fc\u044f\u65e5\uff21\U0001f33b\u0301\u05d0\u200d\ufe0f\u1100\u1161\t"),
    ),
    max_size=120,
)


def typed(*reads: bytes) -> list[str]:
    """The lines that come of these reads."""
    editor = Editor()
    lines = []
    for data in reads:
        editor.feed(data)
        while (line := editor.next_line()) is not None:
            lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"abd\x7fc", "abc"),
        (b"\x7f\x08x", "x"),
        ("g\u00fc\x7f\u00f6".encode(), "g\u00f6"),
        ("ae\u0301\x7f".encode(), "a"),
        ("\U0001f33b\u65e5\x7f".encode(), "\U0001f33b"),
        (b"one two  \x17three", "one three"),
        (b"one two\x15three", "three"),
        (b"a\x1b[Ab\x1b[1;5Cc\x1bOHd\x1b[[Ae\x1b[200~f\x1bg", "abcdefg"),
        (b"a\x1b[\xc3\xbcb", "a\u00fcb"),
        (b"a\x00\x01b\x04\tc", "ab\tc"),
        (b"\xff\xfe", "\udcff\udcfe"),
    ],
)
def test_keys(keys: bytes, line: str) -> None:
    assert typed(keys + b"\n") == [line]
    assert typed(*(bytes([byte]) for byte in keys + b"\r")) == [line]


def test_leaving() -> None:
    for keys in (b"\x03", b"a\x03", b"\x04", b"a\x7f\x04"):
        with pytest.raises(Leave):
            typed(keys)


def test_what_was_typed_ahead_waits_for_its_question() -> None:
    editor = Editor()
    editor.feed(b"abc\nsecret\n")
    editor.ask("Name: ")
    assert editor.draw(80) == "Name: "
    assert editor.finish(editor.next_line() or "") == "abc\n"
    editor.ask("Password: ", secret=True)
    shown = editor.draw(80) + editor.finish(editor.next_line() or "")
    assert shown == "Password: \n"


def test_a_line_that_lost_something_is_longer_than_any_message() -> None:
    (line,) = typed(b"x" * (MAX_TYPED + 1000) + b"\n")
    assert line == "x" * MAX_TYPED


@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_lines_survive_any_division_into_reads(lines: list[str], data: st.DataObject) -> None:
    keys = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(keys)), max_size=8)))
    reads = [keys[start:end] for start, end in zip([0, *cuts], [*cuts, len(keys)], strict=True)]
    assert typed(*reads) == lines


@settings(max_examples=300)
@given(TEXTS, st.integers(16, 40), st.data())
def test_the_screen_is_never_damaged(text: str, width: int, data: st.DataObject) -> None:
    """Messages between the keys stand whole above the line, which stands in one row, its end in view."""
    editor, screen, above = Editor(), Screen(width), []
    editor.ask("> ")
    for char in text + "!":
        editor.feed(char.encode())
        assert editor.next_line() is None
        screen.write(editor.draw(width))
        if data.draw(st.booleans()):
            screen.write(editor.erase() + "a message\n" + editor.draw(width))
            above.append("a message")
    assert screen.rows[:-1] == above
    assert screen.rows[-1][0] in "<>"
    assert screen.rows[-1].endswith("!")
    assert columns(screen.rows[-1]) < width
    editor.feed(b"\n")
    screen.write(editor.finish(editor.next_line() or ""))
    below = Screen.of(f"> {safe(text)}!\n", width)
    assert screen.rows == above + below.rows
