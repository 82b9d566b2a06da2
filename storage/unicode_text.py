"""Unicode text: its normal form NFC, what is unsafe to show, and cuts between whole characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

# Controls, line and paragraph separators, controls of the direction of text (the property
# Bidi_Control), halves of surrogate pairs, private use, and code points that are no characters. All
# other format characters are part of writing, such as the joiners of emoji, Persian and Sinhala.
_NO_CHARACTERS = "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0xF0000, 0x10000)
)
UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    rf"\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff\ufdd0-\ufdef{_NO_CHARACTERS}]"
)
_JOINERS = "\u200c\u200d"
_SHORT = 1000  # characters, for which the time that `normalize` takes does not matter


def normalize_text(text: str) -> str:
    """Return the text in the normal form NFC (UAX #15), in linear time."""
    return unicodedata.normalize("NFC", text if len(text) <= _SHORT else _in_order(text))


def _in_order(text: str) -> str:
    """Decompose the text, and put its combining marks into the canonical order.

    `normalize` does so in a time that grows with the square of the number of marks in a row.
    """
    decomposed = "".join(unicodedata.normalize("NFD", character) for character in text)
    runs = groupby(decomposed, key=lambda character: unicodedata.combining(character) > 0)
    return "".join(
        "".join(sorted(run, key=unicodedata.combining) if are_marks else run)
        for are_marks, run in runs
    )


def cut_text(text: str, limit: int, measure: Callable[[str], int] = len) -> str:
    """Return the beginning of the text that measures at most ``limit``.

    It ends between what a person sees as two characters (grapheme clusters, UAX #29), unless the
    first one is longer than the limit. ``measure`` returns the length of a part, at least 1 for
    each code point.
    """
    if measure(text) <= limit:
        return text
    import regex

    end, length = 0, 0
    for cluster in regex.finditer(r"\X", text[: limit + 1]):
        length += measure(cluster[0])
        if length > limit:
            break
        end = cluster.end()
    if not end:
        end = next(size for size in range(limit, -1, -1) if measure(text[:size]) <= limit)
    return text[:end].rstrip(_JOINERS)
