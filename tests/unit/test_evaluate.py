"""Retrieval metrics, labelled folders, altered copies and contact sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import evaluate
from models.contact_sheets import write_contact_sheets
from models.embedder import Embedder
from models.evaluate import ALTERATIONS, measure_robustness, rank_gallery
from models.labelled_images import LabelledImages, UnusableData, check_disjoint
from models.transforms import prepare_input
from tests.support.images import encoded, part_of


def at(*degrees: float) -> np.ndarray:
    """Return points on a circle, whose cosines are ordered by the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_metrics_equal_those_computed_by_hand() -> None:
    # The ranking is a b a b b a, so R = 3; the matches among the first 3 are at ranks 1 and 3.
    ranked = rank_gallery(
        at(0), ["a"], at(1, 2, 3, 4, 5, 6), ["a", "b", "a", "b", "b", "a"], leave_out=False
    )
    assert ranked.top_hits.tolist() == [[0, 1, 2, 3, 4, 5]]
    means = ranked.means()
    assert means["map"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert means["map_at_r"] == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert (means["r1"], means["r5"], means["r10"]) == (1, 1, 1)
    late = rank_gallery(at(0), ["a"], at(1, 2, 3, 4, 5, 6), list("bbbbba"), leave_out=False).means()
    assert (late["r1"], late["r5"], late["r10"], late["map"], late["map_at_r"]) == (
        0,
        0,
        1,
        pytest.approx(1 / 6),
        0,
    )


def test_an_image_is_not_its_own_hit_and_a_class_of_one_is_not_scored() -> None:
    vectors, labels = at(0, 1, 50, 120), ["a", "a", "b", "c"]
    ranked = rank_gallery(vectors, labels, vectors, labels, leave_out=True)
    assert ranked.queries.tolist() == [0, 1]
    assert ranked.means()["r1"] == 1
    assert all(number not in row for number, row in enumerate(ranked.top_hits))


def test_the_interval_contains_the_mean_and_narrows_with_more_queries() -> None:
    rng = np.random.default_rng(0)

    def interval(count: int) -> tuple[float, float]:
        vectors = rng.standard_normal((count, 8)).astype(np.float32)
        labels = [str(number % 4) for number in range(count)]
        ranked = rank_gallery(vectors, labels, vectors, labels, leave_out=True)
        low, high = ranked.intervals()["map"]
        assert low <= ranked.means()["map"] <= high
        return low, high

    few, many = interval(40), interval(600)
    assert many[1] - many[0] < few[1] - few[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photographs"
    for name, photograph in (
        ("cups/white", "coffee"),
        ("people", "astronaut"),
        ("rockets", "rocket"),
    ):
        (root / name).mkdir(parents=True)
        for seed in range(3):
            (root / name / f"{seed}.jpg").write_bytes(encoded(part_of(photograph, seed)))
    return root


def test_a_folder_is_a_class_and_broken_images_are_skipped(folder: Path) -> None:
    (folder / "people" / "broken.jpg").write_bytes(b"\xff\xd8 no photograph")
    (folder / "people" / "cut.jpg").write_bytes((folder / "people" / "0.jpg").read_bytes()[:2000])
    (folder / "people" / "notes.txt").write_text("not an image")
    images = LabelledImages.read(folder)
    assert sorted(set(images.labels)) == ["cups/white", "people", "rockets"]
    assert (len(images), images.class_indices().tolist()) == (9, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert sorted(path.name for path, _ in images.broken) == ["broken.jpg", "cut.jpg"]
    assert all(why for _, why in images.broken)


def test_an_attribute_of_an_exported_collection_is_a_class(folder: Path) -> None:
    rows = [
        {"file": f"people/{seed}.jpg", "attributes": {"who": "her"}}
        if seed
        else {"file": "people/0.jpg", "attributes": {}}
        for seed in range(3)
    ] + [{"file": f"rockets/{seed}.jpg", "attributes": {"who": "nobody"}} for seed in range(3)]
    (folder / "masters.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert LabelledImages.read_export(folder, "who").labels == ["her"] * 2 + ["nobody"] * 3
    with pytest.raises(UnusableData, match="has the attribute colour"):
        LabelledImages.read_export(folder, "colour")


def test_data_without_classes_to_learn_is_rejected(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match="no image"):
        LabelledImages.read(tmp_path / "nowhere")
    with pytest.raises(UnusableData, match="one class"):
        LabelledImages.read(folder / "people")
    for path in folder.rglob("[12].jpg"):
        path.unlink()
    with pytest.raises(UnusableData, match="one image"):
        LabelledImages.read(folder)


def test_a_class_in_both_splits_is_rejected(folder: Path) -> None:
    images = LabelledImages.read(folder)
    check_disjoint(images.select([0, 1, 2]), images.select([3, 4, 5]))
    with pytest.raises(UnusableData, match="people"):
        check_disjoint(images, images.select([3, 4, 5]))


@pytest.mark.slow
def test_altered_copies_are_altered_and_find_their_original(
    folder: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_MOST_ORIGINALS", 3)  # one of each class
    images = LabelledImages.read(folder)
    original = Image.open(images.paths[0]).convert("RGB")
    for name, alter in ALTERATIONS.items():
        assert (
            np.abs(
                prepare_input(alter(original)).astype(int) - prepare_input(original).astype(int)
            ).mean()
            > 0.5
        ), name
    gallery = np.concatenate(
        [
            embedder.embed(prepare_input(Image.open(path).convert("RGB"))[None])
            for path in images.paths
        ]
    )
    found = measure_robustness(embedder, images, gallery, slots=2)
    assert set(found) == set(ALTERATIONS)
    assert (found["JPEG 30"], found["mirrored"]) == (1, 1)
    monkeypatch.setattr(evaluate, "ALTERATIONS", {"JPEG 30": ALTERATIONS["JPEG 30"]})
    shifted = measure_robustness(embedder, images, np.roll(gallery, 1, axis=0), slots=2)
    assert shifted["JPEG 30"] < 0.5


@pytest.mark.slow
def test_contact_sheets_frame_right_and_wrong(folder: Path, tmp_path: Path) -> None:
    images = LabelledImages.read(folder)
    vectors = at(0, 1, 2, 40, 41, 42, 3, 90, 91)  # one rocket is nearest to the cups
    ranked = rank_gallery(vectors, images.labels, vectors, images.labels, leave_out=True)
    written = write_contact_sheets(tmp_path / "sheets", ranked, images, images, vectors, vectors)
    assert [path.name for path in written] == ["sample.png", "worst.png", "index.html"]
    colours = {
        colour for _, colour in Image.open(tmp_path / "sheets" / "sample.png").getcolors(1 << 24)
    }
    assert {(0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)} <= colours
    page = (tmp_path / "sheets" / "index.html").read_text()
    assert 'class="right"' in page
    assert 'class="wrong"' in page
    assert all(
        (tmp_path / "sheets" / "pictures" / name).exists() for name in ("query-0.jpg", "hit-1.jpg")
    )
    before = (tmp_path / "sheets" / "pictures" / "query-0.jpg").read_bytes()
    others = images.select([*range(3, 9), *range(3)])
    write_contact_sheets(tmp_path / "sheets", ranked, others, others, vectors, vectors)
    assert (tmp_path / "sheets" / "pictures" / "query-0.jpg").read_bytes() != before


def test_a_gallery_may_have_one_image_of_each_class(tmp_path: Path) -> None:
    for kind in ("cups", "rockets"):
        (tmp_path / "gallery" / kind).mkdir(parents=True)
        (tmp_path / "gallery" / kind / "one.jpg").write_bytes(encoded(part_of("coffee", 1)))
    with pytest.raises(UnusableData, match="one image"):
        LabelledImages.read(tmp_path / "gallery")
    assert len(LabelledImages.read(tmp_path / "gallery", gallery=True)) == 2
