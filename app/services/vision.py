"""Decodes and embeds images, with a limit on how many are in work at the same time."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.metrics import Metrics
from app.services.loaded_models import LoadedModels
from models.imaging import Box, decode_image
from models.transforms import INPUT_SIDE, mirror_input, prepare_input

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class DecodedImage:
    """An image as the network's input; width and height are those of the upright original."""

    pixels: NDArray[np.uint8]  # (224, 224, 3), RGB
    mime: str
    extension: str  # without a dot
    width: int  # pixels
    height: int


class Vision:
    """Everything that needs a CPU core for an image: decoding, embedding, thumbnails."""

    def __init__(self, models: LoadedModels, slots: int, metrics: Metrics) -> None:
        """``slots`` is the number of images in work at the same time; further calls wait."""
        self._models = models
        self._slots = threading.BoundedSemaphore(slots)
        self._metrics = metrics

    def decode_image(self, file: BinaryIO, box: Box | None = None) -> DecodedImage:
        """Decode the whole file, or the part of the image in ``box``. Raises ImageRejected."""
        with self._slots, self._metrics.stage("decode"):
            decoded = decode_image(file, min_side=INPUT_SIDE, box=box)
            return DecodedImage(
                prepare_input(decoded.image),
                decoded.mime,
                decoded.extension,
                decoded.width,
                decoded.height,
            )

    def embed_image(
        self, image: DecodedImage, version: str, *, mirror: bool = False
    ) -> NDArray[np.float32]:
        """Return the embedding under that model version: ``(512,) float32`` of length 1.

        ``mirror`` embeds the mirrored image. Raises Unavailable if this process has not loaded the
        version.
        """
        pixels = mirror_input(image.pixels) if mirror else image.pixels
        embedder = self._models.find_embedder(version)
        with self._slots, self._metrics.stage("embed"):
            embedding: NDArray[np.float32] = embedder.embed(pixels[None])[0]
            return embedding

    def make_thumbnail(self, file: BinaryIO, size: int) -> bytes:
        """Return an upright JPEG of at most ``size`` x ``size`` pixels, without metadata.

        Raises ImageRejected.
        """
        with self._slots, self._metrics.stage("thumbnail"):
            image = decode_image(file, min_side=size).image
            image.thumbnail((size, size))
            image.info.clear()  # Pillow would write comments into the JPEG
            output = io.BytesIO()
            image.save(output, "JPEG", quality=_JPEG_QUALITY)
            return output.getvalue()
