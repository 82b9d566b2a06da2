"""The table of formats in docs/formats.md: each file is accepted or refused as it says."""

from __future__ import annotations

import io

import numpy as np
import pytest

from models.imaging import ImageRejected, decode_image
from tests.support.image_cases import ACCEPTED, ALL_CASES, Case

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
    "TIFF": "image/tiff",
    "JPEG XL": "image/jxl",
}


@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.result == ACCEPTED], ids=str)
def test_an_accepted_file_becomes_the_picture(case: Case) -> None:
    decoded = decode_image(io.BytesIO(case.make()), min_side=10_000)
    expected = np.asarray(case.expected()).astype(float)
    pixels = np.asarray(decoded.image).astype(float)
    assert (decoded.height, decoded.width) == pixels.shape[:2]
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() <= case.tolerance
    assert decoded.mime == (case.media_type or MEDIA_TYPES[case.format])


@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.result != ACCEPTED], ids=str)
def test_a_refused_file_is_refused_with_its_code(case: Case) -> None:
    with pytest.raises(ImageRejected) as caught:
        decode_image(io.BytesIO(case.make()), min_side=8)
    assert caught.value.code == case.result


def test_files_of_one_variant_are_treated_alike() -> None:
    lines = {(case.format, case.variant, case.line) for case in ALL_CASES}
    assert len(lines) == len({(form, variant) for form, variant, _ in lines})


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({str(case) for case in ALL_CASES}) == len(ALL_CASES)
