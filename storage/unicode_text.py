"""Unicode text: its normal form NFC, in which strings are stored and compared."""

from __future__ import annotations

import unicodedata
from itertools import groupby

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
