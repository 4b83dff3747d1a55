"""The command line, as scripts and people use it: real processes, exit statuses, what they print."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from meshchat.client.connection import ControlClient
from meshchat.identity.meshkey import MeshKey, mesh_key_text
from meshchat.terminal.widths import columns
from tests.unit.fakeserver import PATIENCE, FakeDaemon
from tests.unit.people import TOP, Terminal, command, environment, run

NOTHING: Mapping[str, str] = {}
PASSWORD = {"MESHCHAT_PASSWORD": "secret"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as running:
        yield running


def chat(
    daemon: FakeDaemon, *words: str, stdin: bytes = b"", env: Mapping[str, str] = NOTHING
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command that finds the daemon by MESHCHAT_SOCKET."""
    return run(*words, stdin=stdin, env=environment(MESHCHAT_SOCKET=str(daemon.path), **env))


def out(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a command that succeeded printed."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout.decode()


def failed(done: subprocess.CompletedProcess[bytes], status: int = 1) -> str:
    """The one line of a command that failed."""
    assert done.returncode == status, (done.returncode, done.stderr)
    line = done.stderr.decode()
    assert line.count("\n") == 1, line
    return line


def account(daemon: FakeDaemon) -> None:
    with ControlClient(daemon.path) as client:
        client.request("register", user="abc", password="secret")


# --- Accounts and sending -------------------------------------------------------------------------------


@pytest.mark.parametrize(("holders", "seconds"), [(0, "0.1"), (2, "0.1"), (3, "3600")])
def test_send_says_how_many_neighbours_hold_it_and_is_done_all_the_same(
    daemon: FakeDaemon, holders: int, seconds: str
) -> None:
    """With all three of them it does not wait any longer."""
    account(daemon)
    daemon.meet(3)
    daemon.holders_at_once = holders
    sent = chat(daemon, "send", "1", "soup", "--user", "abc", "--wait", seconds, env=PASSWORD)
    assert sent.returncode == 0
    assert sent.stderr.decode() == f"Held by {holders} of 3 neighbours.\n"
    assert len(sent.stdout.decode().strip()) == 32
    assert "one TEXT" in chat(daemon, "send", "1", "--user", "abc", "--wait", "1").stderr.decode()


def test_register_send_history(daemon: FakeDaemon) -> None:
    assert out(chat(daemon, "register", "abc", env=PASSWORD)) == "Your account has been created\n"
    assert "taken" in failed(chat(daemon, "register", "abc", env=PASSWORD))
    sent = out(chat(daemon, "send", "1", "gr\u00fc\u00df\x1b[2J", "--user", "abc", env=PASSWORD)).strip()
    line = out(chat(daemon, "history", "1", "--json"))
    assert line.count("\n") == 1
    message = json.loads(line)
    assert list(message) == ["id", "room", "user", "time", "text", "router"]
    assert (message["id"], message["text"]) == (sent, "gr\u00fc\u00df\x1b[2J")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["time"])
    assert "\\u001b" in line
    assert "gr\u00fc\u00df" in line
    assert "22:26 abc: gr\u00fc\u00df\\x1b[2J\n" in out(chat(daemon, "history", "1"))


