"""The interface between the service and a network: pixels in, embeddings of one version out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundles.archive import Bundle, is_bundle, read_bundle
from models.calibration import Calibration
from models.errors import EncoderInvalid
from models.place_encoder import PlaceEncoder
from models.text_encoder import TextEncoder
from models.transforms import Preprocessing
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

Encoder = WeightsFile | Bundle
"""An encoder as a file: the weights of the ResNet, or a bundle. Both have a ``version``."""


class Embedder(Protocol):
    """A network that is ready to run. Implementations are thread-safe.

    ``model_version`` identifies the networks together with the preprocessing. Vectors of two
    versions must never be compared; they may have different dimensions. ``calibration`` maps a
    distance to a probability; it is None if the encoder was not calibrated. ``text`` is None
    unless the network embeds texts too, and ``places`` unless it can embed place by place.
    """

    model_version: str
    dimension: int
    preprocessing: Preprocessing
    calibration: Calibration | None
    text: TextEncoder | None
    places: PlaceEncoder | None

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        """Embed ``(n, height, width, 3)`` uint8 RGB images, made by ``preprocessing.prepare``.

        Returns ``(n, dimension)`` float32 with rows of length 1. ``all_cores`` says that nothing
        else needs the cores of this process: an image is then embedded sooner. The vectors differ
        at most by rounding.
        """


def read_encoder(path: Path) -> Encoder:
    """Read a bundle or a weights file. Raises EncoderInvalid."""
    try:
        if is_bundle(path):
            return read_bundle(path)
    except OSError as error:
        raise EncoderInvalid(
            f"The encoder {path} cannot be read ({error.strerror}). Check the path and its"
            " permissions."
        ) from error
    return WeightsFile.load(path)


def load_embedder(
    encoder: Encoder | None = None,
    *,
    engine: Literal["openvino", "torch"] = "openvino",
    precision: str = "auto",
    slots: int = 1,
) -> Embedder:
    """Build the embedder for an encoder, by default for the shipped weights.

    ``precision`` (``auto``, ``bf16`` or ``f32``) and ``slots``, the number of images that are
    embedded concurrently, apply to OpenVINO only, which runs every bundle. Raises EncoderInvalid
    if the files do not fit the network, and EngineMissing if PyTorch is chosen but not installed.
    """
    if isinstance(encoder, Bundle):
        from models.bundles.engine import BundleEmbedder

        return BundleEmbedder(encoder, slots=slots, precision=precision)
    from models import engines

    loaded = encoder or WeightsFile.load(DEFAULT_WEIGHTS)
    if engine == "torch":
        return engines.TorchEmbedder(loaded)
    return engines.OpenVinoEmbedder(loaded, slots=slots, precision=precision)
