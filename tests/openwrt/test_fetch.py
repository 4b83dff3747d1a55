"""`install.sh --fetch`: what a volunteer collects on a PC, from a download server of the tests' own."""

import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openwrt.simulated import SHELLS, TOP, stand_in, with_apk

ARCH = "mips_24kc"
BASE, PACKAGES = f"releases/packages-24.10/{ARCH}/base", f"releases/packages-24.10/{ARCH}/packages"
TARGET = "releases/24.10.3/targets/ath79/generic/packages"

DEPENDS: dict[str, dict[str, list[str]]] = {
    BASE: {"libuuid1": [], "busybox": [], "zlib": []},
    PACKAGES: {
        "python3-base": ["libpthread", "zlib"],
        "python3-light": ["python3-base", "libffi8", "libuuid1"],
        "python3-uuid": ["python3-light", "libuuid1"],
        "python3-click": ["python3-light (>= 3.11)"],
        "python3-pynacl": ["python3-light", "libsodium", "python3-cffi"],
        "python3-cffi": ["libffi", "python3-light"],
        "python3-netifaces": ["python3-light"],
        "python3-six": ["python3-light"],
        "libsodium": [],
        "python3-xml": ["python3-light"],
        "libffi8": [],
        "samba4-server": ["libuuid1"],
        **{
            f"python3-{name}": ["python3-light"]
            for name in ("asyncio", "codecs", "ctypes", "decimal", "logging", "urllib")
        },
        # As it is in the real feeds: the whole of Python, with all that has.
        "python3-dateutil": ["python3", "python3-six"],
        "python3": ["python3-light", "python3-openssl", "python3-sqlite3", "python3-ncurses"],
        "python3-openssl": ["libopenssl3"],
        "python3-sqlite3": ["libsqlite3-0"],
        "python3-ncurses": ["libncurses6"],
        "libopenssl3": [],
        "libsqlite3-0": [],
        "libncurses6": [],
    },
    TARGET: {"libpthread": []},
}
PROVIDES = {"libffi8": "libffi"}

NEEDED = {name for feed in (BASE, PACKAGES) for name in DEPENDS[feed]} - {"busybox", "samba4-server"}


def write_feeds(folder: Path) -> None:
    for feed, packages in DEPENDS.items():
        directory = folder / feed
        directory.mkdir(parents=True)
        index = []
        for name, depends in packages.items():
            data = stand_in(name)
            file = f"{name}_1.0-r1_{ARCH}.ipk"
            (directory / file).write_bytes(data)
            provides = f"Provides: {PROVIDES[name]}\n" if name in PROVIDES else ""
            index.append(
                f"Package: {name}\nVersion: 1.0-r1\nDepends: {', '.join(['libc', *depends])}\n{provides}"
                f"Filename: {file}\nSize: {len(data)}\nSHA256sum: {hashlib.sha256(data).hexdigest()}\n"
                "Description: of a feed,\n Depends: on nothing here\n"
            )
        (directory / "Packages.gz").write_bytes(gzip.compress("\n".join(index).encode()))


class Server(http.server.ThreadingHTTPServer):
    """A download server that notes what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append(self.path)
        path = server.folder / self.path.lstrip("/")
        data = path.read_bytes() if path.is_file() else None
        self.send_response(404 if data is None else 200)
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    write_feeds(folder)
    with Server(folder) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A USB stick with the installer and its lists."""
    folder = tmp_path / "stick"
    (folder / "releases").mkdir(parents=True)
    shutil.copy(TOP / "scripts/install.sh", folder)
    for path in (TOP / "openwrt/releases").glob("*.list"):
        shutil.copy(path, folder / "releases")
    return folder


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return SHELLS[request.param]


def fetch(
    shell: list[str], stick: Path, *words: str, release: str = "24.10.3", arch: str = ARCH
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*shell, str(stick / "install.sh"), "--fetch", release, arch, str(stick), *words],
        capture_output=True,
        text=True,
        check=False,
    )


