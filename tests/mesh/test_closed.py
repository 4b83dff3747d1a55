"""A mesh with a key, and a mesh where multicast is filtered."""

import subprocess

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh


def key_of(mesh: Mesh, number: int) -> str:
    """A new mesh key, made on a router, as it says to carry it on."""
    return mesh.meshchat(number, "key", "new").stderr.split()[-1]


def test_who_has_no_key_reads_nothing_and_says_nothing() -> None:
    """Routers 1, 2 and 3 in one cell; the third has no key, later another one, at last the right one."""
    with Mesh(3, topology="cell") as mesh:
        key = key_of(mesh, 1)
        mesh.meshchat(2, "key", "add", key)
        mesh.register(1, "ann")
        mesh.register(3, "eve")
        mesh.send(1, "ann", "1", ["for those with the key"])
        mesh.send(3, "eve", "1", ["from outside"])
        mesh.await_room("1", 1, 60, routers=(1, 2))
        heard = mesh.status(3)["counters"]
        wait(lambda: mesh.status(3)["counters"] != heard, 60, "the stranger to hear something")
        assert [each["text"] for each in mesh.history(3, "1")] == ["from outside"]
        assert mesh.status(3)["counters"]["dropped"]["sealed"] > 0
        assert mesh.status(1)["counters"]["dropped"]["unsealed"] > 0
        mesh.meshchat(3, "key", "add", key)
        mesh.await_room("1", 2, 90)


def test_a_mesh_changes_its_key_while_people_talk() -> None:
    with Mesh(3, loss=0.2) as mesh:
        old = key_of(mesh, 2)
        for number in (1, 3):
            mesh.meshchat(number, "key", "add", old)
        mesh.register(1, "ann")
        mesh.await_users("ann")
        new = key_of(mesh, 1)
        mesh.send(3, "ann", "1", ["one router has the new key"])
        for number in (2, 3):
            mesh.meshchat(number, "key", "add", new)
        mesh.meshchat(2, "key", "use", new)
        mesh.send(1, "ann", "1", ["one router sends with it"])
        mesh.await_room("1", 2, 60)
        for number in (1, 3):
            mesh.meshchat(number, "key", "use", new)
        for number in mesh.numbers:
            mesh.meshchat(number, "key", "drop", old)
        mesh.send(2, "ann", "1", ["the old one is gone"])
        mesh.await_room("1", 3, 60)


def test_unicast_peers_chat_where_multicast_is_filtered() -> None:
    with Mesh(2, daemons=()) as mesh:
        for number in mesh.numbers:
            rules = "add table ip f; add chain ip f o { type filter hook output priority 0; }; "
            rules += "add rule ip f o ip daddr 224.1.1.1 drop"
            subprocess.run(mesh.sites[number].within("nft", rules), check=True, capture_output=True)
        mesh.start(1, "--peer", "10.77.0.2")
        mesh.start(2, "--peer", "10.77.0.1")
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(2, "ann", "1", ["by unicast"])
        mesh.await_room("1", 1, 60)
        assert '"@10.77.0.2"' in mesh.meshchat(1, "peers", "--json").stdout
