"""The fields of requests: what each may hold, checked before any operation sees it."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshchat.chat.personal import BELLS
from meshchat.errors import UsageError
from meshchat.wire.records import RECORD_ID_SIZE

MAX_COUNT = 2**31 - 1
"""More than there can be of anything, and a number that counts on every machine."""


@dataclass(frozen=True)
class Field:
    """What a field holds, as `wanted` says to people; None when left out, unless `required`."""

    wanted: str
    fits: Callable[[object], bool]
    required: bool = True


def _is_text(value: object) -> bool:
    """Unicode text: JSON can also write lone surrogates, which no UTF-8 holds."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and all(unicodedata.category(c) != "Cc" for c in value)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_COUNT


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


TEXT = Field("text", _is_text)
WORD = Field("text without control characters", _is_word)
OPTIONAL_WORD = Field(WORD.wanted, _is_word, required=False)
OPTIONAL_COUNT = Field(f"a whole number from 1 to {MAX_COUNT}", _is_count, required=False)
FLAG = Field("true or false", _is_flag)
OPTIONAL_FLAG = Field("true or false", _is_flag, required=False)
OPTIONAL_BELL = Field(" or ".join(BELLS), BELLS.__contains__, required=False)
WORDS = Field("a list of texts without control characters", _are_words)
OPTIONAL_WORDS = Field("a list of texts", _are_words, required=False)
LINES = Field("a list of texts", _are_texts)


def parse_id(text: str) -> bytes | None:
    """A record id from hex; None where it is none."""
    try:
        record_id = bytes.fromhex(text)
    except ValueError:
        return None
    return record_id if len(record_id) == RECORD_ID_SIZE else None


def read(request: Mapping[str, object], fields: Mapping[str, Field]) -> dict[str, object]:
    """The values of `fields` in `request`; others are ignored. Raises `UsageError` naming the field."""
    values: dict[str, object] = {}
    for name, field in fields.items():
        value = request.get(name)
        if value is None and field.required:
            raise UsageError(f"The request lacks '{name}', which is {field.wanted}.")
        if value is not None and not field.fits(value):
            raise UsageError(f"'{name}' has to be {field.wanted}.")
        values[name] = value
    return values
