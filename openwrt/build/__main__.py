"""`scripts/build-packages`: writes the packages and the bundle for a USB stick."""

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from openwrt.build import apk
from openwrt.build.archive import File, compresses_alike, ipk, tar_gz
from openwrt.build.contents import Package, packages
from openwrt.build.scripts import for_opkg
from openwrt.build.source import NotCommitted, Source, as_it_stands, committed
from openwrt.build.wheels import MissingWheel, wheels

TOP = Path(__file__).resolve().parents[2]
PINS = Path(__file__).with_name("wheels.txt")
RELEASES = "openwrt/releases/"


def main() -> None:
    """Builds, and prints each file that was written with its size in bytes."""
    parser = argparse.ArgumentParser(
        prog="build-packages",
        description="Makes the packages for OpenWrt from the last commit, and a bundle to carry to routers.",
    )
    parser.add_argument("--output", type=Path, default=TOP / "build" / "openwrt", metavar="DIR")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="take prompt_toolkit and wcwidth from here"
    )
    parser.add_argument(
        "--uncommitted", action="store_true", help="pack the files as they are now, for a try"
    )
    options = parser.parse_args()
    try:
        source = as_it_stands(TOP) if options.uncommitted else committed(TOP)
        cache = options.wheels or TOP / "build" / "wheels"
        carried = wheels(PINS, cache, download=options.wheels is None)
    except (NotCommitted, MissingWheel) as error:
        sys.exit(f"build-packages: {error}")
    if not compresses_alike():
        print(
            "build-packages: this zlib compresses in its own way: others will get other bytes",
            file=sys.stderr,
        )
    for path in build(source, carried, options.output):
        print(f"{path.stat().st_size:>8} {path}")


def build(source: Source, carried: Iterable[Path], output: Path) -> list[Path]:
    """Makes the packages and the bundle of `source` in `output`; returns what was written."""
    made = packages(source, carried)
    output.mkdir(parents=True, exist_ok=True)
    written = [_write_ipk(package, source.time, output) for package in made]
    if apk.can_be_made():
        for package in made:
            written.append(output / f"{package.name}-{package.version}.apk")
            apk.make(package, source.time, written[-1])
    name = f"meshchat-{made[0].version}-openwrt"
    bundle = output / f"{name}.tar.gz"
    bundle.write_bytes(tar_gz(_bundle(source, written, name), source.time))
    return [*written, bundle]


def _write_ipk(package: Package, time: int, output: Path) -> Path:
    path = output / f"{package.name}_{package.version}_all.ipk"
    path.write_bytes(ipk(for_opkg(package), package.files, time))
    return path


def _bundle(source: Source, made: list[Path], name: str) -> list[File]:
    """What goes on a USB stick: packages, installer, lists of the releases, and checksums of it all."""
    files = [File(path.name, path.read_bytes()) for path in made]
    files.append(File("install.sh", source.files["scripts/install.sh"], 0o755))
    for path, data in source.files.items():
        if path.startswith(RELEASES):
            files.append(File(f"releases/{path.removeprefix(RELEASES)}", data))
    sums = "".join(f"{hashlib.sha256(file.data).hexdigest()}  {file.path}\n" for file in sorted(files))
    files.append(File("SHA256SUMS", sums.encode()))
    return [File(f"{name}/{file.path}", file.data, file.mode) for file in files]


if __name__ == "__main__":
    main()
