"""How people write durations and times of day."""

import re

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
"""Units of a duration, in seconds, smallest first."""

_DURATION = re.compile(r"(\d{1,9}) ?([smhdw])", re.ASCII)
_CLOCK_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)


def parse_duration(text: str) -> int | None:
    """Seconds in `90s`, `30m`, `36h`, `7d` or `2w`; None where `text` is no such duration."""
    match = _DURATION.fullmatch(text.strip())
    return int(match[1]) * UNIT_SECONDS[match[2]] if match else None


def parse_clock_time(text: str) -> int | None:
    """Seconds after midnight that a clock shows as `HH:MM` or `HH:MM:SS`; None where `text` is neither."""
    match = _CLOCK_TIME.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return hours * 3600 + minutes * 60 + seconds
