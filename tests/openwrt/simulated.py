"""A simulated router for the installer, and the folders that somebody brings to it on a USB stick."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openwrt.build.__main__ import build
from openwrt.build.archive import File, ipk
from openwrt.build.source import Source

TOP = Path(__file__).parents[2]
HARNESS = Path(__file__).with_name("managers.sh")

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "ash"]}

MANAGERS = {"opkg": "24.10.3", "apk": "25.12.0"}

POWER_CUT = -9
"""Exit status of a shell that was killed."""


def stand_in(name: str, depends: str = "", version: str = "3.11.14-r1") -> bytes:
    """A package of the feeds: one small file."""
    control = f"Package: {name}\nVersion: {version}\nDepends: libc{', ' if depends else ''}{depends}\n"
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


def make_bundle(source: Source, wheels: Iterable[Path], folder: Path) -> Path:
    """A bundle of `source`, unpacked; apk's packages are opkg's by another name, for the simulated apk."""
    *packages, bundle = build(source, wheels, folder / "built")
    subprocess.run(["tar", "-xzf", bundle, "-C", folder], check=True)
    unpacked = folder / bundle.name.removesuffix(".tar.gz")
    for path in packages:
        name, version, _ = path.name.split("_")
        (unpacked / f"{name}-{version}.apk").write_bytes(path.read_bytes())
    sums = sorted(path for path in unpacked.iterdir() if path.suffix == ".apk")
    with (unpacked / "SHA256SUMS").open("a") as file:
        for path in sums:
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
            "etc/config/network": "config interface 'lan'\n",
            "etc/uci/network.mesh.proto": "static\n",
            "etc/apk/world": "".join(f"{name}\n" for name in self.has),
            "proc/meminfo": "MemTotal: 120000 kB\nMemAvailable: 80000 kB\n",
            "usr/lib/opkg/db": "libc 1.2.5-r4\nbusybox 1.36.1-r2\n"
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
            [*SHELLS[self.shell], HARNESS, *words],
            env={
                **os.environ,
                "MESHCHAT_ROOT": str(self.root),
                "INSTALLER": str(bundle / "install.sh"),
                "MANAGER": self.manager,
                "CALLS": str(self.calls),
                "CUT": str(cut),
                "SIGNAL": signal,
                "FEEDS": str(self.feeds or ""),
                "FREE_FLASH_KB": str(self.free_flash_kb),
                "FLASH_KB": str(self.flash_kb),
                "DAEMON_FAILS": "yes" if self.daemon_fails else "",
            },
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def copy(self, root: Path) -> "Router":
        """Another router that is as this one is now."""
        shutil.copytree(self.root, root)
        return dataclasses.replace(self, root=root)

    @property
    def steps(self) -> list[str]:
        """What the last run changed, in order."""
        return self.calls.read_text().splitlines()

    @property
    def packages(self) -> dict[str, str]:
        """Name and version of all that is installed."""
        lines = (self.root / "usr/lib/opkg/db").read_text().splitlines()
        return {name: version for name, _, version in (line.partition(" ") for line in lines)}

    @property
    def running(self) -> str:
        """The version of the code that the daemon was started with, or nothing."""
        path = self.root / "tmp/running"
        return path.read_text().strip() if path.exists() else ""

    def contents(self) -> Mapping[str, bytes]:
        """All files but those in RAM."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] != "tmp"
        }
