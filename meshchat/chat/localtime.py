"""Local time: POSIX time zones, the times that people write, and the moments of the daily wipe.

Times are UTC milliseconds since 1970 unless a name says otherwise; "shown" seconds are what a local clock
shows, counted as if it showed UTC. Zones are read here and not by dateutil's `tzstr`, which refuses quoted
names (`<+0330>-3:30`) and misplaces rules beyond a day (`M3.4.4/26`, `M3.5.0/-1`): with one reader, every
zone that OpenWrt can store goes the same way.
"""

import bisect
import datetime
import functools
import re
from dataclasses import dataclass

from meshchat.chat.zonefile import ZoneTable
from meshchat.errors import ConfigError, UsageError
from meshchat.units import parse_clock_time, parse_duration

DAY = 86_400
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LAST_MS = int((datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC) - EPOCH).total_seconds()) * 1000 - 1
"""Times are shown as at most this one, the end of the year 9998: a stamp may claim the year 10889, which
`datetime` cannot hold."""

MAX_WHEN = 64
"""Characters in a WHEN: the longest sensible one has about 40."""

_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_OFFSET = r"[+-]?\d{1,2}(?::\d{2}(?::\d{2})?)?"
_DATE = r"(?:M\d{1,2}\.\d\.\d|J\d{1,3}|\d{1,3})"
_TIME = r"[+-]?\d{1,3}(?::\d{2}(?::\d{2})?)?"
_ZONE = re.compile(
    rf"({_NAME})({_OFFSET})(?:({_NAME})({_OFFSET})?(?:,({_DATE})(?:/({_TIME}))?,({_DATE})(?:/({_TIME}))?)?)?",
    re.ASCII,
)
"""POSIX.1-2024, "Other environment variables", TZ; the hours of a rule's time by RFC 8536, 3.3.1."""

_NAMES_SINCE = 946_684_800
"""The year 2000: people write the names that times are called by today, not those of their grandparents."""

_US_RULES = ("M3.2.0", None, "M11.1.0", None)
"""What glibc takes for a zone with daylight saving time and no rules, such as `EST5EDT`."""


