"""Preprocessing belongs to a version: weights and bundles keep the pixels they were made for."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from models.bundles.archive import read_bundle
from models.bundles.engine import BundleEmbedder
from models.bundles.importing import make_bundle
from models.decoding.jobs import DecodeJob, run_job
from models.embedder import load_embedder
from models.imaging import decode_image
from models.labelled_images import load_image
from models.quantizing import quantize_network
from models.transforms import PREPROCESSING_ID, PREPROCESSINGS, CentreSquare
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid
from tests.support.colour_profiles import DISPLAY_P3, matrix_profile
from tests.support.images import encoded, photograph
from tests.support.tiny_encoders import image_network, manifest, save_network
from tests.support.weights import EARLIER_VERSION, earlier_weights

CONVERTED, IGNORED = CentreSquare(), CentreSquare(converts_colours=False)
WIDE = encoded(photograph("coffee"), "PNG", icc_profile=matrix_profile(DISPLAY_P3))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return earlier_weights(tmp_path_factory.mktemp("weights") / "earlier.safetensors")


def test_earlier_weights_ignore_profiles_and_shipped_ones_convert(earlier: Path) -> None:
    before, now = WeightsFile.load(earlier), WeightsFile.load(DEFAULT_WEIGHTS)
    assert before.version == EARLIER_VERSION != now.version
    assert all(np.array_equal(now.tensors[name], before.tensors[name]) for name in before.tensors)
    assert set(now.tensors) == set(before.tensors)
    assert load_embedder(before).preprocessing == IGNORED
    assert load_embedder(now).preprocessing == CONVERTED != IGNORED


def test_both_engines_have_the_preprocessing_of_their_weights(earlier: Path) -> None:
    assert load_embedder(WeightsFile.load(earlier), engine="torch").preprocessing == IGNORED


def test_new_weights_name_the_preprocessing_of_this_release() -> None:
    assert PREPROCESSINGS[PREPROCESSING_ID] == CONVERTED
    assert WeightsFile.load(DEFAULT_WEIGHTS).preprocessing == PREPROCESSING_ID


def test_each_rule_gets_its_own_pixels_with_one_decode_for_each_need() -> None:
    decodes: list[int] = []
    larger = CentreSquare(min_side=300)
    rules = CONVERTED, IGNORED, larger, CentreSquare()
    inputs = run_job(io.BytesIO(WIDE), DecodeJob(rules), decodes.append).inputs
    assert len(decodes) == len(inputs) == 3
    converted = decode_image(io.BytesIO(WIDE), min_side=224).image
    assert np.array_equal(inputs[IGNORED], IGNORED.prepare(photograph("coffee")))
    assert np.array_equal(inputs[CONVERTED], CONVERTED.prepare(converted))
    assert not np.array_equal(inputs[CONVERTED], inputs[IGNORED])


def test_one_decode_serves_both_kinds_of_rules_if_there_is_nothing_to_convert() -> None:
    decodes: list[int] = []
    plain = io.BytesIO(encoded(photograph("coffee"), "PNG"))
    inputs = run_job(plain, DecodeJob((IGNORED, CONVERTED)), decodes.append).inputs
    assert len(decodes) == 1
    assert np.array_equal(inputs[IGNORED], inputs[CONVERTED])


def test_a_file_is_only_checked_without_rules() -> None:
    decodes: list[int] = []
    assert not run_job(io.BytesIO(WIDE), DecodeJob(), decodes.append).inputs
    assert len(decodes) == 1


def test_images_of_folders_are_loaded_by_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(WIDE)
    assert np.array_equal(load_image(path, IGNORED), photograph("coffee"))
    assert np.array_equal(load_image(path), decode_image(io.BytesIO(WIDE), min_side=224).image)
    assert not np.array_equal(load_image(path), load_image(path, IGNORED))


@pytest.mark.slow
def test_quantized_weights_keep_the_preprocessing(earlier: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(WIDE)
    for source, rule in ((earlier, IGNORED), (DEFAULT_WEIGHTS, CONVERTED)):
        int8 = tmp_path / "int8.safetensors"
        quantize_network(WeightsFile.load(source), [path], int8)
        assert WeightsFile.load(int8).find_preprocessing() == rule


def test_a_command_updates_the_preprocessing_of_weights(earlier: Path, tmp_path: Path) -> None:
    updated = tmp_path / "updated.safetensors"
    arguments = ["models", "update-preprocessing", str(earlier), "--out", str(updated)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert WeightsFile.load(updated).version in result.output
    assert updated.read_bytes() == DEFAULT_WEIGHTS.read_bytes()


def spoil_metadata(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"bicubic-1", b"bicubic-9"))


@pytest.mark.parametrize("spoil", [Path.unlink, spoil_metadata], ids=["missing", "unknown"])
def test_weights_that_cannot_be_updated_are_refused(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    weights = earlier_weights(tmp_path / "weights.safetensors")
    spoil(weights)
    arguments = ["models", "update-preprocessing", str(weights), "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "new").exists()


def test_unknown_preprocessing_is_refused(earlier: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(earlier.read_bytes())
    spoil_metadata(path)
    with pytest.raises(WeightsInvalid, match="bicubic-9, which this release does not have"):
        load_embedder(WeightsFile.load(path))


def test_a_new_bundle_converts_and_an_earlier_one_does_not(
    tmp_path: Path, untried_bundles: None
) -> None:
    files = save_network(image_network(), tmp_path / "image.xml")
    rules, versions = [], set()
    for stated in ({}, {"image__colour_profiles": "convert"}, {"image__colour_profiles": "ignore"}):
        checked = make_bundle(manifest(**stated), files, tmp_path / "made.bundle")
        bundle = read_bundle(checked.bundle.path)
        rules.append(BundleEmbedder(bundle, slots=1).preprocessing.converts_colours)
        versions.add(bundle.version)
    assert (rules, len(versions)) == ([True, True, False], 2)


def test_a_manifest_without_the_key_ignores_profiles(tmp_path: Path) -> None:
    from tests.support.tiny_encoders import make_image_bundle

    bundle = read_bundle(make_image_bundle(tmp_path / "earlier.bundle"))
    assert bundle.manifest.image.colour_profiles == "ignore"
    assert not BundleEmbedder(bundle, slots=1).preprocessing.converts_colours
