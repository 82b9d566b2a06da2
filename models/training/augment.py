"""Data augmentation: the changes that an image goes through between two uploads.

It applies crops, borders, mirroring, rotation, changes of light and colour, loss of resolution,
blur and JPEG compression.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from models.evaluate import recompress_jpeg
from models.transforms import INPUT_SIDE, prepare_input

_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def augment_image(image: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one randomly altered view of an RGB image: the network's input, (224, 224, 3) uint8.

    The same state of ``rng`` gives the same view.
    """
    if rng.random() < 0.15:
        image = _add_random_border(image, rng)
    if rng.random() < 0.85:
        image = _crop_randomly(image, rng)
    image = Image.fromarray(prepare_input(image))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.3:
        image = image.transpose(_TURNS[rng.integers(3)])
    elif rng.random() < 0.15:
        mean = tuple(int(value) for value in np.asarray(image).mean(axis=(0, 1)))
        image = image.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, fillcolor=mean)
    if rng.random() < 0.6:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < 0.15:
        image = ImageOps.grayscale(image).convert("RGB")
    if rng.random() < 0.15:
        side = int(rng.integers(40, 120))
        small = image.resize((side, side), Image.Resampling.BICUBIC)
        image = small.resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3)))
    if rng.random() < 0.3:
        image = recompress_jpeg(image, int(rng.integers(20, 80)))
    return np.asarray(image)


def _add_random_border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add a border of up to a quarter of the size per side: white, black or a random colour."""
    random_colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    colours = [(255, 255, 255), (0, 0, 0), random_colour]
    colour = colours[rng.choice(3, p=[0.4, 0.3, 0.3])]
    most = rng.uniform(0.05, 0.25)
    widths = [int(side * most * rng.random()) for side in (image.width, image.height) * 2]
    return ImageOps.expand(image, (widths[0], widths[1], widths[2], widths[3]), fill=colour)


def _crop_randomly(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Crop to at least a fifth of the area with an aspect ratio from 3:4 to 4:3.

    ImageNet networks are trained with this crop (Szegedy et al. 2015), but from 8 % of the area.
    """
    for _ in range(10):
        area = image.width * image.height * rng.uniform(0.2, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = int(math.sqrt(area * ratio)), int(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left = int(rng.integers(0, image.width - width + 1))
            top = int(rng.integers(0, image.height - height + 1))
            return image.crop((left, top, left + width, top + height))
    return image
