"""A simulated router for the installer, and the folders that somebody brings to it on a USB stick."""

import dataclasses
import hashlib
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from openwrt.build import apk
from openwrt.build.__main__ import build
from openwrt.build.archive import File, ipk
from openwrt.build.contents import packages
from openwrt.build.scripts import for_apk as apk_scripts
from openwrt.build.source import Source

TOP = Path(__file__).parents[2]
HARNESS = Path(__file__).with_name("managers.sh")

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "ash"]}

MANAGERS = {"opkg": "24.10.3", "apk": "25.12.0"}

RAM = {"tmp", "proc", ("var", "opkg-lists")}
"""Where nothing is lost that anybody would miss; /var is RAM as well, but what is left there is looked at."""

POWER_CUT = -9
"""Exit status of a shell that was killed."""


CONFIG = {
    "network": "\nconfig interface 'lan'\n\toption proto 'static'\n"
    "\nconfig interface 'mesh'\n\toption proto 'static'\n",
    "wireless": "\nconfig wifi-iface 'radio'\n\toption mode 'mesh'\n\toption network 'mesh'\n",
    "firewall": "\nconfig zone 'freifunk'\n\toption name 'freifunk'\n\tlist network 'mesh'\n",
    "system": "\nconfig system 'system'\n\toption timezone 'CET-1CEST,M3.5.0,M10.5.0/3'\n",
    "fstab": "",
}
"""A router with an 802.11s mesh, as `uci commit` writes it."""

OTHERS = (
    *("etc/init.d", "etc/rc.d", "etc/uci-defaults", "etc/hotplug.d/mount", "lib/upgrade/keep.d"),
    *("usr/bin", "usr/share", "usr/lib/opkg/info", "lib/apk/packages", "var/lib", "var/etc", "var/run"),
)
"""Folders in which other packages have something, too."""


def with_apk(folder: Path) -> str:
    """A PATH that begins with the stand-in for apk-tools 3, in `folder`."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/apk").symlink_to(Path(__file__).with_name("fake_apk.sh"))
    return f"{folder}/bin:{os.environ['PATH']}"


STUBS = {
    "settings": """#!/bin/sh
tr '\\0' '\\n' | awk 'NR % 2 { name = $0; next }
    { if (name == "interfaces" || name == "retention") live = live name " = \\"" $0 "\\"\\n"
      else print name " = \\"" $0 "\\"" }
    END { print "# Taken at once:"; printf "%s", live }'
""",
    "seal-with": """#!/bin/sh
read -r key
case $key in *1*|*bad*) echo "A mesh key is 56 letters and digits." >&2; exit 1 ;; esac
[ "$key" != new ] || key=NEWKEYNEWKEYNEWKEYNEWKEYNEWKEYNEWKEYNEWKEYNEWKEYNEWKEYNE
before=$(grep -vxF "$key" "$1/mesh.keys" 2>/dev/null | head -n 1)
umask 077
printf '%s\\n' "$key" ${before:+"$before"} >"$1/mesh.keys"
""",
}
"""In place of the package's Python programs, which have tests of their own: this machine may lack what they
need, and power cuts are tried by the hundred."""


def stand_in(name: str, depends: str = "", version: str = "3.11.14-r1", installed: int = 1000) -> bytes:
    """A package of the feeds: one small file, said to take `installed` bytes unpacked."""
    control = (
        f"Package: {name}\nVersion: {version}\nDepends: libc{', ' if depends else ''}{depends}\n"
        f"Installed-Size: {installed}\n"
    )
    return ipk([File("control", control.encode())], [File(f"usr/share/{name}", b"code\n" * 200)], 0)


def fill_feed(folder: Path, needs: Iterable[str], suffix: str) -> None:
    """Puts what meshchat needs into `folder`, and what PyNaCl needs in turn, with checksums."""
    folder.mkdir(parents=True)
    for name in [*needs, "libsodium"]:
        data = stand_in(name, "libsodium" if name == "python3-pynacl" else "")
        separator, arch = ("_", "_mips_24kc") if suffix == "ipk" else ("-", "")
        (folder / f"{name}{separator}3.11.14-r1{arch}.{suffix}").write_bytes(data)
    (folder / "firmware").write_text("libc\n" if suffix == "ipk" else "")
    if suffix == "apk":
        (folder / "packages.adb").write_bytes(b"an index")
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """The checksums of all that is in `folder`, as `--fetch` and the build leave them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def running_below(source: Source, root: Path) -> Source:
    """The package with its Python programs made to run on this machine, installed below `root`."""
    made = root / "tmp/real.toml"
    elsewhere = (
        f"import pathlib, meshchat.config\nmeshchat.config.ROUTER_FILE = pathlib.Path({str(made)!r})\n"
    )
    files = {}
    for name in ("meshchat", "meshchat.settings", "meshchat.seal-with"):
        text = source.files[f"openwrt/meshchat/files/{name}"].decode()
        text = text.replace("/usr/bin/python3", sys.executable).replace("/usr/lib/", f"{root}/usr/lib/")
        text = text.replace("from meshchat.cli", f"{elsewhere}from meshchat.cli")
        files[f"openwrt/meshchat/files/{name}"] = text.encode()
    return source._replace(files={**source.files, **files})


