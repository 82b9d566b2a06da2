"""Exported networks embed like the original; int8 weights are served as their own version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from app.settings import Settings
from models.embedder import load_embedder
from models.engines import TorchEmbedder
from models.export import export_network
from models.labelled_images import UnusableData
from models.quantizing import quantize_network
from models.transforms import prepare_input
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid, save_weights
from tests.support.images import PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.service import serving


@pytest.fixture(scope="module")
def weights() -> WeightsFile:
    return WeightsFile.load(DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.stack([prepare_input(photograph(name)) for name in PHOTOGRAPHS])


@pytest.fixture(scope="module")
def int8(weights: WeightsFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("int8")
    paths = []
    for name in PHOTOGRAPHS:
        paths.append(directory / f"{name}.jpg")
        paths[-1].write_bytes(encoded(part_of(name, 0)))
    quantize_network(weights, paths, directory / "int8.safetensors")
    return directory / "int8.safetensors"


def run_by_openvino(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    embeddings: NDArray[np.float32] = compiled({0: pixels})[0]
    return embeddings


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_an_exported_network_embeds_like_the_original(
    weights: WeightsFile, pixels: NDArray[np.uint8], tmp_path: Path, kind: str
) -> None:
    path = export_network(weights, tmp_path, kind)[0]  # type: ignore[arg-type]
    expected = TorchEmbedder(weights, device="cpu").embed(pixels)
    assert path.stem == weights.version
    for some in (pixels, pixels[:1]):
        assert (run_by_openvino(path, some) * expected[: len(some)]).sum(axis=1).min() > 0.999


@pytest.mark.slow
def test_int8_weights_are_another_version_with_nearly_the_same_embeddings(
    int8: Path, weights: WeightsFile, pixels: NDArray[np.uint8]
) -> None:
    quantised = WeightsFile.load(int8)
    assert quantised.is_quantized
    assert quantised.version != weights.version
    assert int8.stat().st_size < 0.6 * DEFAULT_WEIGHTS.stat().st_size
    ours, theirs = (load_embedder(each, slots=1).embed(pixels) for each in (quantised, weights))
    agreement = (ours * theirs).sum(axis=1)
    assert 0.9 < agreement.min() < 0.99999
    with pytest.raises(WeightsInvalid, match="openvino"):
        TorchEmbedder(quantised)
    with pytest.raises(WeightsInvalid, match="int8"):
        export_network(quantised, int8.parent, "onnx")


@pytest.mark.slow
def test_int8_weights_are_served(int8: Path, settings: Settings) -> None:
    with serving(settings, load_embedder(WeightsFile.load(int8), slots=2)) as service:
        for name in PHOTOGRAPHS:
            service.put_master(encoded(photograph(name)), f"{name}.jpg")
        for name in PHOTOGRAPHS:
            assert (
                service.search(encoded(photograph(name), quality=40))[0]["master"]["name"]
                == f"{name}.jpg"
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [lambda xml: xml[:200], lambda xml: xml.replace(b"224", b"112")],
    ids=["cut", "other size"],
)
def test_an_unreadable_or_different_graph_is_rejected(
    int8: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    tensors = dict(WeightsFile.load(int8).tensors)
    tensors["openvino.xml"] = np.frombuffer(spoil(tensors["openvino.xml"].tobytes()), np.uint8)
    save_weights(tmp_path / "spoilt.safetensors", tensors, {"precision": "int8"})
    with pytest.raises(WeightsInvalid, match="spoilt"):
        load_embedder(WeightsFile.load(tmp_path / "spoilt.safetensors"))


@pytest.mark.slow
def test_quantizing_skips_broken_images_and_needs_a_readable_one(
    weights: WeightsFile, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(encoded(photograph("coffee"))[:500])
    for images in ([], [tmp_path / "broken.jpg"]):
        with pytest.raises(UnusableData, match="no image that can be read"):
            quantize_network(weights, images, tmp_path / "int8.safetensors")
