"""A master's name: what people call the picture. Never a path, never markup, never long."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 255  # characters
_UNSEEN = (
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
    "Zl",
    "Zp",
)  # controls, marks that turn text round, surrogates, unassigned


def clean_name(name: str) -> str:
    """The last part of a path, without what cannot be seen, at most 255 characters; may be empty."""
    last = re.split(r"[/\\]", name)[-1]
    seen = "".join(
        character for character in last if unicodedata.category(character) not in _UNSEEN
    )
    cut = seen.strip()[:MAX_LENGTH].strip()
    return "" if set(cut) <= {".", " "} else cut
