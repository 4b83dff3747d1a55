"""Messages as people read them: local times, and the day above the first message of it."""

import datetime
from typing import Any

from meshchat.chat.localtime import EPOCH, Zone
from meshchat.chat.render import message_line


def time_ms(written: str) -> int:
    """UTC milliseconds since 1970 of a time as the control socket writes it (RFC 3339)."""
    since = datetime.datetime.fromisoformat(written) - EPOCH
    return since // datetime.timedelta(milliseconds=1)


class Days:
    """Turns messages into safe lines in the time zone `zone`, and remembers which day was shown last."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._shown: datetime.date | None = None

    def forget(self) -> None:
        """What follows is shown under its day again."""
        self._shown = None

    def lines(self, message: dict[str, Any]) -> list[str]:
        """The lines that show `message` (user, time, text, grade), its day first where that is another."""
        local = self._zone.local(time_ms(message["time"]))
        lines = []
        if local.date() != self._shown:
            self._shown = local.date()
            lines.append(f"--- {local:%A} {local.day} {local:%B} {local.year} ---")
        unknown = message.get("grade") == "unknown"
        lines.append(message_line(f"{local:%H:%M}", message["user"], message["text"], unknown=unknown))
        return lines
