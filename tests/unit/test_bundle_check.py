"""A bundle is tried in a child process with limits before a service accepts it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
import pytest
from tokenizers import Regex, normalizers, pre_tokenizers

from models.bundles.archive import read_bundle
from models.bundles.check import check_bundle
from models.bundles.importing import make_bundle
from models.bundles.trial import try_bundle
from models.errors import BundleInvalid
from tests.support.tiny_encoders import (
    image_network,
    make_image_bundle,
    make_text_bundle,
    make_tokenizer,
    manifest,
    named_model,
    save_network,
    save_tokenizer,
    text_network,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.bundle"


def altered(change: Any) -> ov.Model:
    """Return the tiny network with its output changed by a function of the node."""
    network = image_network()
    parameters = network.get_parameters()
    output = network.output(0).get_node().input_value(0)
    return named_model(change(output), parameters, "embeddings")


def refusal(path: Path) -> str:
    with pytest.raises(BundleInvalid) as refused:
        try_bundle(read_bundle(path), "f32")
    return str(refused.value)


# in the child
def test_a_checked_bundle_comes_with_what_it_costs(path: Path) -> None:
    checked = check_bundle(make_text_bundle(path))
    assert checked.bundle.version == read_bundle(path).version
    assert 0 < checked.image_seconds < 1
    assert checked.text_seconds is not None
    assert 0 < checked.text_seconds < 1
    assert 50e6 < checked.memory_bytes < 1e9


def test_a_refusal_in_the_child_is_reported(path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"manifest says \[1,256\]"):
        check_bundle(make_image_bundle(path, image_network(), dimension=256))


def test_a_network_that_needs_too_much_memory_is_refused(path: Path) -> None:
    def grow(output: Any) -> Any:
        wide = ops.tile(output, np.array([4_000_000, 1]))  # 2 GB
        return ops.reduce_max(wide, np.array([0]), keep_dims=True)

    with pytest.raises(BundleInvalid, match=r"needs more memory than the 1\.5 GB"):
        check_bundle(make_image_bundle(path, altered(grow)), memory_limit=1_500_000_000)


@pytest.mark.parametrize("limit", [300_000_000, 400_000_000])
def test_any_lack_of_memory_is_reported_as_such(path: Path, limit: int) -> None:
    with pytest.raises(BundleInvalid, match="needs more memory"):
        check_bundle(make_text_bundle(path), memory_limit=limit)


def test_a_network_that_takes_too_long_is_refused(path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"not ready to run after 0\.01 seconds"):
        check_bundle(make_image_bundle(path), time_limit=0.01)


@pytest.mark.parametrize(
    ("status", "output", "errors"),
    [
        (-11, b"", b""),
        (1, b"", b"Traceback\nZeroDivisionError: x"),
        (0, b"noise", b""),
        (0, b"1", b""),
    ],
)
def test_a_crash_of_the_child_is_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch, status: int, output: bytes, errors: bytes
) -> None:
    ended = subprocess.CompletedProcess([], status, output, errors)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    reason = "ZeroDivisionError" if errors else f"exit status {status}"
    with pytest.raises(BundleInvalid, match=reason):
        check_bundle(make_image_bundle(path))


def test_the_child_gets_no_credentials(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def start(*_: Any, env: dict[str, str], **__: Any) -> None:
        given.update(env)
        raise subprocess.TimeoutExpired([], 1)

    monkeypatch.setattr(subprocess, "run", start)
    monkeypatch.setenv("LOOKALIKE_S3_SECRET_KEY", "secret")
    with pytest.raises(BundleInvalid):
        check_bundle(make_image_bundle(path))
    assert given["PYTHONPATH"]
    assert "secret" not in given.values()


def test_the_memory_is_that_of_the_child_alone(path: Path) -> None:
    ballast = np.ones(60_000_000)  # 480 MB
    assert check_bundle(make_image_bundle(path)).memory_bytes < ballast.nbytes


# what is checked
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: ops.sqrt(ops.subtract(ops.abs(x), np.float32(1e9))), "NaN"),
        (lambda x: ops.multiply(x, np.float32(0)), "length 0"),
        (lambda x: ops.add(ops.multiply(x, np.float32(0)), np.float32(1)), "different images"),
        (
            lambda x: ops.add(
                x, ops.random_uniform(np.array([1, 128]), np.float32(0), np.float32(1), "f32")
            ),
            "random numbers",
        ),
    ],
)
def test_vectors_must_be_finite_and_repeatable(path: Path, change: Any, reason: str) -> None:
    assert reason in refusal(make_image_bundle(path, altered(change)))


def test_a_network_that_keeps_a_state_is_refused(path: Path) -> None:
    network = image_network()
    output = network.output(0).get_node().input_value(0)
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type = ov.PartialShape([1, 128]), ov.Type.f32
    info.variable_id = "seen"
    variable = ov.op.util.Variable(info)
    start = ops.constant(np.zeros((1, 128), np.float32))
    seen = ops.add(output, ops.read_value(start, variable))
    model = ov.Model(
        [seen.output(0)], [ops.assign(seen, variable)], network.get_parameters(), "tiny"
    )
    assert "keeps a state" in refusal(make_image_bundle(path, model))


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(np.nan, "NaN or infinite numbers for texts"), (0, "length 0 for some texts")],
)
def test_vectors_of_texts_are_checked_too(path: Path, factor: float, reason: str) -> None:
    network = text_network()
    output = network.output(0).get_node().input_value(0)
    spoilt = ops.multiply(output, np.float32(factor))
    model = named_model(spoilt, network.get_parameters(), "text_embeds")
    assert reason in refusal(make_text_bundle(path, network=model))


def test_a_tower_is_tried_even_if_it_knows_no_english(path: Path) -> None:
    try_bundle(read_bundle(make_text_bundle(path)), "f32")
    tokenizer = make_tokenizer()
    tokenizer.normalizer = None
    assert try_bundle(read_bundle(make_text_bundle(path, tokenizer=tokenizer)), "f32")


def test_a_tokenizer_that_cannot_split_a_long_text_is_refused(path: Path) -> None:
    tokenizer = make_tokenizer()
    pattern = Regex("(x+x+)+y")  # tries every way to divide a run of x
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    assert "too long" in refusal(make_text_bundle(path, tokenizer=tokenizer))


def test_a_tokenizer_that_inflates_a_text_is_refused(path: Path) -> None:
    tokenizer = make_tokenizer()
    replace = normalizers.Replace("x", "x" * 40)
    again = normalizers.Replace("x", "x")  # it takes seconds, on what has become 31 million letters
    tokenizer.normalizer = normalizers.Sequence([replace] * 3 + [again])
    assert "too long" in refusal(make_text_bundle(path, tokenizer=tokenizer))


# making bundles
def test_a_bundle_is_made_from_files_and_a_manifest(path: Path, tmp_path: Path) -> None:
    files = save_network(image_network(), tmp_path / "given" / "image.xml")
    draft = manifest()
    del draft["format"]
    checked = make_bundle(draft, files, path)
    assert checked.bundle.path == path
    assert read_bundle(path).version == checked.bundle.version
    assert sorted(each.name for each in tmp_path.iterdir()) == ["given", path.name]


def test_an_invalid_bundle_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    files = save_network(image_network(), tmp_path / "given" / "image.xml")
    with pytest.raises(BundleInvalid, match=r"^image\.xml of tiny\.bundle"):
        make_bundle(manifest(dimension=256), files, path)
    with pytest.raises(BundleInvalid, match=r"lacks image\.bin"):
        make_bundle(manifest(), files[:1], path)
    with pytest.raises(BundleInvalid, match="same name"):
        make_bundle(manifest(), [*files, tmp_path / "image.bin"], path)
    tokenizer = save_tokenizer(make_tokenizer(), tmp_path / "given" / "tokenizer.json")
    with pytest.raises(BundleInvalid, match="nothing uses"):
        make_bundle(manifest(), [*files, tokenizer], path)
    assert [each.name for each in tmp_path.iterdir()] == ["given"]
