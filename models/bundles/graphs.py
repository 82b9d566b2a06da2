"""Reads the networks of a bundle, and adds preprocessing and normalisation to their graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops

from models.bundles.archive import Bundle
from models.bundles.manifest import TextTower, weights_of
from models.bundles.onnx_structure import check_onnx
from models.errors import BundleInvalid

_NOISE = ("Exception from", "Check '", "FrontEnd API", "Model wasn't", "Summary", "To facilitate")
_STATE = ("ReadValue", "Assign")
_NO_MEMORY = ("alloc", "failed to map", "Resource temporarily unavailable")  # at a memory limit


@contextmanager
def translate_failures(bundle: Bundle, file: str) -> Iterator[None]:
    """Raise BundleInvalid or MemoryError in place of what OpenVINO raises about a network."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(_NOISE)] or lines or ["no reason"]
        raise BundleInvalid(
            f"OpenVINO cannot run {file} of {bundle.path.name}: {' '.join(telling[:2])[:400]}."
            " Export the network again, with standard operators only."
        ) from error


def build_image_graph(bundle: Bundle) -> ov.Model:
    """Return the graph from ``(1, height, width, 3)`` uint8 RGB to ``(1, dimension)`` float32.

    Rows have length 1. Raises BundleInvalid if the network does not fit the manifest.
    """
    tower, dimension = bundle.manifest.image, bundle.manifest.dimension
    with translate_failures(bundle, tower.file):
        network = _read_stateless(bundle, tower.file)
        pixels = ops.parameter([1, tower.height, tower.width, 3], np.uint8, name="images")
        # float64 first, so that a scale of 1/255 yields the pixels exactly
        mean = (np.array(tower.mean) * 255).astype(np.float32)
        std = (np.array(tower.std) * 255).astype(np.float32)
        x = ops.divide(ops.subtract(ops.convert(pixels, np.float32), mean), std)
        if tower.layout == "NCHW":
            x = ops.transpose(x, np.array([0, 3, 1, 2]))
        _feed(bundle, tower.file, _find_port(network.inputs, tower.input), x)
        output = _pool(_find_port(network.outputs, tower.output), tower.pool)
        return _finish(bundle, tower.file, output, [pixels], dimension)


def build_text_graph(bundle: Bundle, tower: TextTower) -> ov.Model:
    """Return the graph from int64 ``(1, context_length)`` to ``(1, dimension)`` float32.

    Its inputs are the token ids, then the attention mask and the token types if the network has
    them. Raises BundleInvalid if the network does not fit the manifest.
    """
    with translate_failures(bundle, tower.file):
        network = _read_stateless(bundle, tower.file)
        inputs = tower.inputs
        parameters = []
        for port in (inputs.ids, inputs.mask, inputs.types):
            if port is not None:
                numbers = ops.parameter([1, tower.context_length], np.int64)
                _feed(bundle, tower.file, _find_port(network.inputs, port), numbers)
                parameters.append(numbers)
        output = _find_port(network.outputs, tower.output).get_node().input_value(0)
        return _finish(bundle, tower.file, output, parameters, bundle.manifest.dimension)


def _read_stateless(bundle: Bundle, file: str) -> ov.Model:
    network = _read_network(bundle, file)
    if any(node.get_type_name() in _STATE for node in network.get_ops()):
        raise BundleInvalid(
            f"{file} of {bundle.path.name} keeps a state from one input to the next. Export it"
            " without one."
        )
    return network


def _read_network(bundle: Bundle, file: str) -> ov.Model:
    """Read IR or ONNX from memory, so that nothing outside the bundle can be opened.

    No extension is loaded, so only OpenVINO's own operators exist.
    """
    content = bundle.read_file(file).tobytes()
    if file.endswith(".onnx"):
        check_onnx(content, file)
        return ov.Core().read_model(content)
    if not content.lstrip().startswith((b"<?xml", b"<net")):
        raise BundleInvalid(f"{file} of {bundle.path.name} is not OpenVINO IR. Export it again.")
    return ov.Core().read_model(content, ov.Tensor(bundle.read_file(weights_of(file))))


def _find_port(ports: list[Any], wanted: str | int) -> Any:
    """Return the input or output with that name or index. Raises ValueError."""
    if isinstance(wanted, int) and wanted < len(ports):
        return ports[wanted]
    for port in ports:
        if wanted in port.get_names():
            return port
    names = ", ".join(sorted(min(port.get_names(), default="(unnamed)") for port in ports))
    raise ValueError(f"it has no input or output {wanted}; it has {names}")


def _feed(bundle: Bundle, file: str, port: Any, source: Any) -> None:
    """Replace an input of the network. Raises BundleInvalid if the shapes differ."""
    given = source.output(0).get_partial_shape()
    if not port.get_partial_shape().compatible(given):
        raise BundleInvalid(
            f"{file} of {bundle.path.name} takes {port.get_partial_shape()}, but its manifest"
            f" says {given}. Correct the manifest."
        )
    converted = ops.convert(source, port.get_element_type())
    for target in port.get_target_inputs():
        target.replace_source_output(converted.output(0))


def _pool(port: Any, rule: str) -> Any:
    """Append the pooling of tokens or of feature maps. Raises ValueError."""
    output = port.get_node().input_value(0)
    if rule == "none":
        return output
    rank = output.get_partial_shape().rank
    if rule == "first" and rank == 3:
        return ops.gather(output, np.array(0), np.array(1)).output(0)
    if rule == "mean" and rank in (3, 4):
        axes = np.array([1] if rank == 3 else [2, 3])
        return ops.reduce_mean(output, axes).output(0)
    raise ValueError(f"its output {output.get_partial_shape()} does not fit `pool: {rule}`")


def _finish(
    bundle: Bundle, file: str, output: Any, parameters: list[Any], dimension: int
) -> ov.Model:
    vectors = ops.convert(output, np.float32)
    graph = ov.Model([vectors], parameters, "lookalike")
    shape = graph.output(0).get_partial_shape()
    if not shape.compatible(ov.PartialShape([1, dimension])):
        raise BundleInvalid(
            f"{file} of {bundle.path.name} yields {shape}, but its manifest says [1,{dimension}]."
            " Correct the dimension, the output or the pooling in the manifest."
        )
    vectors = ops.normalize_l2(vectors, np.array([1]), 1e-12, "max")
    return ov.Model([vectors], parameters, "lookalike")
