"""Cleans the names of masters: no path, nothing unsafe to show, NFC, at most 255 characters."""

from __future__ import annotations

import re

from storage.unicode_text import UNSAFE, cut_text, normalize_text

MAX_LENGTH = 255  # Unicode code points
# Spaces and dots, and all that is drawn as nothing (the property Default_Ignorable_Code_Point)
_INVISIBLE = re.compile(
    r"[\s.\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)


def clean_name(name: str) -> str:
    """Return the last part of a path, in the form in which names are stored.

    The result is empty if no visible character remains. Cleaning it again changes nothing.
    """
    last = re.split(r"[/\\]", name)[-1]
    cut = cut_text(normalize_text(UNSAFE.sub("", last)).strip(), MAX_LENGTH).strip()
    return "" if _INVISIBLE.fullmatch(cut) else cut
