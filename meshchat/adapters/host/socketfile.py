"""The file of a UNIX socket: made for who may use it, taken over where a daemon that was killed left one."""

import os
import socket
import stat
from pathlib import Path

from meshchat.config import MAX_SOCKET_PATH
from meshchat.errors import StoreError

SOCKET_MODE = 0o660
"""The owner and the group may use a router's chat; which group is the operator's choice."""


def bind(path: Path, group: int | None = None) -> socket.socket:
    """A bound socket at `path` with its mode, and its group (a number) if one is given, set; it does not
    listen yet. Raises `StoreError`.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise StoreError(f"The socket path {path} is too long: at most {MAX_SOCKET_PATH} bytes (--socket).")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        # Nobody else may use it before it has its group and mode, whatever the umask.
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(SOCKET_MODE)
    except OSError as error:
        bound.close()
        raise StoreError(
            f"Cannot make the control socket {path}: {error.strerror}; choose another place with --socket."
        ) from None
    except StoreError:
        bound.close()
        raise
    return bound


def identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from another that is made there later; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    """Removes a socket on which nobody answers: a daemon that was killed leaves one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StoreError(f"{path} is in the way and is no socket; move it, or choose another with --socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # Somebody is there, and busy.
    raise StoreError(f"A daemon already answers at {path}; stop it, or choose another with --socket.")
