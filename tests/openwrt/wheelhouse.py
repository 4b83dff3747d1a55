"""Wheels to build with where there is no network: small ones that stand for those that are pinned."""

import zipfile
from pathlib import Path


def make_wheels(folder: Path) -> list[Path]:
    """Three wheels of one module each, with metadata and licence."""
    made = []
    for name, version in (("prompt_toolkit", "3.0.53"), ("segno", "1.6.6"), ("wcwidth", "0.2.14")):
        made.append(folder / f"{name}-{version}-py3-none-any.whl")
        about = f"{name}-{version}.dist-info"
        files = {
            f"{name}/__init__.py": f"VERSION = {version!r}\n",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{about}/licenses/LICENSE": "Of its authors.\n",
            f"{about}/RECORD": "",
            f"{about}/WHEEL": "Wheel-Version: 1.0\n",
            f"{name}-{version}.data/data/share/man/man1/{name}.1": "A manual page.\n",
        }
        with zipfile.ZipFile(made[-1], "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
    return made
