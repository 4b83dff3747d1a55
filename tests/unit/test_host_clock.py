"""When the machine's clock is trusted, and in which zone people are shown the time."""

import time
import zoneinfo
from pathlib import Path

import pytest

from meshchat.adapters.host import clock as host_clock
from meshchat.adapters.host.clock import POLL, SystemClock, boot_id, kernel_synchronised, system_zone
from meshchat.chat.localtime import Zone


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
    return b"TZif2" + bytes(15) + b"whatever\n" + footer.encode() + b"\n"


def test_the_zone_comes_from_the_first_that_names_one(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert system_zone(root=etc.parent) == "UTC"
    (etc / "localtime").write_bytes(tzif("CET-1CEST,M3.5.0,M10.5.0/3"))
    assert system_zone(root=etc.parent) == "CET-1CEST,M3.5.0,M10.5.0/3"
    (etc / "TZ").write_text("<+0330>-3:30\n")  # OpenWrt
    assert system_zone(root=etc.parent) == "<+0330>-3:30"
    monkeypatch.setenv("TZ", "EST5")
    assert system_zone(root=etc.parent) == "EST5"
    assert system_zone("<-03>3", root=etc.parent) == "<-03>3"


def test_a_file_that_is_no_zone_means_utc(etc: Path) -> None:
    for content in (b"", b"TZif", b"TZif2\n", b"text\n"):
        (etc / "localtime").write_bytes(content)
        assert system_zone(root=etc.parent) == "UTC"
    (etc / "TZ").write_text("")
    assert system_zone(root=etc.parent) == "UTC"


def test_a_file_named_by_tz(etc: Path) -> None:
    (etc / "zone").write_bytes(tzif("JST-9"))
    assert system_zone(f":{etc / 'zone'}") == "JST-9"


def test_names_are_looked_up_in_the_machines_database(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "Europe").mkdir()
    (etc / "Europe" / "Berlin").write_bytes(tzif("CET-1CEST,M3.5.0,M10.5.0/3"))
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(etc),))
    assert system_zone("Europe/Berlin") == "CET-1CEST,M3.5.0,M10.5.0/3"
    assert system_zone(":Europe/Berlin") == "CET-1CEST,M3.5.0,M10.5.0/3"
    assert system_zone("Europe/Atlantis") == "Europe/Atlantis"
    assert system_zone("../etc/Europe/Berlin") == "../etc/Europe/Berlin"


def test_every_zone_of_this_machine_can_be_shown() -> None:
    names = [name for name in zoneinfo.available_timezones() if (Path("/usr/share/zoneinfo") / name).exists()]
    if not names:
        pytest.skip("this machine has no time zone database")
    for name in names:
        assert Zone(system_zone(name)).local(1_795_219_200_000)
