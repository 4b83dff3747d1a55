"""The colour of each user: steady, and legible on dark and on light backgrounds.

The levels of the 256-colour palette are xterm's; contrast and luminance are WCAG 2's (1.4.11: 3 to 1).
"""

import colorsys
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

LEVELS = (0, 95, 135, 175, 215, 255)

LEAST_CONTRAST = 3.0
LEAST_COLOUR = 95
"""Between the strongest and the weakest part of a colour: less looks grey."""

HUES = 12
"""Sectors of the circle of hues. Each is as likely as another, or most people would be pink: a third of the
legible colours are."""

EIGHT = ("ansired", "ansigreen", "ansimagenta", "ansicyan")
"""Of the eight colours of old terminals those that most of them show legibly on either background."""

Rgb = tuple[int, int, int]


def luminance(colour: Rgb) -> float:
    """Relative luminance, 0 to 1."""
    parts = (part / 255 for part in colour)
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    """From 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@lru_cache(maxsize=1)
def legible() -> tuple[Rgb, ...]:
    """The colours of the palette's cube that stand out from black and from white."""
    cube = ((red, green, blue) for red in LEVELS for green in LEVELS for blue in LEVELS)
    return tuple(
        colour
        for colour in cube
        if max(colour) - min(colour) >= LEAST_COLOUR
        and min(contrast(colour, (0, 0, 0)), contrast(colour, (255, 255, 255))) >= LEAST_CONTRAST
    )


@lru_cache(maxsize=1)
def by_hue() -> tuple[tuple[Rgb, ...], ...]:
    """The legible colours, those of one sector of hues together."""
    sectors: defaultdict[int, list[Rgb]] = defaultdict(list)
    for colour in legible():
        sectors[int(colorsys.rgb_to_hsv(*colour)[0] * HUES)].append(colour)
    return tuple(tuple(sectors[sector]) for sector in sorted(sectors))


def has_256(environment: Mapping[str, str]) -> bool:
    """Whether the terminal says that it has 256 colours or more."""
    return "256color" in environment.get("TERM", "") or environment.get("COLORTERM", "") != ""


def style_of(key: str, *, many: bool) -> str:
    """The style of the user with this key tag; `many`: of 256 colours."""
    number = int.from_bytes(hashlib.blake2s(key.encode(), digest_size=4).digest(), "big")
    if not many:
        return f"fg:{EIGHT[number % len(EIGHT)]}"
    number, hue = divmod(number, len(by_hue()))
    red, green, blue = by_hue()[hue][number % len(by_hue()[hue])]
    return f"fg:#{red:02x}{green:02x}{blue:02x}"
