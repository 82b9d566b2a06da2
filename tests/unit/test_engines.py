"""The engines agree, weights files are validated, and their content defines the model version."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.embedder import Embedder
from models.engines import OpenVinoEmbedder
from models.imaging import decode_image
from models.transforms import INPUT_SIDE, prepare_input
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid
from tests.support.images import PHOTOGRAPHS, encoded, photograph


@pytest.fixture(scope="module")
def weights() -> WeightsFile:
    return WeightsFile.load(DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.stack([prepare_input(photograph(name)) for name in PHOTOGRAPHS])


def test_embeddings_are_512_floats_of_length_1(
    embedder: Embedder, pixels: NDArray[np.uint8]
) -> None:
    embeddings = embedder.embed(pixels)
    assert (embeddings.shape, embeddings.dtype) == ((len(PHOTOGRAPHS), 512), np.float32)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["average", "gem"])
def test_pytorch_and_openvino_agree(
    weights: WeightsFile, pixels: NDArray[np.uint8], pooling: str
) -> None:
    pytest.importorskip("torch")
    from models.engines import TorchEmbedder

    same = replace(weights, pooling=pooling)
    reference = TorchEmbedder(same, device="cpu").embed(pixels)
    for precision in ("f32", "auto"):
        cosines = (
            OpenVinoEmbedder(same, slots=1, precision=precision).embed(pixels) * reference
        ).sum(axis=1)
        assert cosines.min() > (0.99999 if precision == "f32" else 0.999)


def test_batches_and_single_images_give_the_same_vectors(
    embedder: Embedder, pixels: NDArray[np.uint8]
) -> None:
    one_by_one = np.concatenate([embedder.embed(image[None]) for image in pixels])
    assert np.array_equal(embedder.embed(pixels), one_by_one)


def test_all_cores_give_the_same_vectors_as_one(
    embedder: Embedder, pixels: NDArray[np.uint8]
) -> None:
    assert isinstance(embedder, OpenVinoEmbedder)
    embedder.prepare_all_cores()
    on_one, on_all = (embedder.embed(pixels, all_cores=each) for each in (False, True))
    exact = (on_one.astype(np.float64) * on_all).sum(axis=1)
    lengths = (on_one.astype(np.float64) ** 2).sum(axis=1)
    assert np.abs(exact - lengths).max() < 5e-7  # no distance changes in its six digits


def test_a_downscaled_decode_hardly_changes_the_vector(embedder: Embedder) -> None:
    for name in PHOTOGRAPHS:
        large = photograph(name).resize((1800, 1200))
        drafted = prepare_input(
            decode_image(io.BytesIO(encoded(large, quality=95)), min_side=INPUT_SIDE).image
        )
        full = prepare_input(large)
        a, b = embedder.embed(np.stack([drafted, full]))
        assert float(a @ b) > 0.97


def test_the_model_version_depends_on_the_bytes_alone(weights: WeightsFile, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    content = bytearray(DEFAULT_WEIGHTS.read_bytes())
    copy.write_bytes(content)
    assert WeightsFile.load(copy).version == weights.version
    content[-1] ^= 1
    copy.write_bytes(content)
    assert WeightsFile.load(copy).version != weights.version


@pytest.mark.parametrize("keep", [0, 100, 1_000_000])
def test_a_truncated_weights_file_is_rejected(tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(DEFAULT_WEIGHTS.read_bytes()[:keep])
    with pytest.raises(WeightsInvalid, match="cut"):
        WeightsFile.load(cut)
    with pytest.raises(WeightsInvalid):
        WeightsFile.load(tmp_path / "missing.safetensors")


def test_weights_for_another_preprocessing_are_rejected(weights: WeightsFile) -> None:
    with pytest.raises(WeightsInvalid, match="preprocessing"):
        OpenVinoEmbedder(replace(weights, preprocessing="another"), slots=1)
