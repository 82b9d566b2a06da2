"""Shows which places of two images make their embeddings alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from models.place_encoder import PlaceEncoder

CELLS = 4  # a side of the grid whose cells are covered one after the other
Method = Literal["activation", "occlusion"]


@dataclass(frozen=True)
class Attribution:
    """What the places of two images add to their similarity.

    ``grids`` has for each image ``(rows, columns)`` float32 from the top left of its input. By
    ``activation`` either grid sums to the similarity. By ``occlusion`` a cell has the similarity
    that is lost if it is covered.
    """

    method: Method
    similarity: float  # cosine of the two embeddings, -1 to 1
    grids: tuple[NDArray[np.float32], NDArray[np.float32]]


def attribute_similarity(
    embedder: Embedder, one: NDArray[np.uint8], other: NDArray[np.uint8], *, all_cores: bool = False
) -> Attribution:
    """Compare two ``(height, width, 3)`` uint8 inputs of an encoder place by place."""
    if embedder.places is not None:
        return _multiply_places(embedder.places, one, other)
    return _cover_cells(embedder, one, other, all_cores=all_cores)


def _multiply_places(
    encoder: PlaceEncoder, one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> Attribution:
    places = encoder.split_embedding(one), encoder.split_embedding(other)
    first, second = (each.sum(axis=(0, 1)) for each in places)
    grids = places[0] @ second, places[1] @ first
    return Attribution("activation", float(first @ second), grids)


def _cover_cells(
    embedder: Embedder, one: NDArray[np.uint8], other: NDArray[np.uint8], *, all_cores: bool
) -> Attribution:
    """Embed each image again with one cell of a grid covered by its mean colour.

    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.
    """
    images = [[pixels, *_cover_each(pixels)] for pixels in (one, other)]
    # One at a time, because an embedder may run a batch at once.
    vectors = [
        np.concatenate([embedder.embed(each[None], all_cores=all_cores) for each in some])
        for some in images
    ]
    similarity = float(vectors[0][0] @ vectors[1][0])
    losses = [similarity - vectors[side][1:] @ vectors[1 - side][0] for side in (0, 1)]
    first, second = (loss.reshape(CELLS, CELLS).astype(np.float32) for loss in losses)
    return Attribution("occlusion", similarity, (first, second))


def _cover_each(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    height, width, _ = pixels.shape
    colour = pixels.mean(axis=(0, 1)).astype(np.uint8)
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in (height, width))
    for row in range(CELLS):
        for column in range(CELLS):
            covered = pixels.copy()
            covered[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = colour
            yield covered
