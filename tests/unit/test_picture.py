"""A captured screen becomes a picture of just that screen."""

from xml.etree import ElementTree

import pytest

from tests.picture.svg import HEIGHT, MARGIN, PAPER, WIDTH, draw

SVG = "{http://www.w3.org/2000/svg}"


def texts(*rows: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(draw(rows, 80, (0, 0))).findall(f"{SVG}text")


def test_text_stands_at_its_column_and_row_in_its_colour() -> None:
    first, second = texts("plain", "  \x1b[1m\x1b[38;5;196mred\x1b[0m <&>")[0:2]
    assert (first.text, second.text) == ("plain", "red")
    assert second.attrib["fill"] == "#ff0000"
    assert second.attrib["font-weight"] == "bold"
    assert float(second.attrib["x"]) == pytest.approx(MARGIN + 2 * WIDTH)
    assert float(second.attrib["y"]) - float(first.attrib["y"]) == HEIGHT


def test_what_was_set_holds_until_it_is_taken_back() -> None:
    drawn = texts("\x1b[31mone\x1b[3mtwo\x1b[39;23mthree")
    assert [(each.text, "font-style" in each.attrib) for each in drawn] == [
        ("one", False),
        ("two", True),
        ("three", False),
    ]
    assert drawn[0].attrib["fill"] == drawn[1].attrib["fill"] != drawn[2].attrib["fill"]


def test_a_reversed_row_is_drawn_over_its_whole_width() -> None:
    picture = ElementTree.fromstring(draw(["\x1b[7m status  "], 80, (3, 0)))
    _, cursor, bar = picture.findall(f"{SVG}rect")
    assert float(cursor.attrib["x"]) == pytest.approx(MARGIN + 3 * WIDTH)
    assert float(bar.attrib["width"]) == pytest.approx(9 * WIDTH)
    (text,) = picture.findall(f"{SVG}text")
    assert text.attrib["fill"] == PAPER
