"""Splits a query into words, and into the phrases that may be nouns of WordNet."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_LONGEST_PHRASE = 4  # words
_MOST_WORDS = 16  # of a query; further ones are ignored


@dataclass(frozen=True)
class Phrase:
    """Consecutive words of a query; ``words`` is how many."""

    text: str
    words: int


def split_words(text: str) -> list[str]:
    """Return the words of a query in lower case and without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(each for each in decomposed if not unicodedata.combining(each))
    return [_strip_possessive(word) for word in _WORD.findall(plain)][:_MOST_WORDS]


def _strip_possessive(word: str) -> str:
    return word.replace("’", "'").removesuffix("'s")


def list_phrases(words: list[str]) -> list[Phrase]:
    """List all runs of up to four words."""
    return [
        Phrase(" ".join(words[start : start + count]), count)
        for count in range(1, min(_LONGEST_PHRASE, len(words)) + 1)
        for start in range(len(words) - count + 1)
    ]
