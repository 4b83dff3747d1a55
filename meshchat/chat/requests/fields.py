"""The fields of requests: what each may hold, checked before any operation sees it.

A request is a frozen dataclass whose fields have the types here. To the type checker they are what they hold,
so that it sees a field that does not fit its operation; to `read` they carry their rule.
"""

import dataclasses
import functools
import typing
import unicodedata
from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar, cast

from meshchat.chat.personal import BELLS
from meshchat.errors import UsageError
from meshchat.wire.ids import RECORD_ID_SIZE, RecordId

MAX_COUNT = 2**31 - 1
"""More than there can be of anything, and a number that counts on every machine."""

MAX_KEY = 64
"""Characters of an idempotency key: a UUID takes 36, a hash in hex 64."""

R = TypeVar("R")


class Rule(NamedTuple):
    """What a field holds, as `wanted` says to people; left out, it is None unless it is `required`."""

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


def _is_key(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_KEY and _is_word(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_COUNT = f"a whole number from 1 to {MAX_COUNT}"
_WORD = "text without control characters"

Text: TypeAlias = Annotated[str, Rule("text", _is_text)]
"""Text, exactly as it was typed."""

Word: TypeAlias = Annotated[str, Rule(_WORD, _is_word)]
"""Text without control characters."""

Flag: TypeAlias = Annotated[bool, Rule("true or false", _is_flag)]
Texts: TypeAlias = Annotated[list[str], Rule("a list of texts", _are_texts)]
Words: TypeAlias = Annotated[list[str], Rule("a list of texts without control characters", _are_words)]

OptionalWord: TypeAlias = Annotated[str | None, Rule(_WORD, _is_word, required=False)]
OptionalFlag: TypeAlias = Annotated[bool | None, Rule("true or false", _is_flag, required=False)]
OptionalTexts: TypeAlias = Annotated[list[str] | None, Rule("a list of texts", _are_texts, required=False)]

OptionalCount: TypeAlias = Annotated[int | None, Rule(_COUNT, _is_count, required=False)]
"""A whole number, at least 1."""

OptionalKey: TypeAlias = Annotated[
    str | None, Rule(f"1 to {MAX_KEY} characters without control characters", _is_key, required=False)
]
"""An idempotency key."""

OptionalBell: TypeAlias = Annotated[str | None, Rule(" or ".join(BELLS), BELLS.__contains__, required=False)]
"""When a front end rings (`personal.BELLS`)."""


def parse_id(text: str) -> RecordId | None:
    """A record id from hex; None where it is none."""
    try:
        record_id = bytes.fromhex(text)
    except ValueError:
        return None
    return RecordId(record_id) if len(record_id) == RECORD_ID_SIZE else None


@functools.cache
def rules(kind: Hashable) -> Mapping[str, Rule]:
    """What each field of a kind of request, a dataclass, holds, by its name."""
    declared = cast(Any, kind)
    hints = typing.get_type_hints(declared, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in dataclasses.fields(declared)}


def read(request: Mapping[str, object], kind: type[R]) -> R:
    """The request of this kind in `request`, whose other fields are ignored.

    Raises `UsageError` naming the field that is not as it has to be.
    """
    values: dict[str, object] = {}
    for name, rule in rules(cast(Hashable, kind)).items():
        value = request.get(name)
        if value is None and rule.required:
            raise UsageError(f"The request lacks '{name}', which is {rule.wanted}.")
        if value is not None and not rule.fits(value):
            raise UsageError(f"'{name}' has to be {rule.wanted}.")
        values[name] = value
    return kind(**values)
