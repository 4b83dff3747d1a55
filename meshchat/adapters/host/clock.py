"""The seam by which time enters the daemon: the kernel's clocks, whether to trust them, the system's zone."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from meshchat.byhand import read_bytes, read_text
from meshchat.chat.localtime import Zone
from meshchat.chat.zonefile import MAX_ZONE_FILE, Change, parse_zone_file
from meshchat.errors import ConfigError, FileRefused
from meshchat.protocol.instant import Instant

POLL = 4.0
"""Seconds between two questions to the kernel whether the clock is synchronised."""

MAX_STEP_MS = 10_000
"""A larger step of an unsynchronised system clock means that somebody has set it: it is trusted no longer.
Waking from sleep is about a second off, by the resolution of hardware clocks."""

_TIME_ERROR = 5
_TIMEX_SIZE = 512
"""More bytes than `struct timex` has on any platform (208 where `long` has 64 bits)."""

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)


def boot_id() -> str:
    """What names this run of the kernel; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def kernel_synchronised() -> bool:
    """Whether the kernel says that its clock is synchronised (adjtimex(2)); False where it cannot be asked.

    The answer is the return value alone, so the layout of `struct timex` does not matter; all zero, it
    changes nothing.
    """
    try:
        import ctypes  # here, because OpenWrt packs it apart from the rest of Python
    except ImportError:
        return False
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return False
    return 0 <= int(adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))) < _TIME_ERROR


class SystemClock:
    """Reads the machine's clocks.

    A clock that was synchronised once stays trusted until the next boot (holdover), unless it is then set by
    hand. The daemon keeps `synchronised_boot` over its own restarts.
    """

    def __init__(
        self,
        offset_s: float = 0.0,
        forced_grade: str | None = None,
        synchronised_boot: str = "",
        synchronised: Callable[[], bool] = kernel_synchronised,
    ) -> None:
        """A clock `offset_s` seconds ahead of the system's.

        `forced_grade` "good" or "unknown" overrides the kernel's word. `synchronised_boot` is what the
        property of that name was when the daemon last ran.
        """
        self._offset_ms = round(offset_s * 1000)
        self._forced = forced_grade
        self._synchronised = synchronised
        self._boot = boot_id()
        self._held = synchronised_boot != "" and synchronised_boot == self._boot
        self._asked: float | None = None
        self._epoch_ms: int | None = None

    @property
    def synchronised_boot(self) -> str:
        """The boot id if the clock has been synchronised since this boot, else empty."""
        return self._boot if self._held else ""

    def read(self) -> Instant:
        """The clocks now; asks the kernel about them at most every `POLL` seconds."""
        mono = time.clock_gettime(time.CLOCK_BOOTTIME)
        wall_ms = time.time_ns() // 1_000_000
        if self._asked is None or mono - self._asked >= POLL:
            self._asked = mono
            self._judge(wall_ms - round(mono * 1000))
        trusted = self._held if self._forced is None else self._forced == "good"
        return Instant(mono, max(wall_ms + self._offset_ms, 0), trusted)

    def _judge(self, epoch_ms: int) -> None:
        """Decides about holdover. `epoch_ms`, when the machine booted, moves only when the clock is set."""
        stepped = self._epoch_ms is not None and abs(epoch_ms - self._epoch_ms) > MAX_STEP_MS
        self._epoch_ms = epoch_ms
        if self._synchronised():
            self._held = True
        elif stepped:
            self._held = False


# --- The system's time zone -----------------------------------------------------------------------------


def system_zone(configured: str = "", root: Path = Path("/")) -> Zone:
    """The time zone to show times in, as `date` shows them on this machine.

    That is `configured`, else $TZ, else /etc/TZ (OpenWrt), else /etc/localtime, else UTC. A name such as
    Europe/Berlin is looked up in the machine's tables; a POSIX rule stands for itself. `root` is where /etc
    is looked for. Raises `ConfigError` where the text is neither.
    """
    text = configured or os.environ.get("TZ", "") or _first_line(root / "etc/TZ")
    if not text:
        return _by_table(root / "etc/localtime") or Zone()
    text = text.removeprefix(":")
    if text.startswith("/"):
        return _by_table(Path(text)) or Zone(text)
    if _ZONE_NAME.fullmatch(text):
        import zoneinfo  # here, for on a router the zone is mostly a rule already

        for top in zoneinfo.TZPATH:
            if zone := _by_table(Path(top) / text):
                return zone
    return Zone(text)


def _first_line(file: Path) -> str:
    try:
        return read_text(file).partition("\n")[0].strip()
    except FileRefused:
        return ""


def _by_table(file: Path) -> Zone | None:
    """The zone of a TZif file; None where there is none, or it cannot be used."""
    try:
        table = parse_zone_file(read_bytes(file, MAX_ZONE_FILE))
        last = table.changes[-1] if table.changes else table.first
        return Zone(table.rule or _rule_of(last), table)
    except (FileRefused, ValueError, ConfigError):
        return None


def _rule_of(change: Change) -> str:
    """A zone that stays as it became, as a POSIX TZ string."""
    minutes, seconds = divmod(abs(change.offset), 60)
    return (
        f"<{change.name:+>3}>{'-' if change.offset > 0 else ''}{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    )
