"""The interface for texts: a text in, an embedding that is compared with those of images out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TextNotUnderstood(Exception):
    """A text encoder knows no word of a text. The message says what to do."""


class TextEncoder(Protocol):
    """Embeds texts into the space of an encoder's images. Implementations are thread-safe."""

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """Return the embedding of a text, ``(dimension,)`` float32 of length 1.

        A text that is too long is cut. Raises TextNotUnderstood.
        """
