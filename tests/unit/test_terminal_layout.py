"""Cells, colours and the status line: what makes a screen legible."""

import colorsys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshchat.chat.localtime import Zone
from meshchat.chat.render import safe
from meshchat.client.model import Link, Model
from meshchat.terminal import statusline
from meshchat.terminal.cells import cells, clusters, columns, wrap
from meshchat.terminal.palette import EIGHT, contrast, has_256, legible, style_of
from meshchat.terminal.view import Look, View
from tests.client.test_model import message, model, show

TEXTS = st.text(
    st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from(
            " \u00fc\u65e5\uff21\U0001f33b\u0301\u05d0\u0628\u200d\ufe0f\U0001f1e9\U0001f1ea\U0001f3fd"
        ),
    ),
    max_size=150,
)

PLAIN = Look(drawable=lambda text: text, many_colours=True, unicode=False)


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("a\u65e5", [1, 2]),
        ("e\u0301x", [1, 1]),
        ("\U0001f469\u200d\U0001f4bb|", [2, 1]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", [2, 2]),
        ("\u2764\ufe0f\u2764", [2, 1]),
        ("1\ufe0f\u20e3", [2]),
        ("\U0001f44d\U0001f3fd", [2]),
        ("\u0301a", [1, 1]),
        ("\u05e9\u05dc", [1, 1]),
    ],
)
def test_what_stands_in_a_cell(text: str, widths: list[int]) -> None:
    assert [width for _, width in clusters(text)] == widths


@given(TEXTS)
def test_clusters_lose_nothing(text: str) -> None:
    assert "".join(cluster for cluster, _ in clusters(text)).replace(" ", "") == text.replace(" ", "")


def test_a_chain_of_emoji_that_is_cut_reaches_for_nothing_behind_it() -> None:
    [chain, after] = cells(safe("\U0001f469\u200d" * 50 + "\U0001f469 "))
    assert chain.text.endswith("\U0001f469")
    assert after.text == " "


@given(TEXTS, st.integers(4, 50), st.integers(0, 2))
def test_a_wrapped_text_fits_and_keeps_its_words(text: str, width: int, indent: int) -> None:
    row = cells(safe(text))
    rows = wrap(row, width, indent)
    assert all(columns(each) <= width for each in rows)
    wrapped = "".join(cell.text for each in rows for cell in each)
    assert wrapped.replace(" ", "") == "".join(cell.text for cell in row).replace(" ", "")


def test_words_are_broken_only_where_they_must() -> None:
    rows = wrap(cells("ann: the quick brown fox-jumping-over-it"), 14, 5)
    assert ["".join(cell.text for cell in row) for row in rows] == [
        "ann: the quick",
        "     brown fox",
        "     -jumping-",
        "     over-it",
    ]


def test_the_status_line_shortens_wide_names_to_what_fits() -> None:
    parts = [("\u5ba4" * 4,), ("with " + "\u65e5\u672c" * 5, "1 here", ""), ("alone",)]
    assert statusline.arrange(parts, 42) == f"{parts[0][0]}  {parts[1][0]}  alone"
    assert statusline.arrange(parts, 41) == f"{parts[0][0]}  1 here  alone"


# --- Colours --------------------------------------------------------------------------------------------


def test_every_colour_is_legible_on_dark_and_on_light() -> None:
    assert len(legible()) >= 40
    for colour in legible():
        assert contrast(colour, (0, 0, 0)) >= 3
        assert contrast(colour, (255, 255, 255)) >= 3


def test_a_user_has_one_colour_and_users_have_many() -> None:
    keys = [f"key{number}" for number in range(200)]
    assert [style_of(key, many=True) for key in keys] == [style_of(key, many=True) for key in keys]
    styles = [style_of(key, many=True).removeprefix("fg:#") for key in keys]
    assert len(set(styles)) > 30
    hues = [colorsys.rgb_to_hsv(*bytes.fromhex(style))[0] for style in styles]
    for sixth in range(6):
        assert sum(int(hue * 6) == sixth for hue in hues) < len(keys) / 3
    assert {style_of(key, many=False) for key in keys} == {f"fg:{name}" for name in EIGHT}
    assert has_256({"TERM": "xterm-256color"})
    assert has_256({"TERM": "xterm", "COLORTERM": "truecolor"})
    assert not has_256({"TERM": "xterm"})


