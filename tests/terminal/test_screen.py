"""The full screen, as the person in front of a real terminal sees it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshchat.chat import limits
from meshchat.client.connection import ControlClient
from tests.terminal.tmux import SIZES, Screen
from tests.unit.chats import Chat
from tests.unit.fakeserver import FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


def account(daemon: FakeDaemon, *users: str) -> None:
    with ControlClient(daemon.path) as client:
        for user in users or ("abc",):
            client.request("register", user=user, password="secret")


def sit_down(daemon: FakeDaemon, name: str = "screen", **how: str | int) -> Screen:
    sizes = {side: int(how.pop(side)) for side in ("columns", "rows") if side in how}
    variables = {name: str(value) for name, value in how.items()}
    return Screen(daemon.path.parent / name, "--socket", str(daemon.path), **sizes, **variables)  # type: ignore[arg-type]


# --- Coming in ------------------------------------------------------------------------------------------


def test_wrong_passwords_slow_down_and_never_lock_out(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.say("yes")
        for password in ("wrong 1", "wrong 2", "wrong 3", "wrong 4", "secret"):
            person.shows_last("Username:")
            person.say("abc")
            person.shows_last("Password:")
            person.say_unseen(password)
        rows = person.shows("Logged in as: abc")
        assert "\n".join(rows).count("Username or password is invalid") == 4
        assert not [row for row in rows if "wrong" in row or "secret" in row]


# --- Talking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_conversation_at_every_size(daemon: FakeDaemon, columns: int, rows: int, locale: str) -> None:
    account(daemon)
    daemon.hear("bob", "good morning")
    with sit_down(daemon, columns=columns, rows=rows, LC_ALL=locale) as person:
        person.log_in()
        shown = person.shows("22:26 bob: good morning")
        assert len(shown) == rows
        assert shown[-3] == "22:26 bob: good morning"
        assert "Saturday 21 November 2026" in shown[-4]
        assert shown[-2].startswith(" 1 ")
        person.say("hello to all")
        person.shows_line("22:26 abc: hello to all .", at=-3)
        person.type("half a li")
        person.shows_line("> half a li", at=-1)
        daemon.hear("bob", "an interruption that is as long as it takes to need a second row indeed")
        person.shows("indeed")
        person.type("ne")
        shown = person.shows_line("> half a line", at=-1)
        assert max(map(len, shown)) <= columns
        assert person.cursor == (len("> half a line"), rows - 1)
        person.keys("Enter")
        person.shows_line("22:26 abc: half a line .", at=-3)
    assert daemon.texts()[1:] == [
        "hello to all",
        "an interruption that is as long as it takes to need a second row indeed",
        "half a line",
    ]


def test_two_people_talk_on_two_screens(daemon: FakeDaemon) -> None:
    account(daemon, "ann", "ben")
    with sit_down(daemon, "one") as ann, sit_down(daemon, "two", columns=40, rows=15) as ben:
        ann.log_in("ann")
        ben.log_in("ben")
        ann.say("is anybody there?")
        ben.shows("ann: is anybody there?")
        ben.say("/me waves")
        for person in (ann, ben):
            assert "* ben waves" in person.shows("22:26 * ben waves")[-3]
    assert daemon.texts() == ["is anybody there?", "/me waves"]


def test_who_is_here_shows_while_they_come_and_go(daemon: FakeDaemon) -> None:
    account(daemon, "ann", "ben")
    with sit_down(daemon, "one") as ann:
        ann.log_in("ann")
        ann.shows_status("nobody else here")
        with sit_down(daemon, "two", columns=40, rows=15) as ben:
            ben.log_in("ben")
            ann.shows_status("with ben")
            ben.shows_status("with ann")
            ben.say("/room 2")
            ben.shows_status(" 2 ")
            ben.say("/room 1")
            ben.shows_status(" 1 ")
            ben.say("/leave")
            ann.shows_status("nobody else here")
            ann.say("/who 2")
            ann.shows("Here in room 2:", "  ben  active")
            ann.say("/room 2")
            ann.shows_status(" 2 ", "with ben")
            ben.say("/quit")
            assert ben.ends() == 0
        ann.shows_status("nobody else here")


def test_what_is_new_in_other_rooms_is_counted_and_found(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "one", room="2")
        daemon.hear("bob", "two", room="2")
        person.shows_status("[2: 2]")
        daemon.hear("bob", "ABC, come here", room="garden")
        person.shows_status("[5:garden 1!] [2: 2]")
        daemon.hear("bob", "abcdef is not a name here", room="3")
        person.shows_status("[5:garden 1!] [2: 2] [3: 1]")
        person.keys("M-5")
        person.shows("bob: ABC, come here")
        assert person.shows_status(" 5:garden ", "[2: 2] [3: 1]")
        person.keys("C-n")
        person.shows_status(" 1 ")
        person.keys("C-p")
        person.shows_status(" 5:garden ")
        person.say("/room 2")
        person.shows("bob: one", "bob: two")
        person.say("/leave")
        person.shows_status(" 1 ", "[3: 1]")
        daemon.hear("bob", "nobody listens", room="2")
        daemon.hear("bob", "to this", room="3")
        assert "[2:" not in person.shows_status("[3: 2]")


def test_the_status_says_more_where_there_is_room(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon, columns=40, rows=15) as person:
        person.log_in()
        for number in range(20):
            daemon.hear("bob", "news", room=f"room-{number}")
        status = person.shows_status("+")
        assert len(status) < 40
        person.resize(200, 50)
        person.shows_status("[5:room-0 1]", "[6:room-1 1]", "nobody else here")


def test_what_is_new_since_one_left_is_marked_and_the_rest_remembered(daemon: FakeDaemon) -> None:
    account(daemon)
    for number in range(3):
        daemon.hear("bob", f"old {number}")
    with sit_down(daemon, "first") as person:
        person.log_in()
        assert "new since you left" not in "\n".join(person.shows("bob: old 2"))
        person.say("/room 3")
        person.shows_status(" 3 ")
        person.say("/ignore bob")
        person.shows("You see nothing of bob any more")
        person.say("/unignore bob")
        person.shows("You see bob again")
        person.say("/bell off")
        person.shows("The bell rings for: off.")
        person.say("/quit")
        assert person.ends() == 0
    daemon.hear("bob", "missed")
    daemon.hear("bob", "missed in 3, abc", room="3")
    with sit_down(daemon, "second", columns=40, rows=15) as person:
        person.log_in(room="")
        person.shows("--- new since you left ---", "bob: missed in 3, abc")
        person.shows_status(" 3 ", "[1: 1]")
        assert not person.rang
        person.keys("M-1")
        rows = person.shows("bob: old 2", "bob: missed")
        at = rows.index("--- new since you left ---")
        assert (rows[at - 1], rows[at + 1]) == ("22:26 bob: old 2", "22:26 bob: missed")
        person.keys("M-3")
        person.shows_not("--- new since you left ---")
        person.keys("C-d")
        assert person.ends() == 0
    with sit_down(daemon, "third") as person:
        person.log_in()
        assert "new since you left" not in "\n".join(person.shows("bob: missed"))


def test_marks_tell_who_holds_a_message(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.meet(3)
    with sit_down(daemon) as person, sit_down(daemon, "ascii", LC_ALL="C") as other:
        person.log_in()
        other.log_in()
        person.say("does it spread?")
        person.shows_line("22:26 abc: does it spread? .", at=-3)
        daemon.hold("does it spread?", 1)
        person.shows_line("22:26 abc: does it spread? \u27131", at=-3)
        daemon.hold("does it spread?", 2)
        person.shows_line("22:26 abc: does it spread? \u27132", at=-3)
        other.shows_line("22:26 abc: does it spread? +2", at=-3)


def test_the_link_to_the_mesh_is_in_the_status_line(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.meet(3)
    with sit_down(daemon) as person:
        person.log_in()
        person.shows_status("3 neighbours, in step")
        daemon.differ()
        person.shows_status("3 neighbours, catching up")
        daemon.be_alone()
        person.shows_status("alone: no neighbour heard")


def test_the_bell_rings_for_what_it_is_asked_to(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "nothing in it for you")
        daemon.hear("bob", "abc, listen")
        person.rings(1)
        daemon.hear("bob", "abc: elsewhere, too", room="2")
        person.rings(2)
        person.say("/bell all")
        person.shows("The bell rings for: all.")
        daemon.hear("bob", "anything")
        person.rings(3)
        person.say("/bell off")
        person.shows("The bell rings for: off.")
        daemon.hear("bob", "abc, are you there?")
        person.shows("abc, are you there?")
        person.say("/bell mentions")
        person.shows("The bell rings for: mentions.")
        daemon.hear("bob", "abc!")
        person.rings(4)


# --- Typing ---------------------------------------------------------------------------------------------


def test_a_paste_of_several_lines_is_one_message(daemon: FakeDaemon) -> None:
    account(daemon)
    lines = "\n".join(f"line {number}" for number in range(8))
    with sit_down(daemon) as person:
        person.log_in()
        person.paste(lines + "\n")
        shown = person.shows("line 7")
        assert [row for row in shown if row.startswith("line")] == [f"line {n}" for n in range(3, 8)]
        assert shown[-6].startswith(" 1 ")
        person.keys("Enter")
        assert person.shows_line("           line 7 .", at=-3)[-10] == "22:26 abc: line 0"
        person.type("one")
        person.keys("M-Enter")
        person.say("two")
        person.shows("abc: one", "           two .")
    assert daemon.texts() == [lines, "one\ntwo"]


def test_a_paste_that_is_not_bracketed_waits_for_a_person(daemon: FakeDaemon) -> None:
    account(daemon)
    lines = [f"row {number:03} of the list" for number in range(300)]
    with sit_down(daemon) as person:
        person.log_in()
        person.paste_unbracketed("".join(f"{line}\n" for line in lines))
        person.shows("row 299 of the list")
        person.keys("Enter")
        person.shows("You have pasted 300 lines")
        assert daemon.texts() == []
        person.keys("Enter")
        person.shows("row 299 of the list .")
        assert daemon.texts() == ["\n".join(lines)]
        person.paste_unbracketed("only one\tline of a list\n")
        person.shows("only one")
        person.keys("Enter")
        person.shows("abc: only one\\tline of a list .")
        person.paste_unbracketed("first\nsecond\n")
        person.shows("second")
        person.keys("C-c")
        person.say("typed")
        person.shows("abc: typed .")
    assert daemon.texts()[1:] == ["only one\tline of a list", "typed"]


@pytest.mark.parametrize("rows", [2, 3])
def test_a_terminal_of_few_rows_shows_what_is_said(daemon: FakeDaemon, rows: int) -> None:
    account(daemon)
    daemon.hear("bob", "before")
    with sit_down(daemon) as person:
        person.log_in()
        person.resize(40, rows)
        daemon.hear("bob", "hi")
        person.shows_line("22:26 bob: hi", at=0)
        person.keys("PageUp", "PageDown", "Home", "End")
        person.say("hello")
        person.shows_line("22:26 abc: hello .", at=0)
        person.resize(80, 24)
        person.shows("22:26 bob: before", "22:26 bob: hi", "22:26 abc: hello .")


def test_the_limit_is_seen_before_it_is_met_and_the_text_is_kept(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        person.paste("x" * 7380)
        person.shows_status("812 of 8192 bytes left")
        person.paste("\u00fc" * 410)
        person.shows_status("8 bytes too long")
        person.keys("Enter")
        person.type("!")
        person.shows_status("9 bytes too long")
        person.keys("BSpace", "BSpace", "BSpace", "BSpace", "BSpace")
        person.shows_status("0 of 8192 bytes left")
        person.keys("Enter")
        person.shows_line("> ", at=-1)
        person.shows("\u00fc .")
    assert [len(text.encode()) for text in daemon.texts()] == [8192]


def test_tab_completes_commands_rooms_and_users(daemon: FakeDaemon) -> None:
    account(daemon, "abc", "bert", "bertha")
    daemon.hear("bob", "among the trees", room="garden")
    with sit_down(daemon) as person:
        person.log_in()
        person.type("/his")
        person.keys("Tab")
        person.shows_line("> /history", at=-1)
        person.keys("C-u")
        person.type("/room gar")
        person.keys("Tab", "Enter")
        person.shows("among the trees")
        person.type("b")
        person.keys("Tab")
        person.shows_status("bert:  bertha:")
        person.shows_line("> bert", at=-1)
        person.keys("Tab", "Tab")
        person.shows_line("> bertha:", at=-1)
        person.type("hello")
        person.keys("Enter")
        person.shows("abc: bertha: hello")
        person.type("/bell m")
        person.keys("Tab", "Enter")
        person.shows("The bell rings for: mentions.")
    assert daemon.texts("garden")[1:] == ["bertha: hello"]


def test_up_brings_back_what_was_typed_and_keys_move_by_whole_characters(daemon: FakeDaemon) -> None:
    account(daemon)
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    with sit_down(daemon) as person:
        person.log_in()
        person.say("first")
        person.say("/rooms")
        person.keys("Up", "Up")
        person.shows_line("> first", at=-1)
        person.keys("Down", "Down")
        person.shows_line("> ", at=-1)
        person.type(f"a{family}e\u0301b")
        person.keys("Left", "Left", "Left")
        person.type("1")
        person.keys("BSpace", "DC")
        person.type("2")
        person.keys("Enter")
        person.shows("abc: a2e\u0301b .")
    assert daemon.texts() == ["first", "a2e\u0301b"]


def test_what_was_typed_ahead_of_the_screen_is_not_lost(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.shows("[Yes/No]")
        person.type("y\nabc\nsecret\n1\nfirst\nsec".replace("\n", "\r"))
        person.shows("abc: first .")
        person.shows_line("> sec", at=-1)
        person.say("ond")
        person.shows("abc: second .")
    assert daemon.texts() == ["first", "second"]


def test_control_c_drops_the_line_and_then_leaves(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        person.type("never mind")
        person.keys("C-c")
        person.shows_line("> ", at=-1)
        person.keys("C-c")
        assert person.ends() == 0
        assert not person.alternate
        person.shows("Room Number [1,2,3,4] 1")
    assert daemon.texts() == []


# --- Looking back ---------------------------------------------------------------------------------------


def test_leafing_back_and_forth(daemon: FakeDaemon) -> None:
    account(daemon)
    for number in range(450):
        daemon.hear("bob", f"message {number}")
    with sit_down(daemon) as person:
        person.log_in()
        person.shows_line("22:26 bob: message 449", at=-3)
        person.keys("PageUp")
        person.shows_status("End: to the latest")
        before = person.shows("message 410")
        daemon.hear("bob", "the latest")
        person.shows_status("[1: 1]")
        assert person.rows[:-2] == before[:-2]
        person.keys("PageDown", "PageDown")
        person.shows_line("22:26 bob: the latest", at=-3)
        assert "[1:" not in person.shows_status(" 1 ")
        person.keys("Home")
        person.shows("message 255")
        person.keys("Home")
        person.shows("message 55")
        person.keys("Home")
        person.shows("--- Saturday 21 November 2026 ---", "message 0")
        person.keys("End")
        person.shows_line("22:26 bob: the latest", at=-3)


def test_what_comes_late_stands_at_its_time_and_is_told_of(daemon: FakeDaemon) -> None:
    """Two halves of a mesh meet again: what the other half said an hour ago is not at the end."""
    account(daemon)
    for number in range(30):
        daemon.hear("bob", f"message {number}")
    with sit_down(daemon) as person:
        person.log_in()
        person.shows("message 29")
        daemon.hear("cyd", "said an hour ago", late_s=3600)
        person.shows("* 1 message came late and stands further up, from 21:26 on: PageUp")
        daemon.hear("cyd", "said two hours ago", late_s=7200)
        person.shows_line("* 2 messages came late and stand further up, from 20:26 on: PageUp", at=-3)
        person.keys("Home")
        rows = person.shows("20:26 cyd: said two hours ago", "21:26 cyd: said an hour ago")
        assert rows[3] == "22:26 bob: message 0"


def test_what_one_looks_back_at_gives_way_to_what_comes_after_it(daemon: FakeDaemon) -> None:
    """More arrives than is kept: the oldest that is left is in view, and not the latest."""
    account(daemon)
    for number in range(100):
        daemon.hear("bob", f"message {number}")
    with sit_down(daemon) as person:
        person.log_in()
        person.keys("PageUp")
        person.shows_status("End: to the latest")
        for number in range(100, 2200):
            daemon.hear("bob", f"message {number}")
        rows = person.shows("message 220")
        assert rows[1] == "22:26 bob: message 200"
        person.shows_status("End: to the latest", "[1: 999+]")
        person.keys("End")
        person.shows_line("22:26 bob: message 2199", at=-3)
        assert "[1:" not in person.shows_status(" 1 ")


def test_searching(daemon: FakeDaemon) -> None:
    account(daemon)
    for number in range(300):
        daemon.hear("bob", f"Needle {number}" if number % 100 == 7 else f"straw {number}")
    with sit_down(daemon) as person:
        person.log_in()
        person.say("/search needle")
        person.shows("Needle 207")
        person.keys("C-r")
        person.shows("Needle 107")
        person.keys("C-r")
        person.shows("Needle 7")
        person.keys("C-r")
        person.shows_status("End: to the latest")
        person.keys("C-s")
        person.shows("Needle 107")
        person.say("/search haystack")
        person.shows("Nothing here holds haystack")


def test_the_screen_is_drawn_again_at_another_size(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", " ".join(f"word{number}" for number in range(40)))
    with sit_down(daemon) as person:
        person.log_in()
        person.type("typing")
        person.shows("> typing")
        for columns, rows in (*SIZES, (80, 24), (20, 5)):
            person.resize(columns, rows)
            shown = person.shows_line("> typing", at=rows - 1)
            shown = person.shows("word39")
            assert len(shown) == rows
            person.shows_within(columns)
            person.shows_status(" 1")


# --- What others write ----------------------------------------------------------------------------------

ODD_TEXTS = {
    "wide": "\u65e5\u672c\u8a9e \uff21",
    "joined": "\U0001f469\u200d\U0001f4bb|\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466|",
    "flags": "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7|",
    "forms": "\u2764\ufe0f|\u2764|1\ufe0f\u20e3|\U0001f44d\U0001f3fd|",
    "combining": "e\u0301 n\u0303|",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u0639\u0631\u0628\u064a|",
}


def test_every_script_keeps_to_its_row(daemon: FakeDaemon) -> None:
    """Rows of emoji and of plain text replace each other, and nothing of either is left behind."""
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        for count in range(30):
            for text in ODD_TEXTS.values():
                daemon.hear("bob", f"{text} {count}")
            daemon.hear("bob", "x" * (10 + count % 7))
        daemon.hear("bob", "the end")
        person.shows_line("22:26 bob: the end", at=-3)
        person.keys("PageUp", "PageUp", "End")
        person.shows_line("22:26 bob: the end", at=-3)
        drawn = person.rows
        person.keys("C-l")
        person.type("again")
        assert person.shows("> again")[:-1] == drawn[:-1]
        for row in drawn[:-3]:
            assert row.startswith("22:26 bob: ")
            assert row[-1].isdecimal() or row.endswith("x")


def test_nothing_that_others_write_drives_the_terminal(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "a\x1b[2Jb\u202ec\r\x07\nd")
        rows = person.shows("bob: a\\x1b[2Jb\\u202ec\\x0d\\x07")
        assert rows[-3] == "           d"


def test_ignoring_hides_what_was_and_what_will_be_written(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "annoying")
        person.shows("bob: annoying")
        person.say("/ignore bob")
        person.shows("You see nothing of bob any more")
        person.shows_not("bob: annoying")
        daemon.hear("bob", "more of it, abc", room="2")
        daemon.hear("bob", "and again")
        person.say("/unignore bob")
        person.shows("bob: annoying", "bob: and again")
        person.shows_status("[2: 1!]")


def test_colours_and_none(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "hello")
    with sit_down(daemon, "many") as person:
        person.log_in()
        person.shows("bob: hello")
        assert "38;5;" in person.styled
    with sit_down(daemon, "eight", TERM="screen") as person:
        person.log_in()
        person.shows("bob: hello")
        assert "38;5;" not in person.styled
        assert "\x1b[1m\x1b[3" in person.styled
    with sit_down(daemon, "none", NO_COLOR="1") as person:
        person.log_in()
        person.shows("bob: hello")
        assert "\x1b[3" not in person.styled.replace("\x1b[39m", "")


# --- Who one is -----------------------------------------------------------------------------------------


def test_two_people_with_one_name_are_told_apart_and_both_log_in(daemon: FakeDaemon) -> None:
    account(daemon, "ja")
    with sit_down(daemon, "one") as one:
        one.log_in("ja")
        one.say("I am ja")
        one.shows("22:26 ja: I am ja .")
        other = Chat(2)
        other.person().enter("ja", "another")
        daemon.take(*other.router.records())
        tag = one.shows("Somebody else has your name too")[-3].rpartition("ja~")[2]
        one.shows(f"ja~{tag}: I am ja .")
        with sit_down(daemon, "two", columns=40, rows=15) as two:
            two.log_in("ja", "another")
            two.say("so am I")
            two.shows("so am I .")
            rows = one.shows(": so am I")
            assert rows[-3].startswith("22:26 ja~")
            assert tag not in rows[-3]


def test_wrong_passwords_never_lock_anybody_out(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.shows("[Yes/No]")
        person.say("y")
        for refused in range(4):
            person.shows_times("is invalid", refused)
            person.shows_times("Username:", refused + 1)
            person.say("abc")
            person.shows_times("Password:", refused + 1)
            person.say_unseen("wrong")
        person.shows_times("Username:", 5)
        person.say("abc")
        person.shows_times("Password:", 5)
        person.say_unseen("secret")
        person.shows("Logged in as: abc")


# --- Commands -------------------------------------------------------------------------------------------


def test_the_bell_rings_when_it_was_asked_to(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "nothing of yours")
        person.shows("nothing of yours")
        assert not person.rang
        daemon.hear("bob", "abc!", room="2")
        person.shows_status("[2: 1!]")
        assert person.rang
    with sit_down(daemon, "off") as person:
        person.log_in()
        person.say("/bell off")
        person.shows("The bell rings for: off.")
        daemon.hear("bob", "abc! again")
        person.shows("abc! again")
        assert not person.rang
        person.say("/bell")
        person.shows("/bell off|mentions|all")


def test_times_are_hidden_and_shown(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "hello")
    with sit_down(daemon) as person:
        person.log_in()
        person.shows("22:26 bob: hello")
        person.say("/time")
        person.shows("\nbob: hello")
        person.say("/time")
        person.shows("22:26 bob: hello")


def test_help_begins_at_its_beginning(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        person.say("/help")
        assert person.shows("/rooms ")[0].startswith("/help")
        person.keys("End")
        person.shows("\u27132 if 2")
    with sit_down(daemon, "ascii", LC_ALL="C") as person:
        person.log_in()
        person.say("/help")
        person.shows("/rooms ")
        person.keys("End")
        person.shows("+2 if 2")


def test_a_question_is_asked_where_one_types_and_can_be_left(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "old")
    with sit_down(daemon) as person:
        person.log_in()
        person.shows("bob: old")
        person.say("/room market")
        person.shows("There is no room market yet. Make it? [Yes/No]")
        person.keys("C-c")
        person.shows("Nothing was changed.")
        person.say("/wipe")
        person.shows("Delete the history of room 1")
        person.say("no")
        person.shows("Nothing was deleted.")
        person.say("/wipe")
        person.shows("Delete the history of room 1")
        person.say("yes")
        person.shows_not("bob: old")


def test_the_password_is_changed_and_never_shown(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        person.say("/passwd")
        person.shows_line("Old password:", at=-1)
        person.say_unseen("secret")
        person.shows_line("Choose a password:", at=-1)
        person.type("better")
        person.keys("Enter")
        person.shows_line("The same again:", at=-1)
        person.say_unseen("better")
        rows = person.shows("The password has been changed")
        assert not [row for row in rows if "secret" in row or "better" in row]
    with ControlClient(daemon.path) as client:
        client.request("login", user="abc", password="better")


# --- The daemon goes away -------------------------------------------------------------------------------


def test_a_lost_daemon_costs_nothing_and_doubles_nothing(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.hear("bob", "before")
        person.shows("bob: before")
        person.type("half a ")
        person.shows("> half a")
        daemon.stop()
        person.shows_status("daemon gone")
        person.type("line")
        person.shows_line("> half a line", at=-1)
        person.keys("Enter")
        person.shows("abc: half a line")
        daemon.hear("bob", "missed")
        daemon.hear("bob", "missed elsewhere", room="2")
        daemon.start()
        rows = person.shows("bob: missed", "abc: half a line .")
        assert [sum(text in row for row in rows) for text in ("before", "missed", "half a line")] == [1, 1, 1]
        assert "daemon gone" not in person.shows_status("[2: 1]")
    assert daemon.texts() == ["before", "missed", "half a line"]


def test_an_account_closed_meanwhile_leads_back_to_the_login(daemon: FakeDaemon) -> None:
    account(daemon, "abc", "eve")
    with sit_down(daemon) as person:
        person.log_in()
        with ControlClient(daemon.path) as client:
            client.request("login", user="abc", password="secret")
            client.request("retire", password="secret")
        person.say("still here")
        person.shows("log in again", "Do you have an account? [Yes/No]")
        person.say("y")
        person.shows_times("Username:", 2)
        person.say("eve")
        person.shows_times("Password:", 2)
        person.say_unseen("secret")
        person.shows("eve: still here .")
    assert daemon.texts() == ["still here"]


def test_a_refused_text_comes_back_into_the_line(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        daemon.router.fill_disk()
        person.say("precious")
        person.shows("the disk is full")
        person.shows_line("> precious", at=-1)
        daemon.router.fill_disk(full=False)
        person.say(" words")
        person.shows("abc: precious words .")
    assert daemon.texts() == ["precious words"]


@pytest.fixture
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that finds ordinary typing too fast."""
    monkeypatch.setattr(limits, "PERSON_RATE", 0.2)
    monkeypatch.setattr(limits, "PERSON_BURST", 2.0)


