"""What a run of the tests measured goes under its results: figures in the documents come from runs."""

import signal
from collections.abc import Callable

import pytest

MEASURED = "measured"


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes one line, with units, to be printed when all tests are through."""
    return lambda line: record_property(MEASURED, line)


def pytest_configure() -> None:
    """A shell's background ignores Ctrl-C and Ctrl-\\, nohup hang-ups: what is tested must not inherit that.

    A signal that is handled here is as usual for the programs that are started (execve(2)).
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what the tests noted."""
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in getattr(report, "user_properties", ())
        if name == MEASURED and report.when == "call"
    ]
    if lines:
        terminalreporter.section("measured")
    for line in lines:
        terminalreporter.write_line(line)
