"""Fine-tuning: losses, resuming after an interruption, and the resulting weights and card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

from app.cli.main import app
from models.embedder import load_embedder
from models.engines import TorchEmbedder
from models.evaluate import embed_images
from models.labelled_images import LabelledImages, UnusableData, load_image
from models.resnet import EmbeddingNetwork
from models.training.augment import augment_image
from models.training.card import write_card
from models.training.finetune import Finetuning, FinetuningResult
from models.training.losses import (
    LOSSES,
    build_instance_loss,
    build_metric_loss,
    compute_similarity_drift,
)
from models.training.projection import fit_projection
from models.training.recipe import Recipe
from models.training.sampling import split_classes
from models.transforms import prepare_input
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid, save_weights
from tests.support.images import encoded, part_of, photograph

TINY = Recipe(
    tune="projection", steps=6, classes=3, images=2, views=2, check_every=2, held_out=0.3, rate=1e-3
)
KINDS = ("coffee", "astronaut", "rocket", "chelsea", "colorwheel", "immunohistochemistry")


def write_classes(root: Path, draw: Callable[[str, int], bytes]) -> LabelledImages:
    for kind in KINDS:
        (root / kind).mkdir()
        for seed in range(3):
            (root / kind / f"{seed}.jpg").write_bytes(draw(kind, seed))
    return LabelledImages.read(root)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    def draw(kind: str, seed: int) -> bytes:
        return encoded(part_of(kind, seed))

    return write_classes(tmp_path_factory.mktemp("labelled"), draw)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Classes that any network tells apart, so that training keeps every checked step."""

    def draw(kind: str, seed: int) -> bytes:
        return encoded(photograph(kind).resize((240, 240)), quality=90 - 10 * seed)

    return write_classes(tmp_path_factory.mktemp("copies"), draw)


@pytest.fixture(scope="module")
def base() -> WeightsFile:
    return WeightsFile.load(DEFAULT_WEIGHTS)


