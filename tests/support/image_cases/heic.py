"""HEIC files."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from tests.support.image_cases.case import Case, cut, half_clear, half_white, picture, saved


def _transparent() -> bytes:
    from tests.support.images import encoded

    return encoded(half_clear(), "HEIF", quality=90)


def _grey() -> Image.Image:
    return picture("L").convert("RGB")


def _case(
    variant: str, make: Callable[[], bytes], result: str = "accepted", **options: object
) -> Case:
    return Case("HEIC", variant, make, result, extra="heif", **options)  # type: ignore[arg-type]


CASES = [
    _case("colours, 4:2:0", saved("HEIF", quality=90)),
    _case("colours, 4:4:4", saved("HEIF", quality=90, chroma="444")),
    _case("grey", saved("HEIF", "L", quality=90), expected=_grey),
    _case("transparent", _transparent, expected=half_white),
    _case(
        "several images",
        saved("HEIF", frames_of=3, quality=90),
        note="The primary image counts.",
    ),
    _case("truncated", cut(saved("HEIF"), 0.8), "invalid-image"),
]
