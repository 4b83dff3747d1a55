"""Text that a terminal or a log may be given.

Whatever strangers wrote passes through `safe` before a terminal sees it: nothing they type can move the
cursor, change colours, reverse the reading direction or hide. (Unicode categories: UAX #44; what is kept of
the invisible joiners: RFC 5892 appendix A, and UTS #51 for emoji.)
"""

import unicodedata

INDENT = "      "
"""Before the further lines of a message: as wide as `HH:MM `, so that none looks like a message."""

ACTION = "/me "
"""A text that begins so says what its author does."""

MAX_MARKS = 8
"""Marks that may stand on one letter: Hebrew and Vietnamese have 4 at most, Tibetan stacks 6. Strangers pile
hundreds up, which covers the lines above; what is beyond is cut."""

EMOJI_FORM = "\ufe0f"
"""Asks for the colourful form of the character before it."""

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_VIRAMA = 9
_SKIN_TONES = range(0x1F3FB, 0x1F400)

_SYMBOLS = frozenset("\u203c\u2049\u2139\u2194\u25fb\u25fc\u25fd\u25fe\u3030\u303d")
"""Pictographs that are letters, mathematics or punctuation otherwise."""

_PICTOGRAPHS = (
    range(0x1F300, 0x1F650),
    range(0x1F680, 0x1F700),
    range(0x1F7D5, 0x1F800),
    range(0x1F90C, 0x1FB00),
)
"""Code points that are emoji or kept for them (Extended_Pictographic): those of a year that Python does not
know yet, such as U+1FACD of Unicode 17, are shown like the others."""

_FLAG, _TAG_END = "\U0001f3f4", "\U000e007f"
_FLAGS = frozenset(
    _FLAG + "".join(chr(0xE0000 + ord(letter)) for letter in region) + _TAG_END
    for region in ("gbeng", "gbsct", "gbwls")
)
"""The flags spelled with invisible tags that are in general use, and no others: tags can hide text."""

BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks that show nothing (Default_Ignorable_Code_Point)."""

SELECTORS = frozenset(
    map(chr, (*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
"""Marks that choose between two forms of the character before them."""


def safe(text: str, *, multiline: bool = False) -> str:
    r"""`text` with all that is no visible character written as an escape: `\x1b`, `\u202e`, `\U000e0041`.

    That is controls, format characters, line separators, lone surrogates, private and unassigned code
    points. A newline becomes `\n`; with `multiline`, a line break and an indent. Kept of the invisible are
    only the joiners, variation selectors and tags that emoji, flags and the Arabic and Indic scripts are
    written with. Of more than `MAX_MARKS` marks on one letter the next one is escaped, and the rest left out.
    """
    shown: list[str] = []
    marks = 0
    for at, char in enumerate(text):
        marks = marks + 1 if _is_mark(char) else 0
        if marks > MAX_MARKS:
            shown.append(_escape(char) if marks == MAX_MARKS + 1 else "")
        elif char == "\n":
            shown.append("\n" + INDENT if multiline else "\\n")
        elif char == "\t":
            shown.append("\\t")
        elif _visible(text, at):
            shown.append(char)
        else:
            shown.append(_escape(char))
    return "".join(shown)


def escape(written: str) -> str:
    """`written` with all that could drive a terminal or split a line as `\\uXXXX`.

    That is Unicode's categories C* (control, format, private, unassigned), Zl and Zp, and more than
    `MAX_MARKS` marks on one letter. Inside a JSON string the result means the same.
    """
    if written.isascii() and written.isprintable():
        return written
    escaped: list[str] = []
    marks = 0
    for char in written:
        marks = marks + 1 if _is_mark(char) else 0
        escaped.append(char if _harmless(char) and marks <= MAX_MARKS else _json_escape(char))
    return "".join(escaped)


def _harmless(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _json_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"


def message_line(clock: str, user: str, text: str, *, unknown: bool = False) -> str:
    """`HH:MM user: text`, as `said`; `unknown` puts `~` before a time that no good clock stands for."""
    mark = "~" if unknown else ""
    return f"{mark}{safe(clock)} {said(user, text)}"


def said(user: str, text: str) -> str:
    """`ada: hello`, or `* ada waves` for the text `/me waves`, all of it safe."""
    if text.startswith(ACTION):
        return f"* {safe(user)} {safe(text.removeprefix(ACTION), multiline=True)}"
    return f"{safe(user)}: {safe(text, multiline=True)}"


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _visible(text: str, at: int) -> bool:
    char = text[at]
    if " " <= char <= "~":
        return True
    if char in (_ZWNJ, _ZWJ):
        return _joins_script(text, at) or (char == _ZWJ and _joins_emoji(text, at))
    if char in SELECTORS:
        return at > 0 and _takes_selector(text[at - 1])
    if is_new_pictograph(char):
        return True
    if "\U000e0020" <= char <= _TAG_END:
        return _spells_flag(text, at)
    category = unicodedata.category(char)
    return category[0] != "C" and category not in ("Zl", "Zp") and char not in BLANKS


def is_new_pictograph(char: str) -> bool:
    """Whether it is an emoji, or a place kept for one, that Python's tables do not have yet."""
    return unicodedata.category(char) == "Cn" and any(ord(char) in block for block in _PICTOGRAPHS)


def _is_mark(char: str) -> bool:
    return char > "\u02ff" and unicodedata.category(char) in ("Mn", "Me")


def _spells_flag(text: str, at: int) -> bool:
    """Whether the tag belongs to a flag that is spelled so: seven characters, the black flag first."""
    start = text.rfind(_FLAG, max(at - 6, 0), at)
    return start >= 0 and text[start : start + 7] in _FLAGS


def _joins_script(text: str, at: int) -> bool:
    """After a virama, or between Arabic letters (the first perhaps with a mark), a joiner is spelling."""
    if not 0 < at < len(text) - 1:
        return False
    before, after = text[at - 1], text[at + 1]
    return unicodedata.combining(before) == _VIRAMA or (
        unicodedata.bidirectional(before) in ("AL", "NSM") and unicodedata.bidirectional(after) == "AL"
    )


def _joins_emoji(text: str, at: int) -> bool:
    """Between two pictographs, the first perhaps with its selector or skin tone, a joiner makes one."""
    before = at - 1
    if before > 0 and (text[before] in SELECTORS or ord(text[before]) in _SKIN_TONES):
        before -= 1
    return before >= 0 and _is_pictograph(text[before]) and _is_pictograph(text[at + 1 : at + 2])


def _is_pictograph(char: str) -> bool:
    return char != "" and (unicodedata.category(char) == "So" or char in _SYMBOLS or is_new_pictograph(char))


def _takes_selector(base: str) -> bool:
    """Symbols, digits, punctuation (keycaps, `!!`) and letters without case (ideographs, Mongolian)."""
    category = unicodedata.category(base)
    return base not in BLANKS and (category[0] in "SNP" or category == "Lo" or _is_pictograph(base))
