"""What the service needs of a model: pixels to embeddings under one model version."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile


class Embedder(Protocol):
    """Thread-safe. ``model_version`` names weights and preprocessing together; vectors of two versions never mix."""

    model_version: str
    calibration: Calibration | None  # from a distance to a probability, where the weights have one

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(n, 224, 224, 3)`` uint8 RGB, as models.transforms makes it -> ``(n, 512)`` float32, rows of length 1."""


def load_embedder(
    weights: WeightsFile | None = None,
    *,
    engine: Literal["openvino", "torch"] = "openvino",
    precision: str = "auto",
    slots: int = 1,
) -> Embedder:
    """The embedder for weights (the shipped ones by default). Raises WeightsInvalid, EngineMissing."""
    from models import engines

    loaded = weights or WeightsFile.load(DEFAULT_WEIGHTS)
    if engine == "torch":
        return engines.TorchEmbedder(loaded)
    return engines.OpenVinoEmbedder(loaded, slots=slots, precision=precision)
