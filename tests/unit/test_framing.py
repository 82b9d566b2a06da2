"""Bundles state how images are resized, cropped and padded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.bundles.framing import Framing
from models.bundles.manifest import ImageTower
from models.embedder import Embedder
from models.imaging import decode_image
from models.transforms import INPUT_SIDE, Region, prepare_input
from tests.support.images import PHOTOGRAPHS, encoded, photograph

NEUTRAL = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def framing(width: int, height: int, **rules: Any) -> Framing:
    return Framing(ImageTower("image.onnx", width, height, *NEUTRAL, **rules))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return how much the pixels differ on average."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("rule", ["shortest-side", "squash", "pad"])
@pytest.mark.parametrize("size", [(96, 96), (336, 336), (64, 128), (128, 64)])
@pytest.mark.parametrize(
    "given", [(500, 300), (300, 500), (20, 20), (1000, 10), (10, 1000), (1, 1)]
)
def test_every_image_fills_the_input(
    rule: str, size: tuple[int, int], given: tuple[int, int]
) -> None:
    prepared = framing(*size, resize=rule).prepare(Image.new("RGB", given, (10, 20, 30)))
    assert (prepared.shape, prepared.dtype) == ((size[1], size[0], 3), np.uint8)
    middle = prepared[(size[1] - 1) // 2, (size[0] - 1) // 2]
    assert middle.tolist() == [10, 20, 30]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("shortest", "crop"), [(224, 224), (256, 224), (118, 96)])
@pytest.mark.parametrize("turned", [False, True])
def test_shortest_side_equals_the_usual_resize_and_centre_crop(
    interpolation: str, shortest: int, crop: int, turned: bool
) -> None:
    image = photograph("coffee").crop((0, 0, 501, 333))
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_90)
    # torchvision's Resize and CenterCrop
    width, height = (int(shortest * side / 333) for side in image.size)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    resampling = Image.Resampling[interpolation.upper()]
    scaled = image.resize((width, height), resampling)
    usual = scaled.crop((left, top, left + crop, top + crop))
    ours = framing(crop, crop, shortest_side=shortest, interpolation=interpolation)
    # Pillow may scale the columns first, which rounds differently.
    assert difference(ours.prepare(image), np.asarray(usual)) < 0.3


def test_shortest_side_covers_an_input_that_is_not_square() -> None:
    image = photograph("coffee").resize((640, 400))
    wide = framing(160, 50).prepare(image)  # scaled to 160 x 100
    middle = image.resize((160, 100), Image.Resampling.BICUBIC).crop((0, 25, 160, 75))
    assert difference(wide, np.asarray(middle)) < 0.3


def test_squash_keeps_all_of_the_image_and_no_proportions() -> None:
    image = photograph("coffee").resize((300, 200))
    squashed = image.resize((96, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(framing(96, 128, resize="squash").prepare(image), squashed)


def test_pad_keeps_all_of_the_image_and_its_proportions() -> None:
    image = Image.new("RGB", (300, 150), (200, 100, 50))
    padded = framing(96, 96, resize="pad", fill=(1, 2, 3)).prepare(image)
    assert (padded[24:72] == (200, 100, 50)).all()
    assert (padded[:24] == (1, 2, 3)).all()
    assert (padded[72:] == (1, 2, 3)).all()


@pytest.mark.parametrize("rule", ["shortest-side", "squash", "pad"])
def test_a_scaled_decode_is_never_smaller_than_the_input(rule: str) -> None:
    ours = framing(336, 196, resize=rule)
    assert ours.min_side == 336
    assert framing(96, 96, shortest_side=118).min_side == 118
    large = photograph("coffee").resize((2000, 1300))
    file = io.BytesIO(encoded(large, quality=95))
    scaled = decode_image(file, min_side=ours.min_side).image
    assert min(scaled.size) >= 336
    assert difference(ours.prepare(scaled), ours.prepare(large)) < 3


def test_the_preprocessing_of_the_resnet_is_unchanged(embedder: Embedder) -> None:
    assert embedder.preprocessing.min_side == INPUT_SIDE == 224
    for name in PHOTOGRAPHS:
        image = photograph(name)
        assert np.array_equal(embedder.preprocessing.prepare(image), prepare_input(image))


@pytest.mark.parametrize("rule", ["shortest-side", "squash", "pad"])
@pytest.mark.parametrize("size", [(96, 96), (64, 128), (128, 64)])
@pytest.mark.parametrize("given", [(600, 400), (400, 600)])
def test_the_region_is_what_the_input_shows(
    rule: str, size: tuple[int, int], given: tuple[int, int]
) -> None:
    ours = framing(*size, resize=rule)
    image = photograph("coffee").resize(given)
    region = ours.find_region(*given)
    edges = (region.x, region.y, region.x + region.width, region.y + region.height)
    shown = image.crop(tuple(round(edge) for edge in edges)).resize(size, Image.Resampling.BICUBIC)
    assert difference(ours.prepare(image), np.asarray(shown)) < 4


def test_the_region_of_the_resnet_is_the_centre_square(embedder: Embedder) -> None:
    assert embedder.preprocessing.find_region(300, 200) == Region(50, 0, 200, 200)
    assert embedder.preprocessing.find_region(200, 301) == Region(0, 50.5, 200, 200)
