"""Who is present on one router is shown on all others, and gone after leaving."""

import json
import time
from collections.abc import Callable

import pytest

from meshchat.client.connection import ControlClient
from tests.mesh.net import PASSWORD, Mesh, wait

pytestmark = pytest.mark.mesh


def shown(mesh: Mesh, number: int, user: str) -> list[tuple[str, list[str], bool]]:
    """Where `users --json` of a router shows somebody: router, rooms, active."""
    printed = mesh.meshchat(number, "users", "--json").stdout.splitlines()
    users = {each["user"]: each for each in map(json.loads, printed)}
    return [(place["router"], place["rooms"], place["active"]) for place in users[user]["present"]]


def test_who_is_on_one_router_is_shown_on_all_and_gone_after_leaving(measured: Callable[[str], None]) -> None:
    with Mesh(5, loss=0.2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        router = mesh.status(1)["router"]
        with ControlClient(mesh.sites[1].socket) as ann:
            ann.request("login", user="ann", password=PASSWORD)
            started = time.monotonic()
            ann.request("present", rooms=["2", "1"], active=True)
            wait(lambda: shown(mesh, 5, "ann") == [(router, ["2", "1"], True)], 90, "ann on router 5")
            seen = time.monotonic()
            assert "active: 2, 1" in mesh.meshchat(5, "users").stdout
        left = time.monotonic()
        wait(lambda: all(shown(mesh, number, "ann") == [] for number in mesh.numbers), 90, "ann to go")
        measured(f"shown after {seen - started:.1f} s, gone after {time.monotonic() - left:.1f} s")
        assert not [path for number in mesh.numbers for path in mesh.sites[number].logs.rglob("2.log")]


def test_people_of_a_daemon_that_stops_are_gone_and_known_to_who_starts_later() -> None:
    with Mesh(3) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        with ControlClient(mesh.sites[1].socket) as ann:
            ann.request("login", user="ann", password=PASSWORD)
            ann.request("present", rooms=["1"], active=False)
            wait(lambda: shown(mesh, 3, "ann"), 90, "ann on router 3")
            mesh.kill(3)
            mesh.start(3)
            wait(lambda: shown(mesh, 3, "ann"), 90, "ann on router 3 again")
            mesh.stop(1)
        wait(lambda: not shown(mesh, 2, "ann") and not shown(mesh, 3, "ann"), 90, "ann to go")
