"""One check of a signature for all simulated routers.

A check is a pure function of the bytes and the key, and in a mesh of a thousand routers the same record is
checked a thousand times. Here the first verdict stands for all; a real router has nobody to ask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import nacl.bindings

_REMEMBERED = 200_000
"""Records whose check is remembered: about 100 MB of them."""


@contextmanager
def shared_verdicts() -> Iterator[None]:
    """Within it, good signatures are checked once in this process; bad ones always."""
    check = nacl.bindings.crypto_sign_open
    nacl.bindings.crypto_sign_open = lru_cache(_REMEMBERED)(check)
    try:
        yield
    finally:
        nacl.bindings.crypto_sign_open = check
