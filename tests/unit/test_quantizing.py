"""How far quantizing moves vectors is measured by their neighbours."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli.main import app
from app.settings import Settings
from models.bundles.archive import read_bundle
from models.embedder import load_embedder
from models.errors import EncoderInvalid, EngineMissing
from models.quantizing import (
    check_installed,
    check_not_quantized,
    compare_vectors,
    quantize_network,
)
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from tests.support.images import encoded, part_of, photograph
from tests.support.tiny_encoders import make_image_bundle, make_text_bundle


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths: NDArray[np.floating] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths).astype(np.float32)


def draw(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).standard_normal((count, 32)))


def test_equal_vectors_agree_completely() -> None:
    agreement = compare_vectors(draw(50), draw(50))
    assert (agreement.images, agreement.nearest, agreement.recall) == (50, 10, 1.0)
    assert agreement.distance == pytest.approx(0, abs=1e-6)


def test_the_recall_is_the_share_of_neighbours_that_stay() -> None:
    angles = np.radians([0, 1, 90, 92])  # two pairs; then the third comes to the first
    moved = np.radians([0, 45, 1, 47])
    before, after = (
        np.stack([np.cos(a), np.sin(a)], 1).astype(np.float32) for a in (angles, moved)
    )
    nearest_only = compare_vectors(before[:4], after[:4])
    assert nearest_only.nearest == 3  # all others
    assert nearest_only.recall == 1.0
    noisy = compare_vectors(draw(200), unit(draw(200) + 0.1 * draw(200, seed=1)))
    unrelated = compare_vectors(draw(200), draw(200, seed=2))
    assert 0.6 < noisy.recall < 0.99
    assert unrelated.recall < 0.2
    assert noisy.distance == pytest.approx(0.005, abs=0.002)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(8)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(part_of("coffee", number)))
    return paths


def test_the_network_for_images_of_a_bundle_is_quantized(
    tmp_path: Path, photographs: list[Path]
) -> None:
    path = make_text_bundle(tmp_path / "tiny.bundle", calibration={"intercept": 4.0, "slope": 8.0})
    bundle, out = read_bundle(path), tmp_path / "int8.bundle"
    quantized = quantize_network(bundle, photographs, out)
    int8 = read_bundle(out)
    assert quantized.version == int8.version != bundle.version
    assert quantized.agreement is not None
    assert quantized.agreement.images == 8
    assert 0 < quantized.agreement.distance < 0.02
    assert (int8.manifest.licence, int8.manifest.calibration) == (
        bundle.manifest.licence,
        bundle.manifest.calibration,
    )
    before, after = load_embedder(bundle), load_embedder(int8)
    image = photograph("coffee")
    assert np.array_equal(*(each.preprocessing.prepare(image) for each in (before, after)))
    assert before.text is not None
    assert after.text is not None
    texts = [each.embed_text("red dog") for each in (before.text, after.text)]
    assert np.array_equal(*texts)
    with pytest.raises(EncoderInvalid, match="quantized already"):
        quantize_network(int8, photographs, tmp_path / "again.bundle")


def test_a_command_quantizes_a_bundle(
    tmp_path: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make_image_bundle(tmp_path / "tiny.bundle")
    command = ["models", "quantize", str(path), str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert read_bundle(tmp_path / "int8.bundle").version in result.output
    assert "lookalike models start int8.bundle" in result.output


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineMissing, match=r"pip install '\.\[train\]'"):
        check_installed()


def test_the_precision_int8_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ValidationError, match="run `lookalike models quantize`"):
        Settings(precision="int8", _env_file=None)  # type: ignore[arg-type]


def test_int8_weights_are_not_quantized_again() -> None:
    weights = WeightsFile.load(DEFAULT_WEIGHTS)
    int8 = replace(weights, tensors={"openvino.xml": np.zeros(1, np.uint8)})
    with pytest.raises(EncoderInvalid, match="quantized already"):
        check_not_quantized(int8)
