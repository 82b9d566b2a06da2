"""Request and response bodies of the HTTP API."""

from __future__ import annotations

from app.http.schemas.collections import (
    Attribute,
    AttributeList,
    AttributeValue,
    Collection,
    CollectionList,
    Month,
    NewCollection,
    Timeline,
)
from app.http.schemas.masters import (
    Capture,
    Links,
    Master,
    MasterChange,
    MasterPage,
    Position,
    Problem,
    UploadResult,
    UploadResults,
)
from app.http.schemas.models import AddedModel, Model, ModelList, Space, SpaceList
from app.http.schemas.operations import (
    DeadLetter,
    DeadLetters,
    Loading,
    Readiness,
    Reread,
    Revived,
    ScrubOptions,
    Stats,
)
from app.http.schemas.queries import Example, SearchQuery
from app.http.schemas.search import Comparison, Hit, SearchAnswer, score_of

__all__ = [
    "AddedModel",
    "Attribute",
    "AttributeList",
    "AttributeValue",
    "Capture",
    "Collection",
    "CollectionList",
    "Comparison",
    "DeadLetter",
    "DeadLetters",
    "Example",
    "Hit",
    "Links",
    "Loading",
    "Master",
    "MasterChange",
    "MasterPage",
    "Model",
    "ModelList",
    "Month",
    "NewCollection",
    "Position",
    "Problem",
    "Readiness",
    "Reread",
    "Revived",
    "ScrubOptions",
    "SearchAnswer",
    "SearchQuery",
    "Space",
    "SpaceList",
    "Stats",
    "Timeline",
    "UploadResult",
    "UploadResults",
    "score_of",
]
