"""The engines that run the network.

OpenVINO is the default on CPUs and needs no PyTorch. PyTorch runs the network on GPUs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
from numpy.typing import NDArray
from openvino.op import Constant

from models.errors import EngineMissing
from models.feature_places import FeaturePlaces
from models.openvino_network import CompiledNetwork
from models.place_encoder import PlaceEncoder
from models.text_encoder import TextEncoder
from models.transforms import INPUT_SIDE, PIXEL_MEAN, PIXEL_STD, Preprocessing
from models.weights_file import (
    BATCH_NORM_EPS,
    EMBEDDING_DIM,
    FEATURE_DIM,
    STAGES,
    WeightsFile,
    WeightsInvalid,
)

_MEAN = np.array(PIXEL_MEAN, dtype=np.float32) * 255
_STD = np.array(PIXEL_STD, dtype=np.float32) * 255
_FEATURES = "features"  # the node that yields the feature maps


def build_graph(weights: WeightsFile) -> ov.Model:
    """Build the OpenVINO graph from ``(n, 224, 224, 3)`` uint8 to ``(n, 512)`` float32.

    Batch normalisation is folded into the convolutions. Weights without a projection yield the
    pooled ``(n, 2048)`` features, normalised. Quantized weights contain their graph, which is
    returned as it is. Raises WeightsInvalid if that graph is unreadable or has other shapes.
    """
    if weights.is_quantized:
        return _read_quantized_graph(weights)
    pixels = ops.parameter([-1, INPUT_SIDE, INPUT_SIDE, 3], np.uint8, name="images")
    x = ops.divide(ops.subtract(ops.convert(pixels, np.float32), _MEAN), _STD)
    x = ops.transpose(x, np.array([0, 3, 1, 2]))
    x = _backbone(x, weights.tensors)
    x.set_friendly_name(_FEATURES)
    x = _pool(x, weights)
    if weights.has_projection:
        projection = _constant(weights.tensors["projection.weight"].astype(np.float32))
        bias = _constant(weights.tensors["projection.bias"].astype(np.float32))
        x = ops.add(ops.matmul(x, projection, False, True), bias)
    x = ops.normalize_l2(x, np.array([1]), 1e-12, "max")
    return ov.Model([x], [pixels], "lookalike")


def find_feature_graph(graph: ov.Model) -> ov.Model | None:
    """Return the part of a graph up to the feature maps ``(n, 2048, 7, 7)`` that are pooled.

    It has the same constants in memory. Returns None if the graph does not name its feature maps.
    """
    for node in graph.get_ops():
        if node.get_friendly_name() == _FEATURES:
            return ov.Model([node.output(0)], graph.get_parameters(), "lookalike features")
    return None


def _backbone(x: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Append ResNet-50 up to its last feature maps (He et al. 2015, table 1)."""

    def conv(x: Any, conv_name: str, norm_name: str, stride: int, padding: int) -> Any:
        kernel = tensors[f"{conv_name}.weight"].astype(np.float32)  # a copy
        gamma, beta, mean, variance = (
            tensors[f"{norm_name}.{part}"].astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPS)
        bias = beta - mean * scale
        kernel *= scale[:, None, None, None]
        y = ops.convolution(
            x, _constant(kernel), [stride, stride], [padding, padding], [padding, padding], [1, 1]
        )
        return ops.add(y, _constant(bias.reshape(1, -1, 1, 1)))

    x = ops.relu(conv(x, "conv1", "bn1", 2, 3))
    x = ops.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    for stage, blocks in enumerate(STAGES, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride, 0)
            y = ops.relu(conv(x, f"{name}.conv1", f"{name}.bn1", stride, 0))
            y = ops.relu(conv(y, f"{name}.conv2", f"{name}.bn2", 1, 1))
            y = conv(y, f"{name}.conv3", f"{name}.bn3", 1, 0)
            x = ops.relu(ops.add(y, shortcut))
    return x


def _pool(x: Any, weights: WeightsFile) -> Any:
    """Append the pooling that the weights name: average, or generalised mean (see resnet.GeM)."""
    if weights.pooling != "gem":
        return ops.reduce_mean(x, np.array([2, 3]))
    p = np.float32(weights.gem_p)
    x = ops.power(ops.maximum(x, np.float32(1e-6)), p)
    return ops.power(ops.reduce_mean(x, np.array([2, 3])), np.float32(1 / p))


