"""`scripts/mesh` brings a mesh up by hand, and two people chat in two terminals."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mesh import air
from tests.mesh.net import wait

pytestmark = pytest.mark.mesh

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Command]:
    """Runs `scripts/mesh` with these arguments, on a mesh of this test; `down` at the end."""
    environment = {**os.environ, "MESHCHAT_MESH": str(tmp_path / "mesh"), "PYTHONPATH": str(air.TOP)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tests.mesh", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    yield run
    run("down")


class Pane:
    """A terminal of 90 by 24 characters, under tmux."""

    def __init__(self, socket: Path, command: str) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", os.devnull]
        subprocess.run([*self._tmux, "new-session", "-d", "-x", "90", "-y", "24", command], check=True)

    def shows(self, text: str, seconds: float = 30.0) -> None:
        """Returns when `text` is on the screen."""
        try:
            wait(lambda: text in self._screen(), seconds, f"{text!r} on the screen")
        except AssertionError as error:
            error.add_note(self._screen())
            raise

    def type(self, text: str) -> None:
        """Types a line."""
        subprocess.run([*self._tmux, "send-keys", "-l", text], check=True)
        subprocess.run([*self._tmux, "send-keys", "Enter"], check=True)

    def close(self) -> None:
        """Closes the terminal, whatever runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)

    def _screen(self) -> str:
        return subprocess.run(
            [*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False
        ).stdout


def log_in(pane: Pane) -> None:
    """Logs abc in and enters room 1."""
    pane.type("Yes")
    pane.shows("Username:")
    pane.type("abc")
    pane.shows("Username: abc\nPassword:")
    pane.type("a secret")
    pane.shows("Logged in as: abc")
    pane.shows("Room Number [1,2,3,4]")
    pane.type("1")
    pane.shows("\n 1  ")


def test_two_people_chat_in_two_terminals_four_hops_apart(mesh: Command, tmp_path: Path) -> None:
    up = mesh("up", "--routers", "5", "--loss", "20")
    assert up.returncode == 0, up.stderr
    chat = f"MESHCHAT_MESH={tmp_path}/mesh PYTHONPATH={air.TOP} {sys.executable} -m tests.mesh chat"
    near, far = Pane(tmp_path / "near", f"{chat} 1"), Pane(tmp_path / "far", f"{chat} 5")
    try:
        near.shows("Do you have an account? [Yes/No]")
        near.type("perhaps")
        near.type("No")
        near.shows("Choose a username:")
        near.type("abc")
        near.shows("Choose a password:")
        near.type("a secret")
        near.shows("The same again:")
        near.type("a secret")
        near.shows("Your account has been created")
        log_in(near)
        wait(lambda: "abc" in mesh("exec", "5", "users").stdout, 60, "the account on router 5")
        log_in(far)
        near.type("is anybody there?")
        far.shows("abc: is anybody there?")
        far.type("four hops away")
        near.shows("abc: four hops away")
    finally:
        near.close()
        far.close()


def test_links_are_cut_and_healed_and_routers_asked_by_hand(mesh: Command) -> None:
    assert "not up" in mesh("status").stderr
    assert mesh("up", "--routers", "2", "--loss", "0").returncode == 0
    assert "up already" in mesh("up").stderr
    assert "wlan0" in mesh("exec", "2", "--", "ip", "-br", "address").stdout
    assert mesh("exec", "1", "history", "1", "--json").returncode == 0
    assert "no router 7" in mesh("exec", "7", "rooms").stderr
    mesh("cut", "1", "2")
    assert "link 1-2: cut" in mesh("status").stdout
    mesh("heal", "1", "2")
    mesh("loss", "1", "2", "35")
    assert "link 1-2: 35% loss" in mesh("status").stdout
    assert "no radio link" in mesh("cut", "1", "3").stderr
    assert mesh("down").returncode == 0
    assert "not up" in mesh("down").stderr
