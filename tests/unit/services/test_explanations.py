"""Explanations of hits: what they say about a sample and a master, and what is refused."""

from __future__ import annotations

import io
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from app.errors import Conflict, InvalidInput, NotFound
from app.services.explanations import draw_png
from app.services.queries import FileExample, MasterExample, SearchOptions
from models.imaging import Box, ImageRejected
from models.transforms import Region
from tests.support.use_cases import UseCases, colours


def test_the_similarity_is_that_of_the_search(use_cases: UseCases) -> None:
    master = use_cases.upload(colours(1)).master.id
    sample = FileExample(io.BytesIO(colours(2)))
    (hit,) = use_cases.search.search([sample], SearchOptions("default")).hits
    found = use_cases.explanations.explain(sample, master)
    assert found.similarity == pytest.approx(1 - hit.distance, abs=1e-5)
    assert (found.space, found.version, found.method) == ("look", "model-1", "occlusion")
    assert (found.sample.width, found.sample.height) == (64, 48)
    assert found.sample.region == found.master.region == Region(8, 0, 48, 48)
    assert found.sample.overlay is None


def test_a_master_may_be_explained_by_another_one_or_itself(use_cases: UseCases) -> None:
    one, two = (use_cases.upload(colours(seed)).master.id for seed in (1, 2))
    found = use_cases.explanations.explain(MasterExample(one), two)
    swapped = use_cases.explanations.explain(MasterExample(two), one)
    assert np.allclose(found.sample.grid, swapped.master.grid, atol=1e-6)
    same = use_cases.explanations.explain(MasterExample(one), one)
    assert same.similarity == pytest.approx(1, abs=1e-5)


def test_the_region_of_a_part_lies_in_the_whole_image(use_cases: UseCases) -> None:
    master = use_cases.upload(colours(1)).master.id
    sample = FileExample(io.BytesIO(colours(2)), Box(10, 8, 40, 20))
    found = use_cases.explanations.explain(sample, master, overlays=True)
    assert found.sample.region == Region(20, 8, 20, 20)
    assert (found.sample.width, found.sample.height) == (64, 48)
    assert found.sample.overlay is not None
    assert found.sample.overlay.shape == (256, 512, 3)
    drawn = Image.open(io.BytesIO(draw_png(found.sample, found.master)))
    assert (drawn.format, drawn.size) == ("PNG", (512 + 8 + 512, 384))


def test_what_cannot_be_explained_is_refused(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = use_cases.upload(colours(1)).master.id
    sample = MasterExample(master)
    explain = use_cases.explanations.explain
    for unknown in ((MasterExample(uuid4()), master), (sample, uuid4())):
        with pytest.raises(NotFound):
            explain(*unknown)
    with pytest.raises(InvalidInput) as refused:
        explain(sample, master, "nowhere")
    assert refused.value.code == "space-not-found"
    with pytest.raises(ImageRejected):
        explain(FileExample(io.BytesIO(b"text")), master)
    with pytest.raises(ImageRejected):
        explain(MasterExample(master, Box(0, 0, 1000, 10)), master)
    monkeypatch.setattr(
        use_cases.embedder, "embed", lambda *_, **__: np.full((1, 512), np.nan, np.float32)
    )
    with pytest.raises(Conflict):
        explain(sample, master)
