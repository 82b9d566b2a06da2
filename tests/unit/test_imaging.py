"""Decoding: what each kind of file becomes, or why it is rejected."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.imaging import Acceptance, Box, DecodedImage, ImageRejected, decode_image
from tests.support.images import encoded, jpeg_of_several_scans, photograph
from tests.support.png import chunk, packed_rows, png

Pixels = NDArray[np.uint8]
WHOLE = 10_000  # larger than every image here, so nothing is scaled


def decoded(content: bytes, *, min_side: int = WHOLE, box: Box | None = None) -> DecodedImage:
    return decode_image(io.BytesIO(content), min_side=min_side, box=box)


def pixels(content: bytes, *, min_side: int = WHOLE, box: Box | None = None) -> Pixels:
    return np.asarray(decoded(content, min_side=min_side, box=box).image)


def limited(content: bytes, max_pixels: int | None) -> DecodedImage:
    accept = Acceptance(max_pixels=max_pixels)
    return decode_image(io.BytesIO(content), min_side=100, accept=accept)


def assert_is_a_message(text: str) -> None:
    """Assert that the text says what is wrong and what to do, without a repr or an address."""
    assert text[0].isupper()
    assert text.endswith(".")
    assert ". " in text or ": " in text
    assert "<" not in text
    assert "0x" not in text


def rejection(content: bytes, *, min_side: int = WHOLE, box: Box | None = None) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decoded(content, min_side=min_side, box=box)
    assert_is_a_message(str(caught.value))
    return caught.value


def difference(one: Image.Image | Pixels, other: Image.Image | Pixels) -> float:
    """Return the mean absolute difference of the channels, 0 to 255; the shapes must agree."""
    a, b = np.asarray(one), np.asarray(other)
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def gif(width: int, height: int, frames: int) -> bytes:
    """Make a GIF with frames of one pixel each on a canvas of this size."""
    canvas = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + canvas + frame * frames + b";"


GREY = packed_rows(np.full((8, 8), 128, np.uint8))
COFFEE = photograph("coffee").resize((300, 200))
JPEG = encoded(COFFEE, "JPEG")


# damage


def test_zero_bytes_are_an_empty_file() -> None:
    assert rejection(b"").code == "empty-file"


@pytest.mark.parametrize("min_side", [25, WHOLE], ids=["scaled", "whole"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("keep", [3, 20, 100, 300, 0.2, 0.5, 0.9])
def test_truncated_jpeg_is_invalid(keep: float, progressive: bool, min_side: int) -> None:
    content = encoded(COFFEE, "JPEG", progressive=progressive)
    cut = int(keep * len(content)) if 0 < keep < 1 else int(keep)
    assert rejection(content[:cut], min_side=min_side).code == "invalid-image"


@pytest.mark.parametrize("keep", [8, 20, 33, 60, 0.2, 0.5, 0.9, -20, -12, -5])
def test_truncated_png_is_invalid(keep: float) -> None:
    content = encoded(COFFEE, "PNG")
    cut = int(keep * len(content)) if 0 < keep < 1 else int(keep)
    assert rejection(content[:cut]).code == "invalid-image"


@pytest.mark.parametrize("format", ["WEBP", "GIF", "BMP", "AVIF"])
@pytest.mark.parametrize("keep", [24, 0.5, 0.9])
def test_other_formats_cut_short_are_invalid(format: str, keep: float) -> None:
    content = encoded(COFFEE, format)
    cut = int(keep * len(content)) if keep < 1 else int(keep)
    assert rejection(content[:cut]).code == "invalid-image"


def test_the_message_for_heic_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(
        Image.OPEN, "HEIF", raising=False
    )  # simulates that the extra is not installed
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert "install the extra `heif`" in str(rejection(head + bytes(100)))
    assert "Convert it to one of these" in str(rejection(b"no image at all" * 10))


def test_the_message_for_a_damaged_header_names_no_other_format() -> None:
    assert "HEIF" not in str(rejection(encoded(COFFEE, "PNG")[:20]))
    assert "HEIF" not in str(rejection(encoded(COFFEE, "PNG")[:33]))


def test_png_with_a_wrong_checksum_over_its_pixels_is_invalid() -> None:
    content = bytearray(encoded(COFFEE, "PNG"))
    start = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    content[start + 4 + length] ^= 0xFF
    Image.open(io.BytesIO(content)).load()
    assert rejection(bytes(content)).code == "invalid-image"


@pytest.mark.parametrize("damage", ["bytes changed", "not deflated"])
def test_png_with_damaged_pixels_under_a_right_checksum_is_invalid(damage: str) -> None:
    rows = np.asarray(COFFEE)
    packed = packed_rows(rows)
    damaged = {
        "bytes changed": packed[:5000] + bytes(100) + packed[5100:],
        "not deflated": b"x" * len(packed),
    }
    assert np.array_equal(pixels(png(300, 200, packed, colour=2)), rows)
    assert rejection(png(300, 200, damaged[damage], colour=2)).code == "invalid-image"


def with_scans(times: int) -> bytes:
    """Make a progressive JPEG that repeats its last scan, which covers all pixels."""
    content = encoded(COFFEE, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * times + content[-2:]


def test_the_memory_for_the_coefficients_of_several_scans_is_admitted() -> None:
    admitted: list[int] = []
    content = jpeg_of_several_scans(1024)
    image = decode_image(io.BytesIO(content), min_side=64, admit=admitted.append).image
    assert min(image.size) < 1024
    assert admitted[0] > 1024 * 1024 * 2 * 3
    decode_image(io.BytesIO(JPEG), min_side=64, admit=admitted.append)
    assert admitted[1] < 1024 * 1024


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (with_scans(200), "scans"),
        (JPEG[:2] + b"\xff\xfe\x00\x03x" * 3000 + JPEG[2:], "segments"),
        (png(8, 8, GREY, ahead=chunk(b"teSt", b"") * 30_000), "chunks"),
        (png(8, 8, GREY, behind=chunk(b"teSt", b"") * 30_000), "chunks"),
    ],
    ids=["scans", "segments", "chunks ahead of the pixels", "chunks behind the pixels"],
)
def test_a_file_of_too_many_pieces_is_invalid(content: bytes, pieces: str) -> None:
    error = rejection(content)
    assert error.code == "invalid-image"
    assert pieces in str(error)


@pytest.mark.parametrize(
    "content",
    [
        with_scans(10),
        JPEG[:2] + b"\xff\xfe\x00\x03x" * 1000 + JPEG[2:],
        png(8, 8, GREY, ahead=chunk(b"teSt", b"") * 10_000),
    ],
    ids=["scans", "segments", "chunks"],
)
def test_a_file_of_many_pieces_is_an_image(content: bytes) -> None:
    assert decoded(content).image.mode == "RGB"


# size


def test_png_of_30000_by_30000_pixels_is_too_many() -> None:
    packer = zlib.compressobj()
    rows = b"\0" * (3751 * 1000)  # 1000 rows of 30000 pixels of one bit, with filter bytes
    packed = b"".join(packer.compress(rows) for _ in range(30)) + packer.flush()
    assert rejection(png(30000, 30000, packed, depth=1)).code == "too-many-pixels"


def enlarged(format: str) -> bytes:
    """Make a file whose header claims 16000 x 16000, with the pixels of a small image."""
    content = bytearray(encoded(Image.new("RGB", (16, 16)), format))
    if format == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", 16000, 16000)
    elif format == "BMP":
        content[18:26] = struct.pack("<ii", 16000, 16000)
    elif format == "WEBP":
        start = content.index(b"\x9d\x01\x2a") + 3
        content[start : start + 4] = struct.pack("<HH", 16000, 16000)
    else:
        content[6:10] = struct.pack("<HH", 16000, 16000)
    return bytes(content)


@pytest.mark.parametrize("format", ["JPEG", "BMP", "WEBP", "GIF"])
def test_the_size_is_checked_before_any_pixel_is_read(format: str) -> None:
    assert rejection(enlarged(format)).code == "too-many-pixels"


def test_only_the_first_frame_of_a_gif_counts() -> None:
    assert decoded(gif(800, 600, frames=134)).image.size == (800, 600)


def test_the_frames_of_a_gif_are_not_read() -> None:
    content = gif(1000, 1000, frames=1)
    assert decoded(content[:-1] + b"no further frame").image.size == (1000, 1000)


def test_only_the_first_frame_of_a_webp_counts() -> None:
    content = encoded(COFFEE, "WEBP", save_all=True, append_images=[COFFEE.rotate(90)] * 3)
    assert difference(limited(content, 300 * 200).image, COFFEE) < 10


def test_the_message_for_too_many_pixels_says_how_many_and_the_limit() -> None:
    message = str(rejection(gif(10_000, 9000, frames=1)))
    assert "10000 x 9000" in message
    assert "64 megapixels" in message


def test_the_pixel_limit_is_inclusive() -> None:
    assert limited(encoded(Image.new("RGB", (20, 30)), "PNG"), 20 * 30).width == 20
    with pytest.raises(ImageRejected, match=r"0\.0006 megapixels") as caught:
        limited(encoded(Image.new("RGB", (20, 31)), "PNG"), 20 * 30)
    assert caught.value.code == "too-many-pixels"


def test_without_a_pixel_limit_any_size_is_opened() -> None:
    assert limited(encoded(Image.new("L", (9000, 8000)), "JPEG"), None).width == 9000


@pytest.mark.parametrize("size", [(65535, 1), (1, 65535), (101, 1), (1, 101), (809, 8)])
def test_an_aspect_ratio_above_100_is_rejected(
    size: tuple[int, int],
) -> None:
    assert rejection(encoded(Image.new("L", size), "PNG")).code == "bad-aspect-ratio"


@pytest.mark.parametrize("size", [(100, 1), (1, 100), (800, 8)])
def test_an_aspect_ratio_of_100_is_accepted(size: tuple[int, int]) -> None:
    assert decoded(encoded(Image.new("L", size), "PNG")).image.size == size


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_one_pixel_is_an_image(format: str) -> None:
    one = decoded(encoded(Image.new("RGB", (1, 1), (200, 200, 200)), format), min_side=224)
    assert (one.width, one.height) == one.image.size == (1, 1)
    assert difference(one.image, Image.new("RGB", (1, 1), (200, 200, 200))) < 3


# types


@pytest.mark.parametrize(
    ("format", "mime", "extension"),
    [
        ("JPEG", "image/jpeg", "jpg"),
        ("PNG", "image/png", "png"),
        ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"),
        ("BMP", "image/bmp", "bmp"),
        ("AVIF", "image/avif", "avif"),
    ],
)
def test_the_type_is_that_of_the_bytes(format: str, mime: str, extension: str) -> None:
    image = decoded(encoded(COFFEE, format))
    assert (image.mime, image.extension) == (mime, extension)
    assert (image.width, image.height) == image.image.size == COFFEE.size
    assert image.image.mode == "RGB"
    assert difference(image.image, COFFEE) < 12


FOREIGN: dict[str, Callable[[], bytes]] = {
    "svg": lambda: (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">'
        b"<script>alert(1)</script></svg>"
    ),
    "html": lambda: b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "text": lambda: b"This is not a picture.\n" * 20,
    "one letter": lambda: b"x",
    "eps": lambda: encoded(COFFEE, "EPS"),
    "pdf": lambda: encoded(COFFEE, "PDF"),
    "jpeg 2000": lambda: encoded(COFFEE, "JPEG2000"),
    "icon": lambda: encoded(COFFEE, "ICO"),
    "ppm": lambda: encoded(COFFEE, "PPM"),
    "random": lambda: np.random.default_rng(1).bytes(5000),
    "zeros": lambda: bytes(5000),
    "zip": lambda: b"PK\x03\x04" + bytes(200),
    "sound": lambda: b"RIFF\x24\x08\x00\x00WAVEfmt " + bytes(200),
    "film": lambda: b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(200),
    "picture behind a byte": lambda: b"\n" + encoded(COFFEE, "PNG"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_any_other_type_is_unsupported(name: str) -> None:
    assert rejection(FOREIGN[name]()).code == "unsupported-image-type"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_polyglot_that_decodes_is_the_image(format: str) -> None:
    content = encoded(COFFEE, format)
    assert np.array_equal(
        pixels(content + b"<html><script>alert(1)</script></html>"), pixels(content)
    )


def test_a_jpeg_followed_by_a_film_is_the_image() -> None:
    film = np.random.default_rng(3).bytes(12 * 1024 * 1024)
    assert np.array_equal(pixels(JPEG + film), pixels(JPEG))


def test_an_mpo_is_a_jpeg_of_its_first_image() -> None:
    content = encoded(
        COFFEE, "MPO", save_all=True, append_images=[photograph("rocket").resize((300, 200))]
    )
    image = decoded(content)
    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert (image.mime, image.extension) == ("image/jpeg", "jpg")
    assert difference(image.image, COFFEE) < 5


def test_further_images_of_an_mpo_do_not_count() -> None:
    content = encoded(COFFEE, "MPO", save_all=True, append_images=[COFFEE, COFFEE])
    assert limited(content, 300 * 200).image.size == (150, 100)


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
def test_an_mpo_with_a_broken_index_is_a_jpeg() -> None:
    content = bytearray(encoded(COFFEE, "MPO", save_all=True, append_images=[COFFEE]))
    index = content.index(b"MPF\0") + 4
    content[index : index + 8] = b"\xff" * 8
    assert difference(decoded(bytes(content)).image, COFFEE) < 5


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(format: str) -> None:
    others = [photograph(name).resize((300, 200)) for name in ("rocket", "cat")]
    content = encoded(COFFEE, format, save_all=True, append_images=others)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 3
    assert difference(pixels(content), COFFEE) < 10


def test_a_file_is_read_from_its_start() -> None:
    file = io.BytesIO(encoded(COFFEE, "JPEG"))
    file.seek(1000)
    assert decode_image(file, min_side=WHOLE).image.size == COFFEE.size


def mode_or_code(content: bytes) -> str:
    try:
        return decoded(content, min_side=8).image.mode
    except ImageRejected as error:
        return error.code


@settings(deadline=None, max_examples=60)
@given(
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "MPO"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
    cut=st.floats(0.5, 1.5),
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_are_an_rgb_image_or_rejected(
    format: str, changes: list[tuple[float, int]], cut: float
) -> None:
    content = bytearray(encoded(COFFEE.resize((30, 20)), format))
    for place, value in changes:
        content[int(place * len(content))] = value
    refusals = {"invalid-image", "unsupported-image-type", "too-many-pixels", "bad-aspect-ratio"}
    assert mode_or_code(bytes(content[: int(cut * len(content))])) in refusals | {"RGB"}


# colours


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    content = encoded(COFFEE.convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert difference(pixels(content), COFFEE) < 5


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_fewer_colours_become_rgb(mode: str) -> None:
    image = COFFEE.convert(mode)
    assert np.array_equal(pixels(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP"])
def test_transparent_pixels_become_white(format: str) -> None:
    image = Image.new("RGBA", (40, 20), (10, 20, 30, 255))
    image.paste((10, 20, 30, 0), (20, 0, 40, 20))
    on_white = pixels(
        encoded(image, format, lossless=True) if format == "WEBP" else encoded(image, format)
    )
    assert on_white[10, 10].tolist() == [10, 20, 30]
    assert on_white[10, 30].tolist() == [255, 255, 255]


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 100, 128))
    red, green, blue = pixels(encoded(image, "PNG"))[0, 0].tolist()
    assert red == 255
    assert abs(green - 127) <= 1
    assert abs(blue - 177) <= 1


def test_a_grey_image_with_alpha_is_put_on_white() -> None:
    assert pixels(encoded(Image.new("LA", (4, 4), (0, 64)), "PNG"))[0, 0].tolist() == pytest.approx(
        [191] * 3, abs=1
    )


def test_each_palette_entry_has_its_own_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
    image.putdata([0, 1, 2])
    content = encoded(image, "PNG", transparency=bytes([0, 255, 128]))
    assert Image.open(io.BytesIO(content)).mode == "P"
    clear, red, mixed = pixels(content)[0].tolist()
    assert clear == [255, 255, 255]
    assert red == [200, 0, 0]
    assert mixed == pytest.approx([127, 127, 227], abs=1)


@pytest.mark.parametrize(
    ("colour", "depth", "key", "pixel"),
    [
        pytest.param(0, 8, [128], [128], id="grey"),
        pytest.param(2, 8, [10, 20, 30], [10, 20, 30], id="colours"),
        pytest.param(
            0,
            16,
            [30000],
            [30000],
            id="grey of 16 bits",
        ),
    ],
)
def test_the_transparent_colour_of_a_png_is_white(
    colour: int, depth: int, key: list[int], pixel: list[int]
) -> None:
    rows = np.full((2, 2, len(pixel)), pixel, ">u2" if depth == 16 else "u1")
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    content = png(2, 2, packed_rows(rows), depth=depth, colour=colour, ahead=transparent)
    assert pixels(content)[0, 0].tolist() == [255, 255, 255]


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 1000).astype(">u2")
    found = pixels(png(10, 1000, packed_rows(np.tile(values[:, None], (1, 10))), depth=16))
    expected = np.array([round(value / 257) for value in values.tolist()], np.uint8)
    assert np.array_equal(found, np.broadcast_to(expected[:, None, None], (1000, 10, 3)))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)], ids=["rgb", "rgba"])
def test_16_bit_colours_are_scaled_not_clipped(colour: int, channels: int) -> None:
    rows = np.full((2, 2, channels), 65535, ">u2")
    rows[..., :3] = [40000, 20000, 255]
    found = pixels(png(2, 2, packed_rows(rows), depth=16, colour=colour))[0, 0].tolist()
    assert found == pytest.approx([40000 / 257, 20000 / 257, 1], abs=1)


# turning


def stored_as(upright: Pixels, orientation: int) -> Pixels:
    """Return the pixels as a camera stores them, by the EXIF standard's table of orientations."""
    turned = upright.transpose(1, 0, 2)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }[orientation]


