"""Images to embeddings and thumbnails, with one slot per core around what burns CPU."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.metrics import Metrics
from app.services.loaded_models import Models
from models.imaging import Box, decode_image
from models.transforms import INPUT_SIDE, mirror_input, prepare_input


@dataclass(frozen=True)
class Picture:
    """A decoded image: ``pixels`` is the network's input, ``(224, 224, 3)`` uint8; sizes are the upright original's."""

    pixels: NDArray[np.uint8]
    mime: str
    extension: str
    width: int
    height: int


class Vision:
    def __init__(self, models: Models, slots: int, metrics: Metrics) -> None:
        self._models = models
        self._slots = threading.BoundedSemaphore(slots)
        self._metrics = metrics

    def read(self, file: BinaryIO, box: Box | None = None) -> Picture:
        """Decode all of the file. Raises ImageRejected."""
        with self._slots, self._metrics.stage("decode"):
            image = decode_image(file, min_side=INPUT_SIDE, box=box)
            return Picture(
                prepare_input(image.image), image.mime, image.extension, image.width, image.height
            )

    def embed(self, picture: Picture, version: str, *, mirror: bool = False) -> NDArray[np.float32]:
        """``(512,)`` float32 of length 1 under that model version; of the picture seen in a mirror if asked.

        Raises Unavailable if this process has not loaded the version.
        """
        pixels = mirror_input(picture.pixels) if mirror else picture.pixels
        embedder = self._models.embedder(version)
        with self._slots, self._metrics.stage("embed"):
            embedding: NDArray[np.float32] = embedder.embed(pixels[None])[0]
            return embedding

    def thumbnail(self, file: BinaryIO, size: int) -> bytes:
        """A JPEG that fits ``size`` x ``size`` pixels: upright, without metadata."""
        with self._slots, self._metrics.stage("thumbnail"):
            image = decode_image(file, min_side=size).image
            image.thumbnail((size, size))
            image.info.clear()  # comments would be written along
            output = io.BytesIO()
            image.save(output, "JPEG", quality=85)
            return output.getvalue()
