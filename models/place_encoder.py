"""The interface of a network that embeds an image place by place."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PlaceEncoder(Protocol):
    """Embeds an image place by place. Implementations are thread-safe."""

    def split_embedding(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return ``(rows, columns, dimension)`` float32, which sums to the embedding.

        ``pixels`` is the ``(height, width, 3)`` uint8 input of the network. The places are the
        cells of a grid over it, from its top left. Their sum has length 1.
        """