@dataclass(frozen=True)
class _YearlyMoment:
    """When clocks are changed each year: a date (`M3.5.0`, `J60` or `59`) and seconds after its midnight."""

    date: str
    seconds: int

    def shown(self, year: int) -> int:
        """The moment of `year`, in shown seconds."""
        return (self._ordinal(year) - EPOCH.toordinal()) * DAY + self.seconds

    def _ordinal(self, year: int) -> int:
        new_year = datetime.date(year, 1, 1).toordinal()
        if self.date[0] == "J":  # 29 February is never counted
            day = int(self.date[1:])
            leap = datetime.date(year, 12, 31).toordinal() - new_year == 365
            return new_year + day - 1 + (1 if leap and day >= 60 else 0)
        if self.date[0] != "M":
            return new_year + int(self.date)
        month, week, weekday = (int(number) for number in self.date[1:].split("."))
        first = datetime.date(year, month, 1)
        day = first.toordinal() + (weekday - first.isoweekday()) % 7 + (week - 1) * 7
        after = datetime.date(year + month // 12, month % 12 + 1, 1).toordinal()
        return day if day < after else day - 7  # week 5 is the last one


class Zone:
    """A time zone by a POSIX TZ string, such as `CET-1CEST,M3.5.0,M10.5.0/3` or `<+0330>-3:30`.

    Where the machine has a table of the zone, that goes before the rule up to its last change.
    """

    def __init__(self, text: str = "UTC", table: ZoneTable | None = None) -> None:
        """Reads `text`; raises `ConfigError` naming it where it is no POSIX time zone."""
        self.text = text
        self._table = table if table is not None and table.changes else None
        plain = {"": "UTC0", "UTC": "UTC0", "GMT": "GMT0"}.get(text, text)
        match = _ZONE.fullmatch(plain) if len(plain) <= 128 else None
        try:
            if match is None:
                raise ValueError
            self._read(match)
        except ValueError:
            raise ConfigError(
                f"The time zone {text!r} cannot be read: give a POSIX time zone such as "
                '"CET-1CEST,M3.5.0,M10.5.0/3" or "<+0330>-3:30", or the name of one that this machine has.'
            ) from None

    def _read(self, match: re.Match[str]) -> None:
        name, offset, dst_name, dst_offset, *rules = match.groups()
        self._standard = (-_seconds(offset, 24), name.strip("<>"))
        self._daylight = self._standard
        self._start = self._end = None
        if dst_name is None:
            return
        shift = -_seconds(dst_offset, 24) if dst_offset else self._standard[0] + 3600
        self._daylight = (shift, dst_name.strip("<>"))
        start, start_time, end, end_time = rules if rules[0] else _US_RULES
        self._start = _yearly(start, start_time)
        self._end = _yearly(end, end_time)

    def __repr__(self) -> str:
        return f"Zone({self.text!r})"

    @functools.lru_cache(maxsize=16)  # noqa: B019 - a daemon has one zone for as long as it runs
    def _changes(self, year: int) -> tuple[tuple[int, tuple[int, str]], ...]:
        """The changes in and around `year`: (UTC seconds, (offset in seconds, abbreviation) from then on)."""
        if self._table is None:
            return self._by_rule(year)
        first = _new_year(year - 1)
        last = self._table.changes[-1].moment
        listed = [each for each in self._table.changes if first <= each.moment < _new_year(year + 2)]
        by_rule = [change for change in self._by_rule(year) if change[0] > last]
        return (*((each.moment, (each.offset, each.name)) for each in listed), *by_rule)

    @functools.lru_cache(maxsize=16)  # noqa: B019 - as above
    def _by_rule(self, year: int) -> tuple[tuple[int, tuple[int, str]], ...]:
        if self._start is None or self._end is None:
            return ()
        changes = []
        for near in (year - 1, year, year + 1):
            # Where both fall together (a zone that always has daylight saving time), the start counts.
            changes.append((self._end.shown(near) - self._daylight[0], 0, self._standard))
            changes.append((self._start.shown(near) - self._standard[0], 1, self._daylight))
        return tuple((moment, after) for moment, _, after in sorted(changes))

    def _at(self, seconds: int) -> tuple[int, str]:
        """(offset in seconds, abbreviation) at a UTC second."""
        if self._table is not None and seconds < self._table.changes[-1].moment:
            number = bisect.bisect_right(self._table.changes, seconds, key=lambda change: change.moment)
            change = self._table.changes[number - 1] if number else self._table.first
            return change.offset, change.name
        current = self._standard
        for moment, after in self._by_rule(_year(seconds)):
            if moment > seconds:
                break
            current = after
        return current

    def local(self, ms: int) -> datetime.datetime:
        """What the local clock shows at `ms`, with its offset and name; clamped to 1970 and `LAST_MS`."""
        ms = min(max(ms, 0), LAST_MS)
        offset, name = self._at(ms // 1000)
        fixed = datetime.timezone(datetime.timedelta(seconds=offset), name)
        return (EPOCH + datetime.timedelta(milliseconds=ms)).astimezone(fixed)

    def abbreviations(self) -> frozenset[str]:
        """The names by which the zone calls its own time, such as CET and CEST."""
        listed = () if self._table is None else self._table.changes
        lately = (change.name for change in listed if change.moment >= _NAMES_SINCE)
        return frozenset((self._standard[1], self._daylight[1], *lately))

    def moments(self, shown: int) -> list[int]:
        """The UTC seconds at which the local clock shows `shown`, ascending.

        Two where clocks were put back over it; where they were put forward over it, the moment they were.
        """
        changes = self._changes(_year(shown))
        offsets = {after[0] for _, after in changes} | {self._at(shown + far)[0] for far in (-DAY, DAY)}
        found = sorted(shown - offset for offset in offsets if self._at(shown - offset)[0] == offset)
        if found:
            return found
        return [
            moment
            for moment, (after, _) in changes
            if moment + self._at(moment - 1)[0] <= shown < moment + after
        ][:1]


def _seconds(text: str, most_hours: int) -> int:
    """Seconds in `[+-]hh[:mm[:ss]]`; raises ValueError where it is out of range."""
    hours, minutes, seconds = (*(int(part) for part in text.lstrip("+-").split(":")), 0, 0)[:3]
    total = hours * 3600 + minutes * 60 + seconds
    if minutes > 59 or seconds > 59 or total > most_hours * 3600:
        raise ValueError
    return -total if text[0] == "-" else total


def _yearly(date: str, time: str | None) -> _YearlyMoment:
    """A rule of a zone; without a time it is 02:00. Raises ValueError where it names no day."""
    if date[0] == "M":
        month, week, weekday = (int(number) for number in date[1:].split("."))
        usable = 1 <= month <= 12 and 1 <= week <= 5 and weekday <= 6
    else:
        usable = 1 <= int(date[1:]) <= 365 if date[0] == "J" else int(date) <= 365
    if not usable:
        raise ValueError
    return _YearlyMoment(date, 7200 if time is None else _seconds(time, 167))


def _new_year(year: int) -> int:
    """The UTC second at which a year begins."""
    return (datetime.date(max(year, 1), 1, 1).toordinal() - EPOCH.toordinal()) * DAY


def _year(seconds: int) -> int:
    """The year of a second, kept inside what the neighbouring years' rules can be computed for."""
    return (EPOCH + datetime.timedelta(seconds=min(max(seconds, 0), LAST_MS // 1000))).year


# --- The daily wipe -------------------------------------------------------------------------------------


def last_wipe(now_ms: int, wipe_time: str, zone: Zone) -> int:
    """The latest moment up to and with `now_ms` at which the local clock showed `wipe_time` ("HH:MM").

    On the day that clocks are put forward over it, that is the moment they are: no day goes without.
    Raises `ConfigError` where `wipe_time` is no clock time.
    """
    today = now_ms // 1000 // DAY
    return max(moment for moment in _wipes_around(today, wipe_time, zone) if moment <= now_ms)


@functools.lru_cache(maxsize=16)
def _wipes_around(today: int, wipe_time: str, zone: Zone) -> tuple[int, ...]:
    """The wipes of the days around `today`: enough of them for any offset that a zone may have.

    Kept, for a router asks every ten seconds.
    """
    after_midnight = parse_clock_time(wipe_time)
    if after_midnight is None:
        raise ConfigError(f'The wipe time {wipe_time!r} cannot be used: give one such as "04:00".')
    return tuple(
        moment * 1000
        for day in range(today - 4, today + 5)
        for moment in zone.moments(day * DAY + after_midnight)
    )


# --- The times that people write ------------------------------------------------------------------------

_AGO = re.compile(
    r"(\d{1,9}) ?(s|m|h|d|w|sec(?:ond)?s?|min(?:ute)?s?|hours?|days?|weeks?)(?: ago)?",
    re.IGNORECASE | re.ASCII,
)
_DAY_WORD = re.compile(r"(today|yesterday)(?:[ ,]+(?:at )?([0-9:]+))?", re.IGNORECASE | re.ASCII)
_PLAUSIBLE = re.compile(r"[0-9A-Za-z:+,./ -]*\d[0-9A-Za-z:+,./ -]*", re.ASCII)
_TOO_LITTLE = re.compile(r"[\d.]{1,7}", re.ASCII)
_UTC_NAMES = frozenset(("UTC", "GMT", "Z", "utc", "z"))


def parse_when(text: str, now_ms: int, zone: Zone) -> int:
    """The time that a person means by `text`, at `now_ms` in `zone`.

    So long ago (`90s`, `30m`, `2h`, `1 day`, `1w ago`), `now`, `today` or `yesterday` (midnight, or with a
    clock time), a clock time (the last time it was shown), or a date, in RFC 3339 or as dateutil reads it;
    without a zone of its own it is local. Clamped to 1970 and `LAST_MS`. Raises `UsageError` naming these
    forms.
    """
    return min(max(_meant(text.strip(), now_ms, zone), 0), LAST_MS)


def _meant(text: str, now_ms: int, zone: Zone) -> int:
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ms - (parse_duration(ago[1] + ago[2][0].lower()) or 0) * 1000
    if text.lower() == "now":
        return now_ms
    if parse_clock_time(text) is not None:
        return last_wipe(now_ms, text, zone)
    word = _DAY_WORD.fullmatch(text)
    if word is not None:
        return _day_word(word, now_ms, zone)
    return _absolute(text, now_ms, zone)


def _refuse(text: str, why: str = "is no time") -> UsageError:
    return UsageError(
        f"{text[:MAX_WHEN]!r} {why}: write 30m, 2h, 1d or 1w (so long ago), today, yesterday, 18:30, "
        "2026-11-20, 2026-11-20 18:30 or 2026-11-20T18:30:00Z."
    )


def _day_word(word: re.Match[str], now_ms: int, zone: Zone) -> int:
    clock = parse_clock_time(word[2] or "00:00")
    if clock is None:
        raise _refuse(word[0])
    midnight = _midnight(now_ms, zone) - (DAY if word[1].lower() == "yesterday" else 0)
    return zone.moments(midnight + clock)[0] * 1000


def _midnight(now_ms: int, zone: Zone) -> int:
    """The last midnight that the local clock showed, in shown seconds."""
    return (zone.local(now_ms).toordinal() - EPOCH.toordinal()) * DAY


def _absolute(text: str, now_ms: int, zone: Zone) -> int:
    if len(text) > MAX_WHEN or not _PLAUSIBLE.fullmatch(text) or _TOO_LITTLE.fullmatch(text):
        raise _refuse(text)
    when = _read_date(text, now_ms, zone, day_first=False)
    # "1/2/2026" is January or February, by country: ask rather than guess. A year in front leaves no doubt.
    if not text[:4].isdigit() and when != _read_date(text, now_ms, zone, day_first=True):
        raise _refuse(text, "can be read as two days")
    return when


def _read_date(text: str, now_ms: int, zone: Zone, *, day_first: bool) -> int:
    """`text` by dateutil's parser; what it leaves out is today's, at midnight."""
    from dateutil import parser  # here, for it takes 2 MB and few people ask a router for a date

    def known_zone(name: str | None, offset: int | None) -> datetime.tzinfo | None:
        if offset is not None:
            return datetime.timezone(datetime.timedelta(seconds=offset))
        if name in _UTC_NAMES:
            return datetime.UTC
        if name is None or name in zone.abbreviations():
            return None
        raise _refuse(text, f"names the unknown time zone {name}")

    midnight = zone.local(now_ms).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        read = parser.parse(text, default=midnight, tzinfos=known_zone, dayfirst=day_first)
    except (ValueError, OverflowError, ArithmeticError, TypeError, IndexError, AttributeError):
        # All but the first two are dateutil's own slips on odd input, by version.
        raise _refuse(text) from None
    shown = read.replace(tzinfo=datetime.UTC) - EPOCH
    shown_ms = shown // datetime.timedelta(milliseconds=1)
    offset = read.utcoffset()
    if offset is not None:
        return shown_ms - offset // datetime.timedelta(milliseconds=1)
    return zone.moments(shown_ms // 1000)[0] * 1000 + shown_ms % 1000


# --- Showing times --------------------------------------------------------------------------------------


def format_rfc3339(ms: int) -> str:
    """`ms` as UTC with milliseconds, `2026-11-21T14:03:05.123Z`; clamped to 1970 and `LAST_MS`."""
    when = EPOCH + datetime.timedelta(milliseconds=min(max(ms, 0), LAST_MS))
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_local(ms: int, zone: Zone) -> str:
    """`ms` as people read it in `zone`: `2026-11-21 15:03`."""
    return zone.local(ms).strftime("%Y-%m-%d %H:%M")