def test_passwords_come_from_a_file_or_a_terminal_and_not_from_nowhere(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("secret\nsecond line\n")
    out(chat(daemon, "register", "abc", "--password-file", str(file)))
    out(chat(daemon, "send", "1", "hi", "--user", "abc", "--password-file", str(file)))
    assert "invalid" in failed(
        chat(daemon, "send", "1", "hi", "--user", "abc", env={"MESHCHAT_PASSWORD": "wrong"})
    )
    assert "--password-file" in failed(chat(daemon, "send", "1", "hi", "--user", "abc"), 2)
    assert "cannot be read" in failed(chat(daemon, "register", "b", "--password-file", "/nonexistent"))
    with Terminal("--socket", str(daemon.path), "register", "ann") as person:
        person.secret("New password:", "secret")
        person.secret("The same again:", "other")
        person.expect("Password is not matched\n")
        assert person.leave() == 1
    with Terminal("--socket", str(daemon.path), "register", "ann") as person:
        person.secret("New password:", "secret")
        person.type("\x03")
        assert person.leave() == 130
        assert "Traceback" not in person.screen


def test_a_password_changes_and_an_account_is_closed(daemon: FakeDaemon) -> None:
    account(daemon)
    changed = {**PASSWORD, "MESHCHAT_NEW_PASSWORD": "better"}
    assert "changed" in out(chat(daemon, "passwd", "abc", env=changed))
    failed(chat(daemon, "send", "1", "hi", "--user", "abc", env=PASSWORD))
    better = {"MESHCHAT_PASSWORD": "better"}
    assert chat(daemon, "retire", "abc", env=better).returncode == 2
    assert "closed" in out(chat(daemon, "retire", "abc", "--yes", env=better))
    failed(chat(daemon, "send", "1", "hi", "--user", "abc", env=better))


def test_each_line_of_standard_input_is_sent(daemon: FakeDaemon) -> None:
    account(daemon)
    done = chat(daemon, "send", "1", "-", "--user", "abc", stdin=b"one\r\n\ntwo\n--three", env=PASSWORD)
    assert len(out(done).split()) == 3
    assert daemon.texts() == ["one", "two", "--three"]


def test_the_first_line_that_was_not_sent_is_named(daemon: FakeDaemon) -> None:
    account(daemon)
    long = b"x" * 9000
    done = chat(daemon, "send", "1", "-", "--user", "abc", stdin=b"one\n" + long + b"\nthree\n", env=PASSWORD)
    assert "Line 2" in failed(done)
    assert len(done.stdout.split()) == 1
    assert daemon.texts() == ["one"]
    daemon.die_at = "send"
    done = chat(daemon, "send", "1", "-", "--user", "abc", stdin=b"again\n", env=PASSWORD)
    assert "line 1 ('again')" in failed(done, 3)


# --- Reading --------------------------------------------------------------------------------------------


def test_history_in_a_span_of_time(daemon: FakeDaemon) -> None:
    for text in ("first", "second", "third"):
        daemon.hear("bob", text)
        daemon.router.ms += 3_600_000
    assert out(chat(daemon, "history", "1", "--limit", "1")).endswith("bob: third\n")
    shown = out(chat(daemon, "history", "1", "--since", "150m", "--until", "90m"))
    assert "second" in shown
    assert shown.count("\n") == 1
    assert "is no time" in failed(chat(daemon, "history", "1", "--since", "nonsense"), 2)
    failed(chat(daemon, "history", "nowhere"))


def test_follow_shows_what_arrives_until_ctrl_c(daemon: FakeDaemon) -> None:
    daemon.hear("bob", "before")
    following = subprocess.Popen(
        command("history", "1", "--follow", "--json"),
        env=environment(MESHCHAT_SOCKET=str(daemon.path)),
        stdout=subprocess.PIPE,
    )
    assert following.stdout
    assert json.loads(following.stdout.readline())["text"] == "before"
    daemon.hear("bob", "meanwhile")
    assert json.loads(following.stdout.readline())["text"] == "meanwhile"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=PATIENCE)[0] == b""
    assert following.returncode == 0


