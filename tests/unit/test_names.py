import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.names import Strangers, fold, key_tag, room_name, split_tag, tagged, user_name
from meshchat.errors import NameRefused
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import is_name


@pytest.mark.parametrize(
    "typed", ["a", "ja", "Garten-1", "a.b_c", "Jürgen", "علی", "मोहन", "李明", "x" * 32, "1", "n\u0303o"]
)
def test_ordinary_names_are_taken(typed: str) -> None:
    assert user_name(typed) == unicodedata.normalize("NFC", typed)
    assert is_name(room_name(typed))


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "a b",
        "-x",
        "x-",
        ".",
        "..",
        "a/b",
        "a|b",
        "a~b",
        "a\nb",
        "a\x00b",
        "\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "a\u3164",
        "a\ufe0fb",
        "\ud800",
        "x" * 33,
        "😀",
        "!^",
    ],
)
def test_other_names_are_refused_in_one_plain_line(typed: str) -> None:
    with pytest.raises(NameRefused) as refused:
        user_name(typed)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@given(st.text(max_size=40))
def test_what_is_typed_becomes_a_name_that_records_carry_or_is_refused(typed: str) -> None:
    try:
        name = room_name(typed)
    except NameRefused:
        return
    assert is_name(name)
    assert room_name(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [("ja", "JA"), ("ja", "ｊａ"), ("Straße", "STRASSE"), ("é", "e\u0301"), ("a", "a\ufe0f")],
)
def test_names_that_people_take_for_the_same_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@given(st.text(max_size=20))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_a_tag_has_40_bits_of_the_key_and_can_be_typed_at_login() -> None:
    tag = key_tag(PublicKey(bytes(32)))
    assert len(tag) == 8
    assert set(tag) <= set(string.ascii_lowercase + "234567")
    assert split_tag(tagged("ja", PublicKey(bytes(32))).upper()) == ("JA", tag)
    assert split_tag("ja") == ("ja", None)
    assert key_tag(PublicKey(b"\x01" * 32)) != tag


def test_strangers_are_bounded_and_the_oldest_goes_first() -> None:
    strangers = Strangers(limit=2)
    for number in range(3):
        strangers.add("ja", PublicKey(bytes([number])))
    assert strangers.keys("ja") == {b"\x01", b"\x02"}
    strangers.add("bo", PublicKey(b"\x03"))
    strangers.add("bo", PublicKey(b"\x04"))
    assert strangers.keys("ja") == frozenset()
