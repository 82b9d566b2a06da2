"""Colour profiles: an image becomes the picture that a browser shows."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models import colour
from models.colour import MAX_PROFILE, find_conversion
from models.imaging import decode_image
from tests.support.colour_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Values,
    cmyk_profile,
    decode_srgb,
    float_table_profile,
    grey_profile,
    lab_to_xyz,
    matrix_profile,
    matrix_to_xyz,
    srgb_to_xyb,
    xyb_profile,
    xyb_to_xyz,
    xyz_to_lab,
    xyz_to_srgb,
)
from tests.support.images import PHOTOGRAPHS, encoded, photograph

Pixels = NDArray[np.uint8]
COFFEE = photograph("coffee").resize((120, 80))
GREY = COFFEE.convert("L")
P3 = matrix_profile(DISPLAY_P3)
PRO = matrix_profile(PROPHOTO, 1.8)
DOT_GAIN = np.linspace(0, 1, 256) ** 1.75
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}}


def pixels(content: bytes, *, convert_colours: bool = True, min_side: int = 10_000) -> Pixels:
    file = io.BytesIO(content)
    return np.asarray(decode_image(file, min_side=min_side, convert_colours=convert_colours).image)


def differences(one: Pixels, other: Values | Pixels) -> Values:
    return np.abs(one.astype(float) - other)


def show_ink(inks: Values) -> Values:
    """Return the L*a*b* of ``(..., 4)`` cyan, magenta, yellow and black ink on imperfect paper."""
    cyan, magenta, yellow, black = np.moveaxis(inks, -1, 0)
    light = np.stack([1 - 0.9 * cyan, 1 - 0.85 * magenta, 1 - 0.9 * yellow], axis=-1)
    lab = xyz_to_lab(decode_srgb(light * (1 - 0.88 * black[..., None])) @ matrix_to_xyz(SRGB).T)
    lab[..., 0] = 12 + lab[..., 0] * 0.83  # paper is not white, and ink not black
    return lab


# RGB


@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [(DISPLAY_P3, None), (PROPHOTO, 1.8), (ADOBE_RGB, 563 / 256), (SRGB, 1.0)],
    ids=["Display P3", "ProPhoto", "Adobe RGB", "linear"],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_colours_are_converted_by_primaries_and_curves(
    format: str, primaries: tuple[tuple[float, float], ...], gamma: float | None
) -> None:
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
    profile = matrix_profile(primaries, gamma)
    content = encoded(COFFEE, format, icc_profile=profile)
    stored = pixels(content, convert_colours=False) / 255
    # A profile stores a gamma as a multiple of 1/256.
    linear = decode_srgb(stored) if gamma is None else stored ** (round(gamma * 256) / 256)
    expected = xyz_to_srgb(linear @ matrix_to_xyz(primaries).T)
    assert differences(pixels(content), expected).max() < 1.5
    assert differences(pixels(content), stored * 255).max() > 10


def test_an_xyb_jpeg_looks_like_its_original() -> None:
    stored = np.rint(srgb_to_xyb(np.asarray(COFFEE) / 255) * 255).clip(0, 255).astype(np.uint8)
    content = encoded(
        Image.fromarray(stored), quality=100, keep_rgb=True, icc_profile=xyb_profile()
    )
    stored = pixels(content, convert_colours=False)
    expected = xyz_to_srgb(xyb_to_xyz(stored / 255))
    assert differences(pixels(content), expected).mean() < 1
    assert differences(pixels(content), np.asarray(COFFEE)).mean() < 3
    assert differences(stored, np.asarray(COFFEE)).mean() > 30


def test_a_scaled_jpeg_is_converted() -> None:
    large = COFFEE.resize((1200, 800))
    scaled = pixels(encoded(large, quality=95, icc_profile=PRO), min_side=100)
    whole = pixels(encoded(COFFEE.resize((scaled.shape[1], 100)), "PNG", icc_profile=PRO))
    assert scaled.shape[0] == 100
    assert differences(scaled, whole).mean() < 2


@pytest.mark.parametrize("format", LOSSLESS)
def test_transparency_is_put_on_white_after_the_conversion(format: str) -> None:
    image = COFFEE.convert("RGBA")
    ramp = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(ramp))
    content = encoded(image, format, icc_profile=P3, exact=True, **LOSSLESS[format])
    opaque = pixels(encoded(COFFEE, "PNG", icc_profile=P3)).astype(float)
    share = ramp[..., None] / 255
    assert differences(pixels(content), opaque * share + 255 * (1 - share)).max() < 2


def test_one_transparent_colour_of_a_png_becomes_white() -> None:
    image = COFFEE.copy()
    image.paste((1, 2, 3), (0, 0, 60, 80))
    found = pixels(encoded(image, "PNG", icc_profile=P3, transparency=(1, 2, 3)))
    assert (found[:, :60] == 255).all()
    assert np.array_equal(found[:, 60:], pixels(encoded(COFFEE, "PNG", icc_profile=P3))[:, 60:])


def test_the_colours_of_a_palette_are_converted() -> None:
    image = COFFEE.quantize(64)
    found = pixels(encoded(image, "PNG", icc_profile=P3))
    assert np.array_equal(found, pixels(encoded(image.convert("RGB"), "PNG", icc_profile=P3)))


def test_an_image_on_its_side_is_turned_and_converted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pixels(encoded(COFFEE, "PNG", icc_profile=P3, exif=exif))
    assert np.array_equal(turned, np.rot90(pixels(encoded(COFFEE, "PNG", icc_profile=P3)), -1))


# grey


@pytest.mark.parametrize("curve", [1.0, 2.2, DOT_GAIN], ids=["linear", "gamma 2.2", "dot gain"])
@pytest.mark.parametrize(
    ("format", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "I;16")]
)
def test_grey_is_converted_by_its_curve(format: str, mode: str, curve: float | Values) -> None:
    image = GREY.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    content = encoded(image, format, icc_profile=grey_profile(curve))
    stored = pixels(content, convert_colours=False)[..., :1] / 255
    if isinstance(curve, float):
        light = stored ** (round(curve * 256) / 256)
    else:
        light = np.interp(stored, np.linspace(0, 1, len(curve)), curve)
    expected = xyz_to_srgb(light * np.array([0.96422, 1.0, 0.82521]))
    found = pixels(content)
    assert differences(found, expected).mean() < 0.5
    # littleCMS keeps 16 bits of a curve, and the darkest of sRGB's levels need more.
    assert differences(found, expected)[stored[..., 0] > 0.05].max() < 2


def test_grey_may_have_a_profile_of_rgb() -> None:
    linear = matrix_profile(SRGB, 1.0)
    found = pixels(encoded(GREY, "PNG", icc_profile=linear))
    assert np.array_equal(found, pixels(encoded(GREY.convert("RGB"), "PNG", icc_profile=linear)))


def test_black_and_white_stay_black_and_white() -> None:
    image = GREY.convert("1")
    found = pixels(encoded(image, "PNG", icc_profile=grey_profile(DOT_GAIN)))
    assert np.array_equal(found, np.asarray(image.convert("RGB")))


# CMYK


def test_ink_is_converted_by_the_table_of_its_profile() -> None:
    inks = np.random.default_rng(5).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    inks[0, :3] = [0] * 4, [255] * 4, [0, 0, 0, 255]
    image = Image.fromarray(np.kron(inks, np.ones((16, 16, 1), np.uint8)), "CMYK")
    content = encoded(image, quality=100, subsampling=0, icc_profile=cmyk_profile(show_ink))
    with Image.open(io.BytesIO(content)) as opened:
        stored = np.asarray(opened) / 255
    expected = xyz_to_srgb(lab_to_xyz(show_ink(stored)))
    found = pixels(content)
    assert differences(found, expected).mean() < 1
    # Black ink is not black: browsers do not compensate for it.
    assert differences(found[8, 24], expected[8, 24]).max() < 3
    assert expected[8, 24].min() > 25


@pytest.mark.parametrize("profile", [None, P3, b"broken"], ids=["none", "of RGB", "broken"])
def test_ink_without_a_profile_of_ink_is_converted_simply(profile: bytes | None) -> None:
    image = COFFEE.convert("CMYK")
    content = encoded(image, quality=95, icc_profile=profile)
    with Image.open(io.BytesIO(content)) as opened:
        assert np.array_equal(pixels(content), np.asarray(opened.convert("RGB")))


def ycck(image: Image.Image, profile: bytes) -> bytes:
    """Make a JPEG of ink whose colours are stored as luma and chroma (Adobe's YCCK)."""
    stored = Image.merge("RGB", image.split()[:3]).convert("YCbCr")
    content = encoded(
        Image.merge("CMYK", (*map(ImageOps.invert, stored.split()), image.getchannel("K"))),
        quality=100,
        subsampling=0,
        icc_profile=profile,
    )
    marker = content.index(b"Adobe\0")
    return content[: marker + 11] + b"\x02" + content[marker + 12 :]


def test_ycck_is_converted_as_cmyk_is() -> None:
    image, profile = COFFEE.convert("CMYK"), cmyk_profile(show_ink)
    plain = encoded(image, quality=100, subsampling=0, icc_profile=profile)
    assert differences(pixels(ycck(image, profile)), pixels(plain)).mean() < 2


# profiles that change nothing


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("gamma", [None, "measured"])
def test_a_profile_of_srgb_changes_no_pixel(name: str, gamma: str | None) -> None:
    image = photograph(name)
    profile = matrix_profile(SRGB, decode_srgb(np.linspace(0, 1, 1024)) if gamma else None)
    with Image.open(io.BytesIO(encoded(image, "PNG", icc_profile=profile))) as opened:
        assert find_conversion(opened) is None
    assert np.array_equal(pixels(encoded(image, "PNG", icc_profile=profile)), np.asarray(image))


def with_bytes(profile: bytes, at: int, new: bytes) -> bytes:
    return profile[:at] + new + profile[at + len(new) :]


BROKEN = {
    "one byte": b"x",
    "text": b"no profile " * 100,
    "header alone": P3[:128],
    "cut": P3[: len(P3) // 2],
    "zeros": bytes(1000),
    "no signature": with_bytes(P3, 36, b"xxxx"),
    "device link": with_bytes(P3, 12, b"link"),
    "named colours": with_bytes(P3, 12, b"nmcl"),
    "six inks": with_bytes(P3, 16, b"6CLR"),
    "no tags": with_bytes(P3, 128, bytes(4)),
    "4 billion tags": with_bytes(P3, 128, b"\xff" * 4),
    "colours outside": with_bytes(P3, P3.index(b"rXYZ") + 4, b"\xff" * 8),
    "ink": cmyk_profile(show_ink),
    "grey": grey_profile(1.0),
    "huge": P3 + bytes(MAX_PROFILE),
}


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_a_profile_that_does_not_fit_is_ignored(format: str, profile: bytes) -> None:
    content = encoded(COFFEE, format, icc_profile=profile)
    assert np.array_equal(pixels(content), pixels(encoded(COFFEE, format)))


def test_a_damaged_profile_never_fails() -> None:
    random = np.random.default_rng(7)
    for profile in (P3, xyb_profile(), grey_profile(DOT_GAIN)):
        for _ in range(60):
            damaged = np.frombuffer(profile, np.uint8).copy()
            places = random.integers(0, len(damaged), 4)
            damaged[places] = random.integers(0, 256, 4)
            found = pixels(encoded(COFFEE.resize((8, 8)), "WEBP", icc_profile=damaged.tobytes()))
            assert found.shape == (8, 8, 3)


def test_tables_that_browsers_ignore_are_ignored() -> None:
    slow = encoded(COFFEE, "PNG", icc_profile=float_table_profile(DISPLAY_P3, elements=20_000))
    assert np.array_equal(pixels(slow), pixels(encoded(COFFEE, "PNG", icc_profile=P3)))


# cost


def test_a_profile_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[bytes] = []
    build = colour._build_conversion

    def count(profile: bytes, mode: str) -> colour.Conversion | None:
        built.append(profile)
        return build(profile, mode)

    monkeypatch.setattr(colour, "_build_conversion", count)
    monkeypatch.setattr(colour, "_conversions", colour._Conversions())
    images = [encoded(COFFEE, "PNG", icc_profile=matrix_profile(SRGB, 1 + n / 8)) for n in range(9)]
    for content in [*images[:4], *images[:4]]:
        pixels(content)
    assert len(built) == 4
    for content in images:
        pixels(content)
    assert len(colour._conversions._kept) == 8  # one of them was dropped
    pixels(images[0])
    assert len(built) == 10


def test_memory_that_cannot_be_written_is_copied() -> None:
    content = np.asarray(COFFEE.convert("RGBX")).tobytes()
    image = Image.frombuffer("RGBX", COFFEE.size, content, "raw", "RGBX", 0, 1)
    image.info["icc_profile"] = PRO
    assert image.readonly
    conversion = find_conversion(image)
    assert conversion is not None
    found = np.asarray(conversion.apply(image))
    assert np.array_equal(found, pixels(encoded(COFFEE, "PNG", icc_profile=PRO)))
    assert content == np.asarray(COFFEE.convert("RGBX")).tobytes()


def test_a_profile_adds_nothing_to_the_estimate_of_memory() -> None:
    estimates: list[int] = []
    for options in ({}, {"icc_profile": P3}):
        file = io.BytesIO(encoded(COFFEE, "PNG", **options))
        decode_image(file, min_side=10, admit=estimates.append)
    assert estimates[0] == estimates[1]


def test_a_png_with_several_profiles_is_an_image() -> None:
    content = encoded(COFFEE, "PNG", icc_profile=P3)
    length = struct.unpack(">I", content[33:37])[0]
    assert content[37:41] == b"iCCP"
    profile = content[33 : 45 + length]
    assert pixels(content[:33] + profile + content[33:]).shape == (80, 120, 3)
