"""A simulated router: a root file system in a directory, where the feed's scripts run in a router's shell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshchat.config import Config, load
from tests.openwrt.fake_uci import Section, Uci

TOP = Path(__file__).parents[2]
FILES = TOP / "openwrt/meshchat/files"
SHELLS = (("dash",), ("busybox", "ash"))


def installed() -> Iterator[tuple[int, Path, str]]:
    """Mode, source and place on the router of each file that the package's manifest lists."""
    for line in (FILES / "manifest").read_text().splitlines():
        if not line.startswith("#"):
            mode, name, place = line.split()
            yield int(mode, 8), FILES / name, place


@dataclass(frozen=True)
class Router:
    """Its file system lies below `root`; `shell` runs its scripts."""

    root: Path
    shell: tuple[str, ...]

    @classmethod
    def new(cls, root: Path, shell: tuple[str, ...]) -> "Router":
        """One with the package's files, an empty configuration and no other user than root."""
        for mode, source, place in installed():
            file = root / place.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(source.read_bytes())
            file.chmod(mode)
        for program in ("settings", "seal-with"):
            path = root / "usr/share/meshchat" / program
            text = path.read_text().replace("/usr/bin/python3", sys.executable)
            path.write_text(text.replace("/usr/lib/meshchat", str(TOP)))
        for name, text in {
            "etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
            "etc/shadow": "root::0:0:99999:7:::\n",
            "etc/group": "root:x:0:\nmeshchat:x:8888:meshchat\nmeshchat-people:x:8889:meshchat\n",
            "etc/shells": "/bin/ash\n",
            "proc/mounts": "/dev/root / squashfs ro 0 0\n",
            "devices": "",
            "calls": "",
            "lib/functions.sh": "",
            "lib/functions/network.sh": "",
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        router = cls(root, shell)
        router.configure("meshchat", ("main", "meshchat", {"enabled": "1"}))
        return router

    def configure(self, package: str, *sections: Section) -> None:
        """Makes these the sections of /etc/config/`package`, committed."""
        uci = self.uci()
        uci.packages[package] = list(sections)
        uci.save(self.root / "uci.json")
        (self.root / "uci.changed").unlink(missing_ok=True)

    def set(self, option: str, value: Any) -> None:
        """Sets an option of meshchat's section; None takes it away."""
        uci = self.uci()
        if value is None:
            uci.delete(f"meshchat.main.{option}")
        else:
            uci.set(f"meshchat.main.{option}", value)
        uci.save(self.root / "uci.json")
        (self.root / "uci.changed").unlink(missing_ok=True)

    def uci(self) -> Uci:
        """What is committed."""
        return Uci(self.root / "uci.json")

    def write(self, name: str, text: str) -> Path:
        """A file of the router's."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(self, script: str, *words: str, **more: str) -> list[str]:
        """Sources the script at `script` with `words` as its arguments; the calls of stand-ins it made."""
        return self.shell_lines(f'set -- {" ".join(words)}\n. "$ROOT{script}"', **more)

    def init(self, action: str, *words: str, **more: str) -> list[str]:
        """`/etc/init.d/meshchat ACTION`, as rc.common runs it."""
        return self.shell_lines(f'. "$ROOT/etc/init.d/meshchat"\n{action} {" ".join(words)}', **more)

    def shell_lines(self, text: str, **more: str) -> list[str]:
        (self.root / "calls").write_text("")
        environment = {
            "PATH": os.environ["PATH"],
            "ROOT": str(self.root),
            "IPKG_INSTROOT": str(self.root),
            "CALLS": str(self.root / "calls"),
            "PYTHON": sys.executable,
            "FAKE_UCI": str(Path(__file__).with_name("fake_uci.py")),
            "FREE_KB": "20000",
            **more,
        }
        library = Path(__file__).with_name("router.sh")
        # What a script exits with is its end, so what follows it must not run in its shell.
        done = subprocess.run(
            [*self.shell, "-c", f'. "{library}"\n{text}'],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == "", done.stderr
        assert done.returncode == 0, done.stdout
        return (self.root / "calls").read_text().splitlines()

    def daemon_config(self) -> Config:
        """What the daemon makes of the file that the init script has made for it."""
        return load(self.root / "var/etc/meshchat/meshchat.toml")
