"""Who holds a message, told by real daemons; and what they remember of a person over a restart."""

import contextlib
from collections.abc import Iterator

import pytest

from meshchat.client.connection import ControlClient
from tests.mesh.net import PASSWORD, Fields, Mesh, wait

pytestmark = pytest.mark.mesh


@contextlib.contextmanager
def author(mesh: Mesh) -> Iterator[ControlClient]:
    """A connection on which ann is logged in, at router 1."""
    with ControlClient(mesh.sites[1].socket) as client:
        client.request("login", user="ann", password=PASSWORD)
        yield client


def held(mesh: Mesh, record: str) -> Fields:
    """What router 1 says to ann of who holds her message."""
    with author(mesh) as client:
        (item,) = client.stream("held", records=[record])
    return item


def test_a_neighbour_that_has_a_message_counts_and_one_beyond_a_cut_link_does_not() -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        with ControlClient(mesh.sites[1].socket) as client:
            client.request("login", user="ann", password=PASSWORD)
            client.request("subscribe", rooms=[])
            first = client.request("send", room="1", text="soup at noon")["record"]
            event = next(event for event in client.events() if event["event"] == "held")
            assert event == {"event": "held", "record": first, "room": "1", "by": 1, "of": 1, "sessions": [0]}
        assert mesh.room(2, "1")["messages"] == 1
        mesh.cut(1, 2)
        sent = mesh.meshchat(1, "send", "1", "is anybody there?", "--user", "ann", "--wait", "3")
        assert sent.stderr == "Held by 0 of 1 neighbours.\n"
        second = sent.stdout.strip()
        assert held(mesh, second) == {"record": second, "by": 0, "of": 1}
        mesh.heal(1, 2)
        mesh.await_room("1", 2, 60)
        wait(lambda: held(mesh, second)["by"] == 1, 60, "router 2 counts as a holder")
        with author(mesh) as client:
            assert [item["held"] for item in client.stream("history", room="1")] == [1, 1]
        with ControlClient(mesh.sites[1].socket) as client:
            assert all("held" not in item for item in client.stream("history", room="1")), "who is not ann"
        with ControlClient(mesh.sites[2].socket) as client:
            assert all("held" not in item for item in client.stream("history", room="1"))


def test_what_a_person_read_is_remembered_over_a_restart_and_on_this_router_only() -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        records = mesh.send(1, "ann", "1", ["one", "two", "three"])
        mesh.await_room("1", 3, 60)
        with ControlClient(mesh.sites[1].socket) as client:
            client.request("login", user="ann", password=PASSWORD)
            assert client.request("mark", room="1", record=records[1])["record"] == records[1]
            client.request("prefer", bell="all", rooms=["1", "2"])
        path = mesh.sites[1].state / "personal.jsonl"
        wait(path.exists, 30, "it is written soon after she left")
        mesh.kill(1)
        mesh.start(1)
        remembered = []
        for number in (1, 2):
            with ControlClient(mesh.sites[number].socket) as client:
                client.request("login", user="ann", password=PASSWORD)
                remembered.append(client.request("personal"))
        assert remembered[0]["marks"]["1"]["id"] == records[1]
        assert (remembered[0]["bell"], remembered[0]["rooms"]) == ("all", ["1", "2"])
        assert (remembered[1]["marks"], remembered[1]["bell"]) == ({}, "mentions")
