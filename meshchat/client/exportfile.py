"""History carried by hand: an export file written and read for the control socket.

The file is a header line `{"meshchat-export":1,"mesh":NAME}` and then log lines as they stand in the logs.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from meshchat.client.connection import ControlClient
from meshchat.errors import MeshchatError

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
    """Writes `lines` to `path`, which keeps what it held until all of them are on disk; returns how many.

    Raises `MeshchatError` where the disk does not take them.
    """
    count = 0
    unfinished = None
    try:
        handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            for line in lines:
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        unfinished = None
    except OSError as error:
        raise MeshchatError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        if unfinished is not None:
            os.unlink(unfinished)
    return count


def import_lines(client: ControlClient, file: BinaryIO) -> Imported:
    """Hands the lines of an export to the daemon.

    Raises `MeshchatError` where `file` is no export of the daemon's mesh.
    """
    _check_header(client, file.readline(BATCH_SIZE))
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


def _check_header(client: ControlClient, line: bytes) -> None:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or "meshchat-export" not in header:
        raise MeshchatError("This is no file that `meshchat export` wrote.")
    if header["meshchat-export"] != EXPORT_VERSION:
        raise MeshchatError("This file is of a later version of meshchat: update this router first.")
    mesh = client.greeting.get("mesh", "")
    if header.get("mesh") != mesh:
        raise MeshchatError(f"This file is of the mesh {header.get('mesh')!r}, this router of {mesh!r}.")


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
