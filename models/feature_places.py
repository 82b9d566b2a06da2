"""Splits the embedding of a convolutional network into parts, one for each place of its input."""

from __future__ import annotations

import threading

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.openvino_network import RequestPool, compile_model
from models.weights_file import WeightsFile

_SMALLEST = 1e-6  # that generalised mean pooling takes a root of, as in resnet.GeM


class FeaturePlaces:
    """The places of a network that ends in feature maps, pooling and a linear projection.

    Pooling is a sum over places, and so is what a linear projection makes of it. Generalised mean
    pooling is one too if each place counts with its share of what is pooled. So the product with
    another embedding gives the part of the similarity that each place has (Stylianou, Souvenir and
    Pless 2019, "Visualizing deep similarity networks", section 3.2). Thread-safe.
    """

    def __init__(
        self, features: ov.Model, weights: WeightsFile, *, precision: str, cores: int
    ) -> None:
        """``features`` maps an input to ``(1, channels, rows, columns)``.

        It is compiled when it is first used, which most processes never do.
        """
        self._features = features
        self._precision = precision
        self._cores = cores
        self._power = weights.gem_p if weights.pooling == "gem" else 1.0
        self._projection = weights.tensors["projection.weight"].astype(np.float32).T
        self._bias = weights.tensors["projection.bias"].astype(np.float32)
        self._lock = threading.Lock()
        self._requests: RequestPool | None = None

    def split_embedding(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._find_requests().borrow() as request:
            maps = request.infer({0: pixels[None]}, share_inputs=True)[0][0]
        channels, rows, columns = maps.shape
        places = maps.reshape(channels, rows * columns).T.astype(np.float32)
        shares = self._share(places) @ self._projection + self._bias / len(places)
        total: NDArray[np.float32] = shares.sum(axis=0)
        return (shares / np.linalg.norm(total)).reshape(rows, columns, -1)

    def _share(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what each of ``(places, channels)`` adds to the pooled features."""
        powers = np.maximum(places, _SMALLEST) ** self._power
        means = powers.mean(axis=0)
        shares: NDArray[np.float32] = powers / (len(places) * means ** (1 - 1 / self._power))
        return shares

    def _find_requests(self) -> RequestPool:
        with self._lock:
            if self._requests is None:
                compiled = compile_model(
                    self._features, self._precision, streams=1, threads=self._cores
                )
                self._requests = RequestPool(compiled, 1)
            return self._requests