# --- The status line ------------------------------------------------------------------------------------


def line(made: Model, width: int) -> str:
    return statusline.arrange(statusline.status_line(made), width)


def test_the_status_line_says_what_there_is_room_for() -> None:
    made = model()
    show(made, "garden")
    made.present("bob", "keyofbob", "r", ["garden"], True)
    made.present("cyd", "keyofcyd", "r", ["garden"], False)
    made.take(message(made, 1, room="2"))
    made.take(message(made, 2, "ada?", room="3"))
    made.link = Link(2, True)
    assert line(made, 80) == "5:garden  with bob, cyd (idle)  2 neighbours, in step  [3: 1!] [2: 1]"
    for width in range(26, 80):
        shown = line(made, width)
        assert len(shown) <= width
        assert "5:garden" in shown
        assert "[3: 1!]" in shown
    made.link = Link(0, True)
    assert "alone" in line(made, 80)
    made.link = Link(1, False)
    assert "1 neighbour, catching up" in line(made, 80)
    made.connected = False
    assert "daemon gone" in line(made, 30)


def test_the_limit_is_counted_in_bytes() -> None:
    assert statusline.bytes_left("x" * 7191) == ""
    assert statusline.bytes_left("\u00fc" * 3690) == "812 of 8192 bytes left"
    assert not statusline.too_long("x" * 8192)
    assert statusline.bytes_left("x" * 8193) == "1 bytes too long"
    assert statusline.too_long("x" * 8193)
    assert statusline.bytes_left("\udcff" * 8000) == "192 of 8192 bytes left"


# --- The messages ---------------------------------------------------------------------------------------


def rows(view: View, width: int = 40, height: int = 6) -> list[str]:
    return ["".join(cell.text for cell in row).rstrip() for row in view.rows(width, height, [])]


def test_the_marks_tell_no_more_than_is_known() -> None:
    made = model()
    show(made, "1", message(made, 1, user="ada"), message(made, 2, "/me waves"))
    view = View(made, Zone("UTC"), PLAIN)
    assert rows(view)[-2:] == ["22:26 ada: hello .", "22:26 * bob waves"]
    made.held("0001", "1", 3)
    assert rows(view)[-2] == "22:26 ada: hello +3"
    ticks = View(made, Zone("UTC"), Look(drawable=str, many_colours=True, unicode=True))
    assert rows(ticks)[-2] == "22:26 ada: hello \u27133"
    made.times = False
    assert rows(view)[-2:] == ["ada: hello +3", "* bob waves"]
    assert ["".join(c.text for c in row) for row in view.rows(40, 1, ["on its way"])] == ["ada: on its way"]


def test_days_and_what_is_new_have_their_lines() -> None:
    made = model()
    held = [message(made, 1), message(made, 2, ms=message(made, 1).ms + 86_400_000)]
    made.room("1").load(held, all_there_is=True)
    made.show("1").new_from = held[1]
    assert rows(View(made, Zone("UTC"), PLAIN)) == [
        "",
        "--- Saturday 21 November 2026 ---",
        "22:26 bob: hello",
        "--- Sunday 22 November 2026 ---",
        "--- new since you left ---",
        "22:26 bob: hello",
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-30, 30), st.booleans()), max_size=12), st.integers(10, 60))
@example([(1, True), (0, True), (0, True), (0, True), (-7, False)], 10)
def test_scrolling_never_skips_or_repeats_a_row(steps: list[tuple[int, bool]], width: int) -> None:
    """What is in view is always a piece of the whole, and what arrives below does not move it."""
    made = model()
    show(made, "1", *(message(made, number, f"{number} " + "word " * (number % 9)) for number in range(40)))
    view = View(made, Zone("UTC"), PLAIN)
    arrived = 40
    for step, arrives in steps:
        view.rows(width, 6, [])
        view.scroll(step)
        shown = rows(view, width)
        if arrives and not view.at_end:
            made.take(message(made, arrived, f"{arrived} late"))
            arrived += 1
            assert rows(view, width) == shown
        whole = rows(View(made, Zone("UTC"), PLAIN), width, 2000)
        assert any(whole[at : at + 6] == shown for at in range(len(whole) - 5))
        assert view.at_end == (whole[-6:] == shown)
    view.to_top()
    assert view.at_top
    view.scroll(-10_000)
    assert view.at_end
