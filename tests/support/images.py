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
