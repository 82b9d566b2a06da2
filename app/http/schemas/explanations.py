"""Bodies about explanations."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from app.services import explanations
from models.attribution import Method

_PLACES = 6


class ExplainedImage(BaseModel):
    """An image, and what each place of it adds to the similarity."""

    width: int = Field(description="Width of the whole upright image in pixels.")
    height: int = Field(description="Height of the whole upright image in pixels.")
    region: tuple[float, float, float, float] = Field(
        description="What the grid covers: x, y, width and height in pixels of the upright image."
        " It goes beyond the image where the encoder pads it."
    )
    grid: list[list[float]] = Field(
        description="Rows of the grid, from the top left. With `activation`, a number is what the"
        " place adds to the similarity, and they sum to it; with `occlusion`, it is the similarity"
        " that is lost if the place is covered."
    )

    @classmethod
    def of(cls, image: explanations.ExplainedImage) -> ExplainedImage:
        sides = (image.region.x, image.region.y, image.region.width, image.region.height)
        return cls(
            width=image.width,
            height=image.height,
            region=tuple(round(side, 2) for side in sides),
            grid=np.round(image.grid.astype(np.float64), _PLACES).tolist(),
        )


class Explanation(BaseModel):
    """Which places of two images make them alike."""

    method: Method = Field(description="How the numbers were found.")
    similarity: float = Field(description="Cosine of the two vectors: 1 - distance.")
    space: str
    model_version: str
    sample: ExplainedImage
    master: ExplainedImage
    warnings: list[str] = Field(
        description="`truncated`: the sample lacks its last bytes, and the rest was compared."
        " Otherwise empty."
    )

    @classmethod
    def of(cls, explanation: explanations.Explanation) -> Explanation:
        return cls(
            method=explanation.method,
            similarity=round(explanation.similarity, _PLACES),
            space=explanation.space,
            model_version=explanation.version,
            sample=ExplainedImage.of(explanation.sample),
            master=ExplainedImage.of(explanation.master),
            warnings=list(explanation.warnings),
        )
