"""Bodies about searches: hits, answers and comparisons."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.http.schemas.masters import Master


class Hit(BaseModel):
    """A master that a search found."""

    master: Master
    distance: float = Field(description="Cosine distance, from 0 (the same) to 2.")
    score: float = Field(description="100 x (1 - distance / 2), from 0 to 100.")
    exact: bool = Field(description="Whether the master has the same bytes as the sample.")
    probability: float | None = Field(
        description="Probability that both show the same thing; null unless the search has a"
        " single image, and without a calibration."
    )


class SearchAnswer(BaseModel):
    """The result of a search."""

    hits: list[Hit] = Field(description="Hits, nearest first; equal distances in the order of ids.")
    model_version: str
    took_ms: float = Field(description="Duration of the search in milliseconds.")
    space: str = Field(
        description="Space that was searched; with several, that of the first example."
    )
    understood: float | None = Field(
        description="How near the text is to what the built-in words know, from 0 to 1; below 0.5,"
        " the hits mean little. Null without a text, and in a space whose own encoder reads it."
    )
    warnings: list[str] = Field(
        description="`truncated`: an image lacks its last bytes, and the search used the rest."
        " Otherwise empty."
    )
    model_versions: dict[str, str] = Field(
        description="Model version that was compared in, for each space that was searched."
    )


class Comparison(BaseModel):
    """The distance between two images."""

    distance: float = Field(description="Cosine distance, from 0 (the same) to 2.")
    score: float = Field(description="100 x (1 - distance / 2), from 0 to 100.")
    exact: bool = Field(description="Whether both have the same bytes.")
    probability: float | None = Field(
        description="Probability that both show the same thing; null without a calibration."
    )
    model_version: str
    warnings: list[str] = Field(
        description="`truncated`: one of the files lacks its last bytes, and the rest was compared."
        " Otherwise empty."
    )


def score_of(distance: float) -> float:
    """Turn a cosine distance, 0 to 2, into a score, 100 to 0."""
    return round(100.0 * (1.0 - distance / 2.0), 4)
