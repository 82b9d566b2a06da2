"""The nouns of WordNet 3.0 (Fellbaum 1998): senses, what lies above them, and how near they are.

It also knows which English words exist at all, so that invented words are noticed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.words.words_file import Tensors, unpack_lines

# How plural endings are detached (WordNet's morphy).
_ENDINGS = (
    ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("ies", "y"), ("s", ""),
)  # fmt: skip
# How the endings of verbs and adjectives are detached.
_OTHER_ENDINGS = (
    ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
    ("ing", ""), ("er", ""), ("er", "e"), ("est", ""), ("est", "e"), ("ly", ""),
)  # fmt: skip


class SortedLines:
    """A sorted list of byte strings in one block, searched by bisection."""

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self._bytes = block.tobytes()
        self._ends = np.flatnonzero(block == ord("\n"))

    def find(self, line: str) -> int:
        """Return the index of the line, or -1 if it is not in the list."""
        wanted = line.encode()
        low, high = 0, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._line(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self._ends) and self._line(low) == wanted else -1

    def _line(self, index: int) -> bytes:
        start = int(self._ends[index - 1]) + 1 if index else 0
        return self._bytes[start : int(self._ends[index])]


class WordNet:
    """Relates nouns to the classes of the base network. Read-only, so it is thread-safe."""

    def __init__(self, tensors: Tensors) -> None:
        """Take the arrays that ``make_words.py`` stored under ``wordnet.`` in the data file."""
        self._lemmas = SortedLines(tensors["wordnet.lemmas"])
        self._other_words = SortedLines(tensors["wordnet.other_words"])
        self._small_words = frozenset(unpack_lines(tensors["wordnet.small_words"]))
        irregular = unpack_lines(tensors["wordnet.irregular"])
        self._irregular = dict(line.split() for line in irregular)
        self._senses = tensors["wordnet.senses"]
        self._sense_starts = _starts(tensors["wordnet.sense_counts"])
        self._hypernyms = tensors["wordnet.hypernyms"]
        self._hypernym_starts = _starts(tensors["wordnet.hypernym_counts"])
        self._information = tensors["wordnet.information"].astype(np.float32)
        above = [self._find_ancestors(int(each)) for each in tensors["wordnet.classes"]]
        self._class_ancestors = np.concatenate(above)
        self._class_starts = _starts(np.array([len(each) for each in above]))[:-1]

    def find_senses(self, phrase: str) -> list[int]:
        """Return the noun senses of a lower-case phrase, the most frequent first.

        Plurals are reduced to the singular. An unknown phrase has none.
        """
        for form in self._noun_forms(phrase):
            index = self._lemmas.find(form)
            if index >= 0:
                start, end = self._sense_starts[index : index + 2]
                return [int(sense) for sense in self._senses[start:end]]
        return []

    def knows_word(self, word: str) -> bool:
        """Report whether a lower-case word is an English noun, verb, adjective or adverb."""
        if self.find_senses(word) or self._other_words.find(word) >= 0:
            return True
        return any(
            self._other_words.find(word[: -len(ending)] + restored) >= 0
            for ending, restored in _OTHER_ENDINGS
            if word.endswith(ending) and len(word) > len(ending) + 2
        )

    def is_small(self, word: str) -> bool:
        """Report whether a word is a pronoun, preposition, article or the like: nothing to see."""
        return word in self._small_words

    def _noun_forms(self, phrase: str) -> list[str]:
        forms = [
            phrase,
            phrase.replace(" ", "-"),
            phrase.replace(" ", ""),
            phrase.replace("-", " "),
        ]
        head, _, last = phrase.rpartition(" ")
        lead = f"{head} " if head else ""
        if last in self._irregular:
            forms.append(lead + self._irregular[last])
        for ending, restored in _ENDINGS:
            if last.endswith(ending) and len(last) > len(ending) + 1 and not last.endswith("ss"):
                forms.append(lead + last[: -len(ending)] + restored)
        return forms

    def relate_classes(
        self, senses: Iterable[tuple[int, float]], power: float = 1.0
    ) -> NDArray[np.float32]:
        """Return ``(classes,)`` float32 from 0 to 1: how near each class is to one of the senses.

        ``senses`` are pairs of a sense and its likelihood from 0 to 1. Classes under a sense get
        its likelihood. The others get less: the information content of their lowest common
        ancestor, divided by that of the sense (after Resnik 1995), to the ``power``.
        """
        nearness = np.zeros(len(self._information), dtype=np.float32)
        for sense, likelihood in senses:
            own = float(self._information[sense])
            if own > 0:  # everything lies under the root, which says nothing
                above = self._find_ancestors(sense)
                shared = np.minimum(self._information[above] / own, 1)
                nearness[above] = np.maximum(nearness[above], likelihood * shared**power)
        best: NDArray[np.float32] = np.maximum.reduceat(
            nearness[self._class_ancestors], self._class_starts
        )
        return best

    def _find_ancestors(self, sense: int) -> NDArray[np.int64]:
        """Return the sense itself and everything above it."""
        found, todo = {sense}, [sense]
        while todo:
            each = todo.pop()
            start, end = self._hypernym_starts[each : each + 2]
            above = set(self._hypernyms[start:end].tolist()) - found
            found |= above
            todo += above
        return np.array(sorted(found), dtype=np.int64)


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where each of the consecutive groups of these sizes starts, and the end."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
