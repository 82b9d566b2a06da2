"""Real photographs, and encoded images made of them."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina")


def photograph(name: str) -> Image.Image:
    """Return a real, freely usable photograph from the scikit-image package."""
    return Image.fromarray(_pixels(name))


@cache
def _pixels(name: str) -> NDArray[np.uint8]:
    """Decode a photograph, once per process; every image of it has its own copy."""
    pixels: NDArray[np.uint8] = np.ascontiguousarray(getattr(data, name)()[..., :3])
    return pixels


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def part_of(name: str, seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return a random part of a photograph; each seed gives another part."""
    random = np.random.default_rng(seed)
    source = photograph(name)
    width, height = (
        source.width * random.uniform(0.4, 0.8),
        source.height * random.uniform(0.4, 0.8),
    )
    x, y = random.uniform(0, source.width - width), random.uniform(0, source.height - height)
    return source.resize(size, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))


CAT = encoded(photograph("chelsea"))


def jpeg_of_several_scans(side: int, channels: int = 3) -> bytes:
    """Return a grey baseline JPEG of ``side`` x ``side`` pixels with a scan for each channel."""
    return plain_jpeg(side, side, [(channel,) for channel in range(1, channels + 1)])


def plain_jpeg(
    width: int, height: int, scans: list[tuple[int, ...]] | None = None, *, frame: int = 0xC0
) -> bytes:
    """Return a grey JPEG of any size in a few bytes; ``scans`` are the channels in each.

    ``frame`` is the marker of the kind of JPEG: 0xC0 baseline, 0xC2 progressive.
    """

    def segment(marker: int, *content: int) -> bytes:
        return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + bytes(content)

    scans = scans or [(1, 2, 3)]
    channels = max(map(max, scans))
    parts = [b"\xff\xd8", segment(0xDB, 0, *[1] * 64)]
    layout = [value for channel in range(channels) for value in (channel + 1, 0x11, 0)]
    parts.append(segment(frame, 8, *height.to_bytes(2), *width.to_bytes(2), channels, *layout))
    # Tables of one code, a zero bit: no difference to the block before, and no more coefficients.
    parts += [segment(0xC4, table, 1, *[0] * 15, 0) for table in (0x00, 0x10)]
    last, bits = (63, 2) if frame == 0xC0 else (0, 1)  # bits for each block
    for scan in scans:
        blocks = -(-width // 8) * -(-height // 8) * len(scan)
        ids = [value for channel in scan for value in (channel, 0)]
        parts += [segment(0xDA, len(scan), *ids, 0, last, 0), bytes(-(-blocks * bits // 8))]
    return b"".join([*parts, b"\xff\xd9"])