def _read_quantized_graph(weights: WeightsFile) -> ov.Model:
    xml, constants = weights.tensors["openvino.xml"], weights.tensors["openvino.bin"]
    try:
        graph = ov.Core().read_model(xml.tobytes(), ov.Tensor(np.array(constants)))
        shapes = [str(port.get_partial_shape()) for port in (graph.input(0), graph.output(0))]
        single = len(graph.inputs) == len(graph.outputs) == 1
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise WeightsInvalid(
            f"OpenVINO cannot read the graph in {weights.source} ({reason}). Restore the file or"
            " quantize the network again."
        ) from error
    expected = [f"[?,{INPUT_SIDE},{INPUT_SIDE},3]", f"[?,{EMBEDDING_DIM}]"]
    if not single or shapes != expected:
        raise WeightsInvalid(
            f"{weights.source} contains a different network: it maps {shapes[0]} to {shapes[1]},"
            f" but {expected[0]} to {expected[1]} is needed."
        )
    return graph


def _constant(values: NDArray[np.float32]) -> Any:
    # The operators accept an array too, but convert it by way of a Python list, which is slow.
    return Constant(np.ascontiguousarray(values), shared_memory=False)


class OpenVinoEmbedder:
    """Runs the network in OpenVINO on the CPU. Thread-safe.

    All threads share one compiled model with ``slots`` inference requests, and another one that
    embeds a single image on all cores.
    """

    text: TextEncoder | None = None

    def __init__(self, weights: WeightsFile, *, slots: int, precision: str = "auto") -> None:
        """Compile the network with ``precision`` ``bf16``, ``f32`` or ``auto``.

        ``auto`` is bf16 if the CPU supports it and f32 otherwise. Raises WeightsInvalid.
        """
        weights.validate()
        self.preprocessing: Preprocessing = weights.find_preprocessing()
        self.model_version = weights.version
        self.calibration = weights.calibration
        graph = build_graph(weights)
        graph.reshape([1, INPUT_SIDE, INPUT_SIDE, 3])
        self._network = CompiledNetwork(graph, slots=slots, precision=precision)
        self.dimension = EMBEDDING_DIM if weights.has_projection else FEATURE_DIM
        self.precision = self._network.precision
        features = find_feature_graph(graph)
        self.places: PlaceEncoder | None = None
        if features is not None and "projection.weight" in weights.tensors:
            self.places = FeaturePlaces(features, weights, precision=precision, cores=slots)

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        """Embed ``(n, 224, 224, 3)`` uint8 RGB images as ``(n, 512)`` float32, rows of length 1.

        Waits for a free slot, then embeds the images one after the other, each on one core or on
        all of them. Weights without a projection yield ``(n, 2048)``.
        """
        return self._network.infer_images(images, self.dimension, all_cores=all_cores)

    def prepare_all_cores(self) -> None:
        """Compile now what embeds an image on all cores; otherwise its first use starts that."""
        self._network.prepare_all_cores()


class TorchEmbedder:
    """Runs the network in PyTorch (the extra ``torch``), on a GPU if there is one. Thread-safe."""

    text: TextEncoder | None = None
    places: PlaceEncoder | None = None

    def __init__(self, weights: WeightsFile, *, device: str = "auto") -> None:
        """Load the network onto ``device``: ``cpu``, ``cuda`` or ``auto``.

        Raises EngineMissing if PyTorch is not installed, and WeightsInvalid for weights that only
        OpenVINO can run: quantized ones and those without a projection.
        """
        try:
            import torch

            from models.resnet import EmbeddingNetwork
        except ImportError as error:
            raise EngineMissing(
                f"The engine torch needs PyTorch, which is not installed ({error})."
                " In the source directory, run: pip install '.[torch]'"
            ) from error

        weights.validate()
        if not weights.has_projection or weights.is_quantized:
            kind = "is quantized to int8" if weights.is_quantized else "has no projection"
            raise WeightsInvalid(
                f"{weights.source} {kind}, so PyTorch cannot run it. Use the engine openvino."
            )
        self.preprocessing: Preprocessing = weights.find_preprocessing()
        self.model_version = weights.version
        self.calibration = weights.calibration
        self.dimension = EMBEDDING_DIM
        self._torch = torch
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self._network = EmbeddingNetwork.from_weights(weights).to(device)

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        """Embed ``(n, 224, 224, 3)`` uint8 RGB images as ``(n, 512)`` float32, rows of length 1.

        All images form one batch. PyTorch itself divides the work; ``all_cores`` changes nothing.
        """
        with self._torch.inference_mode():
            writable = np.array(images)  # torch warns about read-only arrays
            batch = self._torch.from_numpy(writable).to(self.device)
            embeddings: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return embeddings
