"""What a search asks for: its examples, its options, and the vectors that it is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from models.imaging import Box
from models.orientations import Orientation, list_orientations
from storage.filters import And, Filter, Path, matches
from storage.records import Collection, Master
from storage.sorting import Sort

MAX_REACH = 10_000  # maximum of offset + k
MAX_EXAMPLES = 20
MAX_VIEWS = 40  # images of a search, in each orientation
_NO_DIRECTION = 1e-6  # length of a weighted sum whose vectors cancel each other out
Vector = NDArray[np.float32]
Include = Literal["box", "vector"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """Something that hits are to be like; with a negative weight, unlike."""

    weight: float = 1.0  # -1 to 1
    space: str | None = None  # to compare in; None: that of the whole search


@dataclass(frozen=True)
class FileExample(Example):
    """An image file, or the part of it in ``box``."""

    file: BinaryIO
    box: Box | None = None  # in pixels of the upright image


@dataclass(frozen=True)
class MasterExample(Example):
    """A stored master, or the part of it in ``box``."""

    master_id: UUID
    box: Box | None = None


@dataclass(frozen=True)
class TextExample(Example):
    """Words."""

    text: str


@dataclass(frozen=True)
class VectorExample(Example):
    """A vector of the active version of its space, of any length but 0."""

    vector: Sequence[float]


@dataclass(frozen=True)
class HitPosition:
    """The place behind a hit, which may have gone meanwhile, in the order of the distances."""

    distance: float  # that of the hit; -1 for the exact hit, which comes first
    id: UUID
    passed: int  # number of hits up to here
    search: str  # names the search, see ``app.services.search_names``


@dataclass(frozen=True)
class ResultOptions:
    """What a search makes of the masters that it finds; see ``app.services.results``."""

    group_by: Path | None = None  # return one hit, the nearest, for each value at this path
    group_size: int = 1  # hits to return of each group
    collapse_duplicates: float | None = None  # fold hits that are as near as this to a nearer one
    sort: Sort | None = None  # order of the hits that are returned; None: by distance
    facets: tuple[Path, ...] = ()  # paths whose values are counted
    after: HitPosition | None = None  # begin behind this position instead of at the offset


@dataclass(frozen=True)
class SearchOptions:
    """What a search does with its examples, and how much it returns."""

    collection: str
    k: int = 10  # number of hits
    offset: int = 0  # number of hits to skip
    max_distance: float | None = None  # 0 to 2, inclusive
    filter: Filter | None = None
    mirror: bool = False  # also search with the mirrored images
    turns: bool = False  # also search with the images turned by 90, 180 and 270 degrees
    min_probability: float | None = None  # 0 to 1; needs a calibrated model
    space: str | None = None  # None: `words` for a text if there is such a space, otherwise `look`
    feedback: bool = False  # move the vectors of texts towards their first hits
    include: frozenset[Include] = frozenset()  # what to return of each hit's nearest part
    results: ResultOptions = ResultOptions()

    @property
    def orientations(self) -> tuple[Orientation, ...]:
        """The orientations of the images to search with."""
        return list_orientations(mirror=self.mirror, turns=self.turns)


@dataclass(frozen=True)
class Aspect:
    """The part of a query that is compared in one space."""

    version: str
    vector: Vector  # (dimension,), of length 1
    share: float  # of the distance; the shares of a view sum to 1


# The examples in one orientation of their images. The nearest view of a master counts.
View = tuple[Aspect, ...]


@dataclass(frozen=True)
class Query:
    """One search in the form in which stores answer it.

    ``sha256`` finds the master with the sample's own bytes; None if there is no such sample.
    ``calibrated`` is the version that hits have a probability of; None if they have none.
    """

    views: list[View]
    collection: Collection
    options: SearchOptions
    sha256: bytes | None = None
    calibrated: str | None = None

    def accepts(self, master: Master) -> bool:
        return self.options.filter is None or matches(self.options.filter, master.filterable)

    def narrow(self, filter: Filter) -> Query:
        """Return this query for the masters alone that also match another filter."""
        own = self.options.filter
        both = filter if own is None else And((own, filter))
        return replace(self, options=replace(self.options, filter=both))


@dataclass(frozen=True)
class WeightedVector:
    """The vector of an example under a model version, and the weight of the example."""

    version: str
    vector: Vector
    weight: float


def make_view(examples: Sequence[WeightedVector]) -> View | None:
    """Combine examples so that masters are ordered by the weighted sum of their similarities.

    The similarity of a master x with the examples of one space is the sum of w cos(v, x), which is
    L cos(q, x) for the sum q of w v and its length L. So the view has the unit vector of q for each
    space, and L in proportion to the sum of all L as its share of the distance. Returns None if the
    examples cancel each other out.
    """
    versions = dict.fromkeys(example.version for example in examples)
    sums = [_add_up([each for each in examples if each.version == version]) for version in versions]
    lengths = [float(np.linalg.norm(vector)) for vector in sums]
    total = sum(length for length in lengths if length > _NO_DIRECTION)
    aspects = (
        Aspect(version, (vector / length).astype(np.float32), length / total)
        for version, vector, length in zip(versions, sums, lengths, strict=True)
        if length > _NO_DIRECTION
    )
    return tuple(aspects) or None


def _add_up(examples: Sequence[WeightedVector]) -> NDArray[np.float64]:
    weighted = [example.weight * example.vector.astype(np.float64) for example in examples]
    total: NDArray[np.float64] = np.sum(weighted, axis=0)
    return total
