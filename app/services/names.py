"""Cleans the names of masters: no path, no invisible characters, at most 255 characters."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 255  # characters
# Unicode categories: controls, format characters such as those that reverse the direction of text,
# surrogates, private use, unassigned, line and paragraph separators
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def clean_name(name: str) -> str:
    """Return the last part of a path without invisible characters; the result may be empty."""
    last = re.split(r"[/\\]", name)[-1]
    visible = (letter for letter in last if unicodedata.category(letter) not in _INVISIBLE)
    cut = "".join(visible).strip()[:MAX_LENGTH].strip()
    return "" if set(cut) <= {".", " "} else cut
