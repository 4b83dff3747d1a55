"""The unpacked package on a router's Python: what it depends on is enough, and none of it too much."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openwrt.build.contents import Package, packages
from openwrt.build.source import as_it_stands
from tests.openwrt.router_python import BRINGS, SPLIT
from tests.openwrt.simulated import TOP
from tests.unit.people import Terminal

MESHCHAT = "/usr/bin/meshchat"
NEEDED_BY_SOME_RELEASES = {
    "python3-urllib": "pathlib of Python 3.11 (23.05, 24.10)",
    "python3-uuid": "click from 8.2 on (main)",
}
ALTERNATE_SCREEN = "\x1b[?1049h"
"""xterm's switch to the other screen, which only the full screen uses."""

RUNNER = Path(__file__).with_name("router_python.py")


@pytest.fixture(scope="module")
def depends() -> list[str]:
    """The parts of Python that the package names."""
    return parts_of(*packages(as_it_stands(TOP), [])[:1])


def parts_of(*those: Package) -> list[str]:
    return [name for package in those for name in package.depends if name in SPLIT]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files at their places, in a root with nothing else; programs look there for code."""
    folder = tmp_path_factory.mktemp("root")
    put(folder, packages(as_it_stands(TOP), [])[0])
    return folder


def put(folder: Path, package: Package) -> None:
    """The package's files at their places below `folder`."""
    for file in package.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data.replace(b'"/usr/lib/meshchat"', f'"{folder}/usr/lib/meshchat"'.encode()))


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Commands:
    """Runs the package's programs, on a Python that has only some of its parts."""

    def __init__(self, root: Path, parts: list[str], folder: Path) -> None:
        self._base = [sys.executable, "-B", str(RUNNER), ",".join(parts), str(root)]
        self._folder = folder
        self._environment = {
            **os.environ,
            "MESHCHAT_SOCKET": str(folder / "socket"),
            "MESHCHAT_PASSWORD": "correct horse",
            "HOME": str(folder),
            "PARTS_USED": str(folder / "used"),
        }

    def run(
        self, *words: str, given: str = "", program: str = MESHCHAT
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._base, program, *words],
            cwd=self._folder,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def terminal(self) -> Terminal:
        """`meshchat` and a person at a terminal."""
        return Terminal(program=[*self._base, MESHCHAT], **{**self._environment, "PYTHONPATH": ""})

    @property
    def used(self) -> set[str]:
        """The parts of Python that were imported so far, by commands and daemons that have ended."""
        return {*(self._folder / "used").read_text().split()}

    def ok(self, *words: str, given: str = "") -> str:
        done = self.run(*words, given=given)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def daemon(self) -> "subprocess.Popen[str]":
        """Starts the daemon; one that serves has said so."""
        command = [*self._base, MESHCHAT, "daemon", "--interface", "lo", "--logs", "logs"]
        command += ["--port", str(free_port())]
        process = subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if " serves the mesh " in line:
                return process
        raise AssertionError("".join(said))


@pytest.fixture
def commands(root: Path, depends: list[str], tmp_path: Path) -> Commands:
    """Commands of a router that has what the package depends on."""
    return Commands(root, depends, tmp_path)


@contextlib.contextmanager
def running_daemon(commands: Commands) -> Iterator[None]:
    process = commands.daemon()
    try:
        yield
    finally:
        process.terminate()
        status = process.wait()
    assert status == 0


def test_the_package_runs_with_the_parts_of_python_that_it_depends_on_and_needs_all_of_them(
    commands: Commands, depends: list[str]
) -> None:
    with running_daemon(commands):
        use_all(commands)
    assert commands.used <= {*depends}
    assert {*depends} - commands.used <= NEEDED_BY_SOME_RELEASES.keys()


def use_all(commands: Commands) -> None:
    commands.ok("register", "ana")
    assert len(commands.ok("send", "1", "hello", "--user", "ana").strip()) > 0
    assert "ana: hello" in commands.ok("history", "1")
    assert "ana: hello" in commands.ok("history", "1", "--since", "20 November 2020, 6 pm")
    for words in (["rooms"], ["users"], ["peers"], ["status"], ["clock", "show"], ["key", "show"]):
        commands.ok(*words)
        assert "Traceback" not in commands.run(*words, "--json").stderr
    commands.ok("key", "new")
    commands.ok("export", "carried")
    commands.ok("import", "carried")
    commands.ok("clock", "set", "2026-11-21 18:30")
    assert "not in python3-light" not in commands.run("check").stderr
    commands.ok("wipe", "--yes")


def test_people_chat_in_the_plain_terminal(commands: Commands) -> None:
    with running_daemon(commands):
        chat(commands)


def chat(commands: Commands) -> None:
    typed = [
        "No",
        "bea",
        "correct horse",
        "correct horse",
        "Yes",
        "bea",
        "correct horse",
        "2",
        "Grüße",
        "/quit",
    ]
    said = commands.ok(given="".join(f"{line}\n" for line in typed))
    assert "Your account has been created" in said
    assert "Grüße" in commands.ok("history", "2")


def test_people_chat_on_the_full_screen(root: Path, tmp_path: Path) -> None:
    """prompt_toolkit, wcwidth and segno, here pip's, stand for those of the package meshchat-terminal."""
    both = packages(as_it_stands(TOP), [])
    depends = parts_of(*both)
    root = shutil.copytree(root, tmp_path / "root")
    for package in both:
        put(root, package)
    commands = Commands(root, depends, tmp_path)
    with running_daemon(commands):
        commands.ok("register", "ana")
        with commands.terminal() as person:
            for question, answer in (("Yes/No", "Yes"), ("Username", "ana"), ("Password", "correct horse")):
                person.expect(question)
                person.type(f"{answer}\n")
            person.expect("Room Number")
            person.type("2\n")
            person.expect(ALTERNATE_SCREEN)
            for line, shown in (("drawn", ": drawn"), ("/quit", "")):
                person.type(line)
                person.expect(line)  # what comes together with its end is taken for a paste
                person.type("\n")
                person.expect(shown)
            assert person.leave() == 0
        assert "ana: drawn" in commands.ok("history", "2")
        commands.ok("key", "new")
        assert len(commands.ok("key", "show", "--qr").splitlines()) > 10
    brought = {other for name in depends for other in BRINGS.get(name, ())}
    assert commands.used <= {*depends} | brought


def test_the_settings_of_uci_are_read(commands: Commands) -> None:
    done = commands.run(
        "/nowhere", given="mesh\0valley\0port\0ninety\0", program="/usr/share/meshchat/settings"
    )
    assert done.returncode == 0
    assert 'mesh = "valley"' in done.stdout
    assert "port" in done.stderr
