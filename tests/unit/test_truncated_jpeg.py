"""JPEG files without their end: accepted if nothing or nearly nothing is missing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.imaging import TRUNCATED, Acceptance, DecodedImage, ImageRejected, decode_image
from tests.support.images import encoded, jpeg_of_several_scans, part_of, photograph

COFFEE = photograph("coffee")
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "progressive, 4:4:4": {"progressive": True, "subsampling": 0},
    "restart markers": {"restart_marker_blocks": 4},
    "a restart marker for each row": {"restart_marker_rows": 1},
}
MODES = ("RGB", "L")


def decoded(
    content: bytes, *, truncated: bool = True, min_side: int = 10_000, **options: Any
) -> DecodedImage:
    accept = Acceptance(truncated=truncated)
    return decode_image(io.BytesIO(content), min_side=min_side, accept=accept, **options)


def refusal(content: bytes, *, truncated: bool = True) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decoded(content, truncated=truncated)
    return caught.value


def without(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * (1 - share))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 2])
def test_a_file_that_lacks_only_the_marker_of_its_end_is_whole(
    kind: str, mode: str, cut: int
) -> None:
    content = encoded(COFFEE.convert(mode), **KINDS[kind])
    image = decoded(content[:-cut], truncated=False)
    assert image.warnings == ()
    assert np.array_equal(np.asarray(image.image), np.asarray(decoded(content).image))


@pytest.mark.parametrize("side", [1, 8, 16, 17, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_file_that_lacks_only_the_marker_of_its_end_is_whole(kind: str, side: int) -> None:
    content = encoded(COFFEE.resize((side, side)), **KINDS[kind])[:-2]
    assert decoded(content, truncated=False).warnings == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.003, 0.005, 0.01])
def test_a_file_that_is_cut_within_its_last_percent_is_truncated(
    kind: str, mode: str, share: float
) -> None:
    content = encoded(COFFEE.convert(mode), **KINDS[kind])
    image = decoded(without(content, share))
    assert image.warnings == (TRUNCATED,)
    whole = np.asarray(decoded(content).image).astype(int)
    found = np.asarray(image.image).astype(int)
    assert np.array_equal(found[:-32] > 0, whole[:-32] > 0) or "progressive" in kind
    assert np.abs(found - whole).mean() < 2


@pytest.mark.parametrize("share", [0.003, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused_unless_it_is_asked_for(kind: str, share: float) -> None:
    error = refusal(without(encoded(COFFEE, **KINDS[kind]), share), truncated=False)
    assert error.code == "invalid-image"
    assert "LOOKALIKE_ACCEPT_TRUNCATED" in str(error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", ["coffee", "astronaut", "rocket"])
def test_a_file_of_which_more_is_missing_is_refused(
    name: str, kind: str, mode: str, share: float
) -> None:
    content = encoded(part_of(name, 1).convert(mode), **KINDS[kind])
    assert refusal(without(content, share)).code == "invalid-image"


def test_a_plain_area_of_few_bytes_is_a_part_of_the_picture() -> None:
    image = COFFEE.copy()
    image.paste("white", (0, 200, 600, 400))  # half of the picture, in 1 % of the bytes
    content = encoded(image, quality=95)
    assert refusal(without(content, 0.006)).code == "invalid-image"


def test_zeros_in_place_of_the_rest_are_not_a_part_of_the_picture() -> None:
    content = encoded(COFFEE)
    zeros = bytes(len(content) // 2)
    assert refusal(content[: -len(zeros)] + zeros).code == "invalid-image"
    assert decoded(content[:-2] + bytes(5000), truncated=False).warnings == ()


def test_a_file_that_lacks_whole_scans_is_refused() -> None:
    content = encoded(COFFEE, progressive=True)
    last = content.rindex(b"\xff\xda")
    assert refusal(content[: content.rindex(b"\xff\xc4", 0, last)]).code == "invalid-image"
    several = jpeg_of_several_scans(256)
    assert refusal(several[: several.rindex(b"\xff\xda")]).code == "invalid-image"
    assert decoded(several[:-2], truncated=False).warnings == ()


def test_a_truncated_file_with_broken_metadata_is_decoded() -> None:
    content = encoded(COFFEE, quality=95)
    short = content[:2] + b"\xff\xe0\0\7JFIF\0" + content[4 + int.from_bytes(content[4:6]) :]
    assert decoded(without(short, 0.003)).warnings == (TRUNCATED,)


def test_the_orientation_of_a_truncated_file_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = without(encoded(COFFEE, exif=exif), 0.003)
    assert (decoded(content).width, decoded(content).height) == COFFEE.size[::-1]


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_the_memory_of_the_comparison_is_admitted(kind: str) -> None:
    admitted: list[int] = []
    content = encoded(COFFEE.resize((1200, 800)), **KINDS[kind])
    decoded(content[:-2], min_side=8, admit=admitted.append)
    pixels = 1200 * 800
    assert max(admitted) > 4 * pixels + (6 * pixels if kind == "progressive" else 0)
    admitted.clear()
    decoded(content, min_side=8, admit=admitted.append)
    assert len(admitted) == 1


def test_what_does_not_fit_into_memory_is_not_compared() -> None:
    class TooMuchError(Exception):
        pass

    def refuse(_: int) -> None:
        raise TooMuchError

    with pytest.raises(TooMuchError):
        decoded(encoded(COFFEE)[:-2], admit=refuse)
