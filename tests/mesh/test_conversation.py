"""People talk across radio hops: nothing lost, nothing twice, one order everywhere."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mesh.net import Mesh, wait

pytestmark = pytest.mark.mesh

USERS = {1: "ann", 2: "ben", 3: "cyd", 4: "dot", 5: "eve"}


def assert_one_history(mesh: Mesh, room: str, texts: set[str]) -> None:
    """All routers print the same history, which has each of `texts` once and nothing else."""
    printed = [mesh.meshchat(number, "history", room, "--json").stdout for number in mesh.numbers]
    assert len(set(printed)) == 1
    messages = [json.loads(line) for line in printed[0].splitlines()]
    assert sorted(message["text"] for message in messages) == sorted(texts)
    assert len({message["id"] for message in messages}) == len(texts)


def test_five_in_a_line_talk_at_once(measured: Callable[[str], None]) -> None:
    """200 messages from five routers, a fifth of the frames lost on each of four hops."""
    each = 40
    said = {number: [f"{user} says {count}" for count in range(each)] for number, user in USERS.items()}
    with Mesh(5, loss=0.2) as mesh:
        for number, user in USERS.items():
            mesh.register(number, user)
        mesh.await_users(*USERS.values())
        started, bytes_before = time.monotonic(), mesh.air_bytes()
        with ThreadPoolExecutor() as people:
            list(people.map(lambda number: mesh.send(number, USERS[number], "1", said[number]), USERS))
        sent = time.monotonic()
        mesh.await_room("1", 5 * each, 120)
        measured(
            f"200 messages sent in {sent - started:.1f} s; all alike {time.monotonic() - sent:.1f} s later; "
            f"{mesh.air_bytes() - bytes_before} bytes on the air of five routers"
        )
        assert_one_history(mesh, "1", {text for texts in said.values() for text in texts})
        for number, user in USERS.items():
            own = [each["text"] for each in mesh.history(number, "1") if each["user"] == user]
            assert own == said[number], "an author's messages keep their order"
        mesh.await_idle()


def test_an_account_of_one_end_logs_in_at_the_other_and_both_chat() -> None:
    with Mesh(5, loss=0.2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        mesh.register(5, "eve")
        mesh.await_users("eve")
        mesh.send(5, "ann", "1", ["hello from five, says ann"])
        mesh.await_room("1", 1, 60)
        mesh.send(1, "eve", "1", ["hello from one, says eve"])
        mesh.await_room("1", 2, 60)
        said = [(each["user"], each["text"]) for each in mesh.history(3, "1")]
        assert said == [("ann", "hello from five, says ann"), ("eve", "hello from one, says eve")]
        taken = mesh.meshchat(5, "register", "ann", status=1)
        assert taken.stderr == "This username is already taken\n"
        other = mesh.meshchat(5, "send", "1", "no", "--user", "nobody", status=1)
        assert other.stderr == "Username or password is invalid\n"


def test_a_subscriber_sees_an_answer_as_it_comes() -> None:
    with Mesh(2) as mesh:
        mesh.register(1, "ann")
        mesh.await_users("ann")
        with mesh.following(2, "1") as lines:
            mesh.send(1, "ann", "1", ["hot soup"])
            assert json.loads(lines.readline())["text"] == "hot soup"


def test_two_halves_talk_apart_and_become_one() -> None:
    with Mesh(5, loss=0.1) as mesh:
        mesh.register(1, "ann")
        mesh.register(5, "eve")
        mesh.await_users("ann", "eve")
        mesh.cut(2, 3)
        left = [f"left {count}" for count in range(30)]
        right = [f"right {count}" for count in range(30)]
        mesh.send(1, "ann", "1", left)
        mesh.send(5, "eve", "1", right)
        mesh.await_room("1", 30, 60, [1, 2])
        mesh.await_room("1", 30, 60, [3, 4, 5])
        assert {each["user"] for each in mesh.history(2, "1")} == {"ann"}
        assert {each["user"] for each in mesh.history(3, "1")} == {"eve"}
        mesh.heal(2, 3)
        mesh.await_room("1", 60, 120)
        assert_one_history(mesh, "1", {*left, *right})
        mesh.await_idle()


HOSTILE_TEXTS = [
    "a | b / c !^ d",
    "\x1b[2J\x1b]0;title\x07 red",
    "right-to-left \u202eoverride\u2069",
    "tab\there",
    "back\\slash \"quotes\" 'single'",
    "\U0001f4a9" * 2048,
]


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: ascii(text)[:20])
def test_a_text_arrives_exactly_and_drives_no_terminal(text: str, pair: Mesh) -> None:
    before = pair.room(2, "1")["messages"]
    done = pair.meshchat(1, "send", "1", "-", "--user", "ann", input=text + "\n", status=None)
    if done.returncode:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        return
    pair.await_room("1", before + 1, 60)
    assert pair.history(2, "1")[-1]["text"] == text
    shown = pair.meshchat(2, "history", "1").stdout
    assert not [char for char in shown if char != "\n" and (ord(char) < 32 or char in "\x7f\u202e\u2069")]
    log = (pair.sites[2].logs / "rooms" / "1.log").read_bytes()
    assert len(log.splitlines()) == before + 1


@pytest.mark.parametrize(
    "name", ["a/b", "..", "-x", "a\nb", "\x1b[1m", "a b", "x" * 33, "a\u202eb", "|", "!^"]
)
def test_a_name_that_cannot_be_used_is_refused_in_one_line(name: str, pair: Mesh) -> None:
    for arguments in (("register", "--", name), ("send", "--user", "ann", "--", name, "text")):
        done = pair.meshchat(1, *arguments, status=1)
        assert len(done.stderr.splitlines()) == 1
        assert "\x1b" not in done.stderr


def test_a_daemon_without_a_network_chats_and_joins_when_an_interface_appears() -> None:
    with Mesh(2, without=[2]) as mesh:
        mesh.register(1, "ann")
        mesh.register(2, "ben")
        mesh.send(1, "ann", "1", ["from the mesh"])
        mesh.send(2, "ben", "1", ["all alone"])
        assert [each["text"] for each in mesh.history(2, "1")] == ["all alone"]
        mesh.attach(2)
        mesh.await_room("1", 2, 60)
        mesh.detach(2)
        wait(lambda: not mesh.status(2)["interfaces"], 60, "the daemon to see that wlan0 has gone")
        mesh.send(2, "ben", "1", ["alone again"])
        mesh.attach(2)
        mesh.await_room("1", 3, 60)
