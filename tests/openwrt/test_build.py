"""The packages as a router gets them: what is in them, whose it is, and that all machines make the same."""

import ast
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openwrt.build.__main__ import build
from openwrt.build.source import Source, as_it_stands, committed
from tests.openwrt.simulated import SHELLS, TOP, with_apk
from tests.openwrt.wheelhouse import make_wheels

MAX_BYTES = 300_000
"""What the daemon and the commands may take of a USB stick and of flash."""


@pytest.fixture(scope="module")
def source() -> Source:
    return as_it_stands(TOP)


@pytest.fixture(scope="module")
def built(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    made = build(source, make_wheels(folder), folder)
    return {path.name.partition("_")[0] if path.suffix == ".ipk" else "bundle": path for path in made}


class Ipk:
    """An ipk taken apart."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as archive:
            self.members = archive.getmembers()
            parts = {entry.name: _content(archive, entry) for entry in archive}
        self.format = parts["./debian-binary"]
        self.control = self._files(parts["./control.tar.gz"])
        self.data = self._files(parts["./data.tar.gz"])

    @staticmethod
    def _files(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return {entry.name: (entry, _content(archive, entry)) for entry in archive}

    @property
    def fields(self) -> dict[str, str]:
        text = self.control["./control"][1].decode()
        return dict(line.split(": ", 1) for line in text.splitlines())

    @property
    def depends(self) -> list[str]:
        return self.fields["Depends"].split(", ")

    def modes(self) -> Iterator[tuple[str, int]]:
        for name, (entry, _) in self.data.items():
            if entry.isfile():
                yield name.removeprefix("."), entry.mode


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    return file.read() if file else b""


@pytest.fixture(scope="module")
def meshchat(built: dict[str, Path]) -> Ipk:
    return Ipk(built["meshchat"])


@pytest.fixture(scope="module")
def terminal(built: dict[str, Path]) -> Ipk:
    return Ipk(built["meshchat-terminal"])


def test_an_ipk_has_the_three_members_in_opkgs_order(meshchat: Ipk) -> None:
    names = [entry.name for entry in meshchat.members]
    assert names == ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
    assert meshchat.format == b"2.0\n"


def test_all_is_roots_and_of_the_commits_time(meshchat: Ipk, terminal: Ipk, source: Source) -> None:
    for package in (meshchat, terminal):
        entries = [entry for entry, _ in [*package.control.values(), *package.data.values()]]
        for entry in [*entries, *package.members]:
            assert (entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, "", "")
            assert entry.mtime == source.time
            assert entry.isfile() or entry.isdir()


def test_modes_are_what_a_router_needs(meshchat: Ipk) -> None:
    modes = dict(meshchat.modes())
    programs = {name for name, mode in modes.items() if mode == 0o755}
    assert {"/usr/bin/meshchat", "/etc/init.d/meshchat"} <= programs
    assert modes["/etc/config/meshchat"] == 0o600
    assert {mode for name, mode in modes.items() if name.startswith("/usr/lib/")} == {0o644}
    assert all(entry.mode == 0o755 for entry, _ in meshchat.data.values() if entry.isdir())
    with_shebang = {
        name.removeprefix(".") for name, (_, data) in meshchat.data.items() if data.startswith(b"#!/")
    }
    assert with_shebang == programs


def test_every_directory_comes_before_what_is_in_it(meshchat: Ipk) -> None:
    seen = set()
    for name, (entry, _) in meshchat.data.items():
        parent = name.rstrip("/").rpartition("/")[0] or name
        assert parent in seen or name in (".", "./")
        if entry.isdir():
            seen.add(name.rstrip("/"))


def test_all_of_the_code_is_there_once_and_nothing_else_of_the_checkout(
    meshchat: Ipk, terminal: Ipk, source: Source
) -> None:
    code = {name for name in source.files if name.startswith("meshchat/") and name.endswith(".py")}
    plain = {name for name, _ in meshchat.modes() if name.startswith("/usr/lib/")}
    screen = {name for name, _ in terminal.modes() if name.startswith("/usr/lib/meshchat/meshchat/")}
    assert plain | screen == {f"/usr/lib/meshchat/{name}" for name in code}
    assert not plain & screen


def test_packed_code_does_what_the_checkouts_does_line_by_line(meshchat: Ipk, source: Source) -> None:
    def does(code: bytes) -> list[tuple[str, int]]:
        """Every statement that does something, with its line."""
        return [
            (ast.dump(node) if not hasattr(node, "body") else type(node).__name__, node.lineno)
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.stmt)
            and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]

    for name, (entry, packed) in meshchat.data.items():
        written = name.removeprefix("./usr/lib/meshchat/")
        if entry.isfile() and written in source.files and written.endswith(".py"):
            assert does(packed) == does(source.files[written]), written


def test_the_daemons_package_does_without_the_screens(meshchat: Ipk, tmp_path: Path) -> None:
    """Each of its modules can be imported, and whoever chats does so line by line."""
    top = tmp_path / "usr/lib/meshchat"
    for name, (entry, data) in meshchat.data.items():
        if entry.isfile() and name.startswith("./usr/lib/meshchat/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    modules = [".".join(path.relative_to(top).with_suffix("").parts) for path in top.rglob("*.py")]
    program = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    if not module.endswith('__main__'):\n"
        "        importlib.import_module(module.removesuffix('.__init__'))\n"
        "from meshchat.terminal import app\n"
        "print(app.__file__, app._can_draw())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(top)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == ([f"{top}/meshchat/terminal/app.py", "False"], "")


def test_the_terminals_package_has_the_pinned_libraries_and_their_licences(terminal: Ipk) -> None:
    names = {name for name, _ in terminal.modes()}
    for library in ("prompt_toolkit", "segno", "wcwidth"):
        assert {f"/usr/lib/meshchat/{library}/__init__.py", f"/usr/lib/meshchat/{library}/LICENSE"} <= names
    assert not [name for name in names if "/man1/" in name]


def test_the_control_file_says_what_opkg_and_base_files_look_for(meshchat: Ipk, source: Source) -> None:
    fields = meshchat.fields
    assert fields["Package"] == "meshchat"
    assert re.fullmatch(rf"{re.escape(source.version)}-r\d+", fields["Version"])
    assert fields["Architecture"] == "all"
    assert fields["Require-User"] == "meshchat=8888:meshchat=8888:meshchat-people=8889"
    assert int(fields["Installed-Size"]) == sum(len(data) for _, data in meshchat.data.values())
    assert meshchat.control["./conffiles"][1] == b"/etc/config/meshchat\n"


def test_the_scripts_leave_the_rest_to_base_files_and_do_their_part(meshchat: Ipk) -> None:
    for name, default, own in (
        ("postinst", "default_postinst $0 $@", "/usr/share/meshchat/package installed"),
        ("prerm", "default_prerm $0 $@", "/usr/share/meshchat/package removing"),
    ):
        entry, script = meshchat.control[f"./{name}"]
        assert entry.mode == 0o755
        assert default in script.decode()
        assert own in meshchat.control[f"./{name}-pkg"][1].decode()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_call_what_base_files_has(meshchat: Ipk, tmp_path: Path, shell: str) -> None:
    (tmp_path / "lib").mkdir()
    functions = 'default_postinst() { echo "post $*"; }\ndefault_prerm() { echo "pre $*"; }\n'
    (tmp_path / "lib/functions.sh").write_text(functions)
    said = []
    for name in ("postinst", "prerm"):
        script = tmp_path / f"meshchat.{name}"
        script.write_bytes(meshchat.control[f"./{name}"][1])
        command = [*SHELLS[shell], str(script), "upgrade"]
        environment = {**os.environ, "IPKG_INSTROOT": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.split())
    assert said == [["post", str(tmp_path / "meshchat.postinst"), "upgrade"], ["pre", str(script), "upgrade"]]


def test_the_daemons_package_is_small(built: dict[str, Path], measured: Callable[[str], None]) -> None:
    size = built["meshchat"].stat().st_size
    assert size < MAX_BYTES
    measured(f"the package with daemon, commands and plain terminal has {size} bytes")


@pytest.mark.parametrize("series", ["23.05", "24.10", "25.12", "main"])
def test_what_a_release_is_asked_for_is_what_the_packages_depend_on(
    meshchat: Ipk, terminal: Ipk, series: str
) -> None:
    text = (TOP / "openwrt/releases" / f"{series}.list").read_text()
    assert sorted(re.findall(r"^needs (\S+)$", text, re.MULTILINE)) == sorted(meshchat.depends)
    assert ["meshchat", *re.findall(r"^needs-terminal (\S+)$", text, re.MULTILINE)] == terminal.depends


def test_the_bundle_says_of_each_file_what_it_has_to_be(built: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", built["bundle"], "-C", tmp_path], check=True)
    (top,) = tmp_path.iterdir()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=top, check=True)
    listed = {line.split()[1] for line in (top / "SHA256SUMS").read_text().splitlines()}
    packed = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    assert listed == packed - {"SHA256SUMS"}
    assert {"install.sh", "releases/24.10.list"} <= listed
    assert os.access(top / "install.sh", os.X_OK)


# --- The same bytes everywhere --------------------------------------------------------------------------


def git(where: Path, *words: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *author, "-C", where, *words], check=True, capture_output=True)


def make_checkout(source: Source, folder: Path) -> None:
    """A repository of one commit, with the files of `source`, as an editor with an odd umask left them."""
    for name, data in source.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    git(folder, "init")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--date=2026-11-21T12:00:00Z", "--message=all")


@pytest.fixture
def checkout(source: Source, tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    make_checkout(source, folder)
    (folder / "wheels").mkdir()
    make_wheels(folder / "wheels")
    return folder


def built_by(checkout: Path, output: Path, umask: int, **environment: str) -> dict[str, bytes]:
    """What the program makes of a checkout, with the wheels of the tests as those that are pinned."""
    code = (
        "import sys; from pathlib import Path; from openwrt.build import __main__ as main, source\n"
        "wheels = sorted(Path('wheels').glob('*.whl'))\n"
        f"main.build(source.committed(Path('.')), wheels, Path({str(output)!r}))"
    )
    subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=checkout,
        env={**os.environ, **environment},
        umask=umask,
        check=True,
    )
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_two_builds_of_one_commit_are_identical(checkout: Path, tmp_path: Path) -> None:
    one = built_by(checkout, tmp_path / "one", 0o022, TZ="UTC", LC_ALL="C")
    # Another place, other permissions, zone and language, and files that were all written anew.
    other = tmp_path / "elsewhere" / "copy"
    other.parent.mkdir()
    git(tmp_path, "clone", "--quiet", str(checkout), str(other))
    (other / "wheels").mkdir()
    make_wheels(other / "wheels")
    for path in other.rglob("*.py"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o044)
        os.utime(path, (1, 1))
    environment = {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "tr_TR.UTF-8",
        "SOURCE_DATE_EPOCH": "1",
        "PYTHONHASHSEED": "7",
    }
    assert built_by(other, tmp_path / "two", 0o077, **environment) == one
    assert len(one) >= 3


def test_what_is_not_committed_is_not_packed_in_silence(checkout: Path) -> None:
    (checkout / "meshchat/cli.py").write_text("changed")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "openwrt.build", "--output", checkout / "out"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "build-packages: not committed: meshchat/cli.py\n"
    assert not (checkout / "out").exists()


def test_a_commits_files_are_those_of_its_tree(checkout: Path, source: Source) -> None:
    assert committed(checkout).files == source.files


def test_wheels_other_than_those_pinned_are_refused(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-m", "openwrt.build", "--wheels", "wheels", "--output", checkout / "out"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"prompt_toolkit .* is not in wheels, or is altered\n$", done.stderr)


def test_where_apk_is_its_packages_are_made_too(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", with_apk(tmp_path))
    made = {path.name: path for path in build(source, make_wheels(tmp_path), tmp_path / "out")}
    name = f"meshchat-{source.version}-r1.apk"
    told = made[name].read_text()
    assert "rm -rf /var/etc/meshchat" in told
    for expected in (
        "mkpkg",
        f"version:{source.version}-r1",
        "arch:noarch",
        "export PKG_UPGRADE=1",
        "add_group_and_user\ndefault_postinst\n",
        "/usr/share/meshchat/package installed",
        f"755 {source.time} ./etc/init.d/meshchat",
        f"600 {source.time} ./etc/config/meshchat",
        "meshchat=8888:meshchat=8888:meshchat-people=8889\n",
        "/etc/config/meshchat\n",
    ):
        assert expected in told, expected
    assert "\npython3-asyncio\npython3-click\n" in told
    with tarfile.open(next(path for name, path in made.items() if name.endswith(".tar.gz"))) as bundle:
        assert [entry for entry in bundle.getnames() if entry.endswith(f"/{name}")]


def test_an_apk_that_makes_no_packages_is_left_alone(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", with_apk(tmp_path))
    monkeypatch.setenv("APK_VERSION", "2.14.9")  # Alpine's of the time before version 3
    made = build(source, make_wheels(tmp_path), tmp_path / "out")
    assert not [path for path in made if path.suffix == ".apk"]
