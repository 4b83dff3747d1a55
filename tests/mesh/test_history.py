"""History wiped by hand and by the day, and carried by hand."""

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh


def test_a_wipe_by_hand_is_neither_undone_nor_spread() -> None:
    with Mesh(3, loss=0.1) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.send(1, "ann", "1", [f"secret {count}" for count in range(40)])
        mesh.send(1, "ann", "2", ["kept"])
        mesh.await_room("1", 40, 60)
        mesh.await_room("2", 1, 60)
        mesh.meshchat(2, "wipe", "--room", "1", status=2)
        mesh.meshchat(2, "wipe", "--room", "1", "--yes")
        assert mesh.history(2, "1") == []
        assert not [
            path
            for path in mesh.sites[2].logs.rglob("*")
            if path.is_file() and b"secret" in path.read_bytes()
        ]
        mesh.send(1, "ann", "1", ["afterwards"])
        wait(lambda: [each["text"] for each in mesh.history(2, "1")] == ["afterwards"], 60, "the new message")
        mesh.await_idle()
        mesh.stop(2)
        mesh.start(2)
        mesh.send(1, "ann", "1", ["later"])
        wait(lambda: mesh.room(2, "1")["messages"] == 2, 60, "the later message")
        mesh.await_idle()
        assert [each["text"] for each in mesh.history(2, "1")] == ["afterwards", "later"]
        assert mesh.room(1, "1")["messages"] == mesh.room(3, "1")["messages"] == 42
        assert mesh.room(2, "2")["messages"] == 1


def test_a_file_carried_by_hand_is_worth_a_healed_link() -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.register(2, "ben")
        mesh.await_users("ann", "ben")
        mesh.cut(1, 2)
        mesh.send(1, "ann", "1", [f"here {count}" for count in range(20)])
        mesh.send(2, "ben", "1", [f"there {count}" for count in range(20)])
        assert mesh.room(1, "1")["messages"] == mesh.room(2, "1")["messages"] == 20
        there, back = str(mesh.directory / "there.jsonl"), str(mesh.directory / "back.jsonl")
        mesh.meshchat(1, "export", there)
        assert "20 added" in mesh.meshchat(2, "import", there).stdout
        assert "0 added" in mesh.meshchat(2, "import", there).stdout
        mesh.meshchat(2, "export", back, "--room", "1")
        assert "20 added, 20 known" in mesh.meshchat(1, "import", back).stdout
        mesh.await_room("1", 40, 10)
        carried = mesh.room(1, "1")["digest"]
        mesh.heal(1, 2)
        mesh.await_idle()
        mesh.await_room("1", 40, 60)
        assert mesh.room(1, "1")["digest"] == carried
