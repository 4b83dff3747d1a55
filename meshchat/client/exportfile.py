"""History carried by hand: an export file written and read for the control socket.

The file is a header line `{"meshchat-export":1,"mesh":NAME}` and then log lines as they stand in the logs.
"""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from meshchat.byhand import open_output, why_not_written
from meshchat.client.connection import ControlClient
from meshchat.constants import MAX_MESH_NAME
from meshchat.errors import FileRefused, MeshchatError

EXPORT_VERSION = 1

BATCH_SIZE = 200 * 1024
"""Bytes of lines in one import request, as JSON: under `MAX_CONTROL_LINE` with room for the rest."""


@dataclass
class Imported:
    """How many records were new, known already, and refused, by reason."""

    added: int = 0
    known: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Counts refused records."""
        self.refused[reason] = self.refused.get(reason, 0) + count


def export_lines(client: ControlClient, room: str | None) -> Iterator[bytes]:
    """The lines of an export of `room`, or of all there is, the header first."""
    header = {"meshchat-export": EXPORT_VERSION, "mesh": client.greeting.get("mesh", "")}
    yield json.dumps(header).encode("ascii") + b"\n"
    items = client.stream("export_all") if room is None else client.stream("export", room=room)
    for item in items:
        yield str(item["line"]).encode("utf-8") + b"\n"


def write_whole(path: Path, lines: Iterable[bytes]) -> int:
    """Writes `lines` to `path`; returns how many.

    A plain file keeps what it held until all of them are on disk, and then its mode and owner; a link stays,
    and what it leads to is written. Raises `FileRefused` where that cannot be done.
    """
    try:
        try:
            old = os.stat(path)
        except FileNotFoundError:
            old = None
        if old is None or stat.S_ISREG(old.st_mode):
            return _replace(Path(os.path.realpath(path)), old, lines)
        if stat.S_ISBLK(old.st_mode):
            raise FileRefused(f"{path} is a whole disk: mount it, and name a file on it.")
        with open_output(path) as file:
            return _write_all(file, lines)
    except OSError as error:
        raise FileRefused(f"{path} cannot be written: {why_not_written(error, path.parent)}.") from None


def _replace(path: Path, old: os.stat_result | None, lines: Iterable[bytes]) -> int:
    handle, unfinished = tempfile.mkstemp(prefix=".meshchat-", dir=path.parent)  # the name may fill NAME_MAX
    try:
        with os.fdopen(handle, "wb") as file:
            count = _write_all(file, lines)
            if old is not None:
                with contextlib.suppress(PermissionError):  # of another owner: then it is ours from now on
                    os.fchown(handle, old.st_uid, old.st_gid)
                os.fchmod(handle, stat.S_IMODE(old.st_mode))
            os.fsync(handle)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    return count


def _write_all(file: BinaryIO, lines: Iterable[bytes]) -> int:
    count = 0
    for line in lines:
        file.write(line)
        count += 1
    file.flush()
    return count


def import_lines(client: ControlClient, file: BinaryIO) -> Imported:
    """Hands the lines of an export to the daemon.

    Raises `MeshchatError` where `file` is no export of the daemon's mesh.
    """
    _check_header(str(client.greeting.get("mesh", "")), file.readline(BATCH_SIZE))
    total = Imported()
    batch: list[str] = []
    size = 0
    while raw := file.readline(BATCH_SIZE):
        line, needed = _checked(raw)
        if line is None:
            total.refuse("damaged")
            while raw and not raw.endswith(b"\n"):  # the rest of a line too long for any record
                raw = file.readline(BATCH_SIZE)
            continue
        if size + needed > BATCH_SIZE:
            _send(client, batch, total)
            batch, size = [], 0
        batch.append(line)
        size += needed
    _send(client, batch, total)
    return total


def _check_header(mesh: str, line: bytes) -> None:
    """Raises `MeshchatError` where an export of `mesh` does not begin with this line."""
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or "meshchat-export" not in header:
        raise MeshchatError("This is no file that `meshchat export` wrote.")
    if header["meshchat-export"] != EXPORT_VERSION:
        raise MeshchatError("This file is of a later version of meshchat: update this router first.")
    if header.get("mesh") != mesh:
        other = str(header.get("mesh"))[:MAX_MESH_NAME]
        raise MeshchatError(f"This file is of the mesh {other!r}, this router of {mesh!r}.")


def _checked(raw: bytes) -> tuple[str | None, int]:
    """The line, and its size inside a request; None where no record can be in it."""
    try:
        line = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return None, 0
    needed = len(json.dumps(line, ensure_ascii=False).encode("utf-8")) + 2
    return (line, needed) if needed <= BATCH_SIZE else (None, 0)


def _send(client: ControlClient, batch: list[str], total: Imported) -> None:
    if not batch:
        return
    answer = client.request("import", lines=batch)
    total.added += answer["added"]
    total.known += answer["known"]
    for reason, count in answer["refused"].items():
        total.refuse(reason, count)