@pytest.mark.usefixtures("_strict")
def test_who_types_too_fast_is_told_and_loses_nothing(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        for number in range(4):
            person.say(f"line {number}")
        person.shows("Not so fast: the rest follows by itself")
        person.shows("abc: line 3 .")
    assert daemon.texts() == [f"line {number}" for number in range(4)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_the_terminal_is_left_as_it_was_found(daemon: FakeDaemon, number: signal.Signals) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.log_in()
        assert person.alternate
        os.kill(person.pid, number)
        person.ends()
        assert not person.alternate
        person.shows("Room Number [1,2,3,4] 1")


# --- Much at once ---------------------------------------------------------------------------------------


@contextmanager
def flood(daemon: FakeDaemon) -> Iterator[list[str]]:
    """Somebody writes 200 messages a second all the time; yields those that he has written."""
    written: list[str] = []
    enough = threading.Event()

    def write() -> None:
        while not enough.wait(1 / 200):
            written.append(f"flood {len(written)}")
            daemon.hear("bob", written[-1])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield written
    finally:
        enough.set()
        writer.join()


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_a_flood_leaves_the_screen_to_the_typist(daemon: FakeDaemon, columns: int, rows: int) -> None:
    """It goes on until all that was typed has been seen: no key waits for its end."""
    account(daemon)
    with sit_down(daemon, columns=columns, rows=rows) as person:
        with flood(daemon) as written:
            person.log_in()
            person.shows("bob: flood")
            for count in range(1, 6):
                person.type(f"{count}")
                person.shows_line("> " + "12345"[:count], at=-1)
            person.keys("Enter")
            person.shows_line("> ", at=-1)
            person.keys("PageUp")
            person.shows_status("End")
            person.keys("End")
        person.shows_line(f"22:26 bob: {written[-1]}", at=-3)
    assert daemon.texts().count("12345") == 1
