"""What a feed Makefile says of its packages, so that nothing of it has to be said twice.

Reads the subset of make that the packages feed's conventions need: `NAME:=value`, `define ... endef`,
references to those, lines continued with a backslash, and `$$`.
"""

import re
from pathlib import Path

_ASSIGNMENT = re.compile(r"([\w/.-]+)\s*[:?]?=\s*(.*)")
_REFERENCE = re.compile(r"\$\(([\w/.-]+)\)")


class Makefile:
    """A feed Makefile: its variables, and what its `define`s are made of, as text."""

    def __init__(self, text: str) -> None:
        self._variables: dict[str, str] = {}
        self._blocks: dict[str, str] = {}
        block: str | None = None
        lines: list[str] = []
        for line in text.splitlines():
            if block is not None and line.strip() == "endef":
                self._blocks[block], block = "\n".join(lines), None
            elif block is not None:
                lines.append(line)
            elif line.startswith("define "):
                block, lines = line.split()[1], []
        self._variables = _assignments("\n".join(_outside_blocks(text)))

    def variable(self, name: str) -> str:
        """The value of a variable, or an empty string."""
        return self._expand(self._variables.get(name, ""))

    def option(self, package: str, name: str) -> str:
        """The value that `define Package/<package>` gives to `name`, or an empty string."""
        return self._expand(_assignments(self._blocks.get(f"Package/{package}", "")).get(name, ""))

    def text(self, package: str, part: str) -> str:
        """What `define Package/<package>/<part>` holds, as make would hand it to a shell or a file."""
        return self._expand(self._blocks.get(f"Package/{package}/{part}", "")).strip("\n")

    def depends(self, package: str) -> list[str]:
        """The packages that it has to have, without `+`; conditions on the build are not for a router."""
        return [name.removeprefix("+") for name in self.option(package, "DEPENDS").split() if name[0] != "@"]

    def _expand(self, text: str) -> str:
        """Replaces references to variables of the Makefile; others, such as $(1), stay."""

        def value(reference: re.Match[str]) -> str:
            name = reference[1]
            return self._expand(self._variables[name]) if name in self._variables else reference[0]

        return "$".join(_REFERENCE.sub(value, part) for part in text.split("$$"))


def read(path: Path) -> Makefile:
    """The Makefile at `path`; raises OSError."""
    return Makefile(path.read_text("utf-8"))


def _outside_blocks(text: str) -> list[str]:
    outside, inside = [], False
    for line in text.splitlines():
        if line.startswith("define "):
            inside = True
        elif line.strip() == "endef":
            inside = False
        elif not inside:
            outside.append(line)
    return outside


def _assignments(text: str) -> dict[str, str]:
    found = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if match := _ASSIGNMENT.fullmatch(line.strip()):
            found[match[1]] = match[2].strip()
    return found
