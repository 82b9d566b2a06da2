"""Gamma and primaries of PNG files without a profile, which browsers convert by too."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging import decode_image
from tests.support.colour_profiles import (
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Primaries,
    Values,
    matrix_profile,
    matrix_to_xyz,
    xyz_to_srgb,
)
from tests.support.images import encoded, photograph
from tests.support.png import chunk

Pixels = NDArray[np.uint8]
COFFEE = photograph("coffee").resize((120, 80))


def pixels(content: bytes) -> Pixels:
    return np.asarray(decode_image(io.BytesIO(content), min_side=10_000).image)


def differences(one: Pixels, other: Values | Pixels) -> Values:
    return np.abs(one.astype(float) - other)


def stating(*chunks: bytes, mode: str = "RGB") -> bytes:
    """Return a PNG with further chunks behind its header."""
    content = encoded(COFFEE.convert(mode), "PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def primaries(points: Primaries) -> bytes:
    red, green, blue, white = points
    numbers = [round(value * 100_000) for point in (white, red, green, blue) for value in point]
    return chunk(b"cHRM", struct.pack(">8I", *numbers))


@pytest.mark.parametrize("points", [None, SRGB, DISPLAY_P3, PROPHOTO])
@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.4])
def test_a_png_is_converted_by_its_gamma_and_primaries(
    exponent: float, points: Primaries | None
) -> None:
    content = stating(gamma(1 / exponent), *([primaries(points)] if points else []))
    light = (np.asarray(COFFEE) / 255) ** exponent
    expected = xyz_to_srgb(light @ matrix_to_xyz(points or SRGB).T)
    found = differences(pixels(content), expected)
    assert found.mean() < 0.5
    assert found.max() < 3


def test_a_gamma_near_that_of_srgb_counts_only_with_primaries() -> None:
    alone = pixels(stating(gamma(0.45455)))
    both = pixels(stating(gamma(0.45455), primaries(SRGB)))
    assert np.array_equal(alone, np.asarray(COFFEE))
    assert 0.5 < differences(both, alone).mean() < 3


def test_grey_and_palettes_are_converted_by_a_gamma() -> None:
    for mode in ("L", "P"):
        found = pixels(stating(gamma(1.0), mode=mode))
        linear = np.asarray(COFFEE.convert(mode).convert("RGB")) / 255
        expected = xyz_to_srgb(linear @ matrix_to_xyz(SRGB).T)
        assert differences(found, expected).max() < 2


SAME_POINT = ((0.64, 0.33),) * 3 + ((0.3127, 0.3290),)
NOT_STATED = {
    "primaries alone": [primaries(PROPHOTO)],
    "sRGB beside it": [chunk(b"sRGB", b"\0"), gamma(1.0)],
    "no gamma": [gamma(0.0), primaries(PROPHOTO)],
    "gamma beyond reason": [gamma(40_000.0)],
    "primaries on one point": [gamma(1.0), primaries(SAME_POINT)],
    "primaries of zeros": [gamma(1.0), primaries(((0, 0),) * 4)],
    "primaries beyond reason": [gamma(1.0), primaries(((9000, 1), (0, 9000), (1, 0), (1, 1)))],
}


@pytest.mark.parametrize("chunks", NOT_STATED.values(), ids=NOT_STATED)
def test_what_states_no_colours_changes_no_pixel(chunks: list[bytes]) -> None:
    assert np.array_equal(pixels(stating(*chunks)), np.asarray(COFFEE))


def test_a_profile_counts_more_than_a_gamma() -> None:
    content = encoded(COFFEE, "PNG", icc_profile=matrix_profile(DISPLAY_P3))
    both = content[:33] + gamma(1.0) + content[33:]
    assert np.array_equal(pixels(both), pixels(content))
