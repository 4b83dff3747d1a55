"""A short text as a QR code (ISO/IEC 18004) that a phone reads off a terminal, dark or light.

The library that computes it, segno, is imported here only, and everything else does without it.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from meshchat.errors import MeshchatError
from meshchat.without_openssl import without_openssl

QUIET = 4
"""Light modules around the code, without which readers do not find it (the standard's quiet zone)."""

_UPPER_HALF = "\u2580"
"""Two modules in one character, about square: its colour is the upper one's, the ground's the lower one's."""

_INK, _GROUND = {True: 30, False: 97}, {True: 40, False: 107}
"""Black and bright white (ECMA-48 SGR and xterm's bright colours), whatever the terminal's own are."""


def qr_lines(text: str, encoding: str) -> Iterator[str]:
    """The lines that draw `text` on a terminal of that encoding.

    Capital letters and digits make a smaller code than others. Raises `MeshchatError` where segno is not
    installed or the terminal lacks the characters.
    """
    try:
        _UPPER_HALF.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        raise MeshchatError("The code cannot be drawn on this terminal: set it to UTF-8.") from None
    modules = _modules(text)
    for upper, lower in zip_longest(modules[::2], modules[1::2], fillvalue=[False] * len(modules)):
        cells = (
            f"\x1b[{_INK[top]};{_GROUND[bottom]}m{_UPPER_HALF}"
            for top, bottom in zip(upper, lower, strict=True)
        )
        yield "".join(cells) + "\x1b[0m"


def _modules(text: str) -> list[Sequence[bool]]:
    """The rows of the code with its quiet zone; True is dark."""
    try:
        with without_openssl():
            import segno
    except ImportError:
        raise MeshchatError(
            "What draws the code, segno, is not installed: on a router it comes with the package "
            "meshchat-terminal, elsewhere with `python3 -m pip install segno`."
        ) from None
    code = segno.make(text, error="m", micro=False)
    return [[module == 1 for module in row] for row in code.matrix_iter(border=QUIET)]