@pytest.mark.parametrize("name", LOSSES)
def test_minimising_lowers_every_loss(name: str) -> None:
    torch.manual_seed(0)
    points = torch.nn.Parameter(torch.randn(24, 512))
    labels = torch.arange(24) % 4
    loss = build_metric_loss(name, 4)
    optimizer = torch.optim.Adam([points, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(60):
        value = loss(torch.nn.functional.normalize(points), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] * 0.9


def test_the_instance_loss_is_lower_if_views_of_one_image_are_close() -> None:
    numbers = torch.tensor([0, 1, 0, 1])
    apart = torch.nn.functional.normalize(torch.eye(4, 512))
    together = apart[numbers]
    assert build_instance_loss()(together, numbers) < build_instance_loss()(apart, numbers)


def test_similarity_drift_is_zero_until_an_embedding_moves() -> None:
    taught = torch.nn.functional.normalize(torch.randn(6, 512))
    numbers = torch.arange(6)
    assert compute_similarity_drift(taught, taught, numbers).item() == pytest.approx(0, abs=1e-6)
    assert (
        compute_similarity_drift(
            taught @ torch.linalg.qr(torch.randn(512, 512))[0], taught, numbers
        ).item()
        < 1e-6
    )
    moved = taught.clone()
    moved[0] = taught[1]
    expected = ((moved @ moved.T - taught @ taught.T) ** 2).mean().item() * 100
    assert compute_similarity_drift(moved, taught, numbers).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_views_differ_and_are_reproducible() -> None:
    image: Image.Image = photograph("chelsea")
    views = [augment_image(image, np.random.default_rng([0, view])) for view in range(20)]
    assert {view.shape for view in views} == {(224, 224, 3)}
    assert len({view.tobytes() for view in views}) == 20
    assert np.array_equal(views[3], augment_image(image, np.random.default_rng([0, 3])))


@pytest.mark.usefixtures("small_dimensions")
def test_the_projection_shrinks_what_differs_within_a_class_and_between_views() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(40), 20)
    centres = np.zeros((40, 256), dtype=np.float32)
    centres[:, :4] = rng.standard_normal((40, 4))
    within, altered = np.zeros((2, 800, 256), dtype=np.float32)
    within[:, 4:8] = 3 * rng.standard_normal((800, 4))  # larger than what separates the classes
    altered[:, 8:12] = 3 * rng.standard_normal((800, 4))
    noise = 0.01 * rng.standard_normal((800, 256)).astype(np.float32)
    images = centres[classes] + within + noise
    images[:, 8:12] += 3 * rng.standard_normal((800, 4)).astype(np.float32)
    weight, bias = fit_projection([images, images + altered], classes)
    assert np.abs((images @ weight.T + bias).mean(axis=0)).max() < 1e-2
    gain = np.linalg.norm(weight, axis=0)
    assert gain[:4].mean() > 2 * gain[4:8].mean()
    assert gain[:4].mean() > 2 * gain[8:12].mean()


@pytest.mark.usefixtures("small_dimensions")
def test_the_projection_keeps_the_directions_of_the_base_classifier() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((160, 256), dtype=np.float32)
    images[:, :80] = rng.standard_normal((160, 80))  # more directions than the projection keeps
    classes = np.arange(160) // 4
    head = np.zeros((120, 256), dtype=np.float32)
    head[:, 80:92] = rng.standard_normal((120, 12))
    without, _ = fit_projection([images], classes)
    with_head, _ = fit_projection([images], classes, head)
    assert np.abs(without[:, 80:92]).max() < 1e-3 * np.abs(without).max()
    assert np.linalg.matrix_rank(with_head[:, 80:92], tol=0.01 * np.abs(with_head).max()) == 12


def test_whole_classes_are_held_out_together_with_their_siblings() -> None:
    labels = [f"{coarse}/{fine}" for coarse in "abcdef" for fine in "12" for _ in range(3)]
    data = LabelledImages(Path(), [Path(str(number)) for number in range(len(labels))], labels)
    train, held = split_classes(data, 0.3, 0)
    tops = [{labels[i][0] for i in some} for some in (train, held)]
    assert (len(tops[0] | tops[1]), tops[0] & tops[1], len(tops[1])) == (6, set(), 2)
    with pytest.raises(UnusableData, match="too few"):
        split_classes(data.select(list(range(9))), 0.5, 0)


@pytest.mark.parametrize(
    "recipe", [TINY, replace(TINY, tune="layer4", pooling="gem", loss="proxy-anchor", blend=0.5)]
)
def test_an_interrupted_run_ends_with_the_same_weights(
    copies: LabelledImages, slim_base: WeightsFile, tmp_path: Path, recipe: Recipe
) -> None:
    whole = Finetuning(copies, slim_base, tmp_path / "whole", recipe).run()

    def interrupt(at_stage: str, at: int) -> Callable[[str, int, int], None]:
        def progress(stage: str, done: int, total: int) -> None:
            if stage == at_stage and done >= at:
                raise KeyboardInterrupt

        return progress

    for stage, at in (("frozen layers", 1), ("training", 3), ("training", 5)):
        with pytest.raises(KeyboardInterrupt):
            Finetuning(copies, slim_base, tmp_path / "cut", recipe).run(interrupt(stage, at))
    cut = Finetuning(copies, slim_base, tmp_path / "cut", recipe).run()
    assert cut.version == whole.version
    assert [row["loss"] for row in cut.history] == [row["loss"] for row in whole.history]


@pytest.mark.parametrize("projected", [False, True])
def test_the_projection_is_fitted_to_the_tuned_network(
    copies: LabelledImages, slim_base: WeightsFile, tmp_path: Path, projected: bool
) -> None:
    backbone = {
        name: tensor
        for name, tensor in slim_base.tensors.items()
        if not name.startswith("projection.")
    }
    given = (
        slim_base
        if projected
        else replace(slim_base, tensors=backbone, pooling="average", calibration=None)
    )
    recipe = replace(
        TINY, tune="layer4", gem_p=slim_base.gem_p, views=1, rate=3e-4, norms="tuned", patience=9
    )
    outcome = Finetuning(copies, given, tmp_path, recipe).run()
    weights = WeightsFile.load(outcome.weights)
    assert (
        np.abs(weights.tensors["layer4.0.conv3.weight"] - backbone["layer4.0.conv3.weight"]).max()
        > 1e-5
    )
    assert weights.gem_p == pytest.approx(slim_base.gem_p, abs=0.1)
    network = EmbeddingNetwork.from_weights(weights).eval()
    learned = [
        path
        for path, label in zip(copies.paths, copies.labels, strict=True)
        if label not in set(outcome.labels)
    ]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack([prepare_input(load_image(path)) for path in learned]))
        projected = network.projection(network.features(pixels))
    assert (
        projected.mean(dim=0).norm() < 0.12 * projected.norm(dim=1).mean()
    )  # not zero because of bfloat16


@pytest.fixture(scope="module")
def outcome(
    images: LabelledImages, base: WeightsFile, tmp_path_factory: pytest.TempPathFactory
) -> FinetuningResult:
    recipe = replace(TINY, tune="layer4", rate=3e-4, average=0.5, patience=9, steps=4)
    return Finetuning(images, base, tmp_path_factory.mktemp("out"), recipe).run()


