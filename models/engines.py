"""The engines that run the network: OpenVINO (the CPU default, needs no PyTorch) and PyTorch (GPU, training)."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
from numpy.typing import NDArray
from openvino.op import Constant

from models.transforms import INPUT_SIDE
from models.weights_file import (
    BATCH_NORM_EPS,
    EMBEDDING_DIM,
    FEATURE_DIM,
    STAGES,
    WeightsFile,
    WeightsInvalid,
)

_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32) * 255


class EngineMissing(Exception):
    """The library of the engine asked for is not installed; the message says how to."""


def build_graph(weights: WeightsFile) -> ov.Model:
    """The OpenVINO graph ``(n, 224, 224, 3)`` uint8 -> ``(n, 512)`` float32, batch norms folded into convolutions.

    Of a backbone alone: ``(n, 2048)``, what it pools; of int8 weights: as it was quantised. Raises WeightsInvalid.
    """
    if weights.quantised:
        return _quantised_graph(weights)
    tensors = weights.tensors

    def conv(x: Any, conv_name: str, norm_name: str, stride: int, padding: int) -> Any:
        kernel = tensors[f"{conv_name}.weight"].astype(np.float32)
        gamma, beta, mean, variance = (
            tensors[f"{norm_name}.{part}"].astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPS)
        bias = beta - mean * scale
        folded = _constant(kernel * scale[:, None, None, None])
        y = ops.convolution(
            x, folded, [stride, stride], [padding, padding], [padding, padding], [1, 1]
        )
        return ops.add(y, _constant(bias.reshape(1, -1, 1, 1)))

    pixels = ops.parameter([-1, INPUT_SIDE, INPUT_SIDE, 3], np.uint8, name="images")
    x = ops.divide(ops.subtract(ops.convert(pixels, np.float32), _MEAN), _STD)
    x = ops.transpose(x, np.array([0, 3, 1, 2]))
    x = ops.relu(conv(x, "conv1", "bn1", 2, 3))
    x = ops.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    for stage, blocks in enumerate(STAGES, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = (
                conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride, 0)
                if block == 0
                else x
            )
            y = ops.relu(conv(x, f"{name}.conv1", f"{name}.bn1", stride, 0))
            y = ops.relu(conv(y, f"{name}.conv2", f"{name}.bn2", 1, 1))
            y = conv(y, f"{name}.conv3", f"{name}.bn3", 1, 0)
            x = ops.relu(ops.add(y, shortcut))
    if weights.pooling == "gem":
        p = np.float32(weights.gem_p)
        x = ops.power(ops.maximum(x, np.float32(1e-6)), p)
        x = ops.power(ops.reduce_mean(x, np.array([2, 3])), np.float32(1 / p))
    else:
        x = ops.reduce_mean(x, np.array([2, 3]))
    if weights.projected:
        projection = _constant(tensors["projection.weight"].astype(np.float32))
        x = ops.add(
            ops.matmul(x, projection, False, True),
            _constant(tensors["projection.bias"].astype(np.float32)),
        )
    x = ops.normalize_l2(x, np.array([1]), 1e-12, "max")
    return ov.Model([x], [pixels], "lookalike")


def _quantised_graph(weights: WeightsFile) -> ov.Model:
    xml, constants = weights.tensors["openvino.xml"], weights.tensors["openvino.bin"]
    try:
        graph = ov.Core().read_model(xml.tobytes(), ov.Tensor(np.array(constants)))
        shapes = [str(port.get_partial_shape()) for port in (graph.input(0), graph.output(0))]
        single = len(graph.inputs) == len(graph.outputs) == 1
    except RuntimeError as error:
        raise WeightsInvalid(
            f"{weights.source} holds no graph that OpenVINO reads: {str(error).splitlines()[0]}"
        ) from error
    if (
        not single
        or shapes[0] != f"[?,{INPUT_SIDE},{INPUT_SIDE},3]"
        or shapes[1] != f"[?,{EMBEDDING_DIM}]"
    ):
        raise WeightsInvalid(
            f"{weights.source} holds another network, from {shapes[0]} to {shapes[1]}"
        )
    return graph


def _constant(values: NDArray[np.float32]) -> Any:
    """Without the detour over a Python list that the operators themselves take for an array."""
    return Constant(np.ascontiguousarray(values), shared_memory=False)


class OpenVinoEmbedder:
    """One compiled model, shared by all threads; each of ``slots`` concurrent calls owns one inference request and core."""

    def __init__(self, weights: WeightsFile, *, slots: int, precision: str = "auto") -> None:
        """``precision``: ``auto`` (bf16 where the CPU has it, else f32), ``bf16`` or ``f32``."""
        weights.check()
        self.model_version = weights.version
        self.calibration = weights.calibration
        core = ov.Core()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": slots,
            "INFERENCE_NUM_THREADS": slots,
        }
        if precision != "auto":
            config["INFERENCE_PRECISION_HINT"] = precision
        graph = build_graph(weights)
        graph.reshape([1, INPUT_SIDE, INPUT_SIDE, 3])
        compiled = core.compile_model(graph, "CPU", config)
        self._dimensions = EMBEDDING_DIM if weights.projected else FEATURE_DIM
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._requests: queue.LifoQueue[ov.InferRequest] = queue.LifoQueue()
        for _ in range(slots):
            self._requests.put(compiled.create_infer_request())

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(n, 224, 224, 3)`` uint8 RGB -> ``(n, 512)`` float32, rows of length 1. Waits for a free slot."""
        result = np.empty((len(images), self._dimensions), dtype=np.float32)
        request = self._requests.get()
        try:
            for row, image in enumerate(images):
                result[row] = request.infer(
                    {0: image[None]}, share_inputs=True, share_outputs=True
                )[0][0]
        finally:
            self._requests.put(request)
        return result


class TorchEmbedder:
    """The network run by PyTorch (the extra ``torch``), on a GPU where there is one."""

    def __init__(self, weights: WeightsFile, *, device: str = "auto") -> None:
        try:
            import torch

            from models.resnet import EmbeddingNetwork
        except ImportError as error:
            raise EngineMissing(
                f"the engine torch needs PyTorch ({error}): pip install -e '.[torch]'"
            ) from error

        weights.check()
        if not weights.projected or weights.quantised:
            kind = "int8" if weights.quantised else "a backbone alone"
            raise WeightsInvalid(f"{weights.source} is {kind}: the engine openvino runs it")
        self.model_version = weights.version
        self.calibration = weights.calibration
        self._torch = torch
        self.device = (
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
        self._network = EmbeddingNetwork.from_weights(weights).to(self.device)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(n, 224, 224, 3)`` uint8 RGB -> ``(n, 512)`` float32, rows of length 1."""
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(np.array(images)).to(
                self.device
            )  # a copy: torch wants it writable
            embeddings: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return embeddings
