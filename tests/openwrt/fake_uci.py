"""The `uci` of a simulated router: sections in one JSON file, changes that wait for a commit beside it.

As a program it is what the stand-ins of `router.sh` call; as a module it lets a test write and read the file.
A section is `[name, type, {option: text or list of texts}]`; `@type[n]` names one without a name.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Section = tuple[str, str, dict[str, Any]]


class Uci:
    """The packages in `file`, {package: [section, ...]}."""

    def __init__(self, file: Path) -> None:
        self.packages: dict[str, list[Section]] = {}
        if file.exists():
            held = json.loads(file.read_text())
            self.packages = {name: [tuple(one) for one in all_] for name, all_ in held.items()}

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(self.packages))

    def section(self, package: str, name: str) -> Section | None:
        sections = self.packages.get(package, [])
        if match := re.fullmatch(r"@([\w-]+)\[(\d+)\]", name):
            of_type = [one for one in sections if one[1] == match[1]]
            return of_type[int(match[2])] if int(match[2]) < len(of_type) else None
        return next((one for one in sections if one[0] == name), None)

    def set(self, path: str, value: Any) -> None:
        package, section, option = (*path.split("."), "")[:3]
        found = self.section(package, section)
        if not option:
            if found is None:
                self.packages.setdefault(package, []).append((section, value, {}))
        elif found is None:
            raise SystemExit("uci: Invalid argument")
        else:
            found[2][option] = value

    def get(self, path: str) -> Any:
        package, section, option = (*path.split("."), "")[:3]
        found = self.section(package, section)
        return found if found is None or not option else found[2].get(option)

    def delete(self, path: str) -> None:
        package, section, option = (*path.split("."), "")[:3]
        found = self.section(package, section)
        if found is None:
            raise SystemExit("uci: Entry not found")
        if option:
            del found[2][option]
        else:
            self.packages[package].remove(found)


def shell_lines(sections: Iterable[Section]) -> Iterable[str]:
    """What `uci export` has the shell call: /lib/functions.sh defines `config`, `option` and `list`."""
    for name, kind, options in sections:
        yield shlex.join(["config", kind, name])
        for option, value in options.items():
            if isinstance(value, list):
                yield from (shlex.join(["list", option, one]) for one in value)
            else:
                yield shlex.join(["option", option, value])


def main(file: Path, words: list[str]) -> int:
    """One call of `uci`. Until a commit, changes are in `file`.changed."""
    changed = file.with_suffix(".changed")
    committed = Uci(file)
    now = Uci(changed if changed.exists() else file)
    do, *rest = [word for word in words if word not in ("-q", "-n")]
    if do == "export":
        print("\n".join(shell_lines(now.packages.get(rest[0], []))))
        return 0
    if do == "get":
        value = now.get(rest[0])
        if value is None:
            return 1
        print(" ".join(value) if isinstance(value, list) else value[1] if isinstance(value, tuple) else value)
        return 0
    if do == "changes":
        if now.packages.get(rest[0], []) != committed.packages.get(rest[0], []):
            print(f"{rest[0]} changed")
        return 0
    if do == "commit":
        committed.packages[rest[0]] = now.packages.get(rest[0], [])
        committed.save(file)
        return 0
    commands = [shlex.split(line) for line in sys.stdin if line.strip()] if do == "batch" else [[do, *rest]]
    for command in commands:
        path, _, value = command[1].partition("=")
        if command[0] == "set":
            now.set(path, value)
        elif command[0] == "add_list":
            now.set(path, [*(now.get(path) or []), value])
        elif command[0] == "delete":
            now.delete(path)
        else:
            raise SystemExit(f"no such command here: {command}")
    now.save(changed)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