def turned_file(image: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"JPEG": {"quality": 95}}.get(format, {})
    stored = Image.fromarray(np.ascontiguousarray(stored_as(np.asarray(image), orientation)))
    return encoded(stored, format, exif=exif, **options)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_decodes_upright(orientation: int, format: str) -> None:
    image = decoded(turned_file(COFFEE, orientation, format))
    assert (image.width, image.height) == image.image.size == COFFEE.size
    assert difference(image.image, COFFEE) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_that_is_scaled_decodes_upright(orientation: int) -> None:
    image = decoded(turned_file(COFFEE, orientation), min_side=50)
    assert (image.width, image.height) == COFFEE.size
    assert difference(image.image, COFFEE.reduce(4)) < 6


TIFF = b"Exif\0\0MM\0*\0\0\0\x08"  # big-endian; the first directory follows


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")


HOSTILE_EXIF = {
    "noise": b"Exif\0\0" + np.random.default_rng(2).bytes(500),
    "only its mark": b"Exif\0\0",
    "cut in the header": TIFF[:10],
    "a directory far away": TIFF[:-4] + b"\xff\xff\xff\xf0",
    "more entries than bytes": TIFF + b"\xff\xff" + entry(0x0112, 3, 1, b"\0\6")[:8],
    "a directory that follows itself": TIFF
    + b"\0\1"
    + entry(0x8769, 4, 1, b"\0\0\0\x08")
    + b"\0\0\0\x08",
    "orientation 0": TIFF + b"\0\1" + entry(0x0112, 3, 1, b"\0\0") + bytes(4),
    "orientation 9": TIFF + b"\0\1" + entry(0x0112, 3, 1, b"\0\x09") + bytes(4),
    "orientation in letters": TIFF + b"\0\1" + entry(0x0112, 2, 4, b"six\0") + bytes(4),
    "a billion orientations": TIFF + b"\0\1" + entry(0x0112, 3, 1 << 30, b"\0\0\0\x08") + bytes(4),
    "orientation over nothing": TIFF
    + b"\0\1"
    + entry(0x0112, 5, 1, b"\0\0\0\x1a")
    + bytes(4)
    + bytes(8),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", HOSTILE_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_is_ignored(name: str, format: str) -> None:
    image = decoded(encoded(COFFEE, format, exif=HOSTILE_EXIF[name]))
    assert (image.width, image.height) == COFFEE.size
    assert difference(image.image, COFFEE) < 5


# scaling


@pytest.mark.parametrize(
    ("min_side", "size"),
    [
        (1, (75, 50)),
        (50, (75, 50)),
        (51, (150, 100)),
        (100, (150, 100)),
        (101, (300, 200)),
        (200, (300, 200)),
        (201, (600, 400)),
        (400, (600, 400)),
        (5000, (600, 400)),
    ],
)
def test_a_jpeg_is_scaled_as_far_as_the_least_side_allows(
    min_side: int, size: tuple[int, int]
) -> None:
    image = decoded(encoded(photograph("coffee"), "JPEG"), min_side=min_side)
    assert image.image.size == size
    assert (image.width, image.height) == (600, 400)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_scaled_jpeg_looks_like_the_whole_one(factor: int) -> None:
    coffee = photograph("coffee")
    content = encoded(coffee, "JPEG", quality=95)
    assert difference(pixels(content, min_side=400 // factor), coffee.reduce(factor)) < 4


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 300), height=st.integers(1, 300), min_side=st.integers(1, 300))
def test_the_shorter_side_is_at_least_that_asked_for(
    width: int, height: int, min_side: int
) -> None:
    assume(max(width, height) <= 100 * min(width, height))
    image = decoded(encoded(Image.new("L", (width, height)), "JPEG"), min_side=min_side)
    assert min(image.image.size) >= min(min_side, width, height)


# boxes

BOXES = [
    Box(0, 0, 300, 200),
    Box(0, 0, 1, 1),
    Box(299, 199, 1, 1),
    Box(37, 21, 100, 60),
    Box(200, 0, 100, 200),
    Box(0, 150, 300, 50),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_in_pixels_of_the_upright_image(box: Box, orientation: int) -> None:
    image = decoded(turned_file(COFFEE, orientation, "PNG"), box=box)
    expected = np.asarray(COFFEE)[box.y : box.y + box.height, box.x : box.x + box.width]
    assert np.array_equal(np.asarray(image.image), expected)
    assert (image.width, image.height) == COFFEE.size


@pytest.mark.parametrize(
    "box", [Box(0, 0, 600, 400), Box(40, 24, 320, 240), Box(280, 160, 320, 240)], ids=str
)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_box_of_a_scaled_jpeg_is_the_same_part(box: Box, orientation: int, factor: int) -> None:
    coffee = photograph("coffee")
    side = min(box.width, box.height) // factor
    image = decoded(turned_file(coffee, orientation), min_side=side, box=box)
    part = coffee.crop((box.x, box.y, box.x + box.width, box.y + box.height))
    assert image.image.size == (box.width // factor, box.height // factor)
    assert difference(image.image, part.reduce(factor)) < 6
    assert (image.width, image.height) == coffee.size


def test_a_small_box_keeps_a_jpeg_from_being_scaled() -> None:
    content = encoded(photograph("coffee"), "JPEG")
    assert decoded(content, min_side=50, box=Box(10, 10, 60, 50)).image.size == (60, 50)


@pytest.mark.parametrize("box", [Box(0, 2684, 449, 900), Box(0, 3584, 449, 906)], ids=str)
def test_a_box_of_a_long_scaled_jpeg_holds_only_its_own_rows(box: Box) -> None:
    image = Image.new("RGB", (449, 4490), "black")
    image.paste("white", (0, box.y, 449, box.y + box.height))
    part = pixels(encoded(image, "JPEG"), min_side=224, box=box)
    assert part.shape == (box.height // 2, 225, 3)
    assert part.min() > 250


@pytest.mark.parametrize(
    ("x", "min_side"),
    [
        (0, 224),
        (1, 224),
        (3, 224),
        (0, 225),
        (3, 225),
    ],
)
def test_a_box_is_at_least_as_long_as_asked_for_after_scaling(x: int, min_side: int) -> None:
    content = encoded(Image.new("RGB", (650, 650)), "JPEG")
    box = Box(x, x, 2 * min_side, 2 * min_side)
    assert min(decoded(content, min_side=min_side, box=box).image.size) >= min_side


@pytest.mark.parametrize(
    "box",
    [
        Box(-1, 0, 10, 10),
        Box(0, -1, 10, 10),
        Box(0, 0, 0, 10),
        Box(0, 0, 10, 0),
        Box(10, 10, -5, 5),
        Box(10, 10, 5, -5),
        Box(291, 0, 10, 10),
        Box(0, 191, 10, 10),
        Box(300, 0, 1, 1),
        Box(0, 200, 1, 1),
        Box(0, 0, 301, 200),
        Box(0, 0, 300, 201),
        Box(0, 0, 10**12, 1),
    ],
    ids=str,
)
def test_a_box_that_is_empty_or_not_inside_is_invalid(box: Box) -> None:
    error = rejection(encoded(COFFEE, "JPEG"), box=box)
    assert error.code == "invalid-box"
    assert f"{box.x},{box.y},{box.width},{box.height}" in str(error)
    assert "300 x 200" in str(error)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_box_inside_only_before_turning_is_invalid(orientation: int) -> None:
    content = turned_file(COFFEE, orientation)
    assert Image.open(io.BytesIO(content)).size == (200, 300)
    assert rejection(content, box=Box(0, 0, 200, 300)).code == "invalid-box"