def test_lists_for_people_and_scripts(daemon: FakeDaemon) -> None:
    account(daemon)
    daemon.hear("bob", "hi")
    assert [json.loads(line)["name"] for line in out(chat(daemon, "rooms", "--json")).splitlines()] == [
        "1",
        "2",
        "3",
        "4",
    ]
    assert "1     1         2026-11-21 22:26\n" in out(chat(daemon, "rooms"))
    assert json.loads(out(chat(daemon, "users", "--json")))["user"] == "abc"
    assert "abc" in out(chat(daemon, "users"))
    daemon.meet(1)
    daemon.see(daemon.signer("abc", "secret"), "abc", "1", "garden", idle=150)
    there = daemon.neighbours[0].id.hex()
    assert json.loads(out(chat(daemon, "users", "--json")))["present"] == [
        {"router": there, "rooms": ["1", "garden"], "active": False, "idle_s": 150}
    ]
    assert out(chat(daemon, "users")).endswith("  idle 2 min: 1, garden\n")
    assert json.loads(out(chat(daemon, "peers", "--json")))["interface"] == "wlan0"
    assert "wlan0" in out(chat(daemon, "peers"))
    assert json.loads(out(chat(daemon, "status", "--json")))["router"] == daemon.router.mesh.router.hex()
    assert daemon.router.mesh.router.hex() in out(chat(daemon, "status"))
    assert "good" in out(chat(daemon, "clock", "show"))
    assert json.loads(out(chat(daemon, "clock", "set", "2026-11-22", "10:00", "--json")))["quality"] == "good"
    assert "no mesh key" in out(chat(daemon, "key", "show"))
    assert "sends" in out(
        chat(daemon, "key", "add", "-", stdin=mesh_key_text(MeshKey(bytes(32))).encode() + b"\n")
    )
    assert "mesh key" in failed(chat(daemon, "key", "add", "bad"))


