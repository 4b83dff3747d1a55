"""People log in over SSH, and however the connection ends nothing is left running and nothing is lost."""

from collections.abc import Callable, Iterator

import pytest

from meshchat.client.connection import ControlClient
from tests.mesh.net import PASSWORD, Mesh, wait
from tests.mesh.ssh import SshServer
from tests.mesh.test_presence import shown

pytestmark = pytest.mark.mesh


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Mesh, SshServer]]:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        with SshServer(mesh, 1) as ssh:
            yield mesh, ssh


def test_log_in_chat_and_leave(server: tuple[Mesh, SshServer]) -> None:
    _, ssh = server
    with ssh.client(1) as person:
        person.log_in("ann", PASSWORD)
        person.say("hello over ssh")
        person.shows("ann: hello over ssh \u27131")
        person.say("/quit")
        assert person.ends() == 0
    ssh.await_nobody()


def test_the_size_of_the_window_reaches_the_screen(server: tuple[Mesh, SshServer]) -> None:
    _, ssh = server
    with ssh.client(1) as person:
        person.log_in("ann", PASSWORD)
        for columns, rows in ((40, 15), (200, 50), (80, 24)):
            person.resize(columns, rows)
            person.shows_line("> ", at=rows - 1)
            person.shows_status_across(columns - 1)
        person.type("typed")
        person.shows_line("> typed", at=-1)
    ssh.await_nobody()


def last_read(mesh: Mesh, number: int, user: str) -> dict[str, dict[str, str]]:
    """Up to where a user has read each room, as a router remembers it."""
    with ControlClient(mesh.sites[number].socket) as client:
        client.request("login", user=user, password=PASSWORD)
        marks: dict[str, dict[str, str]] = client.request("personal")["marks"]
    return marks


def kill_the_client(mesh: Mesh, ssh: SshServer) -> None:
    ssh.kill_clients(2)


def cut_the_link(mesh: Mesh, ssh: SshServer) -> None:
    mesh.cut(1, 2)


@pytest.mark.parametrize("drop", [kill_the_client, cut_the_link])
def test_a_connection_that_is_dropped_leaves_nothing_behind_and_loses_nothing(
    drop: Callable[[Mesh, SshServer], None],
) -> None:
    with Mesh(2) as mesh, SshServer(mesh, 1) as ssh:
        mesh.register(1, "ann")
        mesh.register(1, "ben")
        mesh.await_users("ann", "ben")
        with ssh.client(2) as person:
            person.log_in("ann", PASSWORD)
            person.say("said before the end")
            person.shows("ann: said before the end \u27131")
            person.type("half a line")
            person.shows_line("> half a line", at=-1)
            wait(lambda: shown(mesh, 2, "ann"), 60, "ann to be seen on router 2")
            wait(lambda: "1" in last_read(mesh, 1, "ann"), 60, "what ann has read to be kept")
            drop(mesh, ssh)
            ssh.await_nobody()
            assert not shown(mesh, 1, "ann")
        mesh.heal(1, 2)
        mesh.send(2, "ben", "1", ["said meanwhile"])
        mesh.await_room("1", 2, 60)
        wait(lambda: not shown(mesh, 2, "ann"), 90, "ann to go on router 2, too")
        with ssh.client(2) as person:
            person.log_in("ann", PASSWORD)
            rows = person.shows("ann: said before the end", "ben: said meanwhile")
            assert [row for row in rows if "said" in row or "new since" in row] == [
                next(row for row in rows if row.endswith("ann: said before the end \u27131")),
                "--- new since you left ---",
                next(row for row in rows if row.endswith("ben: said meanwhile")),
            ]
            person.say("/quit")
            assert person.ends() == 0
        ssh.await_nobody()
