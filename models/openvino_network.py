"""Compiled OpenVINO graphs that several threads use at the same time."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray


class RequestPool:
    """The inference requests of a compiled graph, for as many threads at the same time."""

    def __init__(self, compiled: ov.CompiledModel, slots: int) -> None:
        self._requests: queue.LifoQueue[ov.InferRequest] = queue.LifoQueue()
        for _ in range(slots):
            self._requests.put(compiled.create_infer_request())

    @contextmanager
    def borrow(self) -> Iterator[ov.InferRequest]:
        """Wait for a free inference request and yield it."""
        request = self._requests.get()
        try:
            yield request
        finally:
            self._requests.put(request)


class CompiledNetwork:
    """A graph on the CPU. Thread-safe.

    ``requests`` are its ``slots`` inference requests, each of which runs on one core; further calls
    wait for a free one. ``precision`` is what the CPU computes with: ``bf16`` or ``f32``.
    """

    def __init__(self, graph: ov.Model, *, slots: int, precision: str) -> None:
        """Compile for ``precision`` ``bf16``, ``f32`` or ``auto``.

        ``auto`` is bf16 if the CPU supports it and f32 otherwise. Raises RuntimeError.
        """
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": slots,
            "INFERENCE_NUM_THREADS": slots,
        }
        if precision != "auto":
            config["INFERENCE_PRECISION_HINT"] = precision
        compiled = ov.Core().compile_model(graph, "CPU", config)
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.requests = RequestPool(compiled, slots)

    def infer_images(self, images: NDArray[np.uint8], dimension: int) -> NDArray[np.float32]:
        """Run ``(n, height, width, 3)`` images one after the other; return ``(n, dimension)``."""
        result = np.empty((len(images), dimension), dtype=np.float32)
        with self.requests.borrow() as request:
            for row, image in enumerate(images):
                outputs = request.infer({0: image[None]}, share_inputs=True, share_outputs=True)
                result[row] = outputs[0][0]
        return result