@pytest.mark.slow
def test_the_result_is_another_version_that_every_engine_runs(
    outcome: FinetuningResult, base: WeightsFile, images: LabelledImages
) -> None:
    weights = WeightsFile.load(outcome.weights)
    assert weights.version == outcome.version != base.version
    before, after = (each.tensors["layer4.2.conv3.weight"] for each in (base, weights))
    assert np.abs(after - before).max() > 1e-5
    assert weights.calibration == outcome.calibration
    held = [
        path
        for path, label in zip(images.paths, images.labels, strict=True)
        if label in set(outcome.labels)
    ]
    by_openvino = embed_images(load_embedder(weights, slots=2, precision="f32"), held, slots=2)
    by_torch = embed_images(TorchEmbedder(weights, device="cpu"), held, slots=1)
    assert np.abs((by_openvino * by_torch).sum(axis=1) - 1).max() < 1e-3
    assert (by_torch * outcome.vectors).sum(
        axis=1
    ).min() > 0.99  # trained in bfloat16, saved in float16


@pytest.mark.slow
def test_the_card_shows_scores_and_plots(
    outcome: FinetuningResult, images: LabelledImages, tmp_path: Path
) -> None:
    card = write_card(tmp_path, outcome, images, TINY, "base.safetensors").read_text()
    assert outcome.version in card
    assert f"| mAP | {outcome.before['map']:.4f} | {outcome.after['map']:.4f} |" in card
    for name in ("training", "recall", "distances", "reliability"):
        assert f"({name}.png)" in card
        with Image.open(tmp_path / f"{name}.png") as plot:
            assert plot.width > 400


def copied(images: LabelledImages, root: Path) -> LabelledImages:
    shutil.copytree(images.root, root)
    return LabelledImages.read(root)


@pytest.mark.slow
def test_an_output_directory_of_another_run_does_not_change_the_result(
    copies: LabelledImages, slim_base: WeightsFile, tmp_path: Path
) -> None:
    data = copied(copies, tmp_path / "data")

    def tuned(images: LabelledImages, out: str) -> str:
        return Finetuning(images, slim_base, tmp_path / out, TINY).run().version

    first = tuned(data, "used")
    # This run stops before its first step.
    Finetuning(data, slim_base, tmp_path / "used", replace(TINY, seed=1))
    assert tuned(data, "used") == first

    fewer = data.select([i for i, label in enumerate(data.labels) if label != "rocket"])
    assert tuned(fewer, "used") == tuned(fewer, "fresh") != first

    for number in range(3):  # other images under the same names
        kinds = [data.root / kind / f"{number}.jpg" for kind in ("coffee", "chelsea")]
        contents = [path.read_bytes() for path in kinds]
        for path, content in zip(kinds, reversed(contents), strict=True):
            path.write_bytes(content)
    other = tuned(fewer, "other")
    assert tuned(fewer, "used") == other
    (tmp_path / "used" / "work" / "state.json").write_text('{"cut')
    assert tuned(fewer, "used") == other


def test_unusable_data_weights_and_output_directories_are_rejected(
    images: LabelledImages, base: WeightsFile, tmp_path: Path
) -> None:
    labels = ["a", "b", "c", "d", "e", "e"]
    lone = LabelledImages(Path(), [Path(str(number)) for number in range(6)], labels)
    with pytest.raises(UnusableData, match="two images or more"):
        split_classes(lone, 0.2, 0)
    pairs = LabelledImages(
        Path(), [Path(str(number)) for number in range(8)], ["a", "b", "c", "d", "e", "e", "f", "f"]
    )
    assert {pairs.labels[i] for i in split_classes(pairs, 0.2, 0)[1]} == {
        "e",
        "f",
    }  # the others have no match
    with pytest.raises(UnusableData, match="lies inside"):
        Finetuning(images, base, images.root / "finetuned", TINY)
    with pytest.raises(UnusableData, match="int8"):
        Finetuning(
            images, replace(base, tensors={"openvino.xml": np.zeros(1, np.uint8)}), tmp_path, TINY
        )
    assert not (images.root / "finetuned").exists()
    spoiled = dict(base.tensors)
    spoiled["projection.weight"] = np.full_like(spoiled["projection.weight"], np.nan)
    save_weights(tmp_path / "nan.safetensors", spoiled, {})
    with pytest.raises(WeightsInvalid, match="NaN, infinite or out of range"):
        WeightsFile.load_base(tmp_path / "nan.safetensors")


def test_the_help_shows_the_defaults_of_the_recipe() -> None:
    command = get_command(app).commands["finetune"]  # type: ignore[attr-defined]
    options = {option.name: option for option in command.params}
    told = {
        name: match[1]
        for name, option in options.items()
        if (match := re.search(r"Default: (\S+)\.$", option.help or ""))
    }
    assert told.pop("base", None) is None
    assert len(told) == 12
    assert told == {name: str(getattr(Recipe(), name)) for name in told}