def collected(stick: Path) -> dict[str, bytes]:
    folder = stick / "feed" / "24.10" / ARCH
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_collects_what_the_release_needs_and_what_that_needs(
    shell: list[str], stick: Path, server: Server
) -> None:
    done = fetch(shell, stick, "--mirror", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    files = collected(stick)
    assert {name.partition("_")[0] for name in files if name.endswith(".ipk")} == NEEDED
    assert files["firmware"] == b"libc\nlibpthread\n"
    assert "Routers without libpthread need --target as well" in done.stdout
    folder = stick / "feed" / "24.10" / ARCH
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_a_target_adds_the_libraries_of_its_firmware(shell: list[str], stick: Path, server: Server) -> None:
    done = fetch(shell, stick, "--mirror", f"{server.url}/", "--target", "ath79/generic")
    assert done.returncode == 0, done.stderr
    files = collected(stick)
    assert f"libpthread_1.0-r1_{ARCH}.ipk" in files
    assert files["firmware"] == b"libc\n"
    assert "--target" not in done.stdout


def test_a_second_fetch_takes_only_what_changed(shell: list[str], stick: Path, server: Server) -> None:
    fetch(shell, stick, "--mirror", server.url)
    before = collected(stick)
    folder = stick / "feed" / "24.10" / ARCH
    (folder / f"python3-six_1.0-r1_{ARCH}.ipk").write_bytes(b"damaged")
    (folder / f"python3-six_0.9-r1_{ARCH}.ipk").write_bytes(b"of an earlier release")
    server.asked.clear()
    assert fetch(shell, stick, "--mirror", server.url).returncode == 0
    assert [path for path in server.asked if path.endswith(".ipk")] == [
        f"/{PACKAGES}/python3-six_1.0-r1_{ARCH}.ipk"
    ]
    assert collected(stick) == before


@pytest.mark.parametrize("missing", [f"{PACKAGES}/libsodium_1.0-r1_{ARCH}.ipk", f"{BASE}/Packages.gz"])
def test_what_cannot_be_downloaded_is_named_and_the_folder_is_not_taken_for_complete(
    shell: list[str], stick: Path, server: Server, missing: str
) -> None:
    fetch(shell, stick, "--mirror", server.url)
    for name in collected(stick):
        (stick / "feed" / "24.10" / ARCH / name).unlink()
    (server.folder / missing).unlink()
    done = fetch(shell, stick, "--mirror", server.url)
    assert done.returncode == 1
    assert done.stderr == f"install.sh: could not download {server.url}/{missing}\n"
    assert "SHA256SUMS" not in collected(stick)


def test_a_package_that_is_not_what_the_index_says_is_refused(
    shell: list[str], stick: Path, server: Server
) -> None:
    (server.folder / PACKAGES / f"libsodium_1.0-r1_{ARCH}.ipk").write_bytes(b"something else")
    done = fetch(shell, stick, "--mirror", server.url)
    assert done.returncode == 1
    assert done.stderr.endswith("libsodium_1.0-r1_mips_24kc.ipk is damaged: its checksum is wrong\n")
    assert "SHA256SUMS" not in collected(stick)


def test_a_package_that_no_index_has_is_named(shell: list[str], stick: Path, server: Server) -> None:
    index = server.folder / PACKAGES / "Packages.gz"
    text = gzip.decompress(index.read_bytes()).replace(b"Package: libsodium\n", b"Package: libsalt\n")
    index.write_bytes(gzip.compress(text))
    done = fetch(shell, stick, "--mirror", server.url)
    assert done.returncode == 1
    assert "not in the feeds of 24.10.3 for mips_24kc: libsodium" in done.stderr


@pytest.mark.parametrize(
    ("release", "arch", "why"),
    [("22.03", ARCH, "OpenWrt 22.03 is not supported"), ("24.10", "../etc", "no architecture")],
)
def test_what_cannot_be_is_refused(shell: list[str], stick: Path, release: str, arch: str, why: str) -> None:
    done = fetch(shell, stick, release=release, arch=arch)
    assert done.returncode != 0
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_says_where_it_would_look(shell: list[str], stick: Path) -> None:
    done = fetch(shell, stick, "--dry-run", "--mirror", "http://mirror.example")
    assert done.stdout.splitlines() == [f"http://mirror.example/{BASE}", f"http://mirror.example/{PACKAGES}"]
    assert not (stick / "feed").exists()


def test_apks_releases_are_fetched_by_apk(shell: list[str], stick: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    done = subprocess.run(
        [
            *shell,
            str(stick / "install.sh"),
            "--fetch",
            "25.12.0",
            ARCH,
            str(stick),
            "--target",
            "ath79/generic",
        ],
        env={**os.environ, "PATH": with_apk(tmp_path), "ASKED": str(asked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = stick / "feed" / "25.12" / ARCH
    assert {path.name for path in folder.iterdir()} == {
        "SHA256SUMS",
        "firmware",
        "packages.adb",
        "python3-light-3.13.9-r1.apk",
    }
    told = asked.read_text()
    assert f"--arch {ARCH}" in told
    assert f"https://downloads.openwrt.org/releases/packages-25.12/{ARCH}/packages/packages.adb" in told
    assert "releases/25.12.0/targets/ath79/generic/packages/packages.adb" in told
    assert "fetch --recursive" in told
    assert "python3-netifaces" not in told


def test_without_apk_its_releases_cannot_be_fetched(shell: list[str], stick: Path) -> None:
    done = fetch(shell, stick, "--target", "ath79/generic", release="25.12.0")
    assert done.returncode == 1
    assert "apk-tools 3 is needed" in done.stderr


def test_apk_looks_for_all_of_it_so_the_target_has_to_be_named(shell: list[str], stick: Path) -> None:
    done = fetch(shell, stick, release="25.12.0")
    assert done.returncode == 2
    assert "--target is needed" in done.stderr
