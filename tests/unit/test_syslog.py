"""The system's log: each line arrives with its level, as logread shows it."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshchat import daemon
from meshchat.adapters.host import syslog
from meshchat.config import SYSTEM, parse

DAEMON = 3 << 3
"""The facility of daemons in a line's priority (RFC 3164, section 4.1.1)."""


@pytest.fixture
def syslogd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """Listens where /dev/log would be."""
    monkeypatch.setattr(syslog, "SYSLOG", tmp_path / "log")
    root = logging.getLogger()
    before, level = root.handlers, root.level
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.settimeout(10)
        yield listening
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    root.setLevel(level)


def start(level: str) -> logging.Logger:
    logging.getLogger().handlers = []  # pytest has put its own there
    daemon._start_logging(parse(f'syslog = true\nlog_level = "{level}"', {}, SYSTEM, "x"))
    return logging.getLogger("meshchat.anything")


def test_each_line_has_its_level_and_is_on_standard_error_no_more(
    syslogd: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    log = start("debug")
    for say in (log.error, log.warning, log.info, log.debug):
        say("The %s is full.", "disk")
    lines = [syslogd.recv(1000).decode() for _ in range(4)]
    assert lines == [f"<{DAEMON + level}>meshchat: The disk is full." for level in (3, 4, 6, 7)]
    assert capfd.readouterr().err == ""


def test_what_no_syslogd_takes_is_said_on_standard_error(
    syslogd: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    log = start("info")
    syslogd.close()
    log.error("The disk is full.")
    assert capfd.readouterr().err == "meshchat: ERROR: The disk is full.\n"
