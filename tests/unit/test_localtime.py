"""Zones, the daily wipe and the times that people write, against Python's zoneinfo and by brute force."""

import contextlib
import datetime
import io
import struct
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshchat.chat.localtime import (
    LAST_MS,
    Zone,
    format_local,
    format_rfc3339,
    last_wipe,
    parse_when,
)
from meshchat.errors import ConfigError, UsageError

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ZONES = (
    "UTC0",
    "CET-1CEST,M3.5.0,M10.5.0/3",  # Berlin
    "<+0330>-3:30",  # Tehran
    "<-03>3",  # Sao Paulo
    "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",  # Chatham
    "IST-2IDT,M3.4.4/26,M10.5.0",  # Jerusalem
    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",  # Nuuk
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",  # Lord Howe: half an hour of daylight saving time
    "IST-1GMT0,M10.5.0,M3.5.0/1",  # Dublin: standard time in summer
    "EET-2EEST,M3.5.0/0,M10.5.0/0",  # Beirut: changes at midnight
    "EST5EDT",  # no rules: those of the United States
    "AAA3BBB,J60/2,J300/2",
)


def utc_ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 1000


def independent(posix: str) -> zoneinfo.ZoneInfo:
    """Python's own reading of a POSIX zone: a TZif file (RFC 8536) with the zone as its footer."""
    header = b"TZif2" + bytes(15)
    body = struct.pack(">6L", 0, 0, 0, 0, 1, 4) + struct.pack(">lbB", 0, 0, 0) + b"XXX\0"
    return zoneinfo.ZoneInfo.from_file(
        io.BytesIO((header + body) * 2 + b"\n" + posix.encode() + b"\n"), key=posix
    )


@pytest.mark.parametrize("text", ZONES)
@given(ms=st.integers(utc_ms(1971, 1, 1), utc_ms(2430, 1, 1)))
def test_a_zone_shows_what_python_shows(text: str, ms: int) -> None:
    rules = ",M3.2.0,M11.1.0" if text == "EST5EDT" else ""
    expected = datetime.datetime.fromtimestamp(ms // 1000, independent(text + rules))
    shown = Zone(text).local(ms)
    assert shown.replace(tzinfo=None, microsecond=0) == expected.replace(tzinfo=None, fold=0)
    assert shown.tzname() == expected.tzname()


@pytest.mark.parametrize(
    ("text", "moment", "shown"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", utc_ms(2026, 3, 29, 0, 59), "2026-03-29 01:59"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", utc_ms(2026, 3, 29, 1, 0), "2026-03-29 03:00"),
        ("UTC+3", utc_ms(2026, 1, 1), "2025-12-31 21:00"),  # POSIX: west of Greenwich
        ("GMT-3", utc_ms(2026, 1, 1), "2026-01-01 03:00"),
        ("", utc_ms(2026, 1, 1), "2026-01-01 00:00"),
        ("EST5EDT,0/0,J365/25", utc_ms(2026, 1, 1, 12), "2026-01-01 08:00"),  # RFC 8536: always daylight
        ("EST5EDT,0/0,J365/25", utc_ms(2026, 7, 1, 12), "2026-07-01 08:00"),
        # Day 299 counted from 0, as glibc has it; Python's zoneinfo is a day early.
        ("AAA3BBB,59,299/1:30:15", utc_ms(1971, 10, 27, 3, 30), "1971-10-27 01:30"),
        ("AAA3BBB,59,299/1:30:15", utc_ms(1971, 10, 27, 3, 31), "1971-10-27 00:31"),
    ],
)
def test_what_a_zone_shows(text: str, moment: int, shown: str) -> None:
    assert format_local(moment, Zone(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Nowhere/City", "CET", "CET-25", "CET-1:60", "C-1", "<+03-3", "CET-1CEST,M13.1.0,M10.5.0", "CET-1\n",
        "CET-1CEST,M3.5.7,M1.1.0", "CET-1CEST,J0,J5", "CET-1CEST,366,5", "CET-1CEST,M3.5.0/168,M10.5.0",
        "X" * 200 + "0", "CET-١",
    ],
)  # fmt: skip
def test_an_unreadable_zone_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Zone(text)
    assert repr(text) in str(refused.value)


# --- The daily wipe -------------------------------------------------------------------------------------


def shown_minutes(zone: Zone, ms: int) -> int:
    """Minutes that the local clock shows, counted from year 1."""
    local = zone.local(ms)
    return local.toordinal() * 1440 + local.hour * 60 + local.minute


def wipes_by_brute_force(zone: Zone, minutes: int, start: int, end: int) -> list[int]:
    """Each minute from `start` to `end` at which the clock shows the time, or jumps over it."""
    found = []
    for ms in range(start, end + 1, MINUTE):
        before, now = shown_minutes(zone, ms - MINUTE), shown_minutes(zone, ms)
        jumped_over = range(before + 1, now)
        if now % 1440 == minutes or any(shown % 1440 == minutes for shown in jumped_over):
            found.append(ms)
    return found


CHANGES = (
    utc_ms(2026, 3, 29),
    utc_ms(2026, 10, 25),
    utc_ms(2026, 4, 4),
    utc_ms(2026, 9, 26),
    utc_ms(2026, 7, 1),
)


