"""Leaves the tests of this directory out, with one line that says why, where they cannot run."""

import pytest

from tests.mesh.namespaces import why_not

WHY_NOT = why_not()

if WHY_NOT:
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says that they were left out."""
    if WHY_NOT:
        terminalreporter.write_line(f"tests/mesh left out: {WHY_NOT}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sends all tests with real daemons to one worker: two meshes at once would only wait for each other."""
    for item in items:
        if item.get_closest_marker("mesh"):
            item.add_marker(pytest.mark.xdist_group("mesh"))
