import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.render import INDENT, message_line, safe

JOINERS = "\u200c\u200d"


@given(st.text(alphabet=st.characters(), max_size=60))
def test_nothing_that_drives_a_terminal_comes_out(text: str) -> None:
    for char in safe(text):
        assert char in JOINERS or unicodedata.category(char)[0] != "C"
        assert unicodedata.category(char) not in ("Zl", "Zp")


@given(st.text(alphabet=st.characters(), max_size=60))
def test_further_lines_are_indented_and_nothing_else_breaks_a_line(text: str) -> None:
    shown = safe(text, multiline=True)
    assert shown.count("\n") == text.count("\n")
    assert all(line.startswith(INDENT) for line in shown.split("\n")[1:])
    assert safe(shown.replace("\n", "")) == shown.replace("\n", "")


@given(st.text(alphabet="\u200c\u200d\ufe0f\u034f\u3164", max_size=20))
def test_the_invisible_alone_is_never_kept(text: str) -> None:
    assert safe(text).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII, with | / !^ and \\",
        "Grüße, señor, Ελληνικά, हिन्दी, 日本語, ไทย",
        "שלום עולם",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🚀 👩🏽\u200d🚀 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈 👨\u200d👩\u200d👧",
        "😀" * 2048,
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x00\x07\r", "\\x7f\\x00\\x07\\x0d"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\u200b\ufeff\u00ad\u2028", "\\u200b\\ufeff\\xad\\u2028"),
        ("a\u200db", "a\\u200db"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud83d", "\\ud83d"),
        ("\ue000\uffff", "\\ue000\\uffff"),
        ("a\ufe0f", "a\\ufe0f"),
    ],
)
def test_the_rest_is_shown_as_escapes(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_a_message_line_cannot_be_imitated_from_inside_a_text() -> None:
    line = message_line("12:00", "ja", "hi\n12:01 bo: all clear")
    assert line == "12:00 ja: hi\n      12:01 bo: all clear"


def test_a_time_that_no_clock_vouches_for_is_marked() -> None:
    assert message_line("12:00", "ja\x1b", "hi", unknown=True) == "~12:00 ja\\x1b: hi"
    assert message_line("12:00", "ja", "/me waves\n12:01 bo: hi") == f"12:00 * ja waves\n{INDENT}12:01 bo: hi"