@pytest.mark.parametrize("text", ZONES[:10])
@settings(max_examples=30)
@given(
    around=st.sampled_from(CHANGES),
    offset=st.integers(-36 * 60, 36 * 60),
    wipe=st.integers(0, 1439),
    ms=st.integers(0, 59_999),
)
def test_the_wipe_is_when_the_clock_shows_its_time(
    text: str, around: int, offset: int, wipe: int, ms: int
) -> None:
    zone, now = Zone(text), around + offset * MINUTE + ms
    minute = now - now % MINUTE
    wipe_time = f"{wipe // 60:02}:{wipe % 60:02}"
    last = last_wipe(now, wipe_time, zone)
    assert minute - 26 * HOUR <= last <= now
    assert wipes_by_brute_force(zone, wipe, last, minute) == [last]


def test_no_day_goes_without_a_wipe_and_none_is_missed_when_clocks_go_back() -> None:
    berlin = Zone("CET-1CEST,M3.5.0,M10.5.0/3")
    spring = last_wipe(utc_ms(2026, 3, 29, 12), "02:30", berlin)
    assert format_rfc3339(spring) == "2026-03-29T01:00:00.000Z"
    autumn = last_wipe(utc_ms(2026, 10, 25, 12), "02:30", berlin)
    assert format_rfc3339(autumn) == "2026-10-25T01:30:00.000Z"
    assert format_rfc3339(last_wipe(autumn - 1, "02:30", berlin)) == "2026-10-25T00:30:00.000Z"


def test_a_wipe_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="25:00"):
        last_wipe(0, "25:00", Zone())


# --- The times that people write ------------------------------------------------------------------------

NOW = utc_ms(2026, 11, 21, 14, 3, 5)
BERLIN = Zone("CET-1CEST,M3.5.0,M10.5.0/3")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-11-21T14:03:05.000Z"),
        ("90s", "2026-11-21T14:01:35.000Z"),
        ("30m", "2026-11-21T13:33:05.000Z"),
        ("2h ago", "2026-11-21T12:03:05.000Z"),
        ("1d", "2026-11-20T14:03:05.000Z"),
        ("3 days ago", "2026-11-18T14:03:05.000Z"),
        (" 5 minutes ", "2026-11-21T13:58:05.000Z"),
        ("1w", "2026-11-14T14:03:05.000Z"),
        ("999999999w", "1970-01-01T00:00:00.000Z"),
        ("today", "2026-11-20T23:00:00.000Z"),
        ("Yesterday", "2026-11-19T23:00:00.000Z"),
        ("yesterday 18:00", "2026-11-20T17:00:00.000Z"),
        ("15:03", "2026-11-21T14:03:00.000Z"),
        ("15:04", "2026-11-20T14:04:00.000Z"),
        ("2026-11-20", "2026-11-19T23:00:00.000Z"),
        ("20261120", "2026-11-19T23:00:00.000Z"),
        ("2026-02-01", "2026-01-31T23:00:00.000Z"),
        ("2026-07-20 10:00:30.25", "2026-07-20T08:00:30.250Z"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"),
        ("2026-11-20T10:00:00.123-03:30", "2026-11-20T13:30:00.123Z"),
        ("2026-11-20 10:00 UTC", "2026-11-20T10:00:00.000Z"),
        ("2026-11-20 10:00 CET", "2026-11-20T09:00:00.000Z"),
        ("20.11.2026", "2026-11-19T23:00:00.000Z"),
        ("Nov 20 10pm", "2026-11-20T21:00:00.000Z"),
        ("2026-03-29 02:30", "2026-03-29T01:00:00.000Z"),  # the clocks went forward over it
        ("2026-10-25 02:30", "2026-10-25T00:30:00.000Z"),  # shown twice: the first
        ("0001-01-01", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59-12:00", format_rfc3339(LAST_MS)),
    ],
)
def test_a_time_as_people_write_it(text: str, meant: str) -> None:
    assert format_rfc3339(parse_when(text, NOW, BERLIN)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "soon", "10", "1.2", "1/2/2026", "25:00", "today 25:00", "2026-13-01", "2026-02-30",
        "5 months", "1y", "-1d", "2026-11-20 10:00 EST", "\x1b[2J", "١d", "9" * 64, "9" * 5000, "00:00" * 13,
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_in_one_line_that_says_what_is(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_when(text, NOW, BERLIN)
    line = str(refused.value)
    assert "2026-11-20 18:30" in line
    assert line.isprintable()
    assert len(line) < 400


TOKENS = st.sampled_from(
    [
        "2026", "-", "/", ".", ":", ",", " ", "T", "Z", "+", "1", "12", "31", "99", "0", "am", "pm", "Nov",
        "Mon", "UTC", "GMT+3", "CET", "h", "m", "s", "d", "ago", "today", "yesterday", "1e9", "nan", "inf",
        "W53", "000000", "e", "of",
    ]
)  # fmt: skip


@given(
    text=st.one_of(st.text(max_size=80), st.lists(TOKENS, max_size=12).map("".join)),
    zone=st.sampled_from(ZONES).map(Zone),
    now=st.integers(0, LAST_MS),
)
def test_nothing_that_is_typed_breaks_the_reader(text: str, zone: Zone, now: int) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_when(text, now, zone) <= LAST_MS


@given(zone=st.sampled_from(ZONES).map(Zone), ms=st.integers(0, LAST_MS))
def test_a_time_that_was_shown_is_read_back(zone: Zone, ms: int) -> None:
    assert parse_when(format_rfc3339(ms), NOW, zone) == ms
    assert parse_when(zone.local(ms).isoformat(timespec="milliseconds"), NOW, zone) == ms


@given(ms=st.integers(-(2**63), 2**63))
def test_any_stamp_can_be_shown(ms: int) -> None:
    assert format_rfc3339(ms).endswith("Z")
    assert format_local(ms, BERLIN)