def test_check_fails_when_something_is_bad(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ok    clock: The clock is good: 2026-11-21T22:26" in chat(daemon, "check").stdout.decode()
    bad = {"level": "bad", "what": "firewall", "text": "UDP 8888 is closed.", "cure": "Open it."}
    monkeypatch.setattr(daemon.router.operator, "check", lambda: [bad])
    done = chat(daemon, "check")
    assert done.returncode == 1
    assert done.stdout == b"bad   firewall: UDP 8888 is closed.\n      Open it.\n"
    assert json.loads(chat(daemon, "check", "--json").stdout) == bad


def test_a_new_key_comes_first_and_the_last_one_is_not_dropped_by_mistake(daemon: FakeDaemon) -> None:
    old = mesh_key_text(MeshKey(bytes(32)))
    out(chat(daemon, "key", "add", old))
    done = chat(daemon, "key", "new")
    first, second = done.stdout.decode().splitlines()
    new = first.partition(" ")[0]
    assert (first, second) == (f"{new}  is accepted, new", f"{old}  sends, as before")
    assert done.stderr.decode() == f"Now, on every other router: meshchat key add {new}\n"
    assert out(chat(daemon, "key", "drop", "-", stdin=f"{old}\n".encode())) == f"{new}  sends\n"
    refused = chat(daemon, "key", "drop", new)
    assert refused.returncode == 2
    assert b"--yes" in refused.stderr
    assert out(chat(daemon, "key", "show")) == f"{new}  sends\n"
    assert "no mesh key" in out(chat(daemon, "key", "drop", new, "--yes"))


# --- History by hand ------------------------------------------------------------------------------------


def test_history_is_carried_by_hand(daemon: FakeDaemon, tmp_path: Path) -> None:
    account(daemon)
    # More than one request holds: each message is 8 KiB, each line hex of it.
    for number in range(20):
        daemon.hear("bob", f"{number} " + "x" * 8000)
    file = tmp_path / "carried"
    assert out(chat(daemon, "export", str(file))) == "21 records exported\n"
    assert json.loads(file.read_bytes().split(b"\n")[0]) == {"meshchat-export": 1, "mesh": "test"}
    assert chat(daemon, "export", "-").stdout == file.read_bytes()
    assert chat(daemon, "wipe").returncode == 2
    assert out(chat(daemon, "wipe", "--yes")) == "20 messages wiped\n"
    file.write_bytes(file.read_bytes() + b"nonsense\n" + b"y" * 700_000 + b"\n\xff\n")
    assert out(chat(daemon, "import", str(file))).startswith("0 added, 21 known"), "wiped is wiped"
    assert daemon.texts() == []
    with FakeDaemon(tmp_path / "there") as there:
        refused = "3 refused (2 damaged, 1 line-syntax)"
        assert out(chat(there, "import", str(file))) == f"21 added, 0 known, {refused}\n"
        assert out(chat(there, "import", "-", stdin=file.read_bytes())).startswith("0 added, 21 known")
        assert len(there.texts()) == 20


def test_a_failed_export_leaves_the_old_file_alone(daemon: FakeDaemon, tmp_path: Path) -> None:
    file = tmp_path / "carried"
    file.write_text("precious")
    daemon.die_at = "export_all"
    failed(chat(daemon, "export", str(file)), 3)
    assert file.read_text() == "precious"
    assert sorted(tmp_path.glob("*carried*")) == [file]
    daemon.stop()
    daemon.start()
    assert "cannot be written" in failed(chat(daemon, "export", "/nonexistent/file"))


def test_what_is_no_export_of_this_mesh_is_not_imported(daemon: FakeDaemon) -> None:
    assert "no file" in failed(chat(daemon, "import", "-", stdin=b"\x7fELF"))
    other = b'{"meshchat-export":1,"mesh":"elsewhere"}\n'
    assert "elsewhere" in failed(chat(daemon, "import", "-", stdin=other))
    assert "later version" in failed(chat(daemon, "import", "-", stdin=other.replace(b"1", b"2")))
    assert "cannot be read" in failed(chat(daemon, "import", "/nonexistent/file"))


# --- Manners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["rooms"], ["history", "1"], ["wipe", "--yes"], ["export", "-"]])
def test_no_daemon(tmp_path: Path, words: list[str]) -> None:
    line = failed(run(*words, "--socket", str(tmp_path / "no.sock")), 3)
    assert str(tmp_path / "no.sock") in line
    assert "meshchat daemon" in line


def test_usage_is_status_two() -> None:
    for words in (
        ["nonsense"],
        ["send", "1", "hi"],
        ["history"],
        ["history", "1", "--limit", "0"],
        ["clock"],
    ):
        done = run(*words)
        assert done.returncode == 2
        assert done.stderr


def test_whoever_stops_reading_is_left_in_peace(daemon: FakeDaemon) -> None:
    for number in range(60):
        daemon.hear("bob", f"{number} " + "x" * 8000)
    reader, writer = os.pipe()
    history = subprocess.Popen(
        command("history", "1"),
        env=environment(MESHCHAT_SOCKET=str(daemon.path)),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert os.read(reader, 10)
    os.close(reader)
    assert history.communicate(timeout=PATIENCE)[1] == b""


def test_output_that_cannot_be_written_is_one_line(daemon: FakeDaemon) -> None:
    daemon.hear("bob", "hi")
    for words in (["history", "1"], ["rooms"]):
        with open("/dev/full", "wb") as full:
            history = subprocess.run(
                command(*words),
                env=environment(MESHCHAT_SOCKET=str(daemon.path)),
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert history.returncode == 1
        assert history.stderr == b"meshchat: No space left on device.\n"


def test_the_script_says_what_it_does_before_it_does_anything() -> None:
    for option in ("--help", "-h"):
        done = subprocess.run(
            [TOP / "scripts" / "chat", option],
            env={"PATH": os.environ["PATH"], "PYTHON": "/nonexistent"},
            capture_output=True,
            check=True,
        )
        assert done.stdout.startswith(b"Chat from this checkout")
        assert b"scripts/chat [" in done.stdout
        assert done.stderr == b""


def test_every_command_has_a_help_and_help_needs_no_terminal_code() -> None:
    shown = out(run("--help"))
    names = re.findall(r"^  ([a-z]+)  ", shown, re.MULTILINE)
    assert {"daemon", "send", "history", "register", "rooms", "check", "wipe", "clock", "key"} <= set(names)
    for name in names:
        assert "Usage: meshchat" in out(run(name, "--help"))
    loaded = subprocess.run(
        [*command()[:1], "-X", "importtime", "-m", "meshchat", "daemon", "--help"],
        env=environment(),
        capture_output=True,
        check=True,
    ).stderr.decode()
    assert "meshchat.terminal" not in loaded
    assert "nacl" not in loaded


def test_the_shell_completes_rooms_and_is_not_disturbed_by_a_missing_daemon(daemon: FakeDaemon) -> None:
    daemon.hear("bob", "hi", room="garden")
    asked = {"_MESHCHAT_COMPLETE": "bash_complete", "COMP_WORDS": "meshchat history ga", "COMP_CWORD": "2"}
    assert out(chat(daemon, env=asked)) == "plain,garden\n"
    daemon.stop()
    assert out(chat(daemon, env=asked)).strip() == ""
    assert "complete" in out(chat(daemon, env={"_MESHCHAT_COMPLETE": "bash_source"}))


# --- Odd surroundings -----------------------------------------------------------------------------------


def closed(daemon: FakeDaemon, streams: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    """A command with these standard streams closed: `<&-`, `>&-`."""
    script = f'exec "$@" {streams}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *command(*words)],
        env=environment(MESHCHAT_SOCKET=str(daemon.path), **PASSWORD),
        capture_output=True,
        timeout=PATIENCE * 2,
        check=False,
    )


def test_closed_standard_streams_are_one_line_and_a_status(daemon: FakeDaemon) -> None:
    account(daemon)
    for streams, words in (
        (">&-", ["rooms"]),
        ("<&-", ["send", "1", "-", "--user", "abc"]),
        ("<&-", ["import", "-"]),
        ("<&-", ["key", "add", "-"]),
    ):
        assert "input or output is closed" in failed(closed(daemon, streams, *words))
    assert daemon.texts() == []
    assert closed(daemon, "2>&-", "rooms").returncode == 0
    assert closed(daemon, "<&- >&- 2>&-", "send", "1", "hi", "--user", "abc").returncode == 1
    assert daemon.texts() == ["hi"]
    assert b"Traceback" not in closed(daemon, "<&-", "--plain").stderr


def test_a_path_in_a_home_that_nobody_has_is_one_line() -> None:
    assert "no home directory" in failed(run("daemon", "--logs", "~nobodyofthatname/x"))


def test_what_is_read_has_bounds(daemon: FakeDaemon, tmp_path: Path) -> None:
    account(daemon)
    words = command("send", "1", "-", "--user", "abc")
    endless = subprocess.run(
        [
            "sh",
            "-c",
            'head -c 400000000 /dev/zero | tr "\\0" x | (ulimit -v 400000; exec "$@")',
            "sh",
            *words,
        ],
        env=environment(MESHCHAT_SOCKET=str(daemon.path), **PASSWORD),
        capture_output=True,
        check=False,
    )
    assert "Line 1 was not sent" in failed(endless)
    assert "no file" in failed(chat(daemon, "import", "-", stdin=b"[" * 150_000 + b"\n"))
    assert "no file" in failed(chat(daemon, "import", "/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    assert "nobody has written" in failed(chat(daemon, "import", str(tmp_path / "pipe")))
    marked = b"\xef\xbb\xbfsecret\r\nmore"
    key = mesh_key_text(MeshKey(bytes(32))).encode()
    (tmp_path / "password").write_bytes(marked)
    out(chat(daemon, "send", "1", "hi", "--user", "abc", "--password-file", str(tmp_path / "password")))
    assert "sends" in out(chat(daemon, "key", "add", "-", stdin=b"\xef\xbb\xbf" + key + b"\r\n"))


def test_tables_stand_straight_whatever_the_names_are(daemon: FakeDaemon) -> None:
    for room in ("日本語の部屋", "e\u0301te\u0301", "plain"):
        daemon.hear("bob", "hi", room=room)
    rows = out(chat(daemon, "rooms")).splitlines()
    starts = {columns(row) - columns(row.split(maxsplit=1)[1]) for row in rows}
    assert len(starts) == 1, rows
