"""The preprocessing that a bundle's manifest describes: resize, then crop or pad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundles.manifest import ImageTower
from models.transforms import Region

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
_REDUCING_GAP = 3.0  # as for the ResNet: large images are halved first, which hardly changes pixels


@dataclass(frozen=True)
class Framing:
    """Brings images into the frame of an encoder's input. Thread-safe."""

    tower: ImageTower

    @property
    def min_side(self) -> int:
        """The pixels that the shorter side of an image needs."""
        return self.tower.shortest_side or max(self.tower.width, self.tower.height)

    @property
    def converts_colours(self) -> bool:
        """Whether colours are converted by the image's profile first."""
        return self.tower.colour_profiles == "convert"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return self.tower.height, self.tower.width, 3

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return an RGB image as ``(height, width, 3)`` uint8."""
        if self.tower.resize == "squash":
            framed = self._resize(image, (self.tower.width, self.tower.height))
        elif self.tower.resize == "pad":
            framed = self._pad(image)
        else:
            framed = self._crop_centre(image)
        return np.asarray(framed)

    def find_region(self, width: int, height: int) -> Region:
        """Return the part of an image that is in the input, or with ``pad`` what lies around it."""
        tower = self.tower
        if tower.resize == "squash":
            return Region(0, 0, width, height)
        if tower.resize == "pad":
            scale = max(width / tower.width, height / tower.height)
            sides = tower.width * scale, tower.height * scale
            return Region((width - sides[0]) / 2, (height - sides[1]) / 2, *sides)
        left, top, right, bottom = self._find_crop(width, height)
        return Region(left, top, right - left, bottom - top)

    def _crop_centre(self, image: Image.Image) -> Image.Image:
        """Scale and crop as torchvision's Resize and CenterCrop do, in one step."""
        box = self._find_crop(*image.size)
        return self._resize(image, (self.tower.width, self.tower.height), box)

    def _find_crop(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the left, top, right and bottom edges of what is kept, in pixels of the image."""
        tower = self.tower
        if tower.shortest_side is not None:
            side, shorter = tower.shortest_side, min(width, height)
            scaled = int(side * width / shorter), int(side * height / shorter)
        else:
            factor = max(tower.width / width, tower.height / height)
            scaled = (
                max(tower.width, int(width * factor)),
                max(tower.height, int(height * factor)),
            )
        left = round((scaled[0] - tower.width) / 2)
        top = round((scaled[1] - tower.height) / 2)
        x, y = width / scaled[0], height / scaled[1]  # pixels of the image per scaled pixel
        return (
            left * x,
            top * y,
            min(width, (left + tower.width) * x),
            min(height, (top + tower.height) * y),
        )

    def _pad(self, image: Image.Image) -> Image.Image:
        tower, (width, height) = self.tower, image.size
        factor = min(tower.width / width, tower.height / height)
        scaled = max(1, round(width * factor)), max(1, round(height * factor))
        canvas = Image.new("RGB", (tower.width, tower.height), tower.fill)
        corner = (tower.width - scaled[0]) // 2, (tower.height - scaled[1]) // 2
        canvas.paste(self._resize(image, scaled), corner)
        return canvas

    def _resize(
        self,
        image: Image.Image,
        size: tuple[int, int],
        box: tuple[float, float, float, float] | None = None,
    ) -> Image.Image:
        return image.resize(size, _FILTERS[self.tower.interpolation], box, _REDUCING_GAP)
