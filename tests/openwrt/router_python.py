"""Runs a command as a router's Python would: with only the parts of the standard library that were named.

    PARTS_USED=FILE python router_python.py PACKAGE[,PACKAGE...] ROOT SCRIPT [ARGUMENT...]

OpenWrt's packages feed splits Python; what is in none of the packages below is in python3-light, apart from
what it leaves out altogether. A module of a package that was not named cannot be imported. ROOT is where a
meshchat package was unpacked, SCRIPT a program in it: nothing of the checkout can be imported either. FILE
is told which of the packages were used.
"""

import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

# lang/python/python3/files/python3-package-*.mk of the feed, 23.05 to main; files' names became modules'.
SPLIT = {
    "python3-asyncio": ["asyncio"],
    "python3-cgi": ["cgi", "cgitb"],
    "python3-codecs": [
        "_codecs_cn",
        "_codecs_hk",
        "_codecs_iso2022",
        "_codecs_jp",
        "_codecs_kr",
        "_codecs_tw",
        "unicodedata",
    ],
    "python3-ctypes": ["ctypes", "_ctypes"],
    "python3-dbm": ["dbm", "_dbm", "_gdbm"],
    "python3-decimal": ["decimal", "_decimal", "_pydecimal"],
    "python3-distutils": ["distutils"],
    "python3-email": ["email"],
    "python3-lib2to3": ["lib2to3"],
    "python3-logging": ["logging"],
    "python3-lzma": ["lzma", "_lzma"],
    "python3-multiprocessing": ["multiprocessing", "_multiprocessing", "_posixshmem"],
    "python3-ncurses": ["curses", "_curses", "_curses_panel"],
    "python3-openssl": ["ssl", "_ssl", "_hashlib"],
    "python3-pydoc": ["pydoc", "pydoc_data", "doctest"],
    "python3-readline": ["readline"],
    "python3-sqlite3": ["sqlite3", "_sqlite3"],
    "python3-unittest": ["unittest"],
    "python3-urllib": ["urllib"],
    "python3-uuid": ["uuid", "_uuid"],
    "python3-venv": ["venv"],
    "python3-webbrowser": ["webbrowser"],
    "python3-xml": ["xml", "xmlrpc", "pyexpat"],
    # In no package of a router.
    "": [
        "ensurepip",
        "idlelib",
        "test",
        "tkinter",
        "_tkinter",
        "turtledemo",
        "pip",
        "setuptools",
        "pkg_resources",
    ],
}

BRINGS = {"python3-urllib": ["python3-email"]}
"""What a split package depends on itself."""


class Missing(importlib.abc.MetaPathFinder):
    """Finds first, and refuses, what is not installed; what Python itself had loaded before is unloaded."""

    def __init__(self, installed: Sequence[str]) -> None:
        have = {*installed, *(brought for name in installed for brought in BRINGS.get(name, ()))}
        self.modules = {module for package, all_ in SPLIT.items() if package not in have for module in all_}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {fullname!r}: not in python3-light", name=fullname)
        return None


def main() -> None:
    packages, root, script = sys.argv[1:4]
    finder = Missing(packages.split(","))
    for name in [name for name in sys.modules if name.partition(".")[0] in finder.modules]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    # Neither the checkout nor this file's directory; what pip installed stands for the feed's packages.
    here = Path(__file__).resolve()
    sys.path[:] = [
        entry for entry in sys.path if Path(entry or ".").resolve() not in (here.parent, here.parents[2])
    ]
    sys.meta_path[:] = [found for found in sys.meta_path if "editable" not in repr(found)]
    sys.argv[:] = [script, *sys.argv[4:]]
    try:
        runpy.run_path(str(Path(root) / script.lstrip("/")), run_name="__main__")
    finally:
        with open(os.environ["PARTS_USED"], "a", encoding="utf-8") as file:
            file.writelines(
                f"{package}\n" for package, modules in SPLIT.items() if {*modules} & {*sys.modules}
            )


if __name__ == "__main__":
    main()
