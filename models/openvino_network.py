"""Compiled OpenVINO graphs that several threads use at the same time."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from storage.cores import available_cores

_log = logging.getLogger("lookalike.models")


class RequestPool:
    """The inference requests of a compiled graph, for as many threads at the same time."""

    def __init__(self, compiled: ov.CompiledModel, slots: int) -> None:
        self.compiled = compiled
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
    wait for a free one. ``all_cores`` is the same graph for one image at a time, on ``slots``
    cores; None if there is only one. ``precision`` is what the CPU computes with: ``bf16`` or
    ``f32``.
    """

    def __init__(self, graph: ov.Model, *, slots: int, precision: str) -> None:
        """Compile for ``precision`` ``bf16``, ``f32`` or ``auto``.

        ``auto`` is bf16 if the CPU supports it and f32 otherwise. Raises RuntimeError.
        """
        compiled = compile_model(graph, precision, streams=slots, threads=slots)
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.requests = RequestPool(compiled, slots)
        cores = min(slots, available_cores())
        self.all_cores = AllCores(graph, precision, cores) if cores > 1 else None

    def infer_images(
        self, images: NDArray[np.uint8], dimension: int, *, all_cores: bool = False
    ) -> NDArray[np.float32]:
        """Run ``(n, height, width, 3)`` images one after the other; return ``(n, dimension)``.

        They run on one core, or on all of them with ``all_cores``, once that has been compiled.
        """
        result = np.empty((len(images), dimension), dtype=np.float32)
        with self._choose_requests(all_cores).borrow() as request:
            for row, image in enumerate(images):
                outputs = request.infer({0: image[None]}, share_inputs=True, share_outputs=True)
                result[row] = outputs[0][0]
        return result

    def prepare_all_cores(self) -> None:
        """Wait until images can run on all cores, which otherwise is compiled when first used.

        Raises RuntimeError, MemoryError.
        """
        if self.all_cores is not None:
            self.all_cores.wait()

    def _choose_requests(self, all_cores: bool) -> RequestPool:
        if not all_cores or self.all_cores is None:
            return self.requests
        return self.all_cores.find_requests() or self.requests


class AllCores:
    """A graph compiled to run one image on several cores. Thread-safe.

    A thread compiles it when it is first used, so that the process does not start more slowly, and
    takes no more memory if it is never used. Should that fail, images keep running on one core.
    OpenVINO shares the graph's constants with the model that is compiled already, but not what it
    makes of them for its kernels.
    """

    def __init__(self, graph: ov.Model, precision: str, cores: int) -> None:
        self._graph = graph
        self._precision = precision
        self._cores = cores
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self.requests: RequestPool | None = None  # a single one

    def find_requests(self) -> RequestPool | None:
        """Return the request; None until it is compiled, which the first call begins."""
        if self.requests is None:
            self._start_thread()
        return self.requests

    def wait(self) -> None:
        """Wait until it is compiled. Raises RuntimeError, MemoryError."""
        self._start_thread().join()
        if self._failure is not None:
            raise self._failure

    def _start_thread(self) -> threading.Thread:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._compile, name="compile for all cores")
                self._thread.start()
            return self._thread

    def _compile(self) -> None:
        try:
            compiled = compile_model(self._graph, self._precision, streams=1, threads=self._cores)
            requests = RequestPool(compiled, 1)
            with requests.borrow() as request:
                request.infer()  # the first inference is slow
            self.requests = requests
        except (RuntimeError, MemoryError) as error:
            self._failure = error
            _log.warning("images that are alone are embedded on one core: %s", error)


def compile_model(
    graph: ov.Model, precision: str, *, streams: int, threads: int
) -> ov.CompiledModel:
    """Compile for ``streams`` images at a time on ``threads`` cores. Raises RuntimeError."""
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if streams == threads else "LATENCY",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
    }
    if precision != "auto":
        config["INFERENCE_PRECISION_HINT"] = precision
    return ov.Core().compile_model(graph, "CPU", config)
