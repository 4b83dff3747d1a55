"""Leaves the tests of this directory out, with one line that says why, where they cannot run."""

from collections.abc import Iterator

import pytest

from tests.mesh.namespaces import why_not
from tests.mesh.net import Mesh

WHY_NOT = why_not()

if WHY_NOT:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Mesh]:
    """Two routers on a good link, and ann, whom both know; shared by tests that only add messages."""
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        yield mesh


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says that they were left out."""
    if WHY_NOT:
        terminalreporter.write_line(f"tests/mesh left out: {WHY_NOT}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sends all tests with real daemons to one worker: two meshes at once would only wait for each other."""
    for item in items:
        if item.get_closest_marker("mesh"):
            item.add_marker(pytest.mark.xdist_group("mesh"))
