"""TIFF, JPEG XL and camera raw files, with and without the extras that some of them need."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from app.cli import image_files
from models.capture.values import Capture
from models.formats import jpeg_xl as jpeg_xl_format
from models.formats.faults import Damaged
from models.imaging import FORMATS, ImageRejected, decode_image, inspect_image
from tests.support.image_cases import ALL_CASES, Case
from tests.support.images import encoded, photograph
from tests.support.jpeg_xl import jpeg_xl, jpeg_xl_of_pixels
from tests.support.raw_files import DNG_TAGS, raw_file, raw_tiff

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "app" / "web"
COFFEE = photograph("coffee")
SMALL = COFFEE.resize((96, 64))


def decoded(content: bytes) -> Image.Image:
    return decode_image(io.BytesIO(content), min_side=10_000).image


def rejection(content: bytes) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decoded(content)
    assert "'" not in str(caught.value)  # no repr of bytes
    return caught.value


def tiff(pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]], **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


FLOATS = tiff(np.asarray(SMALL) / np.float32(255), photometric="rgb")


@pytest.mark.parametrize(
    ("library", "extra", "content"),
    [
        ("imagecodecs", "jxl", jpeg_xl(SMALL)),
        ("imagecodecs", "tiff", FLOATS),
        ("tifffile", "tiff", FLOATS),
        ("rawpy", "raw", raw_file("DNG", encoded(SMALL))),
        ("rawpy", "raw", raw_file("RAF", encoded(SMALL))),
    ],
    ids=["JPEG XL", "TIFF without its codecs", "TIFF", "DNG", "RAF"],
)
def test_a_file_whose_extra_is_missing_is_unsupported_and_names_the_extra(
    library: str, extra: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else find(name)
    )
    error = rejection(content)
    assert error.code == "unsupported-image-type"
    assert f"the extra `{extra}`" in str(error)


def test_tiff_files_of_the_usual_kinds_need_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert decoded(encoded(SMALL, "TIFF", compression="tiff_lzw")).size == SMALL.size


def test_a_damaged_tiff_is_invalid_without_the_extra_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert rejection(b"II*\0\x08\0\0\0" + bytes(100)).code == "invalid-image"
    assert rejection(b"II*\0\xff\xff\xff\xff" + bytes(100)).code == "invalid-image"


@pytest.mark.parametrize("extra", ["with", "without"])
@pytest.mark.parametrize("name", ["no directory", "far directory", "endless directory", "cut"])
def test_a_damaged_tiff_is_invalid(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if extra == "without":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    content = {
        "no directory": b"II*\0\x08\0\0\0" + bytes(100),
        "far directory": b"II*\0\xff\xff\xff\xff" + bytes(100),
        "endless directory": b"II*\0\x08\0\0\0\xff\xff" + bytes(200),
        "cut": encoded(SMALL, "TIFF")[:60],
    }[name]
    assert rejection(content).code == "invalid-image"


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_of_floats_may_be_a_pixel_wide(size: tuple[int, int], channels: int) -> None:
    width, height = size
    pixels = np.full((height, width, channels), 0.5, np.float32)
    photometric = "rgb" if channels == 3 else "minisblack"
    image = decoded(tiff(pixels.squeeze(-1) if channels == 1 else pixels, photometric=photometric))
    assert image.size == size
    assert image.getpixel((0, 0)) == (128, 128, 128)


def test_a_tiff_that_contradicts_itself_is_invalid() -> None:
    layout = struct.pack("<HHIH", 284, 3, 1, 1)
    assert layout in FLOATS
    damaged = FLOATS.replace(layout, struct.pack("<HHIH", 284, 3, 1, 99))
    assert rejection(damaged).code == "invalid-image"


def test_the_message_lists_what_is_accepted() -> None:
    message = str(rejection(b"no image at all" * 10))
    assert "AVIF, TIFF, HEIC, JPEG XL and camera raw. Convert it" in message


@pytest.mark.parametrize("extension", sorted({extension for _, extension in FORMATS.values()}))
def test_the_command_line_the_page_and_the_documentation_know_every_extension(
    extension: str,
) -> None:
    paths = [Path(f"picture.{extension}"), Path(f"PICTURE.{extension.upper()}")]
    assert all(path.suffix.lower() in image_files.IMAGE_SUFFIXES for path in paths)
    pattern = re.search(r"/(\\\..*)/i", (WEB / "files.js").read_text())
    assert pattern is not None
    assert re.search(pattern[1], f"picture.{extension}")
    accepted = re.findall(r'accept="([^"]*)"', (WEB / "index.html").read_text())
    usual = extension in ("jpg", "png", "webp", "gif", "bmp")  # image/* stands for them
    lists = [kinds.split(",") for kinds in accepted if "," in kinds]
    assert len(lists) == 2
    assert usual or all(f".{extension}" in kinds for kinds in lists)
    assert extension in (ROOT / "docs" / "quickstart.md").read_text()


def test_the_largest_preview_of_a_raw_file_is_decoded() -> None:
    content = raw_tiff(encoded(SMALL, "JPEG"), tags=DNG_TAGS, larger=encoded(COFFEE, "JPEG"))
    image = decode_image(io.BytesIO(content), min_side=10_000)
    assert (image.width, image.height) == image.image.size == COFFEE.size
    assert (image.mime, image.extension) == ("image/x-adobe-dng", "dng")


def test_a_raw_file_is_decoded_at_a_fraction_of_its_size() -> None:
    content = raw_file("NEF", encoded(COFFEE, "JPEG"))
    image = decode_image(io.BytesIO(content), min_side=50)
    assert image.image.size == (75, 50)
    assert (image.width, image.height) == COFFEE.size


def test_a_truncated_raw_file_never_shows_what_was_decoded_before_it() -> None:
    """LibRaw leaves memory of earlier files in the part of a preview that is missing."""
    compressed = raw_tiff(encoded(SMALL, "JPEG"), tags=DNG_TAGS)
    uncompressed = raw_tiff(SMALL.tobytes(), tags=DNG_TAGS)
    for tag, of_jpeg, of_pixels in ((259, 6, 1), (262, 6, 2)):  # compression, colours
        entry = struct.pack("<HHII", tag, 3, 1, of_jpeg)
        assert entry in uncompressed
        uncompressed = uncompressed.replace(entry, struct.pack("<HHII", tag, 3, 1, of_pixels))
    for whole in (compressed, uncompressed):
        for part in (0.8, 0.9, 0.99):
            for _ in range(30):
                decode_image(io.BytesIO(whole), min_side=8)
                with pytest.raises(ImageRejected):
                    decode_image(io.BytesIO(whole[: int(len(whole) * part)]), min_side=8)


def test_a_tiff_of_a_camera_maker_is_no_raw_file() -> None:
    exif = Image.Exif()
    exif[271] = "NIKON CORPORATION"
    image = decode_image(io.BytesIO(encoded(SMALL, "TIFF", exif=exif)), min_side=8)
    assert image.mime == "image/tiff"


@pytest.mark.parametrize(
    ("content", "bytes_per_pixel"),
    [
        (encoded(SMALL, "TIFF"), 11),
        (tiff(np.asarray(SMALL).astype("u2"), photometric="rgb"), 14),
        (FLOATS, 2 * 12 + 3 + 8),
        (jpeg_xl(SMALL), 22),
        (jpeg_xl_of_pixels(np.asarray(SMALL) / np.float32(255)), 22),
    ],
    ids=["TIFF", "TIFF of 16 bits", "TIFF of floats", "JPEG XL", "JPEG XL of floats"],
)
def test_the_memory_of_a_format_is_admitted(content: bytes, bytes_per_pixel: int) -> None:
    admitted: list[int] = []
    decode_image(io.BytesIO(content), min_side=8, admit=admitted.append)
    assert admitted == [96 * 64 * bytes_per_pixel]


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (96, 64), (160, 90), (5, 7), (700, 300)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_in_the_header_of_a_jpeg_xl_is_known_before_it_is_decoded(
    size: tuple[int, int], container: bool
) -> None:
    file = io.BytesIO(jpeg_xl(Image.new("RGB", size), usecontainer=container))
    assert jpeg_xl_format.JpegXl(file).size == size


def test_a_jpeg_xl_whose_header_is_cut_is_damaged() -> None:
    with pytest.raises(Damaged):
        jpeg_xl_format.JpegXl(io.BytesIO(b"\xff\x0a\x00"))
    assert rejection(b"\xff\x0a\x00").code == "invalid-image"


TURNED = [case for case in ALL_CASES if "turned upright" in case.note and case.file[-1] in "3568"]


@pytest.mark.parametrize("case", TURNED, ids=str)
def test_the_upright_size_is_known_without_decoding(case: Case) -> None:
    found = inspect_image(io.BytesIO(case.make()), lambda image: Capture())
    assert (found.width, found.height) == SMALL.size
