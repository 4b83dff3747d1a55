"""Files as the archives that OpenWrt's opkg installs, with nothing in them of the machine that wrote them."""

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

DIRECTORY = 0o755

_SLOWEST, _NO_SYSTEM = 2, 255

_SAMPLE = b"".join(b"%d meshchat %d\n" % (number, number * number % 9973) for number in range(4096))
_COMPRESSED = "ecb76b788ba92c0878000c40380a2d6c"
"""BLAKE2b of what zlib makes of the sample; zlib-ng and others make something else that means the same."""


class File(NamedTuple):
    """A file to be packed: its path without a leading slash, its bytes, its permissions."""

    path: str
    data: bytes
    mode: int = 0o644


def tar_gz(files: Iterable[File], mtime: int) -> bytes:
    """A gzipped tar of `files` and their directories, `./` first; all of root's, from `mtime` (UNIX time)."""
    files = sorted(files)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in _directories(files):
            archive.addfile(_entry(path, DIRECTORY, mtime, tarfile.DIRTYPE))
        for file in files:
            entry = _entry(f"./{file.path}", file.mode, mtime, tarfile.REGTYPE)
            entry.size = len(file.data)
            archive.addfile(entry, io.BytesIO(file.data))
    return _gzip(packed.getvalue())


def ipk(control: Iterable[File], data: Iterable[File], mtime: int) -> bytes:
    """A package for opkg: a gzipped tar of three members, in the order of OpenWrt's scripts/ipkg-build."""
    members = {
        "debian-binary": b"2.0\n",
        "data.tar.gz": tar_gz(data, mtime),
        "control.tar.gz": tar_gz(control, mtime),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            entry = _entry(f"./{name}", 0o644, mtime, tarfile.REGTYPE)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return _gzip(packed.getvalue())


def compresses_alike() -> bool:
    """Whether this machine's zlib writes the bytes that zlib itself does, on which equal packages depend."""
    return hashlib.blake2b(_gzip(_SAMPLE), digest_size=16).hexdigest() == _COMPRESSED


def _gzip(content: bytes) -> bytes:
    """One gzip member (RFC 1952) with no name, no time and no system in it, which `gzip` sets as it likes."""
    deflate = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=-zlib.MAX_WBITS)
    header = struct.pack("<HBBIBB", 0x8B1F, zlib.DEFLATED, 0, 0, _SLOWEST, _NO_SYSTEM)
    trailer = struct.pack("<II", zlib.crc32(content), len(content))
    return header + deflate.compress(content) + deflate.flush() + trailer


def _entry(path: str, mode: int, mtime: int, kind: bytes) -> tarfile.TarInfo:
    """An entry of root's: TarInfo's own owner is 0:0, with no names."""
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime, entry.type = mode, mtime, kind
    return entry


def _directories(files: Iterable[File]) -> Iterator[str]:
    parents = {parent for file in files for parent in PurePosixPath(file.path).parents}
    yield from sorted("./" if str(parent) == "." else f"./{parent}/" for parent in parents)
