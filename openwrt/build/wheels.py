"""The released Python packages that no feed has: pinned with their hashes, fetched once, unpacked."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from openwrt.build.archive import File

_PIN = re.compile(r"(?P<name>\w+)==(?P<version>[\d.]+) --hash=sha256:(?P<hash>[0-9a-f]{64})")


class MissingWheel(Exception):
    """A pinned package that is neither in the cache nor could be downloaded."""


def wheels(pins: Path, cache: Path, download: bool) -> list[Path]:
    """The wheels that `pins` names, from the directory `cache`; `download`: fetch first what is not there.

    Raises MissingWheel. Only a wheel whose hash is the pinned one is ever used.
    """
    wanted = list(_PIN.finditer(pins.read_text("utf-8")))
    if download and not all(_find(cache, pin) for pin in wanted):
        _download(pins, cache)
    found = []
    for pin in wanted:
        path = _find(cache, pin)
        if path is None:
            raise MissingWheel(
                f"{pin['name']} {pin['version']} (py3-none-any) is not in {cache}, or is altered"
            )
        found.append(path)
    return found


def unpack(wheel: Path) -> list[File]:
    """The wheel's modules, and its licence beside them."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place, _, about = name.partition(".dist-info/")
            if not about and ".data/" not in name:  # that is for a system's own folders, such as its manual
                found.append(File(name, archive.read(name)))
            elif (base := name.rpartition("/")[2]).startswith(("LICENSE", "COPYING")):
                found.append(File(f"{place.rpartition('-')[0]}/{base}", archive.read(name)))
    return found


def _find(cache: Path, pin: re.Match[str]) -> Path | None:
    for path in sorted(cache.glob(f"{pin['name']}-{pin['version']}-*-none-any.whl")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == pin["hash"]:
            return path
    return None


def _download(pins: Path, cache: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    any_machine = ["--only-binary=:all:", "--implementation=py", "--abi=none", "--platform=any"]
    where = ["--python-version=3.11", "--require-hashes", "--requirement", str(pins), "--dest", str(cache)]
    done = subprocess.run([*pip, *any_machine, *where], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        raise MissingWheel(f"{said[0]} (without a network: --wheels DIR)")
