"""Loads weights files for the command line; exports and quantizes them."""

from __future__ import annotations

from pathlib import Path

from app.cli.console import on_interrupt, out, show_stages
from app.cli.quantizing import show_quantized
from models.bundles.archive import is_bundle
from models.bundles.check import check_bundle
from models.embedder import Encoder
from models.export import Format, export_network
from models.labelled_images import find_image_files
from models.quantizing import quantize_network
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid, write_restated


def load_weights(model: str) -> WeightsFile:
    """Load a weights file, or the shipped weights for "default". Raises WeightsInvalid."""
    return WeightsFile.load_base(_find_weights(model))


def _find_weights(model: str) -> Path:
    path = DEFAULT_WEIGHTS if model == "default" else Path(model)
    if not path.is_file():
        raise WeightsInvalid(
            f"there is no file {model}: name a weights file, or `default` for the shipped weights"
        )
    return path


def load_encoder(model: str) -> Encoder:
    """Load a weights file, a bundle, or "default". Raises EncoderInvalid, OSError.

    The networks of a bundle are first run in a process with limits.
    """
    path = Path(model)
    if not path.is_file() or not is_bundle(path):
        return load_weights(model)
    return check_bundle(path).bundle


def export(model: str, directory: Path, format: Format) -> None:
    """Write the network as OpenVINO IR or ONNX. Raises WeightsInvalid, EngineMissing."""
    for path in export_network(_load_complete(model), directory, format):
        out.print(f"Written: {path}")


def quantize(model: str, images: Path, file: Path) -> None:
    """Write an int8 model version. Raises WeightsInvalid, EngineMissing, UnusableData."""
    with on_interrupt("Nothing was written."), show_stages() as advance:
        weights, paths = _load_complete(model), find_image_files(images)
        quantized = quantize_network(weights, paths, file, advance)
    show_quantized(quantized)
    out.print(f"Written: {file}")
    out.print(
        f"Compare it with: lookalike evaluate {file} DATA"
        f"\nUse it with: lookalike models start {file}"
    )


def update_preprocessing(model: str, file: Path) -> None:
    """Write the weights with this release's preprocessing. Raises WeightsInvalid."""
    version = write_restated(_find_weights(model), file)
    out.print(f"Written: {file}   model version {version}")
    out.print(f"Use it with: lookalike models start {file}")


def _load_complete(model: str) -> WeightsFile:
    weights = load_weights(model)
    if not weights.has_projection:
        raise WeightsInvalid(
            f"{model} is a backbone without a projection: make one with `lookalike finetune --base`"
        )
    return weights
