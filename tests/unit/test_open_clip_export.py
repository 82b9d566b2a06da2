"""Models of open_clip are exported as bundles, which give the same vectors and tokens."""

from __future__ import annotations

import builtins
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from models.bundles import open_clip_export
from models.bundles.archive import Bundle, read_bundle
from models.bundles.open_clip_agreement import draw_image, embed_images, embed_tokens
from models.bundles.open_clip_export import ExportRequest, export_open_clip
from models.bundles.open_clip_models import load_open_clip
from models.embedder import load_embedder, read_encoder
from models.errors import BundleInvalid
from tests.support.tiny_clip import (
    import_clip,
    make_network,
    needs_open_clip,
    save_checkpoint,
    save_siglip,
)

pytestmark = [needs_open_clip, pytest.mark.slow]
SMALLEST = "tiny-vit-quickgelu"
QUERIES = ["a red dog", "Two BICYCLES, beside a wall", "собака", "it's a “quoted” 犬 \N{DOG FACE}"]


def run(*arguments: str | Path) -> Result:
    command = ["encoders", "export", "open-clip", *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "100"})


@pytest.fixture(scope="module", autouse=True)
def registered_models() -> None:
    import_clip()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(SMALLEST, tmp_path_factory.mktemp("weights") / "mine.pt")


def check_served_like_torch(bundle: Bundle, model: str, weights: Path | None) -> None:
    """Load a bundle as a service does, and compare it with the network it was made from."""
    served = load_embedder(read_encoder(bundle.path), precision="f32")
    theirs = load_open_clip(model, None if weights is None else str(weights))
    images = [draw_image(150, 110, 10), draw_image(70, 180, 11), draw_image(40, 40, 12)]
    ours = served.embed(np.stack([served.preprocessing.prepare(each) for each in images]))
    expected = embed_images(theirs, images)
    assert ours.shape == (3, bundle.manifest.dimension)
    assert (ours * expected).sum(axis=1).min() > 0.999
    assert (ours @ expected.T)[~np.eye(3, dtype=bool)].max() < 0.99  # so the comparison tells
    assert served.text is not None
    texts = np.stack([served.text.embed_text(each) for each in QUERIES])
    expected = embed_tokens(theirs, theirs.tokenizer(QUERIES).numpy())
    assert (texts * expected).sum(axis=1).min() > 0.999
    assert (texts @ expected.T)[~np.eye(4, dtype=bool)].max() < 0.99


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (SMALLEST, "mine.pt"),
        ("tiny-resnet", "mine.safetensors"),
        ("tiny-convnext", "mine.bin"),
    ],
)
def test_a_model_from_a_file_is_served_like_torch(tmp_path: Path, model: str, file: str) -> None:
    weights = save_checkpoint(model, tmp_path / file)
    made = export_open_clip(ExportRequest(model, str(weights)), tmp_path / "words.bundle")
    assert made.bundle.manifest.source == f"open_clip {model} mine"
    assert made.bundle.manifest.name == f"{model}-mine"
    constants = sum(made.bundle.manifest.files[name].size for name in ("image.bin", "text.bin"))
    assert constants < 0.55 * weights.stat().st_size  # half precision
    check_served_like_torch(made.bundle, model, weights)


def test_a_siglip_with_its_own_tokenizer_is_served_like_torch(tmp_path: Path) -> None:
    model = f"local-dir:{save_siglip(tmp_path / 'Tiny_SigLIP')}"
    made = export_open_clip(ExportRequest(model), tmp_path / "words.bundle")
    manifest = made.bundle.manifest
    assert manifest.name == "tiny-siglip"
    assert manifest.image.resize == "squash"
    assert manifest.image.mean == (0.5, 0.5, 0.5)
    assert manifest.text is not None
    assert (manifest.text.context_length, manifest.text.pad_id) == (16, 1)
    check_served_like_torch(made.bundle, model, None)
