"""Measures how well an encoder's texts find its images, with the names of classes as queries."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from models.embedder import Embedder, Encoder
from models.evaluate import RankingMetrics, Vectors, rank_gallery
from models.text_encoder import TextNotUnderstood
from models.weights_file import WeightsFile

TOP = 10  # hits that P@10 and R@10 count
_SPLITS = {"train", "val", "validation", "test"}


def name_class(label: str, *, coarse: bool = False) -> str:
    """Turn the folder of a class into words: ``test/Red-Beet`` becomes ``red beet``.

    ``coarse`` takes the first level of folders, not the last.
    """
    levels = [level for level in label.split("/") if level not in _SPLITS] or [label]
    return re.sub(r"[_-]+", " ", levels[0 if coarse else -1]).lower().strip()


def find_text_embedder(encoder: Encoder, embedder: Embedder) -> Callable[[str], Vectors] | None:
    """Return what embeds texts in the space of an encoder, or None if nothing does.

    This is the encoder's own text tower, or the built-in words for weights of the ResNet. The
    function returns ``(dimension,)`` float32 of length 1, and may raise TextNotUnderstood.
    """
    if embedder.text is not None:
        return embedder.text.embed_text
    if not isinstance(encoder, WeightsFile) or not encoder.has_projection:
        return None
    from models.words.look_words import LookWords  # it reads 31 MB

    words = LookWords()
    return lambda text: words.embed_text(text, encoder).vector


def rank_names(
    names: list[str], queries: Vectors, gallery: Vectors, gallery_names: list[str]
) -> RankingMetrics:
    """Rank the gallery for each name, which must occur in it, by exact cosine similarity.

    ``queries`` is ``(n, dimension)`` and ``gallery`` ``(g, dimension)`` float32, rows of length 1.
    The metrics are ``p10``, the share of matches among the first ten hits, ``r10`` and ``map``.
    """
    ranked = rank_gallery(queries, names, gallery, gallery_names, leave_out=False, keep=TOP)
    matches = np.array(gallery_names)[ranked.top_hits] == np.array(names)[:, None]
    metrics = {
        "p10": matches.mean(axis=1),
        **{key: ranked.per_query[key] for key in ("r10", "map")},
    }
    return RankingMetrics(ranked.queries, ranked.top_hits, metrics)


def score_names(
    embed: Callable[[str], Vectors], gallery: Vectors, labels: list[str]
) -> RankingMetrics:
    """Search the gallery for the name of each of its classes. A name not understood scores 0."""
    gallery_names = [name_class(label) for label in labels]
    names = sorted(set(gallery_names))
    queries, unknown = np.zeros((len(names), gallery.shape[1]), np.float32), []
    for number, name in enumerate(names):
        try:
            queries[number] = embed(name)
        except TextNotUnderstood:
            unknown.append(number)
    ranked = rank_names(names, queries, gallery, gallery_names)
    for values in ranked.per_query.values():
        values[unknown] = 0
    return ranked
