"""When the machine's clock is trusted, and in which zone people are shown the time."""

import contextlib
import os
import struct
import subprocess
import time
import zoneinfo
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.host import clock as host_clock
from meshchat.adapters.host.clock import POLL, SystemClock, boot_id, kernel_synchronised, system_zone
from meshchat.chat.localtime import parse_when
from meshchat.chat.zonefile import parse_zone_file
from meshchat.errors import ConfigError


class Kernel:
    """The two clocks of a machine whose time the test turns, and its word on them."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.mono = 1000.0
        self.wall = 1_795_219_200.0
        self.says_synchronised = False
        self.asked = 0

    def clock_gettime(self, clock: int) -> float:
        assert clock == self.CLOCK_BOOTTIME
        return self.mono

    def time_ns(self) -> int:
        return int(self.wall * 1000) * 1_000_000

    def synchronised(self) -> bool:
        self.asked += 1
        return self.says_synchronised

    def run(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(host_clock, "time", kernel)
    return kernel


def test_an_unsynchronised_clock_is_not_trusted_until_the_kernel_vouches_for_it(kernel: Kernel) -> None:
    clock = SystemClock(synchronised=kernel.synchronised)
    assert clock.read() == (1000.0, 1_795_219_200_000, False)
    kernel.says_synchronised = True
    kernel.run(POLL)
    assert clock.read() == (1000.0 + POLL, 1_795_219_200_000 + POLL * 1000, True)


def test_a_clock_once_synchronised_stays_trusted(kernel: Kernel) -> None:
    clock = SystemClock(synchronised=kernel.synchronised)
    kernel.says_synchronised = True
    assert clock.read().trusted
    kernel.says_synchronised = False
    kernel.run(9 * 3600)
    assert clock.read().trusted


def test_a_clock_that_somebody_sets_by_hand_is_no_longer_trusted(kernel: Kernel) -> None:
    clock = SystemClock(synchronised=kernel.synchronised)
    kernel.says_synchronised = True
    assert clock.read().trusted
    kernel.says_synchronised = False
    kernel.wall += 400 * 365 * 86_400
    kernel.run(POLL)
    assert not clock.read().trusted
    assert clock.synchronised_boot == ""
    kernel.says_synchronised = True  # NTP is back
    kernel.run(POLL)
    assert clock.read().trusted


def test_holdover_survives_a_restart_of_the_daemon_but_not_of_the_machine(kernel: Kernel) -> None:
    first = SystemClock(synchronised=kernel.synchronised)
    assert first.synchronised_boot == ""
    kernel.says_synchronised = True
    first.read()
    kernel.says_synchronised = False
    kept = first.synchronised_boot
    assert kept == boot_id()
    assert SystemClock(synchronised_boot=kept, synchronised=kernel.synchronised).read().trusted
    another = "11111111-2222-3333-4444-555555555555"
    assert not SystemClock(synchronised_boot=another, synchronised=kernel.synchronised).read().trusted
    assert not SystemClock(synchronised_boot="", synchronised=kernel.synchronised).read().trusted


def test_the_kernel_is_asked_rarely(kernel: Kernel) -> None:
    clock = SystemClock(synchronised=kernel.synchronised)
    for _ in range(1000):
        clock.read()
        kernel.run(0.01)
    assert kernel.asked <= 10 / POLL + 1


def test_the_hidden_options_bend_the_clock(kernel: Kernel) -> None:
    assert SystemClock(1.5, "good", synchronised=kernel.synchronised).read() == (
        1000.0,
        1_795_219_201_500,
        True,
    )
    kernel.says_synchronised = True
    assert not SystemClock(0, "unknown", synchronised=kernel.synchronised).read().trusted
    assert SystemClock(-1e11, synchronised=kernel.synchronised).read().wall_ms == 0


def test_the_real_clocks_run() -> None:
    clock = SystemClock()
    before, after = clock.read(), clock.read()
    assert after.mono >= before.mono > 0
    assert abs(after.wall_ms - time.time_ns() // 1_000_000) < 60_000
    assert kernel_synchronised() in (True, False)
    assert len(boot_id()) == 36


# --- The zone -------------------------------------------------------------------------------------------


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TZ", raising=False)
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def tzif(footer: str) -> bytes:
    """A table without any change, and the rule behind it."""
    block = struct.pack(">6I", 0, 0, 0, 0, 1, 4) + struct.pack(">i?B", 0, False, 0) + b"UTC\0"
    header = b"TZif2" + bytes(15)
    return header + block + header + block + b"\n" + footer.encode() + b"\n"


def test_the_zone_comes_from_the_first_that_names_one(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert system_zone(root=etc.parent).text == "UTC"
    (etc / "localtime").write_bytes(tzif("CET-1CEST,M3.5.0,M10.5.0/3"))
    assert system_zone(root=etc.parent).text == "CET-1CEST,M3.5.0,M10.5.0/3"
    (etc / "TZ").write_bytes(b"\xef\xbb\xbf<+0330>-3:30\r\n")  # OpenWrt, by an editor of Windows
    assert system_zone(root=etc.parent).text == "<+0330>-3:30"
    monkeypatch.setenv("TZ", "EST5")
    assert system_zone(root=etc.parent).text == "EST5"
    assert system_zone("<-03>3", root=etc.parent).text == "<-03>3"


def test_a_file_that_is_no_zone_means_utc(etc: Path) -> None:
    whole = tzif("JST-9")
    cut = [whole[:end] for end in range(0, len(whole) - 7, 5)]
    for content in (b"", b"TZif", b"TZif2\n", b"text\n", b"TZif2" + b"\xff" * 200, *cut):
        (etc / "localtime").write_bytes(content)
        assert system_zone(root=etc.parent).text in ("UTC", "<UTC>0:00:00")
    (etc / "TZ").write_text("")
    assert system_zone(root=etc.parent).text in ("UTC", "<UTC>0:00:00")
    (etc / "localtime").unlink()
    (etc / "localtime").symlink_to("/dev/zero")
    assert system_zone(root=etc.parent).text == "UTC"


def test_a_file_named_by_tz(etc: Path) -> None:
    (etc / "zone").write_bytes(tzif("JST-9"))
    assert system_zone(f":{etc / 'zone'}").text == "JST-9"


def test_names_are_looked_up_in_the_machines_database(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "Europe").mkdir()
    (etc / "Europe" / "Berlin").write_bytes(tzif("CET-1CEST,M3.5.0,M10.5.0/3"))
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(etc),))
    assert system_zone("Europe/Berlin").text == "CET-1CEST,M3.5.0,M10.5.0/3"
    assert system_zone(":Europe/Berlin").text == "CET-1CEST,M3.5.0,M10.5.0/3"
    for unknown in ("Europe/Atlantis", "../etc/Europe/Berlin"):
        with pytest.raises(ConfigError, match="cannot be read"):
            system_zone(unknown)


def test_every_zone_of_this_machine_can_be_shown() -> None:
    names = [name for name in zoneinfo.available_timezones() if (Path("/usr/share/zoneinfo") / name).exists()]
    if not names:
        pytest.skip("this machine has no time zone database")
    for name in names:
        assert system_zone(name).local(1_795_219_200_000)


ZONES = (
    *("Africa/Casablanca", "Africa/El_Aaiun", "Europe/Berlin", "America/Sao_Paulo", "Asia/Tehran"),
    *(
        "Australia/Lord_Howe",
        "Europe/Dublin",
        "Asia/Gaza",
        "America/Nuuk",
        "Pacific/Apia",
        "America/Caracas",
    ),
)


@pytest.mark.parametrize("name", ZONES)
def test_times_are_those_that_date_shows(name: str) -> None:
    """Both ways: what is shown, and the moment that a person means by it."""
    if not (Path("/usr/share/zoneinfo") / name).exists():
        pytest.skip("this machine does not know the zone")
    zone = system_zone(name)
    random = Random(name)
    seconds = [random.randrange(0, 3_900_000_000) for _ in range(300)]
    asked = "".join(f"@{second}\n" for second in seconds)
    shown = subprocess.run(
        ["date", "-f", "-", "+%Y-%m-%d %H:%M:%S %z"],
        input=asked,
        env={"TZ": name, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for second, line in zip(seconds, shown, strict=True):
        local = zone.local(second * 1000)
        assert local.strftime("%Y-%m-%d %H:%M:%S %z")[:25] == line, second
        assert second in zone.moments(second + int(local.utcoffset().total_seconds()))  # type: ignore[union-attr]


def test_the_clocks_of_ramadan_in_morocco() -> None:
    """From 15 February to 22 March 2026 they show UTC, by no rule of the calendar."""
    if not Path("/usr/share/zoneinfo/Africa/Casablanca").exists():
        pytest.skip("this machine does not know the zone")
    zone = system_zone("Africa/Casablanca")
    for day, offset in (("2026-02-10", 1), ("2026-03-01", 0), ("2026-04-01", 1)):
        ms = parse_when(f"{day} 12:00", 1_770_000_000_000, zone)
        assert zone.local(ms).strftime("%F %H:%M %z") == f"{day} 12:00 +0{offset}00"


@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_table_of_a_zone_breaks_the_reader(noise: bytes, at: int) -> None:
    whole = tzif("JST-9")
    for content in (
        noise,
        b"TZif2" + noise,
        whole[:at] + noise,
        whole[:at] + noise + whole[at + len(noise) :],
    ):
        with contextlib.suppress(ValueError):
            parse_zone_file(content)
