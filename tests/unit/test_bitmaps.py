"""BMP files: the layouts that Pillow lacks are decoded, or refused as another type."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.imaging import ImageRejected, decode_image
from tests.support.images import encoded, photograph

ROWS = np.asarray(photograph("coffee").resize((61, 40)))
SIZES = {
    40: "<IiiHHI20x",
    52: "<IiiHHI20x12x",
    56: "<IiiHHI20x16x",
    108: "<IiiHHI20x68x",
    124: "<IiiHHI20x84x",
}


def bitmap(
    pixels: NDArray[np.unsignedinteger],
    masks: tuple[int, ...],
    *,
    header: int = 40,
    upright: bool = False,
) -> bytes:
    """Make a BMP of packed pixels; the masks follow a short header, and lie inside a longer one."""
    bits = pixels.dtype.itemsize * 8
    height, width = pixels.shape
    compression = 6 if header == 40 and len(masks) == 4 else 3
    head = bytearray(
        struct.pack(
            SIZES[header], header, width, -height if upright else height, 1, bits, compression
        )
    )
    packed = struct.pack(f"<{len(masks)}I", *masks)
    head[40 : 40 + len(packed)] = packed
    rows = np.zeros((height, (width * bits + 31) // 32 * 4), np.uint8)
    rows[:, : width * bits // 8] = np.ascontiguousarray(pixels).view(np.uint8)
    content = (rows if upright else rows[::-1]).tobytes()
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + head + content


def packed(
    rows: NDArray[np.uint8], masks: tuple[int, ...], bits: int
) -> NDArray[np.unsignedinteger]:
    """Pack 8-bit channels into the bits that the masks name."""
    values = np.zeros(rows.shape[:2], np.uint64)
    for channel, mask in enumerate(masks):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            most = mask >> shift
            level = np.round(rows[..., channel].astype(float) * most / 255).astype(np.uint64)
            values |= level << np.uint64(shift)
    return values.astype(f"<u{bits // 8}")


def decoded(content: bytes) -> NDArray[np.int64]:
    return np.asarray(decode_image(io.BytesIO(content), min_side=100).image).astype(int)


LAYOUTS = {
    "RGBX": (32, (0xFF, 0xFF00, 0xFF0000)),
    "XRGB": (32, (0xFF0000, 0xFF00, 0xFF)),
    "BGRX from the top": (32, (0xFF00, 0xFF0000, 0xFF000000)),
    "10 bits a channel": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "11, 11 and 10 bits": (32, (0x7FF, 0x3FF800, 0xFFC00000)),
    "5, 6 and 5 bits": (16, (0xF800, 0x7E0, 0x1F)),
    "5 bits, blue first": (16, (0x1F, 0x3E0, 0x7C00)),
    "4 bits": (16, (0xF00, 0xF0, 0xF)),
}


@pytest.mark.parametrize("upright", [False, True], ids=["bottom up", "top down"])
@pytest.mark.parametrize("header", [40, 52, 108])
@pytest.mark.parametrize("name", LAYOUTS)
def test_channels_are_where_their_masks_say(name: str, header: int, upright: bool) -> None:
    bits, masks = LAYOUTS[name]
    pixels = packed(ROWS, masks, bits)
    content = bitmap(pixels, masks, header=header, upright=upright)
    narrowest = min((mask // (mask & -mask)).bit_length() for mask in masks)
    assert np.abs(decoded(content) - ROWS).max() <= 256 >> min(narrowest, 8)


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    ],
)
@pytest.mark.parametrize("header", [40, 56, 124])
def test_alpha_is_put_on_white(bits: int, masks: tuple[int, ...], header: int) -> None:
    rows = np.dstack([ROWS, np.full(ROWS.shape[:2], 255, np.uint8)])
    rows[:, 30:, 3] = 0
    found = decoded(bitmap(packed(rows, masks, bits), masks, header=header))
    assert np.abs(found[:, :30] - ROWS[:, :30]).max() <= 17
    assert (found[:, 30:] == 255).all()


@pytest.mark.parametrize(
    "masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)]
)
def test_an_alpha_channel_of_zeros_alone_is_no_alpha(masks: tuple[int, ...]) -> None:
    content = bitmap(packed(ROWS, masks[:3], 32), masks, header=124)
    assert np.array_equal(decoded(content), ROWS)


def test_a_wide_bitmap_is_decoded_in_strips() -> None:
    masks = (0xFF, 0xFF00, 0xFF0000)
    rows = np.tile(ROWS, (10, 40, 1))
    assert np.array_equal(decoded(bitmap(packed(rows, masks, 32), masks)), rows)


def test_a_bitmap_that_ends_too_early_is_damaged() -> None:
    masks = (0xFF, 0xFF00, 0xFF0000)
    content = bitmap(packed(ROWS, masks, 32), masks)
    with pytest.raises(ImageRejected, match="ends before") as caught:
        decoded(content[:-5])
    assert caught.value.code == "invalid-image"


def changed(place: int, form: str, value: int) -> bytes:
    content = bytearray(encoded(Image.fromarray(ROWS).quantize(), "BMP"))
    struct.pack_into(form, content, place, value)
    return bytes(content)


OTHER_LAYOUTS = {
    "a compressed JPEG inside": changed(30, "<I", 4),
    "a compressed PNG inside": changed(30, "<I", 5),
    "an unknown compression": changed(30, "<I", 99),
    "2 bits a pixel": changed(28, "<H", 2),
    "64 bits a pixel": changed(28, "<H", 64),
    "a header of 16 bytes": changed(14, "<I", 16),
    "masks with gaps": bitmap(ROWS[..., 0].astype(np.uint32), (0xF0F, 0xF0, 0xF000)),
}


@pytest.mark.parametrize("name", OTHER_LAYOUTS)
def test_any_other_layout_is_an_unsupported_type(name: str) -> None:
    with pytest.raises(ImageRejected, match="BMP") as caught:
        decoded(OTHER_LAYOUTS[name])
    assert caught.value.code == "unsupported-image-type"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_usual_bitmaps_are_decoded(mode: str) -> None:
    image = Image.fromarray(ROWS).convert(mode)
    assert np.array_equal(decoded(encoded(image, "BMP")), np.asarray(image.convert("RGB")))
