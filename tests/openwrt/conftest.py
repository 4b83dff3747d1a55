"""A simulated router for each test, once with each of the shells that stand for a router's."""

from pathlib import Path

import pytest

from tests.openwrt.router import SHELLS, Router


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[-1])
def router(tmp_path: Path, request: pytest.FixtureRequest) -> Router:
    return Router.new(tmp_path / "root", request.param)
