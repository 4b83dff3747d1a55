"""Messages as people read them: local times, and the day above the first message of it."""

import datetime

from meshchat.chat.localtime import Zone

NEW = "--- new since you left ---"


class Days:
    """Turns messages into safe lines in the time zone `zone`, and remembers which day was shown last."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._shown: datetime.date | None = None

    def forget(self) -> None:
        """What follows is shown under its day again."""
        self._shown = None

    def heading(self, ms: int) -> str | None:
        """The line above a message of this moment, where its day is another than that of the last one."""
        local = self.zone.local(ms)
        if local.date() == self._shown:
            return None
        self._shown = local.date()
        return day_line(local)


def day_line(day: datetime.datetime) -> str:
    """`--- Saturday 21 November 2026 ---`."""
    return f"--- {day:%A} {day.day} {day:%B} {day.year} ---"


def clock(ms: int, zone: Zone, *, unknown: bool) -> str:
    """`18:30` in local time; `~18:30` where no good clock stands for it."""
    return f"{'~' if unknown else ''}{zone.local(ms):%H:%M}"
