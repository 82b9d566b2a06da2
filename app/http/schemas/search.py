"""Bodies about searches: hits, answers and comparisons."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from app.http.schemas.masters import Master, Problem
from storage import records

_VECTOR_PLACES = 8


class Part(BaseModel):
    """A part of a master in one space."""

    space: str
    model_version: str
    box: tuple[int, int, int, int] | None = Field(
        description="x, y, width and height in pixels; null for the whole image."
    )
    vector: list[float] | None = Field(
        description="Vector of length 1, to 8 decimal places; null unless it was asked for."
    )

    @classmethod
    def of(cls, space: str, version: str, part: records.VectorPart, *, with_vector: bool) -> Part:
        vector = numbers_of(part.vector) if with_vector else None
        return cls.model_construct(space=space, model_version=version, box=part.box, vector=vector)


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
    parts: list[Part] | None = Field(
        None,
        description="The part that is nearest to the examples, for each space. Only if `include`"
        " asks for it.",
    )

    group: Group | None = Field(None, description="The hit's group. Only with `group_by`.")
    duplicates: Duplicates | None = Field(
        None, description="What is folded into the hit. Only with `collapse_duplicates`."
    )


class Group(BaseModel):
    """Hits with the same value; the nearest is the hit that has the group."""

    value: str | bool | int | float | None = Field(
        description="The value; null for a master that has none and is a group of its own."
    )
    more: list[Hit] = Field(
        description="The further hits, nearest first; `group_size` says how many there may be."
    )


class Duplicates(BaseModel):
    """Masters that are nearly the same picture as a hit, which stands for them."""

    count: int = Field(description="Number of masters, among those that the search read.")
    ids: list[UUID] = Field(description="The first 100 ids.")


class FacetValue(BaseModel):
    """A value and how often it occurs."""

    value: str | bool | int | float
    count: int


class Facet(BaseModel):
    """The values at a path. The items of a list count one by one."""

    path: str
    masters: int = Field(description="Number of masters that have a value.")
    values: list[FacetValue] = Field(description="The 20 most frequent values.")
    others: int = Field(description="How often masters have other values.")


class Facets(BaseModel):
    """The values of the masters that a search finds."""

    masters: int = Field(description="Number of masters that were counted.")
    complete: bool = Field(
        description="False if more masters are within the maximum distance: the nearest 10 000"
        " were counted."
    )
    paths: list[Facet] = Field(description="One for each path, in their order.")


class SearchAnswer(BaseModel):
    """The result of a search."""

    hits: list[Hit] = Field(
        description="Hits, nearest first; equal distances in the order of ids. `sort` changes it."
    )
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
    next_cursor: str | None = Field(
        None, description="Pass it as `cursor` to get the next page; null at the end."
    )
    facets: Facets | None = Field(None, description="Null unless the search asks for facets.")


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


class BatchResult(BaseModel):
    """The outcome of one search of a batch: either an answer or an error."""

    status: int = Field(description="200, or the status of the error.")
    answer: SearchAnswer | None = None
    error: Problem | None = None


class BatchAnswer(BaseModel):
    """The outcomes of the searches of a batch."""

    results: list[BatchResult] = Field(description="One per query, in their order.")


class Embedded(BaseModel):
    """The vector of an image or a text."""

    space: str
    model_version: str
    vector: list[float] = Field(description="Vector of length 1, to 8 decimal places.")
    understood: float | None = Field(
        description="How near a text is to what the built-in words know, from 0 to 1; null for"
        " everything else."
    )
    warnings: list[str] = Field(
        description="`truncated`: the image lacks its last bytes. Otherwise empty."
    )


class EmbedAnswer(BaseModel):
    """Vectors of images and texts, which were not stored."""

    vectors: list[Embedded] = Field(description="One per example, in their order.")


class MasterVectors(BaseModel):
    """The vectors that are stored for a master."""

    vectors: list[Part] = Field(
        description="One per part and space. A master that is not indexed yet has none."
    )


def numbers_of(vector: NDArray[np.float32]) -> list[float]:
    """Return a vector as clients get it; more decimal places would be noise of float32."""
    rounded: list[float] = np.round(vector.astype(np.float64), _VECTOR_PLACES).tolist()
    return rounded
