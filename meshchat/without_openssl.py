"""Importing the daemon without what a router has no memory for.

asyncio imports ssl, and hashlib OpenSSL's hashes: 5 MB of a router's RAM that nothing here uses. Both do
without where they cannot be imported, as on OpenWrt's python3-light; here every Python is made to look like
that one for as long as the daemon's modules are imported.
"""

import contextlib
import sys
from collections.abc import Iterator

_OPENSSL = ("ssl", "_hashlib")


@contextlib.contextmanager
def without_openssl() -> Iterator[None]:
    """What is imported meanwhile finds no OpenSSL; what was imported before, or is afterwards, has it."""
    hidden = [name for name in _OPENSSL if name not in sys.modules]
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    modules.update(dict.fromkeys(hidden))  # None: an import of it fails (sys.modules in Python's manual)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
