"""Codes that give a person the right `watch` on this router: to see how it and its neighbours do.

The operator makes one and tells it; whoever enters it is granted the right, at each later login too, until
the operator drops the code. A code is good for a few people: who passes it on is seen in the list.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping

from meshchat.errors import UsageError
from meshchat.wire.ids import PublicKey

CODE_SIZE = 10
"""Random bytes of a code, 16 letters and digits: 2**80 tries."""

MAX_CODES = 32
MAX_WATCHERS = 16
"""Codes of a router, and people who use one: a neighbourhood's volunteers, in 20 KB of STATE at most."""


class WatchCodes:
    """The codes, each with the public keys of who entered it; `changed` since they were last written down."""

    def __init__(self, codes: Mapping[str, Iterable[PublicKey]] | None = None) -> None:
        self._codes = {code: dict.fromkeys(keys) for code, keys in (codes or {}).items()}
        self.changed = False

    def __iter__(self) -> Iterator[tuple[str, list[PublicKey]]]:
        """Each code, the oldest first, and who entered it, in that order."""
        return ((code, list(keys)) for code, keys in self._codes.items())

    def make(self, randomness: bytes) -> str:
        """A new code from `CODE_SIZE` random bytes; raises `UsageError` where there are too many."""
        if len(self._codes) >= MAX_CODES:
            raise UsageError(f"There are {MAX_CODES} codes; drop one with `meshchat watch drop CODE` first.")
        code = base64.b32encode(randomness).decode("ascii").lower()
        self._codes[code] = {}
        self.changed = True
        return code

    def drop(self, code: str) -> None:
        """The code, and with it the right of who entered it, is good no more; raises `UsageError`."""
        if self._codes.pop(_spelled(code), None) is None:
            raise UsageError("There is no such code; `meshchat watch list` shows those there are.")
        self.changed = True

    def enter(self, code: str, key: PublicKey) -> None:
        """A user (his public key) enters a code. Raises `UsageError` where it is none, or used up."""
        keys = self._codes.get(_spelled(code))
        if keys is None:
            raise UsageError("There is no such code; ask who runs this router for one.")
        if key in keys:
            return
        if len(keys) >= MAX_WATCHERS:
            raise UsageError("This code is used up; ask who runs this router for another.")
        keys[key] = None
        self.changed = True

    def has(self, key: PublicKey) -> bool:
        """Whether a user may watch."""
        return any(key in keys for keys in self._codes.values())


def _spelled(code: str) -> str:
    """A code as it is kept: people type it in capitals, and with spaces."""
    return "".join(code.split()).lower()
