"""The slash commands that a person is offered, what completes them, and ways about the rooms."""

import pytest

from meshchat.chat.names import fold
from meshchat.chat.personal import BELLS
from meshchat.client.model import Model
from meshchat.terminal.app import ssh_origin
from meshchat.terminal.commands import COMMANDS, complete, known
from meshchat.terminal.navigation import search
from tests.client.test_model import ME, message, model, show, wishes


def test_every_command_says_what_it_does_and_is_completed() -> None:
    made = model()
    made.rights = frozenset(("watch", "operate"))
    for name, command in COMMANDS.items():
        assert command.summary
        assert (len(name), [f"/{name} "]) == (
            len(name),
            [c for c in complete(made, f"/{name}")[1] if c == f"/{name} "],
        )
    assert complete(made, "/") == (1, [f"/{name} " for name in sorted(COMMANDS)])


def test_a_person_is_offered_what_the_daemon_allows_him() -> None:
    made = Model()
    made.rights = frozenset(("enter", "read", "write"))
    assert {"wipe", "status"}.isdisjoint(known(made))
    assert complete(made, "/wi") == (3, [])
    made.rights |= {"watch"}
    assert "status" in known(made)
    assert "wipe" not in known(made)
    made.rights |= {"operate"}
    assert complete(made, "/wi") == (3, ["/wipe "])


def test_completion_knows_what_may_follow() -> None:
    made = model()
    made.know_users([{"user": user, "key": f"keyof{user}"} for user in ("bob", "Berta", ME)])
    assert complete(made, "/room g") == (1, ["garden "])
    assert complete(made, "/bell ") == (0, sorted(f"{when} " for when in BELLS))
    assert complete(made, "/ignore b") == (1, ["Berta ", "bob "])
    made.remember(wishes(ignored=["bob"], ignored_keys=["keyofbob"]))
    assert complete(made, "/unignore ") == (0, ["bob "])
    assert complete(made, "/quit b") == (1, ["Berta "])
    assert complete(made, "b") == (1, ["Berta: "])
    assert complete(made, "hello b") == (1, ["Berta "])
    assert complete(made, "hello ") == (0, [])
    assert complete(made, "/nonsense x") == (1, [])


def test_a_search_goes_back_and_forth() -> None:
    made = model()
    held = [message(made, number, "Stra\u00dfe" if number % 3 == 0 else "x") for number in range(9)]
    show(made, "1", *held)
    first = search(made, "STRASSE")
    assert first is held[6]
    assert search(made, "STRASSE", first) is held[3]
    assert search(made, "STRASSE", held[3], newer=True) is held[6]
    assert search(made, "STRASSE", held[6], newer=True) is None
    assert fold("Stra\u00dfe") == "strasse"


@pytest.mark.parametrize(
    ("environment", "origin"),
    [
        ({"SSH_CONNECTION": "10.0.0.5 50022 10.0.0.1 22", "SSH_CLIENT": "10.0.0.6 50022 22"}, "10.0.0.5"),
        ({"SSH_CLIENT": "fe80::1%wlan0 50022 22"}, "fe80::1%wlan0"),
        ({"SSH_CONNECTION": " "}, None),
        ({}, None),
    ],
)
def test_who_comes_by_ssh_comes_from_his_address(environment: dict[str, str], origin: str | None) -> None:
    assert ssh_origin(environment) == origin
