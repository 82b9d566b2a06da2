"""The command `evaluate`: one encoder, or two on the same images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from models.bundles.archive import read_bundle
from models.class_names import name_class
from tests.support.images import PHOTOGRAPHS, encoded, part_of
from tests.support.tiny_encoders import image_network, make_image_bundle, make_text_bundle

pytestmark = pytest.mark.usefixtures("untried_bundles")


def evaluate(*arguments: str | Path) -> Result:
    command = ["evaluate", *map(str, arguments), "--quick"]
    return CliRunner().invoke(app, command, env={"COLUMNS": "80"})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes, whose names the tiny text tower knows, with two images each."""
    for label, name in zip(("dog", "red_bicycle"), PHOTOGRAPHS, strict=False):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for part in range(2):
            (folder / f"{part}.jpg").write_bytes(encoded(part_of(name, part)))
    return tmp_path / "images"


def test_two_encoders_are_compared_on_the_same_images(tmp_path: Path, images: Path) -> None:
    first = make_text_bundle(tmp_path / "first.bundle")
    second = make_image_bundle(
        tmp_path / "second.bundle", image_network(256, seed=1), name="other", dimension=256
    )
    result = evaluate(first, images, "--compare", second, "--json", "--sheets", tmp_path / "sheets")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    versions = [read_bundle(bundle).version for bundle in (first, second)]
    assert [each["model"] for each in answer["models"]] == versions
    assert [each["dimensions"] for each in answer["models"]] == [128, 256]
    mine, theirs = answer["models"]
    assert answer["difference"]["map"] == pytest.approx(mine["map"] - theirs["map"], abs=2e-4)
    low, high = answer["difference"]["intervals"]["map"]
    assert low <= answer["difference"]["map"] <= high
    for version in versions:
        assert (tmp_path / "sheets" / version / "sample.png").exists()

    shown = evaluate(first, images, "--compare", second)
    assert shown.exit_code == 0, shown.output
    header = next(line for line in shown.output.splitlines() if "difference" in line)
    assert all(version in header for version in versions)
    assert f"{mine['map']:.3f} (" in shown.output


def test_class_names_are_searched_if_the_encoder_takes_words(tmp_path: Path, images: Path) -> None:
    with_words = make_text_bundle(tmp_path / "first.bundle")
    without = make_image_bundle(tmp_path / "second.bundle", name="other")
    answer = json.loads(evaluate(with_words, images, "--json").stdout)
    assert 0.5 <= answer["class_names"]["map"] <= 1  # two of the four images match each name
    assert answer["class_names"]["p10"] == 0.5
    answer = json.loads(evaluate(with_words, images, "--compare", without, "--json").stdout)
    assert answer["models"][1]["class_names"] is None
    assert answer["difference"]["class_names"] is None
    shown = evaluate(with_words, images, "--compare", without)
    row = next(line for line in shown.output.splitlines() if "class names, mAP" in line)
    assert row.split()[-1] == "–"


def test_a_name_that_is_not_understood_scores_0(tmp_path: Path, images: Path) -> None:
    (images / "dog").rename(images / "xyzzy")
    bundle = make_text_bundle(tmp_path / "words.bundle")
    answer = json.loads(evaluate(bundle, images, "--json").stdout)
    assert answer["class_names"]["p10"] == 0.25  # .5 for the other of the two names


def test_an_encoder_is_not_compared_with_itself(tmp_path: Path, images: Path) -> None:
    bundle = make_image_bundle(tmp_path / "a.bundle")
    result = evaluate(bundle, images, "--compare", bundle)
    assert result.exit_code == 2
    assert "name two different ones" in result.output


@pytest.mark.parametrize(
    ("label", "coarse", "name"),
    [
        ("Red-Beet", False, "red beet"),
        ("test/Fruit/Granny_Smith", False, "granny smith"),
        ("test/Fruit/Granny_Smith", True, "fruit"),
        ("test", False, "test"),
    ],
)
def test_the_name_of_a_class_is_its_folder_in_words(label: str, coarse: bool, name: str) -> None:
    assert name_class(label, coarse=coarse) == name


@pytest.mark.slow
def test_the_shipped_weights_find_class_names_by_the_built_in_words(images: Path) -> None:
    answer = json.loads(evaluate("default", images, "--json").stdout)
    assert 0.5 <= answer["class_names"]["map"] <= 1
