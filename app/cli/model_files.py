"""Loads weights files for the command line; exports and quantizes them."""

from __future__ import annotations

from pathlib import Path

from app.cli.console import on_interrupt, out, show_stages
from models.bundles.archive import is_bundle
from models.bundles.check import check_bundle
from models.embedder import Encoder
from models.export import Format, export_network
from models.labelled_images import find_image_files
from models.quantizing import Quantized, quantize_network
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


def quantize(model: str, images: Path, file: Path | None) -> None:
    """Write an int8 model version. Raises EncoderInvalid, EngineMissing, UnusableData, OSError."""
    with on_interrupt("Nothing was written."), show_stages() as advance:
        encoder, paths = load_encoder(model), find_image_files(images)
        if isinstance(encoder, WeightsFile):
            _check_complete(encoder, model)
            file = file or Path("int8.safetensors")
        else:
            file = file or Path("int8.bundle")
        quantized = quantize_network(encoder, paths, file, advance)
    show_quantized(quantized)
    out.print(f"Written: {file}")
    out.print(
        f"Compare it with: lookalike evaluate {file} DATA"
        f"\nUse it with: lookalike models start {file}"
    )


def show_quantized(quantized: Quantized) -> None:
    """Print the version, and how near its vectors are to the original's."""
    out.print(f"The int8 version is {quantized.version}.")
    if (agreement := quantized.agreement) is not None:
        out.print(
            f"Compared on {agreement.images} images: {agreement.recall:.1%} of the"
            f" {agreement.nearest} nearest of each stay the same; a vector moves by a distance of"
            f" {agreement.distance:.4f} (median)."
        )


def update_preprocessing(model: str, file: Path) -> None:
    """Write the weights with this release's preprocessing. Raises WeightsInvalid."""
    version = write_restated(_find_weights(model), file)
    out.print(f"Written: {file}   model version {version}")
    out.print(f"Use it with: lookalike models start {file}")


def _load_complete(model: str) -> WeightsFile:
    weights = load_weights(model)
    _check_complete(weights, model)
    return weights


def _check_complete(weights: WeightsFile, model: str) -> None:
    if not weights.has_projection:
        raise WeightsInvalid(
            f"{model} is a backbone without a projection: make one with `lookalike finetune --base`"
        )
