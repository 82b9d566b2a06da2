"""What a search is asked in JSON."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, FiniteFloat, SkipValidation, model_validator
from pydantic_core import PydanticCustomError

from app.http.schemas.bodies import Body, Id
from app.services.collections import DEFAULT
from app.services.queries import MAX_EXAMPLES, MAX_REACH, Include
from app.services.results import MAX_FACETS, MAX_GROUP_SIZE
from app.services.texts import MAX_LENGTH

MAX_QUERIES = 100  # of a batch
GROUP_BY = (
    "Return the nearest hit alone for each value of this attribute or built-in field: `product`."
)
GROUP_SIZE = "Number of hits of each group. k times group_size is at most 1000."
COLLAPSE = (
    "Fold hits that are at most this distant from a nearer hit into that one. 0.02 to 0.1 finds"
    " copies of a picture."
)
SORT = (
    "Order of the hits that are returned: `distance`, `created_at`, `name`, `capture.time`, or the"
    " path of an attribute or built-in field; with a hyphen before it, the reverse."
)
FACETS = (
    "Paths whose values are counted, at most 10, among the masters within max_distance, or without"
    " it among the k nearest."
)
CURSOR = "`next_cursor` of the previous page, of a search with the same examples and options."
_Pixels = Annotated[int, Field(ge=0, lt=10**9)]
_Box = Annotated[tuple[_Pixels, _Pixels, _Pixels, _Pixels], Field(strict=False)]
_SOURCES = ("upload", "master_id", "text", "vector")


class Input(Body):
    """One of an uploaded image, a master, a text and a vector, and the space to embed it in."""

    upload: str | None = Field(
        None,
        description="Name of the file part that has the image. The query is then sent in the form"
        " field `query`, beside the file parts.",
    )
    master_id: Id | None = Field(None, description="Id of a master.")
    text: str | None = Field(None, description=f"Words, 1 to {MAX_LENGTH} characters.")
    vector: Annotated[list[FiniteFloat], Field(fail_fast=True)] | None = Field(
        None,
        description="Vector of the active version of the space; it need not have length 1."
        " POST /embed gives one.",
    )
    box: _Box | None = Field(
        None,
        description="Part of the image to search with: x, y, width and height in pixels of the"
        " upright image.",
    )
    space: str | None = Field(None, description="Space to embed it in. Default: the query's.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise PydanticCustomError(
                "sources",
                "An example has one of upload, master_id, text and vector; this one has {found}.",
                {"found": found},
            )
        if self.box is not None and given[0] not in ("upload", "master_id"):
            raise PydanticCustomError("box", "box needs an upload or a master_id.")
        return self


class Example(Input):
    """What hits are to be like: one of an uploaded image, a master, a text and a vector."""

    weight: FiniteFloat = Field(
        1.0, ge=-1, le=1, description="How much it counts. Negative: hits are to be unlike it."
    )


class SearchQuery(Body):
    """One search. Masters are ordered by the weighted sum of their similarities with examples."""

    examples: list[Example] = Field(
        min_length=1, max_length=MAX_EXAMPLES, description="What hits are to be like, or unlike."
    )
    k: int = Field(10, ge=1, le=1000, description="Number of hits.")
    offset: int = Field(
        0, ge=0, le=MAX_REACH, description="Hits to skip. offset + k is at most 10 000."
    )
    collection: str = Field(DEFAULT, description="Collection to search in.")
    max_distance: FiniteFloat | None = Field(
        None, ge=0, le=2, description="Maximum distance of a hit."
    )
    filter: dict[str, Any] | None = Field(
        None,
        description="Filter on attributes and built-in fields:"
        ' {"colour": "red", "capture.time": {"$gte": "2024-05-01"}}.',
    )
    mirror: bool = Field(
        False,
        description="Also search with the mirrored images. The smaller distance counts.",
    )
    turns: bool = Field(
        False,
        description="Also search with the images turned by 90, 180 and 270 degrees. With mirror,"
        " each image has eight views.",
    )
    min_probability: FiniteFloat | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum probability that a hit shows the same thing. For one image only.",
    )
    space: str | None = Field(
        None,
        description="Space to compare in. The default is `look`; with a text it is `words` if that"
        " space exists.",
    )
    include: set[Include] = Field(
        set(),
        strict=False,
        fail_fast=True,
        description="What to return of the part of each hit that is nearest to the examples:"
        " `box`, its place in the image, and `vector`.",
    )
    feedback: bool = Field(
        False,
        description="Move texts towards their own first hits, which finds more of the same. It is"
        " ignored for a text that is hardly understood.",
    )

    group_by: str | None = Field(None, description=GROUP_BY)
    group_size: int = Field(1, ge=1, le=MAX_GROUP_SIZE, description=GROUP_SIZE)
    collapse_duplicates: FiniteFloat | None = Field(None, ge=0, le=2, description=COLLAPSE)
    sort: str | None = Field(None, description=SORT)
    facets: list[str] = Field([], max_length=MAX_FACETS, description=FACETS)
    cursor: str | None = Field(None, description=CURSOR)


class SearchBatch(Body):
    """Several searches, each of which succeeds or fails by itself."""

    queries: list[SkipValidation[SearchQuery]] = Field(  # one that is malformed fails by itself
        min_length=1, max_length=MAX_QUERIES, description="Bodies of POST /search."
    )


class EmbedQuery(Body):
    """What to embed."""

    examples: list[Input] = Field(
        min_length=1, max_length=MAX_EXAMPLES, description="Images, masters and texts."
    )
    space: str | None = Field(
        None,
        description="Space to embed in. The default is `look`; with a text it is `words` if that"
        " space exists.",
    )