def with_stubs(source: Source) -> Source:
    """The package with `STUBS` in place of its Python programs."""
    stubs = {f"openwrt/meshchat/files/meshchat.{name}": text.encode() for name, text in STUBS.items()}
    return source._replace(files={**source.files, **stubs})


def make_bundle(source: Source, wheels: Iterable[Path], folder: Path) -> Path:
    """A bundle of `source`, unpacked.

    Its packages for apk have opkg's form, with the scripts and files of apk's, for the simulated apk.
    """
    wheels = list(wheels)
    *_, bundle = build(source, wheels, folder / "built")
    subprocess.run(["tar", "-xzf", bundle, "-C", folder], check=True)
    unpacked = folder / bundle.name.removesuffix(".tar.gz")
    for package in packages(source, wheels):
        scripts = [File(name, text.encode(), 0o755) for name, text in apk_scripts(package).items()]
        control = [File("control", package.control().encode()), *scripts]
        data = [*package.files, *apk.registered(package)]
        path = unpacked / f"{package.name}-{package.version}.apk"
        path.write_bytes(ipk(control, data, source.time))
        with (unpacked / "SHA256SUMS").open("a") as file:
            file.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return unpacked


@dataclass
class Router:
    """A router's root folder, made if it is not there; `run` is somebody at its shell."""

    root: Path
    shell: str = "dash"
    manager: str = "opkg"
    feeds: Path | None = None
    """What its feeds have; None: no network."""
    free_flash_kb: int = 60_000
    flash_kb: int = 1_000_000
    daemon_fails: bool = False
    real: bool = False
    """Its daemon and its commands are the package's own (`running_below`), in a network of their own."""
    has: Iterable[str] = ()
    """What of the feeds was installed before."""
    calls: Path = field(init=False)

    def __post_init__(self) -> None:
        self.calls = self.root.parent / f"{self.root.name}.calls"
        if self.root.exists():
            return
        files = {
            "etc/openwrt_release": (
                f"DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='{MANAGERS[self.manager]}'\n"
                "DISTRIB_TARGET='ath79/generic'\nDISTRIB_ARCH='mips_24kc'\n"
            ),
            "etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
            "etc/shadow": "root::0:0:99999:7:::\n",
            "etc/group": "root:x:0:\n",
            "etc/shells": "/bin/ash\n",
            "lib/functions.sh": "",
            "lib/functions/network.sh": "",
            "devices": "",
            **{f"{folder}/of-another": "" for folder in OTHERS},
            "proc/mounts": "/dev/root /rom squashfs ro 0 0\noverlayfs:/overlay / overlay rw 0 0\n",
            **{f"etc/config/{name}": text for name, text in CONFIG.items()},
            "etc/apk/world": "".join(f"{name}\n" for name in self.has),
            "proc/meminfo": "MemTotal: 120000 kB\nMemAvailable: 80000 kB\n",
            self._database: "libc 1.2.5-r4\nbusybox 1.36.1-r2\n"
            + "".join(f"{name} 3.11.14-r1\n" for name in self.has),
        }
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.root / "tmp").mkdir()

    def run(
        self, bundle: Path, *words: str, cut: int = 0, signal: str = "KILL", given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs the bundle's installer; at the step number `cut` its shell gets `signal`."""
        self.calls.write_text("")
        return subprocess.run(
            [*self.installer, *words],
            env=self.environment(bundle, cut, signal),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def at_a_terminal(self, bundle: Path, typed: str) -> tuple[str, int]:
        """What is shown to somebody who types that at a terminal, and the installer's status."""
        self.calls.write_text("")
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.installer,
            env=self.environment(bundle),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        said, _ = process.communicate()
        os.close(ours)
        return said, process.returncode

    def shell_out(self, bundle: Path, text: str) -> None:
        """Runs shell commands where the installer would run."""
        done = subprocess.run(
            self.installer,
            env={**self.environment(bundle), "INSTEAD": text},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    @property
    def installer(self) -> list[str]:
        """The command line that runs an installer, with `environment`."""
        return [*SHELLS[self.shell], str(HARNESS)]

    def environment(self, bundle: Path, cut: int = 0, signal: str = "KILL") -> dict[str, str]:
        """What the harness is told."""
        return {
            **os.environ,
            "MESHCHAT_ROOT": str(self.root),
            "INSTALLER": str(bundle / "install.sh"),
            "HERE_TOO": str(HARNESS.parent),
            "MANAGER": self.manager,
            "CALLS": str(self.calls),
            "CUT": str(cut),
            "SIGNAL": signal,
            "FEEDS": str(self.feeds or ""),
            "FREE_FLASH_KB": str(self.free_flash_kb),
            "FLASH_KB": str(self.flash_kb),
            "DAEMON_FAILS": "yes" if self.daemon_fails else "",
            "REAL": "yes" if self.real else "",
        }

    def lose_power(self) -> None:
        """Empties what is in RAM, as far as a daemon and an installer left something there."""
        shutil.rmtree(self.root / "tmp")
        (self.root / "tmp").mkdir()
        shutil.rmtree(self.root / "proc/77", ignore_errors=True)
        for path in (self.root / "var/run").glob("meshchat*"):
            path.unlink() if path.is_file() else shutil.rmtree(path)

    def copy(self, root: Path) -> "Router":
        """Another router that is as this one is now."""
        shutil.copytree(self.root, root)
        return dataclasses.replace(self, root=root)

    @property
    def steps(self) -> list[str]:
        """What the last run changed, in order."""
        return self.calls.read_text().splitlines()

    @property
    def _database(self) -> str:
        return {"opkg": "usr/lib/opkg/status", "apk": "lib/apk/db/installed"}[self.manager]

    @property
    def database(self) -> Path:
        """Name and version of each package that is installed, a line each."""
        return self.root / self._database

    @property
    def packages(self) -> dict[str, str]:
        """Name and version of all that is installed."""
        lines = self.database.read_text().splitlines()
        return {name: version for name, _, version in (line.partition(" ") for line in lines)}

    @property
    def running(self) -> str:
        """The version of the code that the daemon was started with, or nothing."""
        return self._answers.partition(" ")[0]

    @property
    def mesh(self) -> str:
        """The name that the daemon was started under, or nothing."""
        return self._answers.partition(" ")[2]

    @property
    def _answers(self) -> str:
        path = self.root / "tmp/running"
        return path.read_text().strip() if path.exists() else ""

    def config(self, package: str = "meshchat") -> str:
        """A file of /etc/config."""
        return (self.root / "etc/config" / package).read_text()

    def contents(self) -> dict[str, bytes]:
        """All files and links but those in RAM, and folders with nothing in them."""
        found: dict[str, bytes] = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root)
            if name.parts[0] not in RAM and name.parts[:2] not in RAM:
                if path.is_symlink():
                    found[str(name)] = str(path.readlink()).encode()
                elif path.is_file():
                    found[str(name)] = path.read_bytes()
                elif not any(path.iterdir()):
                    found[f"{name}/"] = b""
        return found
