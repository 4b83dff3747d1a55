"""Where commands get a password from: never the command line, which all users of the machine can read."""

import getpass
import os
from pathlib import Path

from meshchat.byhand import read_text
from meshchat.chat.passwords import clean_password
from meshchat.errors import MeshchatError, UsageError

VARIABLE = "MESHCHAT_PASSWORD"
NEW_VARIABLE = "MESHCHAT_NEW_PASSWORD"


def known_password(file: Path | None) -> str:
    """The password of an account: from `file`, else the environment, else asked for.

    Raises `UsageError` where there is nowhere to ask, `MeshchatError` where `file` cannot be read.
    """
    return _given(file, VARIABLE) or _ask("Password: ")


def new_password(file: Path | None, variable: str = VARIABLE) -> str:
    """A password to be set, asked for twice; raises like `known_password`, or where the two differ."""
    given = _given(file, variable)
    if given:
        return given
    password = _ask("New password: ")
    if _ask("The same again: ") != password:
        raise MeshchatError("Password is not matched")
    return password


def _given(file: Path | None, variable: str) -> str:
    if file is None:
        return os.environ.get(variable, "")
    first, _, _ = read_text(file).partition("\n")
    if not first:
        raise MeshchatError(f"There is no password in the first line of {file}.")
    return first


def _ask(question: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise UsageError(
            f"There is no terminal to ask for a password: set {VARIABLE} or give --password-file."
        ) from None
    try:
        return clean_password(getpass.getpass(question))
    except EOFError:
        raise KeyboardInterrupt from None
    except UnicodeEncodeError:
        raise MeshchatError("The password is not UTF-8 text: set the terminal to UTF-8.") from None
