import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.render import INDENT, MAX_MARKS, escape, is_new_pictograph, message_line, safe

JOINERS = "\u200c\u200d"


@given(st.text(alphabet=st.characters(), max_size=60))
def test_nothing_that_drives_a_terminal_comes_out(text: str) -> None:
    for char in safe(text):
        assert char in JOINERS or is_new_pictograph(char) or unicodedata.category(char)[0] != "C"
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
        "\u2139\ufe0f \U0001f642\u200d\u2194\ufe0f \U0001f642\u200d\u2195\ufe0f \u25fe\ufe0f \u3030\ufe0f",
        "\U0001facd \U0001fac8 \U0001f6d8 \U0001faea \U0001fa8e \U0001fae8\u200d\U0001fadf",
        "🇩🇪🇲🇦🇨🇶 \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 🏴\u200d☠\ufe0f",
        "སྐྱེ བླ་མ שָּׁ֑ Việt e\u0302\u0323",
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
        ("\U0001f3f4\U000e0068\U000e0069\U000e007f", "\U0001f3f4\\U000e0068\\U000e0069\\U000e007f"),
        ("z" + "\u0301" * 9 + "a", "z" + "\u0301" * 8 + "\\u0301a"),
        ("\U0001fbff", "\\U0001fbff"),
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


@given(st.text(alphabet="ab\u0301\u0489\ufe0f\n", max_size=400))
def test_no_letter_carries_a_pile_of_marks(text: str) -> None:
    """Nor in JSON, where what is cut for people stays what it is."""
    for shown in (safe(text), escape(json.dumps(text, ensure_ascii=False))):
        piles = itertools.groupby(shown, lambda char: unicodedata.category(char) in ("Mn", "Me"))
        assert all(len(list(pile)) <= MAX_MARKS for are_marks, pile in piles if are_marks)
    assert json.loads(escape(json.dumps(text, ensure_ascii=False))) == text
