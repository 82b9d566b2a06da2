"""The interface between the service and a network: pixels in, embeddings of one version out."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile


class Embedder(Protocol):
    """A network that is ready to run. Implementations are thread-safe.

    ``model_version`` identifies the weights together with the preprocessing. Vectors of two
    versions must never be compared. ``calibration`` maps a distance to a probability; it is None
    if the weights were not calibrated.
    """

    model_version: str
    calibration: Calibration | None

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed ``(n, 224, 224, 3)`` uint8 RGB images, prepared by ``transforms.prepare_input``.

        Returns ``(n, 512)`` float32 with rows of length 1.
        """


def load_embedder(
    weights: WeightsFile | None = None,
    *,
    engine: Literal["openvino", "torch"] = "openvino",
    precision: str = "auto",
    slots: int = 1,
) -> Embedder:
    """Build the embedder for ``weights``, by default the shipped ones.

    ``precision`` (``auto``, ``bf16`` or ``f32``) and ``slots``, the number of images that are
    embedded concurrently, apply to OpenVINO only. Raises WeightsInvalid if the weights do not fit
    the network, and EngineMissing if PyTorch is chosen but not installed.
    """
    from models import engines

    loaded = weights or WeightsFile.load(DEFAULT_WEIGHTS)
    if engine == "torch":
        return engines.TorchEmbedder(loaded)
    return engines.OpenVinoEmbedder(loaded, slots=slots, precision=precision)
