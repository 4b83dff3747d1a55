"""What the two packages are made of: the feed's Makefiles, its manifest, the Python code and the wheels."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openwrt.build.archive import File
from openwrt.build.makefile import Makefile
from openwrt.build.source import Source
from openwrt.build.wheels import unpack

FEED = "openwrt"
CODE = "usr/lib/meshchat"
"""A place of our own on the router, for one package serves the Pythons of all releases."""

SCREEN = f"{FEED}/meshchat-terminal/screen.list"
"""The modules that nothing needs without the libraries of meshchat-terminal: they come with these."""

SHOWN = frozenset({"meshchat/cli.py", "meshchat/errors.py"})
"""Modules whose docstrings people are shown: as help, and as errors."""


@dataclass(frozen=True)
class Package:
    """A package of either manager: what it says of itself, its scripts, its files."""

    name: str
    version: str
    depends: tuple[str, ...]
    title: str
    description: str
    license: str
    maintainer: str
    url: str
    section: str
    users: str
    """`Require-User` of OpenWrt's base-files: user=id:group=id."""
    conffiles: tuple[str, ...]
    postinst: str
    prerm: str
    postrm: str
    files: tuple[File, ...]

    def control(self) -> str:
        """The control file of opkg; Installed-Size is in bytes, as OpenWrt's own packages have it."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Depends": ", ".join(self.depends),
            "Source": f"feeds/{self.name}",
            "License": self.license,
            "Section": self.section,
            "Require-User": self.users,
            "URL": self.url,
            "Maintainer": self.maintainer,
            "Architecture": "all",
            "Installed-Size": str(sum(len(file.data) for file in self.files)),
            "Description": " ".join((self.description or self.title).split()),
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def packages(source: Source, wheels: Iterable[Path]) -> list[Package]:
    """The packages of `source`: meshchat, and meshchat-terminal with the screen and what is in `wheels`."""
    code = [
        File(f"{CODE}/{name}", data if name in SHOWN else without_docstrings(data))
        for name, data in source.files.items()
        if name.startswith("meshchat/") and name.endswith(".py")
    ]
    listed = {f"{CODE}/{name}" for name in source.files[SCREEN].decode().split()}
    screen = [file for file in code if file.path in listed]
    plain = [file for file in code if file not in screen]
    carried = [
        File(f"{CODE}/{file.path}", file.data, file.mode) for wheel in wheels for file in unpack(wheel)
    ]
    return [
        _package(source, "meshchat", plain),
        _package(source, "meshchat-terminal", [*screen, *carried]),
    ]


def without_docstrings(code: bytes) -> bytes:
    """The same Python code with its docstrings empty, which nobody reads on a router: a third of the package.

    Each line keeps its number, so that a traceback names the line that it means.
    """
    lines = code.splitlines(keepends=True)
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str) and node.end_lineno is not None:
            first, last = node.lineno - 1, node.end_lineno - 1
            behind = lines[last][node.end_col_offset :]
            if first != last:
                lines[first + 1 : last + 1] = [b"\n"] * (last - first)
                behind = b"\n" if behind.strip() == b"" else behind
            lines[first] = lines[first][: node.col_offset] + b'""' + behind
    return b"".join(lines)


def _package(source: Source, name: str, python: list[File]) -> Package:
    folder = f"{FEED}/{name}"
    makefile = Makefile(source.files[f"{folder}/Makefile"].decode())
    return Package(
        name=name,
        version=f"{source.version}-r{makefile.variable('PKG_RELEASE')}",
        depends=tuple(makefile.depends(name)),
        title=makefile.option(name, "TITLE"),
        description=makefile.text(name, "description"),
        license=makefile.variable("PKG_LICENSE"),
        maintainer=makefile.variable("PKG_MAINTAINER"),
        url=makefile.option(name, "URL"),
        section=makefile.option(name, "SECTION"),
        users=makefile.option(name, "USERID"),
        conffiles=tuple(makefile.text(name, "conffiles").split()),
        postinst=makefile.text(name, "postinst"),
        prerm=makefile.text(name, "prerm"),
        postrm=makefile.text(name, "postrm"),
        files=tuple(sorted([*_listed(source, f"{folder}/files"), *python])),
    )


def _listed(source: Source, folder: str) -> list[File]:
    """The files of the feed's folder, placed as its manifest says: mode, file, place."""
    lines = source.files.get(f"{folder}/manifest", b"").decode().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return [
        File(place.lstrip("/"), source.files[f"{folder}/{name}"], int(mode, 8)) for mode, name, place in rows
    ]
