"""Files with colour profiles: they become the picture that a browser shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.support.colour_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Primaries,
    Values,
    cmyk_profile,
    decode_srgb,
    grey_profile,
    lab_to_xyz,
    matrix_profile,
    matrix_to_xyz,
    srgb_to_xyb,
    xyb_profile,
    xyz_to_lab,
    xyz_to_srgb,
)
from tests.support.image_cases.case import Case, picture, saved
from tests.support.png import chunk

_PART = "Colour profiles (ICC)"
_WHITE = np.array([0.96422, 1.0, 0.82521])  # XYZ
_MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
}


def _case(
    variant: str,
    profile: bytes,
    expected: Callable[[], Image.Image] = picture,
    format: str = "PNG",
    mode: str = "RGB",
    note: str = "",
) -> Case:
    make = saved(format, mode, icc_profile=profile, **_OPTIONS[format])
    kind, file = _MEDIA_TYPES[format], f"{format} {mode}"
    return Case(
        _PART, variant, make, note=note, expected=expected, tolerance=4, media_type=kind, file=file
    )


def _shown(xyz_of: Callable[[Values], Values], mode: str = "RGB") -> Callable[[], Image.Image]:
    """Return a function that makes the picture from what its stored values mean."""

    def show() -> Image.Image:
        values = np.asarray(picture(mode)) / 255
        return Image.fromarray(np.rint(xyz_to_srgb(xyz_of(values))).astype(np.uint8))

    return show


def _linear(primaries: Primaries, gamma: float | None) -> Callable[[Values], Values]:
    def to_xyz(values: Values) -> Values:
        light = decode_srgb(values) if gamma is None else values**gamma
        return light @ matrix_to_xyz(primaries).T

    return to_xyz


def _ink_to_lab(inks: Values) -> Values:
    paper = 1 - 0.9 * inks[..., :3]
    light = decode_srgb(paper * (1 - 0.85 * inks[..., 3:])) @ matrix_to_xyz(SRGB).T
    return xyz_to_lab(light)


def _save_xyb() -> bytes:
    from tests.support.images import encoded

    stored = np.rint(srgb_to_xyb(np.asarray(picture()) / 255) * 255).clip(0, 255)
    options = {"quality": 95, "keep_rgb": True, "icc_profile": xyb_profile()}
    return encoded(Image.fromarray(stored.astype(np.uint8)), "JPEG", **options)


def _save_gamma() -> bytes:
    content = saved("PNG")()
    return content[:33] + chunk(b"gAMA", (100_000).to_bytes(4)) + content[33:]


def _rgb_cases(variant: str, primaries: Primaries, gamma: float | None) -> list[Case]:
    profile = matrix_profile(primaries, gamma)
    expected = _shown(_linear(primaries, gamma))
    return [_case(variant, profile, expected, kind) for kind in _MEDIA_TYPES]


CASES = [
    _case("sRGB", matrix_profile(SRGB), note="No pixel changes."),
    *_rgb_cases("Display P3", DISPLAY_P3, None),
    *_rgb_cases("ProPhoto RGB", PROPHOTO, 1.8),
    *_rgb_cases("Adobe RGB", ADOBE_RGB, 563 / 256),
    Case(_PART, "XYB, as jpegli writes it", _save_xyb, media_type="image/jpeg"),
    _case(
        "CMYK with a profile of ink and paper",
        cmyk_profile(_ink_to_lab),
        _shown(lambda inks: lab_to_xyz(_ink_to_lab(inks)), "CMYK"),
        "JPEG",
        "CMYK",
    ),
    *(
        _case(
            "grey with a gamma or dot gain",
            grey_profile(1.8),
            _shown(lambda grey: grey[..., None] ** 1.8 * _WHITE, "L"),
            kind,
            "L",
        )
        for kind in ("PNG", "JPEG")
    ),
    Case(
        _PART,
        "PNG with gamma and primaries (gAMA, cHRM)",
        _save_gamma,
        expected=_shown(_linear(SRGB, 1.0)),
        tolerance=1,
        media_type="image/png",
    ),
    _case("palette", matrix_profile(SRGB), lambda: picture("P").convert("RGB"), mode="P"),
    *(
        _case(variant, profile, note="The profile is ignored.")
        for variant, profile in {
            "broken profile": b"not a profile",
            "profile of another colour space": grey_profile(1.8),
        }.items()
    ),
]
