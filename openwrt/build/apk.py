"""Packages for apk, where a machine has the program that writes them: `apk mkpkg` of apk-tools 3."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from openwrt.build.archive import File
from openwrt.build.contents import Package
from openwrt.build.scripts import for_apk


def can_be_made() -> bool:
    """Whether this machine has an apk that makes packages: from version 3 on.

    It is asked for its version, for `apk mkpkg --help` ends with status 1 where there is an `mkpkg`, too.
    """
    if shutil.which("apk") is None:
        return False
    said = subprocess.run(["apk", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"apk-tools (\d+)\.", said)
    return found is not None and int(found[1]) >= 3


def make(package: Package, time: int, target: Path) -> None:
    """Writes `package` to `target`, with `time` (UNIX time) as that of all its files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        for file in [*package.files, *registered(package)]:
            _write(root / file.path, file.data, file.mode)
        for path in [root, *root.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
            os.utime(path, (time, time))
        scripts = []
        for occasion, text in for_apk(package).items():
            _write(Path(folder, occasion), text.encode(), 0o755)
            scripts += ["--script", f"{occasion}:{folder}/{occasion}"]
        info = {
            "name": package.name,
            "version": package.version,
            "description": " ".join((package.description or package.title).split()),
            "arch": "noarch",
            "license": package.license,
            "origin": f"feeds/{package.name}",
            "url": package.url,
            "maintainer": package.maintainer,
            "depends": " ".join(package.depends),
        }
        fields = [word for name, value in info.items() if value for word in ("--info", f"{name}:{value}")]
        # To be root's, the files have to be: of a user namespace's, where it is not root who builds.
        as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        command = [*as_root, "apk", "mkpkg", *fields, *scripts, "--files", str(root), "--output", str(target)]
        subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(time)})


def registered(package: Package) -> list[File]:
    """What base-files and sysupgrade look up of a package where apk keeps no such thing itself."""
    prefix = f"lib/apk/packages/{package.name}"
    contents = {file.path: file.data for file in package.files}
    found = [File(f"{prefix}.list", "".join(f"/{path}\n" for path in sorted(contents)).encode())]
    if package.users:
        found.append(File(f"{prefix}.rusers", f"{package.users}\n".encode()))
    if package.conffiles:
        hashes = {path: hashlib.sha256(contents[path.lstrip("/")]).hexdigest() for path in package.conffiles}
        found.append(File(f"{prefix}.conffiles", "".join(f"{path}\n" for path in hashes).encode()))
        static = "".join(f"{path} {digest}\n" for path, digest in hashes.items())
        found.append(File(f"{prefix}.conffiles_static", static.encode()))
    return found


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
