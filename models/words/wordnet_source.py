"""Reads WordNet's database files (Debian's ``wordnet-base``) into the arrays of the data file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from models.words.words_file import Tensors, pack_lines

# They show nothing. WordNet has no pronouns, prepositions, conjunctions and articles.
_SMALL_WORDS = """
a about above across after against all along among an and another any anybody anyone anything around
as at be because been before behind being below beneath beside besides between beyond both but by
can could did do does down during each either enough every everybody everyone everything except few
for from had has have he her hers him his how i if in inside into is it its itself less like many
may me might mine more most much must my near neither no nobody none nor not nothing of off on onto
or other our out outside over own per she should since so some somebody someone something soon such
than that the their them then there these they this those though through to toward under until up
upon us very via was we were what when where which while who whose why will with within without
would you your yours
""".split()  # noqa: SIM905


class WordNetSource:
    """The nouns with their hypernyms and glosses. ``synsets`` maps an offset to its index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.synsets: dict[int, int] = {}
        self.glosses: list[str] = []
        self._parents: list[list[int]] = []
        for line in self._read_lines("data.noun"):
            fields, _, gloss = line.partition(" | ")
            offset, parents = _parse_synset(fields.split())
            self.synsets[offset] = len(self.glosses)
            self.glosses.append(gloss.split(";")[0].strip())
            self._parents.append(parents)

    def _read_lines(self, name: str) -> list[str]:
        lines = (self._folder / name).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith("  ")]  # the licence comes first

    def make_arrays(self, class_offsets: list[int]) -> Tensors:
        """Return the arrays that ``WordNet`` reads; the classes are given by their offsets."""
        parents = [[self.synsets[offset] for offset in each] for each in self._parents]
        nouns = self._read_index("index.noun")
        lemmas = sorted(nouns, key=str.encode)
        senses = [[self.synsets[offset] for offset in nouns[lemma]] for lemma in lemmas]
        irregular = [line.split()[:2] for line in self._read_lines("noun.exc") if "_" not in line]
        return {
            "wordnet.lemmas": pack_lines(lemmas),
            "wordnet.senses": _flatten(senses),
            "wordnet.sense_counts": np.array([len(each) for each in senses], dtype=np.uint8),
            "wordnet.hypernyms": _flatten(parents),
            "wordnet.hypernym_counts": np.array([len(each) for each in parents], dtype=np.uint8),
            "wordnet.information": _measure_information(parents),
            "wordnet.classes": np.array([self.synsets[each] for each in class_offsets], np.int32),
            "wordnet.irregular": pack_lines([" ".join(each) for each in irregular]),
            "wordnet.other_words": pack_lines(self._list_other_words()),
            "wordnet.small_words": pack_lines(_SMALL_WORDS),
        }

    def _read_index(self, name: str) -> dict[str, list[int]]:
        """Map each lower-case lemma to the offsets of its senses, the most frequent first."""
        index = {}
        for line in self._read_lines(name):
            fields = line.split()
            count = int(fields[2])
            index[fields[0].replace("_", " ")] = [int(each) for each in fields[-count:]]
        return index

    def _list_other_words(self) -> list[str]:
        words = set()
        for part in ("verb", "adj", "adv"):
            words |= {lemma for lemma in self._read_index(f"index.{part}") if " " not in lemma}
            words |= {line.split()[0] for line in self._read_lines(f"{part}.exc")}
        return sorted(words, key=str.encode)


def _parse_synset(fields: list[str]) -> tuple[int, list[int]]:
    """Return the offset and the offsets of the hypernyms (``man 5 wndb``)."""
    pointers = fields[4 + 2 * int(fields[3], 16) + 1 :]
    above = [
        int(pointers[at + 1])
        for at in range(0, 4 * int(fields[4 + 2 * int(fields[3], 16)]), 4)
        if pointers[at] in ("@", "@i")
    ]
    return int(fields[0]), above


def _measure_information(parents: list[list[int]]) -> np.ndarray:
    """Measure the information content of each synset, 0 to 1, by the number of its hyponyms.

    The root has 0 and a synset without hyponyms 1 (Seco et al. 2004).
    """
    below = np.zeros(len(parents), dtype=np.int64)
    for synset in range(len(parents)):
        above, todo = set(), list(parents[synset])
        while todo:
            each = todo.pop()
            if each not in above:
                above.add(each)
                todo += parents[each]
        below[list(above)] += 1
    return (1 - np.log(below + 1) / math.log(len(parents))).clip(0, 1).astype(np.float16)


def _flatten(groups: list[list[int]]) -> np.ndarray:
    return np.array([each for group in groups for each in group], dtype=np.int32)
