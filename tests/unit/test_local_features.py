"""Local features, by which copies of one photograph are recognised."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from models.decoding.jobs import DecodeJob, run_job
from models.local_features import (
    FEATURES,
    FEWEST_COMMON,
    SIDE,
    WholeSquare,
    count_common_features,
    extract_features,
)
from tests.support.images import PHOTOGRAPHS, encoded, photograph


def features_of(image: Image.Image) -> bytes:
    return extract_features(WholeSquare().prepare(image))


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 10, height // 20, width * 9 // 10, height * 17 // 20))


def with_text(image: Image.Image) -> Image.Image:
    copy = image.copy()
    at, size = (copy.width // 20, copy.height * 2 // 5), copy.width // 5
    ImageDraw.Draw(copy).text(at, "SAMPLE", "white", font_size=size)
    return copy


def recompressed(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, quality=30)))


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "cropped": cropped,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 6 degrees": lambda image: image.rotate(6, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "mirrored and turned": lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    "JPEG 30": recompressed,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "with a border": lambda image: ImageOps.expand(image, max(image.size) // 10, "white"),
    "half the size": lambda image: image.reduce(2),
    "with a text": with_text,
}


@pytest.mark.parametrize("alteration", ALTERED)
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_an_altered_copy_shares_many_features_with_its_original(name: str, alteration: str) -> None:
    original, copy = photograph(name), ALTERED[alteration](photograph(name))
    assert count_common_features(features_of(original), features_of(copy)) >= FEWEST_COMMON


@pytest.mark.parametrize(("first", "second"), list(combinations(PHOTOGRAPHS, 2)))
def test_different_photographs_share_few_features(first: str, second: str) -> None:
    features = features_of(photograph(first)), features_of(photograph(second))
    assert count_common_features(*features) < FEWEST_COMMON


def test_an_image_shares_more_features_with_itself_than_with_a_crop() -> None:
    original = features_of(photograph("coffee"))
    crop = features_of(cropped(photograph("coffee")))
    itself = count_common_features(original, original)
    assert itself > count_common_features(original, crop) >= FEWEST_COMMON


@pytest.mark.parametrize("colour", ["black", "white", "grey"])
def test_a_picture_without_corners_resembles_nothing_not_even_itself(colour: str) -> None:
    plain = features_of(Image.new("RGB", (200, 100), colour))
    assert plain == b""
    assert count_common_features(plain, plain) == 0
    assert count_common_features(plain, features_of(photograph("coffee"))) == 0


def test_a_gradient_has_no_corners() -> None:
    gradient = Image.linear_gradient("L").convert("RGB")
    assert count_common_features(features_of(gradient), features_of(gradient)) == 0


def test_features_are_the_same_every_time_and_bounded() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    features = extract_features(noise)
    assert features == extract_features(noise.copy())
    assert len(features) <= 1 + 36 * FEATURES


def test_features_of_another_format_are_not_compared() -> None:
    features = features_of(photograph("coffee"))
    assert count_common_features(features, bytes([255]) + features[1:]) == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (4000, 2)])
def test_images_of_any_size_have_features(size: tuple[int, int]) -> None:
    image = photograph("coffee").resize(size)
    assert len(features_of(image)) <= 1 + 36 * FEATURES


def test_a_decode_makes_the_input_beside_that_of_a_network() -> None:
    file = io.BytesIO(encoded(photograph("coffee"), quality=90))
    pixels = run_job(file, DecodeJob((WholeSquare(),))).inputs[WholeSquare()]
    assert pixels.shape == WholeSquare().shape
    original = features_of(photograph("coffee"))
    assert count_common_features(extract_features(pixels), original) >= FEWEST_COMMON
