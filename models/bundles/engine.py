"""Runs the networks of a bundle in OpenVINO."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.bundles.archive import Bundle
from models.bundles.framing import Framing
from models.bundles.graphs import build_image_graph, translate_failures
from models.bundles.texts import BundleTextEncoder
from models.openvino_network import CompiledNetwork
from models.place_encoder import PlaceEncoder
from models.text_encoder import TextEncoder
from models.transforms import Preprocessing


class BundleEmbedder:
    """An encoder from a bundle, on the CPU. Thread-safe.

    The network may be anything: only a bundle that ``check_bundle`` accepted should be loaded into
    a service's process.
    """

    def __init__(self, bundle: Bundle, *, slots: int, precision: str = "auto") -> None:
        """Compile the networks with ``precision`` ``bf16``, ``f32`` or ``auto``.

        ``auto`` is bf16 if the CPU supports it and f32 otherwise. Raises BundleInvalid.
        """
        manifest = bundle.manifest
        self.model_version = bundle.version
        self.dimension = manifest.dimension
        self.calibration = manifest.as_calibration()
        self.preprocessing: Preprocessing = Framing(manifest.image)
        graph = build_image_graph(bundle)
        with translate_failures(bundle, manifest.image.file):
            self._network = CompiledNetwork(graph, slots=slots, precision=precision)
        self.precision = self._network.precision
        self.bundle_text = (
            None
            if manifest.text is None
            else BundleTextEncoder(bundle, manifest.text, slots=slots, precision=precision)
        )
        self.text: TextEncoder | None = self.bundle_text
        self.places: PlaceEncoder | None = None

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        """Embed ``(n, height, width, 3)`` uint8 RGB images as ``(n, dimension)`` float32.

        Rows have length 1. Waits for a free slot, then embeds the images one after the other, each
        on one core or on all of them.
        """
        return self._network.infer_images(images, self.dimension, all_cores=all_cores)

    def prepare_all_cores(self) -> None:
        """Compile now what embeds an image on all cores; otherwise its first use starts that."""
        self._network.prepare_all_cores()
