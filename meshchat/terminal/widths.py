"""How many columns text takes, by what Python itself knows: for tables and for terminals without a screen.

Where terminals differ, the most is meant. (Widths: UAX #11; emoji: `chat.render.is_pictograph`.)
"""

import unicodedata

from meshchat.chat.render import EMOJI_FORM, is_new_pictograph


def char_columns(char: str) -> int:
    """Columns that a visible character takes: 0, 1 or 2."""
    if char == EMOJI_FORM:  # makes some characters wide, on some terminals
        return 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" or is_new_pictograph(char) else 1


def columns(text: str) -> int:
    """Columns that visible text takes."""
    return sum(map(char_columns, text))


def padded(text: str, width: int) -> str:
    """The text with blanks behind it, `width` columns wide, or wider where it is."""
    return text + " " * (width - columns(text))
