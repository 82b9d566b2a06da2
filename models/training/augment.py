"""What happens to photographs between two uploads: crops, mirrors, turns, other light, blur, borders, JPEG."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from models.evaluate import jpeg
from models.transforms import INPUT_SIDE, to_input

_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def augmented(image: Image.Image, chance: np.random.Generator) -> NDArray[np.uint8]:
    """One altered view of an RGB image as the network's input, ``(224, 224, 3)`` uint8."""
    if chance.random() < 0.15:
        image = _bordered(image, chance)
    if chance.random() < 0.85:
        image = _cropped(image, chance)
    image = Image.fromarray(to_input(image))
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    if chance.random() < 0.3:
        image = image.transpose(_TURNS[chance.integers(3)])
    elif chance.random() < 0.15:
        mean = tuple(int(value) for value in np.asarray(image).mean(axis=(0, 1)))
        image = image.rotate(chance.uniform(-25, 25), Image.Resampling.BILINEAR, fillcolor=mean)
    if chance.random() < 0.6:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(chance.uniform(0.6, 1.4))
    if chance.random() < 0.15:
        image = ImageOps.grayscale(image).convert("RGB")
    if chance.random() < 0.15:
        side = int(chance.integers(40, 120))
        small = image.resize((side, side), Image.Resampling.BICUBIC)
        image = small.resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
    if chance.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 3)))
    if chance.random() < 0.3:
        image = jpeg(image, int(chance.integers(20, 80)))
    return np.asarray(image)


def _bordered(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """White, black or some colour around it, of up to a quarter of its size on each side."""
    colours = [
        (255, 255, 255),
        (0, 0, 0),
        tuple(int(value) for value in chance.integers(0, 256, 3)),
    ]
    colour = colours[chance.choice(3, p=[0.4, 0.3, 0.3])]
    most = chance.uniform(0.05, 0.25)
    widths = [int(side * most * chance.random()) for side in (image.width, image.height) * 2]
    return ImageOps.expand(image, (widths[0], widths[1], widths[2], widths[3]), fill=colour)


def _cropped(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """A fifth of its area or more, 3:4 to 4:3 (the crop that ImageNet networks are trained with)."""
    for _ in range(10):
        area = image.width * image.height * chance.uniform(0.2, 1.0)
        ratio = math.exp(chance.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = int(math.sqrt(area * ratio)), int(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = (
                int(chance.integers(0, image.width - width + 1)),
                int(chance.integers(0, image.height - height + 1)),
            )
            return image.crop((left, top, left + width, top + height))
    return image
