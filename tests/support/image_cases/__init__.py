"""The files of docs/formats.md: every format and variant, and what the service does with it.

``tests/unit/test_formats.py`` checks each of them, and ``docs/generate.py`` writes the table. It
makes no file, and so needs only what serving needs.
"""

from __future__ import annotations

from tests.support.image_cases import (
    camera_raw,
    every_format,
    further,
    heic,
    jpeg,
    jpeg_xl,
    png_files,
    profiles,
    tiff_files,
)
from tests.support.image_cases.case import ACCEPTED, Case

ALL_CASES: list[Case] = [
    case
    for part in (
        jpeg,
        png_files,
        further,
        heic,
        tiff_files,
        jpeg_xl,
        camera_raw,
        profiles,
        every_format,
    )
    for case in part.CASES
]
__all__ = ["ACCEPTED", "ALL_CASES", "Case"]
