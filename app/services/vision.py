"""Decodes and embeds images, with a limit on how many are in work at the same time."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.errors import Conflict
from app.metrics import Metrics
from app.services.loaded_models import LoadedModels
from models.imaging import Box, decode_image
from models.transforms import Preprocessing, mirror_input

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class DecodedImage:
    """An image as the input of encoders; width and height are those of the upright original."""

    inputs: Mapping[str, NDArray[np.uint8]]  # (height, width, 3) RGB, by model version
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

    def decode_image(
        self, file: BinaryIO, box: Box | None = None, *, versions: Iterable[str] | None = None
    ) -> DecodedImage:
        """Decode the whole file, or the part of the image in ``box``, for the encoders named.

        ``versions`` None means all that are loaded. Raises ImageRejected, and Unavailable if this
        process has not loaded a version.
        """
        if versions is None:
            rules = {name: each.preprocessing for name, each in self._models.loaded.items()}
        else:
            rules = {name: self._models.find_embedder(name).preprocessing for name in versions}
        with self._slots, self._metrics.stage("decode"):
            prepared: dict[Preprocessing, NDArray[np.uint8]] = {}
            # A scaled decode changes pixels a little, so an encoder's input must not depend on
            # which others are loaded: there is one decode for each size.
            for side in {rule.min_side for rule in rules.values()} or {1}:
                decoded = decode_image(file, min_side=side, box=box)
                for rule in set(rules.values()):
                    if rule.min_side == side:
                        prepared[rule] = rule.prepare(decoded.image)
            inputs = {version: prepared[rule] for version, rule in rules.items()}
            return DecodedImage(
                inputs, decoded.mime, decoded.extension, decoded.width, decoded.height
            )

    def embed_image(
        self, image: DecodedImage, version: str, *, mirror: bool = False
    ) -> NDArray[np.float32]:
        """Return the embedding under that model version: ``(dimension,) float32`` of length 1.

        The image must have been decoded for the version. ``mirror`` embeds the mirrored image.
        Raises Unavailable if this process has not loaded the version, and Conflict if its network
        fails for this image.
        """
        embedder = self._models.find_embedder(version)
        pixels = image.inputs[version]
        pixels = mirror_input(pixels) if mirror else pixels
        with self._slots, self._metrics.stage("embed"):
            embedding: NDArray[np.float32] = embedder.embed(pixels[None])[0]
        check_finite(embedding, version)
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


def check_finite(embedding: NDArray[np.float32], version: str) -> None:
    """Raise Conflict if a network gave NaN or infinite numbers: they have no distance."""
    if not np.isfinite(embedding).all():
        detail = (
            f"The encoder {version} gives no valid vector for this input. Use another input, or"
            " change the encoder."
        )
        raise Conflict("not-embeddable", detail)
