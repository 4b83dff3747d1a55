"""The login front end, as the person in front of it sees it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from meshchat.client.connection import ControlClient
from tests.unit.fakeserver import PATIENCE, FakeDaemon
from tests.unit.people import Terminal, command, environment, run
from tests.unit.screen import Screen

LOST = "The daemon does not answer; your line is kept. Trying again..."


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


def account(daemon: FakeDaemon, user: str = "abc", password: str = "secret") -> None:
    with ControlClient(daemon.path) as client:
        client.request("register", user=user, password=password)


def sit_down(daemon: FakeDaemon, **variables: str) -> Terminal:
    return Terminal("--socket", str(daemon.path), "--plain", **variables)


# --- Logging in -----------------------------------------------------------------------------------------


def test_a_new_person_makes_an_account_and_logs_in(daemon: FakeDaemon) -> None:
    account(daemon, "taken")
    with sit_down(daemon) as person:
        person.answer("Do you have an account? [Yes/No]", "perhaps")
        person.answer("Do you have an account? [Yes/No]", "nO")
        person.answer("Choose a username:", "Taken")
        person.expect("This username is already taken\n")
        person.answer("Choose a username:", "abc")
        person.secret("Choose a password:", "secret")
        person.secret("The same again:", "other")
        person.expect("Password is not matched")
        person.secret("Choose a password:", "secret")
        person.secret("The same again:", "secret")
        person.expect("Your account has been created")
        person.answer("Do you have an account? [Yes/No]", "Y")
        person.answer("Username:", "abc")
        person.secret("Password:", "wrong")
        person.expect("Username or password is invalid")
        person.answer("Username:", "abc")
        person.secret("Password:", "secret")
        person.expect("Logged in as: abc")
        person.expect("Room Number [1,2,3,4]")
        assert "secret" not in person.screen


def test_a_bad_name_is_refused_with_its_reason_and_asked_for_again(daemon: FakeDaemon) -> None:
    with sit_down(daemon) as person:
        person.answer("[Yes/No]", "no")
        person.answer("Choose a username:", "a b")
        assert "password" not in person.expect("no spaces")
        assert "password" not in person.expect("Choose a username:")


def test_no_password_leads_back_to_the_name(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.answer("[Yes/No]", "no")
        person.answer("Choose a username:", "ann")
        person.secret("Choose a password:", "secret")
        person.secret("The same again:", "")
        person.expect("Password is not matched")
        person.secret("Choose a password:", "")
        person.answer("Choose a username:", "")
        person.answer("[Yes/No]", "yes")
        person.answer("Username:", "abd")
        person.secret("Password:", "")
        person.answer("Username:", "abc")
        person.secret("Password:", "secret")
        person.expect("Logged in as: abc")


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_a_password_has_at_most_1024_bytes_and_none_is_cut(daemon: FakeDaemon, terminal: str) -> None:
    whole = "p" * 1024
    account(daemon, password=whole)
    with sit_down(daemon, TERM=terminal) as person:
        person.answer("[Yes/No]", "yes")
        person.answer("Username:", "abc")
        for long in (whole + "p", "p" * 5000):
            person.secret("Password:", long)
            person.expect("A password has at most 1024 bytes of UTF-8.")
        person.secret("Password:", whole)
        person.expect("Logged in as: abc")
        assert "pp" not in person.screen


@pytest.mark.parametrize("how", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("steps", range(4))
def test_every_question_can_be_left(daemon: FakeDaemon, how: str, steps: int) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.expect("Do you have an account? [Yes/No]")
        if steps > 0:
            person.type("y\n")
            person.expect("Username:")
        if steps > 1:
            person.type("abc\n")
            person.expect("Password:")
        if steps > 2:
            person.type("secret\n")
            person.expect("Room Number [1,2,3,4]")
        person.type(how)
        assert person.leave() == 0
        assert "Traceback" not in person.screen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("question", ["[Yes/No]", "Password:"])
def test_the_terminal_is_left_as_it_was_found(
    daemon: FakeDaemon, number: signal.Signals, question: str
) -> None:
    with sit_down(daemon) as person:
        before = person.settings()
        if question == "Password:":
            person.answer("[Yes/No]", "y")
            person.answer("Username:", "abc")
        person.expect(question)
        person.type("half a l")
        assert person.settings() != before
        person.process.send_signal(number)
        assert person.leave() == (0 if number == signal.SIGINT else -number)
        assert person.settings() == before


def test_ctrl_z_where_no_shell_is_below_changes_nothing(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        person.type("half")
        person.expect("half")
        person.type("\x1a")
        person.expect("half")
        person.type(" a line\n/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == ["half a line"]


def test_a_room_can_be_left_by_every_way(daemon: FakeDaemon) -> None:
    account(daemon)
    for way in ("\x03", "\x04", "/quit\n"):
        with sit_down(daemon) as person:
            person.enter()
            person.type(way)
            assert person.leave() == 0
            assert person.echoes()


def test_nobody_there(tmp_path: Path) -> None:
    done = run("--socket", str(tmp_path / "no.sock"))
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert str(tmp_path / "no.sock").encode() in done.stderr
    assert b"meshchat daemon" in done.stderr


# --- Rooms ----------------------------------------------------------------------------------------------


def test_rooms_are_chosen_by_number_or_name_and_made_after_a_question(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "among the trees", room="garden")
    with sit_down(daemon) as person:
        person.answer("[Yes/No]", "y")
        person.answer("Username:", "abc")
        person.secret("Password:", "secret")
        person.expect("5  garden  (1 message)")
        person.answer("Room Number [1,2,3,4,5]", "a b")
        person.expect("no spaces")
        person.answer("Room Number [1,2,3,4,5]", "/help")
        person.expect("Choose a room first")
        person.answer("Room Number [1,2,3,4,5]", "market")
        person.answer("There is no room market yet. Make it? [Yes/No]", "no")
        person.answer("Room Number [1,2,3,4,5]", "5")
        person.expect("--- Room garden ---")
        person.expect("bob: among the trees")
        person.type("/room GARDEN\n")
        person.expect("bob: among the trees")
        person.type("/room market\n")
        person.answer("Make it? [Yes/No]", "y")
        person.expect("--- Room market ---")
        person.type("first\n/room 2\n")
        person.expect("--- Room 2 ---")
        daemon.hear("bob", "not for here", room="garden")
        daemon.hear("bob", "for here", room="2")
        assert "not for here" not in person.expect("bob: for here")
    assert daemon.texts("market") == ["first"]


def test_recent_history_shows_the_last_twenty_with_days(daemon: FakeDaemon) -> None:
    account(daemon)
    for number in range(15):
        daemon.hear("bob", f"old {number}")
    daemon.router.ms += 86_400_000
    for number in range(10):
        daemon.hear("bob", f"new {number}")
    with sit_down(daemon) as person:
        person.enter()
        before = person.expect("bob: old 5")
        assert "--- Saturday 21 November 2026 ---" in before
        assert "old 4" not in before
        before = person.expect("22:26 bob: new 0")
        assert "--- Sunday 22 November 2026 ---" in before
        person.expect("bob: new 9")
        person.type("/history 22\n")
        person.expect("bob: old 3")
        person.expect("--- end of history ---")
        person.type("/history nonsense\n")
        person.expect("is no time")


def test_times_are_those_of_the_router(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "hello")
    with sit_down(daemon, TZ="<+0330>-3:30") as person:
        person.enter()
        person.expect("01:56 bob: hello")


# --- Talking --------------------------------------------------------------------------------------------


def test_two_people_talk_and_nobody_sees_himself_twice(daemon: FakeDaemon) -> None:
    account(daemon, "ann")
    account(daemon, "bob")
    with sit_down(daemon) as ann, sit_down(daemon) as bob:
        ann.enter("ann")
        bob.enter("bob")
        ann.type("hello\n")
        bob.expect("ann: hello\n")
        bob.type("hi there\n")
        ann.expect("bob: hi there\n")
        for person in (ann, bob):
            person.type("/quit\n")
            assert person.leave() == 0
            assert person.screen.count("hello") == 1
            assert person.screen.count("hi there") == 1


def test_what_is_typed_while_a_message_arrives_is_sent_whole(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        person.type("good ")
        person.expect("good ")
        daemon.hear("bob", "interrupting")
        person.expect("bob: interrupting")
        person.type("morning\n/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == ["interrupting", "good morning"]


def test_what_is_being_typed_stays_in_view_below_what_arrives(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        person.type("Come to the ")
        person.expect("Come to the ")
        for text in ("other talks", "more talk"):
            daemon.hear("bob", text)
            person.expect(f"bob: {text}\n")
            person.expect("Come to the ")
            assert Screen.of(person.screen).rows[-2:] == [f"22:26 bob: {text}", "Come to the"]
        person.type("well\x1b[D\x1b[3~ at sic\x7fx\n")
        person.expect("\n")  # the line is complete, and the daemon's
        daemon.hear("bob", "I will")
        person.expect("bob: I will\n")
        shown = Screen.of(person.screen).text
        assert shown.endswith(
            "22:26 bob: other talks\n22:26 bob: more talk\nCome to the well at six\n22:26 bob: I will\n\n"
        )
        assert shown.count("Come to") == 1
    assert "Come to the well at six" in daemon.texts()


def test_a_long_line_is_sent_whole_or_refused_and_kept(daemon: FakeDaemon) -> None:
    account(daemon)
    longest = "word " * 1638 + "EN"
    with sit_down(daemon) as person:
        person.enter()
        person.type(longest + "\n")
        person.type(longest + "D\n")
        person.expect("Not sent, kept for /again: A message has at most 8192 bytes; this one has 8193.\n")
        shown = Screen.of(person.screen).text
        assert shown.count("EN\n") == shown.count("END\n") == 1  # as typed, and not once more
        person.type("/again\n")
        person.expect("this one has 8193.")
        person.type("/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == [longest]


def test_a_long_paste_is_sent_line_by_line_and_completely(daemon: FakeDaemon) -> None:
    account(daemon)
    lines = [f"line {number}" for number in range(14)]
    with sit_down(daemon) as person:
        person.enter()
        person.type("".join(f"{line}\n" for line in lines))
        person.expect("Not so fast: the rest follows by itself")
        person.type("/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == lines


def test_slash_commands(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        person.type("/help\n")
        for name in ("help", "rooms", "room NAME", "users", "history [N|WHEN]", "quit"):
            person.expect(f"/{name}")
        person.type("/users\n")
        person.expect("Users: abc")
        person.type("/rooms\n")
        person.expect("  4  (empty)")
        person.type("/nonsense\n")
        person.expect("There is no /nonsense.")
        person.type("//etc/passwd\n\n   \n/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == ["/etc/passwd"]


def test_a_refused_line_is_shown_kept_and_sent_again(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        daemon.router.fill_disk()
        person.type("precious\n")
        person.expect("the disk is full")
        person.expect("Not sent: precious")
        daemon.router.fill_disk(full=False)
        person.type("/again\n/quit\n")
        assert person.leave() == 0
    assert daemon.texts() == ["precious"]


def test_nothing_that_others_write_drives_the_terminal(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        daemon.hear("bob", "a\x1b[2Jb\u202ec\nd")
        person.expect("bob: a\\x1b[2Jb\\u202ec\n      d\n")


# --- The daemon goes away -------------------------------------------------------------------------------


def test_a_lost_daemon_costs_nothing_and_doubles_nothing(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "before")
    with sit_down(daemon) as person:
        person.enter()
        person.expect("bob: before")
        person.type("one\n")
        daemon.hear("bob", "mark")
        person.expect("bob: mark")
        daemon.stop()
        person.expect(LOST)
        person.type("two\nthree\n")
        person.type("/rooms\n")
        person.expect("The daemon does not answer: say it again when it does.")
        daemon.hear("bob", "missed")
        daemon.start()
        person.expect("The daemon answers again.")
        person.expect("bob: missed")
        daemon.hear("bob", "after")
        person.expect("bob: after")
        person.type("/quit\n")
        assert person.leave() == 0
        for heard in ("before", "mark", "missed", "after"):
            assert person.screen.count(f"bob: {heard}") == 1
        assert [person.screen.count(text) for text in ("one", "two", "three")] == [1, 1, 1]
    assert [text for text in daemon.texts() if text in ("one", "two", "three")] == ["one", "two", "three"]


def test_what_came_late_while_the_daemon_was_away_is_shown_and_counted(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "elsewhere", room="2")
    with sit_down(daemon) as person:
        person.enter()
        daemon.hear("bob", "mark")
        person.expect("bob: mark")
        daemon.stop()
        person.expect(LOST)
        for room in ("1", "2"):
            daemon.hear("eve", f"abc, of yesterday in {room}", room=room, late_s=86_400)
        daemon.start()
        person.expect("eve: abc, of yesterday in 1")
        person.expect("* eve names you in room 2: /room 2")
        person.type("/rooms\n")
        person.expect("2  (2 messages, 1 new)")
        person.type("/quit\n")
        assert person.leave() == 0
        assert person.screen.count("eve: abc, of yesterday in 1") == 1
        assert person.screen.count("bob: mark") == 1


def test_a_line_that_was_stored_before_the_daemon_died_is_not_sent_twice(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        person.type("same words\n")
        daemon.hear("bob", "mark")
        person.expect("bob: mark")
        daemon.die_at = "send"
        person.type("same words\nlast\n")
        person.expect(LOST)
        assert daemon.died.wait(5)
        daemon.stop()
        daemon.start()
        person.expect("The daemon answers again.")
        person.type("/quit\n")
        assert person.leave() == 0
        assert person.screen.count("same words") == 2  # as typed
    assert [text for text in daemon.texts() if text != "mark"] == ["same words", "same words", "last"]


def test_a_daemon_lost_during_the_login_is_waited_for(daemon: FakeDaemon) -> None:
    with sit_down(daemon) as person:
        person.answer("[Yes/No]", "no")
        person.answer("Choose a username:", "abc")
        person.secret("Choose a password:", "secret")
        daemon.die_at = "register"
        person.secret("The same again:", "secret")
        person.expect(LOST)
        daemon.stop()
        daemon.start()
        person.expect("Your account has been created")
        person.expect("Do you have an account? [Yes/No]")


def test_who_leaves_without_a_daemon_is_told_what_was_not_sent(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        daemon.stop()
        person.expect(LOST)
        person.type("unsent\n")
        person.expect("unsent")
        person.type("/quit\n")
        person.expect("Not sent to room 1: unsent")
        assert person.leave() == 0


def test_an_account_closed_meanwhile_leads_back_to_the_login(daemon: FakeDaemon) -> None:
    account(daemon)
    account(daemon, "eve")
    with sit_down(daemon) as person:
        person.enter()
        with ControlClient(daemon.path) as client:
            client.request("login", user="abc", password="secret")
            client.request("retire", password="secret")
        person.type("still here\n")
        person.expect("log in again")
        person.answer("[Yes/No]", "y")
        person.answer("Username:", "eve")
        person.secret("Password:", "secret")
        person.expect("Logged in as: eve")
        daemon.hear("bob", "welcome")
        person.expect("bob: welcome")
        person.type("/quit\n")
        assert person.leave() == 0
    assert sorted(daemon.texts()) == ["still here", "welcome"]


# --- Pipes and poor terminals ---------------------------------------------------------------------------


def test_a_pipe_can_hold_a_whole_visit(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "earlier")
    visit = b"yes\nabc\nsecret\n1\nhello from a pipe\nno newline at the end"
    done = run("--socket", str(daemon.path), stdin=visit)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    assert "bob: earlier" in shown
    assert shown.index("bob: earlier") < shown.index("abc: hello from a pipe\n")
    assert shown.count("hello from a pipe") == 1
    assert shown.endswith("abc: no newline at the end\n")
    assert "\x1b" not in shown
    assert daemon.texts() == ["earlier", "hello from a pipe", "no newline at the end"]


def test_a_plain_file_and_an_empty_input_are_read_as_well(daemon: FakeDaemon, tmp_path: Path) -> None:
    account(daemon)
    file = tmp_path / "visit"
    file.write_text("yes\nabc\nsecret\n2\nfrom a file\n")
    with file.open() as source:
        visit = Popen(command("--socket", str(daemon.path)), stdin=source, stdout=DEVNULL, env=environment())
        assert visit.wait(20) == 0
    assert daemon.texts("2") == ["from a file"]
    nobody = Popen(command("--socket", str(daemon.path)), stdin=DEVNULL, stdout=DEVNULL, env=environment())
    assert nobody.wait(20) == 0


def test_what_the_encoding_lacks_is_escaped(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "gr\u00fc\u00df \U0001f33b")
    with sit_down(daemon, LANG="", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as person:
        person.enter()
        person.expect("bob: gr\\xfc\\xdf \\U0001f33b")
        person.type("f\u00fcr\n")
        person.expect("This is not UTF-8 text: set the terminal to UTF-8")
        person.type("plain\n/quit\n")
        assert person.leave() == 0
    assert daemon.texts()[1:] == ["plain"]


def test_a_line_that_is_no_text_is_refused_and_the_next_one_sent(daemon: FakeDaemon) -> None:
    account(daemon)
    done = run("--socket", str(daemon.path), stdin=b"yes\nabc\nsecret\n1\ngr\xfc\xdf\nfine\n")
    assert b"UTF-8" in done.stdout
    assert daemon.texts() == ["fine"]


def test_a_dumb_terminal_gets_no_escapes(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon, TERM="dumb") as person:
        person.enter()
        daemon.hear("bob", "hello")
        person.expect("bob: hello")
        assert "\x1b" not in person.screen


def test_a_hang_up_ends_it(daemon: FakeDaemon) -> None:
    with sit_down(daemon) as person:
        person.expect("[Yes/No]")
        person.process.send_signal(signal.SIGHUP)
        assert person.leave() == -signal.SIGHUP


# --- Several rooms, line by line ------------------------------------------------------------------------


def await_present(daemon: FakeDaemon, user: str, room: str) -> None:
    """A router says within a second who has come."""
    deadline = time.monotonic() + PATIENCE
    with ControlClient(daemon.path) as client:
        while user not in [each["user"] for each in client.stream("who", room=room)]:
            assert time.monotonic() < deadline, f"{user} is not in room {room}"


def test_several_rooms_and_people_line_by_line(daemon: FakeDaemon) -> None:
    account(daemon)
    account(daemon, "ann")
    with sit_down(daemon) as person, sit_down(daemon) as other:
        person.enter()
        other.enter("ann")
        daemon.hear("bob", "nothing for you", room="2")
        daemon.hear("bob", "Abc: for you", room="garden")
        assert "nothing for you" not in person.expect("* bob names you in room garden: /room garden\n")
        person.type("/rooms\n")
        person.expect("2  (1 message, 1 new)")
        person.type("/room garden\n")
        person.expect("bob: Abc: for you\n")
        person.type("/leave\n")
        person.expect("--- Room 1 ---")
        other.type("/me waves\n")
        person.expect("* ann waves\n")
        await_present(daemon, "ann", "1")
        person.type("/who\n")
        person.expect("Here in room 1:\n")
        person.expect("ann  active\n")
        person.type("/ignore ann\n/who 4\n")
        person.expect("Nobody has room 4 open.\n")
        other.type("unseen\n/me sits down\n/quit\n")
        assert other.leave() == 0
        person.type("/unignore ann\n/search SITS\n")
        assert "unseen" not in person.expect("* ann sits down\n")
        person.type("/passwd\n")
        person.secret("Old password:", "wrong")
        person.secret("Choose a password:", "better")
        person.secret("The same again:", "better")
        person.expect("The old password is not right.\n")
        person.type("/quit\n")
        assert person.leave() == 0


def test_what_is_new_is_marked_line_by_line(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "old")
    with sit_down(daemon) as person:
        person.enter()
        person.expect("bob: old\n")
        person.type("/quit\n")
        assert person.leave() == 0
        assert "new since" not in person.screen
    for number in range(30):
        daemon.hear("bob", f"missed {number}")
    with sit_down(daemon) as person:
        person.enter(room="")
        assert "missed" not in person.expect("--- new since you left ---\n")
        person.expect("bob: missed 0\n")
        person.expect("bob: missed 29\n")


def test_many_new_rooms_are_told_of_together_and_a_long_list_of_them_is_cut(daemon: FakeDaemon) -> None:
    account(daemon)
    with sit_down(daemon) as person:
        person.enter()
        for number in range(150):
            daemon.hear("bob", "here", room=f"r{number}")
        person.expect(" new rooms: /rooms lists all.\n")
        person.type("/rooms\n")
        assert "r149" not in person.expect("  and 54 more; any can be chosen by its name\n")
        person.type("/room r149\n")
        person.expect("--- Room r149 ---")
        person.type("/quit\n")
        assert person.leave() == 0
    assert person.screen.count("new room") < 50
