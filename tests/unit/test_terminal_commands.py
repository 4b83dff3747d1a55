"""The slash commands that a person is offered, what completes them, and ways about the rooms."""

from meshchat.chat.names import fold
from meshchat.chat.personal import BELLS
from meshchat.client.model import Model
from meshchat.terminal.commands import COMMANDS, complete, known
from meshchat.terminal.navigation import search
from tests.client.test_model import ME, message, model, show, wishes


def test_every_command_says_what_it_does_and_is_completed() -> None:
    made = model()
    for name, command in COMMANDS.items():
        assert command.summary
        assert (len(name), [f"/{name} "]) == (
            len(name),
            [c for c in complete(made, f"/{name}")[1] if c == f"/{name} "],
        )
    assert complete(made, "/") == (1, [f"/{name} " for name in sorted(COMMANDS)])


def test_a_guest_is_offered_nothing_that_changes_the_router() -> None:
    assert "wipe" in known(Model())
    assert "wipe" not in known(Model(guest=True))
    assert complete(Model(guest=True), "/wi") == (3, [])


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
