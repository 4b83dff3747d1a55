"""Two people at real terminals on two routers: what each of them sees of the other."""

import re
from collections.abc import Iterator

import pytest

from tests.mesh.net import PASSWORD, Mesh, wait
from tests.mesh.test_ssh import last_read
from tests.terminal.tmux import Screen
from tests.unit.people import command

pytestmark = pytest.mark.mesh


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Three routers in a line: the people at its ends are two hops apart."""
    with Mesh(3, loss=0.1) as running:
        for user in ("ann", "ben"):
            running.register(1, user)
        running.await_users("ann", "ben")
        yield running


def sit_down(mesh: Mesh, number: int, name: str = "") -> Screen:
    """A terminal on a router, with the questions of the login on it."""
    site = mesh.sites[number]
    home = mesh.directory / f"terminal-{name or number}"
    return Screen(home, run=site.within(*command("--socket", str(site.socket))))


def said(rows: list[str]) -> list[str]:
    """The messages among the rows, and the line above what is new, without times and delivery marks."""
    found = (re.fullmatch(r"(?:~?\d\d:\d\d )?(.*?)(?: \.| \u2713\d+)?", row) for row in rows)
    lines = [match[1] for match in found if match]
    return [line for line in lines if line.startswith(("ann: ", "ben: ", "--- new"))]


def test_a_conversation_one_leaves_and_comes_back(mesh: Mesh) -> None:
    with sit_down(mesh, 1) as ann:
        ann.log_in("ann", PASSWORD)
        with sit_down(mesh, 3) as ben:
            ben.log_in("ben", PASSWORD)
            ann.shows_status("with ben")
            ben.shows_status("with ann")
            ann.say("is anybody at the well?")
            ben.shows("ann: is anybody at the well?")
            ben.say("I am")
            ann.shows("ben: I am")
            ben.say("the rope is short")
            rows = ann.shows("ben: the rope is short")
            talk = ["ann: is anybody at the well?", "ben: I am", "ben: the rope is short"]
            assert said(rows) == said(ben.shows("ben: the rope is short")) == talk
            wait(lambda: read_up_to(mesh, "the rope is short"), 60, "what ben has read to be kept")
            ben.say("/quit")
            assert ben.ends() == 0
        ann.shows_status("nobody else here")
        ann.say("I bring a longer one")
        ann.shows("ann: I bring a longer one \u2713")
        ann.say("/room 2")
        ann.shows_status(" 2 ")
        for text in ("first", "second", "ben: look here"):
            ann.say(text)
        mesh.await_room("1", 4, 60)
        mesh.await_room("2", 3, 60)
        missed = [*talk, "--- new since you left ---", "ann: I bring a longer one"]
        with sit_down(mesh, 3, "again") as ben:
            ben.log_in("ben", PASSWORD)
            assert said(ben.shows("a longer one")) == missed
            ann.say("and another")
            ben.shows_status("[2: 1]")
            ben.keys("M-2")
            ben.shows("ann: and another")
            wait(lambda: read_up_to(mesh, "I bring a longer one"), 60, "what ben has read to be kept")
            ben.say("/quit")
            assert ben.ends() == 0
        with sit_down(mesh, 3, "once more") as ben:
            ben.log_in("ben", PASSWORD)
            assert said(ben.shows("a longer one")) == [line for line in missed if "new since" not in line]
            ben.say("/quit")
            assert ben.ends() == 0
        ann.say("ben: are you coming?")
        ann.say("we wait for you")
        mesh.await_room("2", 6, 60)
        with sit_down(mesh, 3, "at last") as ben:
            ben.log_in("ben", PASSWORD)
            ben.shows_status("[2: 2!]")
            ben.keys("M-2")
            rows = said(ben.shows("ann: we wait for you"))
            new = rows.index("--- new since you left ---")
            assert rows[new + 1 :] == ["ann: ben: are you coming?", "ann: we wait for you"]


def test_a_daemon_that_dies_and_comes_back_costs_the_person_nothing(mesh: Mesh) -> None:
    with sit_down(mesh, 1) as ann:
        ann.log_in("ann", PASSWORD)
        ann.say("before")
        ann.shows("ann: before \u2713")
        ann.type("half a ")
        ann.shows_line("> half a", at=-1)
        mesh.kill(1)
        ann.shows_status("daemon gone")
        ann.type("line")
        ann.shows_line("> half a line", at=-1)
        mesh.send(3, "ben", "1", ["missed"])
        mesh.start(1)
        ann.shows("ben: missed")
        assert "daemon gone" not in ann.shows_status("neighbour")
        ann.keys("Enter")
        rows = ann.shows("ann: half a line \u2713")
        assert said(rows) == ["ann: before", "ben: missed", "ann: half a line"]
    assert [each["text"] for each in mesh.history(1, "1")] == ["before", "missed", "half a line"]


def read_up_to(mesh: Mesh, text: str) -> bool:
    """Whether router 3 remembers that ben has read room 1 up to this message."""
    mark = last_read(mesh, 3, "ben").get("1")
    return mark is not None and any(
        each["text"] == text for each in mesh.history(3, "1") if each["id"] == mark["id"]
    )


def test_the_mark_behind_a_message_grows_only_when_another_router_holds_it(mesh: Mesh) -> None:
    with sit_down(mesh, 2) as ann:
        ann.log_in("ann", PASSWORD)
        ann.shows_status("2 neighbours")
        mesh.cut(1, 2)
        mesh.cut(2, 3)
        ann.say("does anybody hear me?")
        ann.shows("does anybody hear me? .")
        ann.say("/users")
        rows = ann.shows("Users: ann, ben")
        assert "\u2713" not in "\n".join(rows)
        assert mesh.room(1, "1")["messages"] == mesh.room(3, "1")["messages"] == 0
        mesh.heal(1, 2)
        ann.shows("does anybody hear me? \u27131")
        assert mesh.room(1, "1")["messages"] == 1
        assert mesh.room(3, "1")["messages"] == 0
        mesh.heal(2, 3)
        ann.shows("does anybody hear me? \u27132")
        assert mesh.room(3, "1")["messages"] == 1


def test_names_that_clash_are_told_apart_and_both_people_log_in(mesh: Mesh) -> None:
    mesh.cut(1, 2)
    mesh.cut(2, 3)
    for number in (1, 3):
        mesh.ask(number, "register", user="jo", password=f"secret of {number}")
    with sit_down(mesh, 1) as one, sit_down(mesh, 3) as other:
        one.log_in("jo", "secret of 1")
        other.log_in("jo", "secret of 3")
        one.say("I was here first")
        one.shows("jo: I was here first .")
        other.say("and so was I")
        other.shows("jo: and so was I .")
        mesh.heal(1, 2)
        mesh.heal(2, 3)
        names = [shown_as(person) for person in (one, other)]
        assert len(set(names)) == 2
        for person in (one, other):
            person.shows(f"{names[0]}: I was here first", f"{names[1]}: and so was I")
        one.say("which of us am I?")
        other.shows(f"{names[0]}: which of us am I?")
    with sit_down(mesh, 3, "one again") as one, sit_down(mesh, 1, "other again") as other:
        one.log_in("jo", "secret of 1")
        one.say("still I")
        other.log_in("jo", "secret of 3")
        other.shows(f"{names[0]}: still I")
        other.say("so am I")
        one.shows(f"{names[1]}: so am I")


def shown_as(person: Screen) -> str:
    """The name of which a person is told that it is his from now on."""
    rows = person.shows("from now on you are shown as")
    found = re.search(r"from now on you are shown as\s+(jo~\w+)", "\n".join(rows))
    assert found
    return found[1]
