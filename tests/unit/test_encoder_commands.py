"""The commands that describe, check and make encoder bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from models.bundles.archive import read_bundle
from models.weights_file import DEFAULT_WEIGHTS
from tests.support.images import PHOTOGRAPHS, encoded, part_of
from tests.support.tiny_encoders import (
    image_network,
    make_image_bundle,
    make_text_bundle,
    make_tokenizer,
    manifest,
    save_network,
    save_tokenizer,
    text_network,
    write_json,
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["encoders", *map(str, arguments)], env={"COLUMNS": "100"})


def test_show_describes_a_bundle(tmp_path: Path) -> None:
    path = make_text_bundle(tmp_path / "words.bundle", licence="MIT \x1b[31m")
    result = run("show", path)
    assert result.exit_code == 0, result.output
    rows = dict(
        line.strip().split(maxsplit=1) for line in result.output.splitlines() if line.strip()
    )
    assert rows["name"] == "tiny"
    assert rows["version"] == read_bundle(path).version
    assert rows["dimension"] == "128"
    assert rows["input"] == "32 x 32 pixels, resize rule shortest-side"
    assert rows["text"] == "yes"
    assert rows["licence"] == "MIT \N{REPLACEMENT CHARACTER}[31m"
    assert rows["source"] == "made by the tests"
    as_json = json.loads(run("show", path, "--json").output)
    assert (as_json["dimension"], as_json["text"], as_json["name"]) == (128, True, "tiny")


def test_show_describes_a_weights_file() -> None:
    facts = json.loads(run("show", DEFAULT_WEIGHTS, "--json").output)
    assert facts["version"].startswith("rn50-")
    assert (facts["dimension"], facts["width"], facts["text"]) == (512, 224, False)


def test_check_accepts_what_can_be_served(tmp_path: Path) -> None:
    path = make_text_bundle(tmp_path / "words.bundle")
    result = run("check", path)
    assert result.exit_code == 0, result.output
    assert "The encoder can be served." in result.output
    assert "ms on one core" in result.output
    facts = json.loads(run("check", path, "--json").output)
    assert facts["image_seconds"] > 0
    assert facts["text_seconds"] > 0


@pytest.mark.slow
def test_check_accepts_the_shipped_weights() -> None:
    result = run("check", DEFAULT_WEIGHTS)
    assert result.exit_code == 0, result.output
    assert "The encoder can be served." in result.output


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_damaged_bundle_is_exit_code_2(tmp_path: Path, command: str) -> None:
    path = make_image_bundle(tmp_path / "cut.bundle")
    path.write_bytes(path.read_bytes()[:-40])
    result = run(command, path)
    assert result.exit_code == 2
    assert "Error: cut.bundle is not a bundle, or is damaged" in result.output
    path.write_bytes(b"no bundle")
    assert run(command, path).exit_code == 2


def test_check_refuses_a_bundle_with_another_dimension_than_stated(tmp_path: Path) -> None:
    result = run("check", make_image_bundle(tmp_path / "a.bundle", image_network(), dimension=256))
    assert result.exit_code == 2
    assert "its manifest says [1,256]" in result.output


def test_import_onnx_writes_a_bundle(tmp_path: Path) -> None:
    files = save_network(image_network(), tmp_path / "image.xml")
    files += save_network(text_network(), tmp_path / "text.xml")
    files.append(save_tokenizer(make_tokenizer(), tmp_path / "tokenizer.json"))
    draft = manifest(text=True)
    del draft["format"]
    stated = write_json(tmp_path / "manifest.json", draft)
    bundle = tmp_path / "out" / "words.bundle"
    result = run("import-onnx", "--manifest", stated, "--out", bundle, *files)
    assert result.exit_code == 0, result.output
    assert f"Written: {bundle}" in result.output
    assert read_bundle(bundle).version in result.output


def test_import_onnx_writes_nothing_if_a_check_fails(tmp_path: Path) -> None:
    files = save_network(image_network(), tmp_path / "image.xml")
    bundle = tmp_path / "out" / "words.bundle"
    stated = write_json(tmp_path / "manifest.json", manifest(dimension=256))
    result = run("import-onnx", "--manifest", stated, "--out", bundle, *files)
    assert result.exit_code == 2
    assert "Correct the dimension" in result.output
    for content in ("[]", "{"):
        stated.write_text(content)
        assert run("import-onnx", "--manifest", stated, "--out", bundle, *files).exit_code == 2
    assert list(bundle.parent.iterdir()) == []


def test_evaluate_scores_a_bundle(tmp_path: Path) -> None:
    bundle = make_image_bundle(tmp_path / "a.bundle", dimension=768, image__width=96)
    for name in PHOTOGRAPHS[:2]:
        (tmp_path / "images" / name).mkdir(parents=True)
        for part in range(2):
            path = tmp_path / "images" / name / f"{part}.jpg"
            path.write_bytes(encoded(part_of(name, part)))
    command = ["evaluate", bundle, tmp_path / "images", "--quick", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["model"] == read_bundle(bundle).version
    assert 0 <= scores["r1"] <= 1
