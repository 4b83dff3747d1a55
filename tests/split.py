"""What OpenWrt's python3-light holds, as the packages that split its standard library say what it does not.

From lang/python/python3/files/python3-package-*.mk of OpenWrt's packages feed, 23.05 to main: each of them
moves the modules below out of python3-light into a package of its own. Whatever no package names is in
python3-light, or nowhere.

`NEEDED` is what the package meshchat depends on. What `command` runs finds these and python3-light, and
nothing else.
"""

import os
import sys
from collections.abc import Collection
from typing import Any

SPLIT = {
    "python3-asyncio": ("asyncio", "_asyncio"),
    "python3-cgi": ("cgi", "cgitb"),
    "python3-codecs": (
        *("unicodedata", "_multibytecodec"),
        *(f"_codecs_{name}" for name in ("cn", "hk", "iso2022", "jp", "kr", "tw")),
    ),
    "python3-ctypes": ("ctypes", "_ctypes"),
    "python3-dbm": ("dbm", "_dbm", "_gdbm"),
    "python3-decimal": ("decimal", "_decimal", "_pydecimal"),
    "python3-distutils": ("distutils",),
    "python3-email": ("email",),
    "python3-lib2to3": ("lib2to3",),
    "python3-logging": ("logging",),
    "python3-lzma": ("lzma", "_lzma"),
    "python3-multiprocessing": ("multiprocessing", "_multiprocessing", "_posixshmem"),
    "python3-ncurses": ("curses", "_curses", "_curses_panel"),
    "python3-openssl": ("ssl", "_ssl", "_hashlib"),
    "python3-pydoc": ("pydoc", "pydoc_data", "doctest"),
    "python3-readline": ("readline",),
    "python3-sqlite3": ("sqlite3", "_sqlite3"),
    "python3-unittest": ("unittest",),
    "python3-urllib": ("urllib",),
    "python3-uuid": ("uuid", "_uuid"),
    "python3-venv": ("venv",),
    "python3-xml": ("xml", "xmlrpc", "pyexpat", "_elementtree"),
}
"""The modules of each package of the standard library, by their first part."""

ABSENT = (
    "ensurepip",
    "idlelib",
    "pip",
    "setuptools",
    "test",
    "tkinter",
    "turtle",
    "turtledemo",
    "webbrowser",
)
"""Modules that a PC's Python comes with and no router."""

NEEDED = {
    "python3-light": "",
    "python3-asyncio": "the event loop",
    "python3-click": "the commands",
    "python3-codecs": "unicodedata: what can be shown, and how wide it is; socket's idna",
    "python3-ctypes": "adjtimex(2): whether the kernel's clock is synchronised",
    "python3-dateutil": "time zones, and times that people type",
    "python3-decimal": "dateutil.parser",
    "python3-logging": "the log, asyncio",
    "python3-pynacl": "signatures, sealing, passwords; brings python3-cffi",
    "python3-six": "dateutil before its third version",
    "python3-urllib": "pathlib, and click's way to its version; brings python3-email",
    "python3-uuid": "click",
}
"""What the package meshchat depends on, and what for."""

OTHERS = {
    "python3-cffi": ("cffi", "_cffi_backend", "pycparser"),
    "python3-click": ("click",),
    "python3-dateutil": ("dateutil",),
    "python3-netifaces": ("netifaces",),
    "python3-pynacl": ("nacl",),
    "python3-six": ("six",),
}
"""The modules of packages that are not of the standard library; PyNaCl brings cffi."""


BROUGHT = (*NEEDED, "python3-cffi", "python3-email")
"""With what these packages themselves depend on."""

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Not by pathlib, which would load urllib before `allow` could forbid it.

_RUN = """
from tests.split import allow
allow({packages!r})
del allow
from meshchat.cli import main
main()
"""


def modules(packages: Collection[str]) -> frozenset[str]:
    """Everything that can be imported where these packages are, by the first parts of its name."""
    named = {**SPLIT, **OTHERS}
    installed = {module for package in packages for module in named.get(package, ())}
    apart = {module for package in SPLIT.values() for module in package}
    return (sys.stdlib_module_names - apart - set(ABSENT)) | installed | {"__main__", "meshchat"}


class _OnlyThese:
    """A finder of `sys.meta_path` to which no other module exists."""

    def __init__(self, finder: Any, allowed: Collection[str]) -> None:
        self._finder, self._allowed = finder, allowed

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        name = fullname.partition(".")[0]
        if name not in self._allowed and not name.startswith("_sysconfigdata"):  # named by platform
            return None
        return self._finder.find_spec(fullname, path, target)


def allow(packages: Collection[str]) -> None:
    """From now on this Python has only the modules of these packages; others that it has loaded are gone."""
    allowed = modules(packages)
    sys.meta_path[:] = [_OnlyThese(finder, allowed) for finder in sys.meta_path]
    for name in list(sys.modules):
        if name.partition(".")[0] not in allowed:
            del sys.modules[name]


def command(*arguments: str, packages: Collection[str] = BROUGHT) -> list[str]:
    """The command line of `meshchat` on a router with these packages. Run it in `ENVIRONMENT`."""
    # -S: an environment's .pth files may load what no router has.
    return [sys.executable, "-S", "-c", _RUN.format(packages=tuple(packages)), *arguments]


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((TOP, *filter(None, sys.path)))}
"""The environment of `command`, with this Python's packages on its path."""
