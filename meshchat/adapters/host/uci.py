"""A router's settings as OpenWrt keeps them, where every value is text, made into the daemon's configuration.

The daemon itself refuses a configuration with a value that cannot be used. A router has nobody to read why:
here each value is judged alone, and in place of a bad one stays what was there before.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshchat.adapters.host.clock import system_zone
from meshchat.config import FIXED, SETTINGS, SYSTEM, checked, parse, toml
from meshchat.errors import ConfigError, Contradiction

_BOOLEANS = {
    **dict.fromkeys(("1", "on", "true", "yes", "enabled"), True),
    **dict.fromkeys(("0", "off", "false", "no", "disabled"), False),
}
"""What OpenWrt's `config_get_bool` (/lib/functions.sh) takes."""

_HEAD = "# Made from {source} at each start and reload: edit that one.\n"
_FIXED_HEAD = "\n# Taken at the daemon's next start:\n"
_LIVE_HEAD = "\n# Taken at once:\n"
"""What follows this line may change without a restart; the init script looks for it."""


def settle(given: Mapping[str, Sequence[str]], before: str, source: str) -> tuple[str, list[str]]:
    """The configuration, as TOML, and a sentence on each option that cannot be used.

    `given` are the options of `source`, an empty value being as good as none; `before` is the configuration
    that was made the last time, whose values stay in place of bad ones; where it has none, the default.
    """
    last = dict(_usable(before))
    table: dict[str, object] = {}
    complaints = []
    for name, words in given.items():
        if any(words):
            try:
                table[name] = _value(name, words, source)
            except ConfigError as error:
                complaints.append(f"{error} {_keep(name, table, last)}")
    try:
        parse(_render(table, source), {}, SYSTEM, source)
    except Contradiction as error:
        kept = [_keep(name, table, last) for name in error.settings]
        complaints.append(" ".join((str(error), *kept)))
    return _render(table, source), complaints


def _usable(text: str) -> Iterator[tuple[str, object]]:
    """The settings in TOML of an earlier time that this version takes as well."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    for name, value in table.items():
        try:
            _check(name, value, "the last configuration")
        except ConfigError:
            continue
        yield name, value


def _keep(name: str, table: dict[str, object], last: Mapping[str, object]) -> str:
    """Gives `name` its last value in `table`; says so."""
    if name not in SETTINGS:
        return ""
    table.pop(name, None)
    if name not in last:
        return f"The default of {name} is used."
    table[name] = last[name]
    return f"{name} stays {last[name]!r}."


def _value(name: str, words: Sequence[str], source: str) -> object:
    """The words of an option as the type that the setting has; raises `ConfigError` where none fits."""
    if name in SETTINGS and SETTINGS[name].default == ():
        return _check(name, [part for word in words for part in word.split()], source)
    refusal: ConfigError | None = None
    for reading in _readings(words[-1]):
        try:
            return _check(name, reading, source)
        except ConfigError as error:
            refusal = refusal or error
    raise refusal or ConfigError(name)


def _readings(word: str) -> Iterator[object]:
    """What a word may mean: text, a number, yes or no."""
    yield word
    for number in (int, float):
        try:
            yield number(word)
        except ValueError:
            continue
    if word in _BOOLEANS:
        yield _BOOLEANS[word]


def _check(name: str, value: Any, source: str) -> object:
    """`value` itself, where the setting accepts it; raises `ConfigError`."""
    checked(name, value, source)
    if name == "timezone" and value:
        system_zone(value)
    return value


def _render(table: Mapping[str, object], source: str) -> str:
    parts = [_HEAD.format(source=source)]
    for head, fixed in ((_FIXED_HEAD, True), (_LIVE_HEAD, False)):
        parts.append(head)
        parts += (f"{name} = {toml(table[name])}\n" for name in sorted(table) if (name in FIXED) is fixed)
    return "".join(parts)
