"""The files of a commit, and what else of it goes into a package: its time."""

import io
import re
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple


class NotCommitted(Exception):
    """Files of the checkout differ from its last commit, so that what is built could not be built again."""


class Source(NamedTuple):
    """A version of this project: its files by their paths, and the UNIX time of its commit."""

    files: dict[str, bytes]
    time: int

    @property
    def version(self) -> str:
        """Of the program, such as 0.1.0."""
        found = re.search(r'^VERSION = "(.+)"$', self.files["meshchat/constants.py"].decode(), re.MULTILINE)
        assert found
        return found[1]


def committed(top: Path) -> Source:
    """The last commit of the checkout at `top`; raises NotCommitted where something there differs from it."""
    if changed := _git(top, "status", "--porcelain", "--untracked-files=no").decode().splitlines():
        raise NotCommitted(f"not committed: {', '.join(line[3:] for line in changed[:5])}")
    with tarfile.open(fileobj=io.BytesIO(_git(top, "archive", "HEAD"))) as archive:
        # A symbolic link or a submodule has no bytes of its own, and nothing packed here is one.
        files = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
        return Source({name: file.read() for name, file in files.items() if file}, _commit_time(top))


def as_it_stands(top: Path) -> Source:
    """The checkout at `top` with what is not committed yet, at the time of its last commit."""
    names = _git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    paths = {name: top / name for name in names if name}
    return Source(
        {name: path.read_bytes() for name, path in paths.items() if path.is_file()}, _commit_time(top)
    )


def _commit_time(top: Path) -> int:
    return int(_git(top, "log", "-1", "--format=%ct"))


def _git(top: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(top), *words], stdout=subprocess.PIPE, check=True).stdout
