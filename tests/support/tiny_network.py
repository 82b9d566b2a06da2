"""A network that costs almost nothing, for every test whose subject is not the network.

It behaves like the real network where the service depends on it: 512 floats of length 1 per image,
similar images close together, and different vectors under every model version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

import app.bootstrap
import app.given_model
from models.transforms import PREPROCESSING_ID
from models.weights_file import EMBEDDING_DIM, FEATURE_DIM, WeightsFile

if TYPE_CHECKING:
    from app.settings import Settings
    from models.embedder import Embedder, Encoder

_SIDE = 8  # pixels; the network averages its input over a grid of 8 x 8 cells
_INPUTS = _SIDE * _SIDE * 3


def tiny_weights(name: str) -> bytes:
    """Return a weights file of 1 MB whose bytes, and so its version, depend on ``name`` alone.

    The name is in the tensor, because safetensors writes metadata entries in random order.
    """
    projection = np.zeros((EMBEDDING_DIM, FEATURE_DIM), dtype=np.int8)
    projection[0, : len(name)] = list(name.encode("ascii"))
    return save({"projection.weight": projection}, metadata={"preprocessing": PREPROCESSING_ID})


class TinyNetwork:
    """Embeds an image as the colours of its cells, rotated by a matrix drawn from the version."""

    calibration = None
    dimension = EMBEDDING_DIM
    text = None
    places = None

    def __init__(self, weights: WeightsFile) -> None:
        self.model_version = weights.version
        self.preprocessing = weights.find_preprocessing()
        draw = np.random.default_rng(list(weights.version.encode()))
        square = draw.standard_normal((EMBEDDING_DIM, _INPUTS))
        self._rotation = np.linalg.qr(square)[0].astype(np.float32)

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        """Map ``(n, 224, 224, 3)`` uint8 pixels to ``(n, 512)`` float32 vectors of length 1."""
        cells = images.reshape(len(images), _SIDE, 28, _SIDE, 28, 3).mean(axis=(2, 4))
        colours = cells.reshape(len(images), _INPUTS).astype(np.float32)
        # Only differences from the mean count; the 1.0 keeps a plain grey image from becoming 0.
        colours += 1.0 - colours.mean(axis=1, keepdims=True)
        vectors: NDArray[np.float32] = colours @ self._rotation.T
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def is_tiny(weights: WeightsFile) -> bool:
    """Report whether a weights file was made by ``tiny_weights``."""
    return {name: tensor.dtype for name, tensor in weights.tensors.items()} == {
        "projection.weight": np.int8
    }


def accept_tiny_weights() -> None:
    """Let this process serve tiny weights; other encoders still load their real networks."""
    build_real = app.bootstrap.build_embedder

    def build(settings: Settings, encoder: Encoder) -> Embedder:
        if isinstance(encoder, WeightsFile) and is_tiny(encoder):
            return TinyNetwork(encoder)
        return build_real(settings, encoder)

    # The model of the start, and those that the registry adds.
    app.given_model.build_embedder = app.bootstrap.build_embedder = build
