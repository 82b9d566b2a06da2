"""Turns words into a vector of the images' space, through the classes of the base network.

A text is compared with what is written about each class (by MiniLM) and with the class's place in
WordNet. The vector is the weighted mean of the directions of the classes that fit best.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.text_encoder import TextNotUnderstood
from models.weights_file import WeightsFile
from models.words.directions import compute_directions, find_projection
from models.words.phrases import list_phrases, split_words
from models.words.text_network import TextNetwork
from models.words.wordnet import WordNet
from models.words.words_file import Tensors, load_words, restore_rows, unpack_lines

UNDERSTOOD = 0.5  # below it, a text is not understood
# Chosen on the train classes of Caltech-101; see README.md, "What was tried".
_RELATION_WEIGHT = 1.0
_RELATION_POWER = 1.5
_RARITY = 0.3  # how much less a rarer sense counts: the rank to this power
_TEMPERATURE = 0.06
_RELATION_EVIDENCE = 0.25  # of the best relation, against 1 for the best cosine
_LEAST_EVIDENCE = 0.42
_EVIDENCE_WIDTH = 0.06
_MOST_CLASSES = 50
_VERSIONS_KEPT = 4


class EmbeddedText(NamedTuple):
    """``vector`` is ``(512,)`` float32 of length 1; ``understood`` goes from 0 to 1."""

    vector: NDArray[np.float32]
    understood: float


class ClassWeights(NamedTuple):
    """``weights`` ``(classes,)`` float32 sum to 1; ``understood`` goes from 0 to 1."""

    weights: NDArray[np.float32]
    understood: float


class LookWords:
    """Embeds texts in the images' space of any version of the weights. Thread-safe."""

    def __init__(self, tensors: Tensors | None = None, *, slots: int = 1) -> None:
        """Take the arrays of a data file, by default those of the shipped one.

        ``slots`` is the number of texts that are encoded concurrently, each on one core.
        """
        tensors = load_words() if tensors is None else tensors
        self._network = TextNetwork(tensors, slots=slots)
        self._wordnet = WordNet(tensors)
        self._texts = restore_rows(tensors, "bank.texts")
        self._synonyms = restore_rows(tensors, "bank.synonyms")
        self._synonym_starts = np.flatnonzero(np.diff(tensors["bank.synonym_classes"], prepend=-1))
        self._rows = restore_rows(tensors, "classes.rows")
        self.class_names = unpack_lines(tensors["bank.names"])
        self._directions: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def embed_text(self, text: str, weights: WeightsFile) -> EmbeddedText:
        """Embed a text in the space of ``weights``.

        It reads English, and at most the first 30 tokens. Text that is not understood has a vector
        too, which means little. Raises TextNotUnderstood if the text has no known token.
        """
        return self.embed_along(text, self.find_directions(weights))

    def embed_along(self, text: str, directions: NDArray[np.float32]) -> EmbeddedText:
        """Embed a text as ``embed_text`` does, with the result of ``find_directions``."""
        found = self.weigh_classes(text)
        vector = found.weights @ directions
        vector /= max(float(np.linalg.norm(vector)), 1e-12)
        return EmbeddedText(vector, found.understood)

    def find_directions(self, weights: WeightsFile) -> NDArray[np.float32]:
        """Return ``(classes, 512)`` float32: the classes' directions in the space of ``weights``.

        Those of the latest versions are kept. Weights whose projection cannot be read get the
        directions of the shipped ones.
        """
        with self._lock:
            if weights.version not in self._directions:
                projection = find_projection(weights)
                self._directions[weights.version] = compute_directions(self._rows, projection)
                if len(self._directions) > _VERSIONS_KEPT:
                    self._directions.popitem(last=False)
            return self._directions[weights.version]

    def weigh_classes(self, text: str) -> ClassWeights:
        """Return how much each class counts in the vector of a text, and how well it is understood.

        Raises TextNotUnderstood if the text has no known token.
        """
        encoded = self._network.encode(text)
        if encoded is None:
            raise TextNotUnderstood(
                "The text contains no known word. Describe in English what the image shows,"
                " for example: golden retriever."
            )
        nouns = self._read_nouns(text)
        similarity = self._compare_with_classes(encoded)
        scores = similarity + _RELATION_WEIGHT * nouns.relation
        weights = _soften(scores)
        understood = _rate_understanding(nouns, float(similarity.max()))
        return ClassWeights(weights, understood)

    def find_classes_under(self, phrase: str) -> list[int]:
        """Return the indices of the classes that are a kind of what the phrase means first."""
        senses = self._wordnet.find_senses(phrase)[:1]
        relation = self._wordnet.relate_classes([(sense, 1.0) for sense in senses])
        return [int(number) for number in np.flatnonzero(relation >= 1)]

    def _compare_with_classes(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(classes,)``: the mean cosine with what is written about each class."""
        written = self._texts @ encoded
        best_name = np.maximum.reduceat(self._synonyms @ encoded, self._synonym_starts)
        mean: NDArray[np.float32] = (written.sum(axis=0) + best_name) / (len(written) + 1)
        return mean

    def _read_nouns(self, text: str) -> _Nouns:
        """Relate the nouns in a text to the classes; a longer phrase counts more."""
        words = [word for word in split_words(text) if not self._wordnet.is_small(word)]
        senses = [
            (sense, phrase.words / len(words) * rank**-_RARITY)
            for phrase in list_phrases(words)
            for rank, sense in enumerate(self._wordnet.find_senses(phrase.text), 1)
        ]
        relation = self._wordnet.relate_classes(senses, _RELATION_POWER)
        known = [self._wordnet.knows_word(word) for word in words]
        return _Nouns(relation, float(np.mean(known)) if known else 0.0)


class _Nouns(NamedTuple):
    """``relation`` ``(classes,)`` and ``known``, the share of the words that exist, 0 to 1."""

    relation: NDArray[np.float32]
    known: float


def _soften(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of the best scores; the others become 0."""
    best = np.argpartition(-scores, _MOST_CLASSES)[:_MOST_CLASSES]
    weights = np.zeros_like(scores)
    powers = np.exp((scores[best] - scores.max()) / _TEMPERATURE)
    weights[best] = powers / powers.sum()
    return weights


def _rate_understanding(nouns: _Nouns, similarity: float) -> float:
    """Rate from 0 to 1 how well a text is understood.

    That is the share of its words that exist in English, times a logistic function of how near
    the nearest class is: by what is written about it, and by its place in WordNet.
    """
    evidence = similarity + _RELATION_EVIDENCE * float(nouns.relation.max())
    likelihood = 1 / (1 + np.exp((_LEAST_EVIDENCE - evidence) / _EVIDENCE_WIDTH))
    return float(nouns.known * likelihood)
