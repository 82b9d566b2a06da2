"""The values that cross the storage protocols: masters, collections, embeddings, objects, vectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Attributes = dict[str, Any]
FARTHEST = 900.0  # seconds: no lease of a row and no pause before another attempt may last longer
WORKER = "worker-"  # begins the owners that work off what was acknowledged before; other owners have not answered yet


class MasterState(StrEnum):
    PENDING = "pending"
    STORED = "stored"
    DAMAGED = "damaged"
    DELETING = "deleting"


class ModelState(StrEnum):
    BUILDING = "building"
    ACTIVE = "active"
    PREVIOUS = "previous"
    RETIRED = "retired"


@dataclass(frozen=True)
class Collection:
    id: UUID
    name: str
    created_at: int  # milliseconds since 1970, UTC


@dataclass(frozen=True)
class NewMaster:
    """What is known of an upload before it has a row. ``width`` and ``height`` in pixels, upright; ``size`` in bytes."""

    sha256: bytes
    size: int
    mime: str
    extension: str
    width: int
    height: int
    name: str
    attributes: Attributes


@dataclass(frozen=True)
class Master:
    id: UUID
    collection_id: UUID
    collection: str
    sha256: bytes
    size: int
    mime: str
    extension: str
    width: int
    height: int
    name: str
    attributes: Attributes
    revision: int
    state: MasterState
    created_at: int  # milliseconds since 1970, UTC
    updated_at: int

    @property
    def object_key(self) -> str:
        """Readable in a bucket browser, and enough to verify the bytes without the database."""
        digest = self.sha256.hex()
        return f"masters/{self.collection}-{self.collection_id}/{digest[:2]}/{digest}/{self.id}.{self.extension}"


class Claim(StrEnum):
    """What an upload may do with the row of its collection and hash."""

    OURS = "ours"  # pending under our lease: put the bytes and commit
    EXISTS = "exists"  # stored already: answer with it
    BUSY = "busy"  # another upload of the same bytes holds it: wait
    DAMAGED = "damaged"  # its bytes are lost: put them again and heal it


@dataclass(frozen=True)
class Reservation:
    claim: Claim
    master: Master


@dataclass(frozen=True)
class Page:
    masters: list[Master]
    next_after: UUID | None


@dataclass(frozen=True)
class IndexTask:
    """One embedding to bring into the vector store, leased to the caller."""

    master: Master
    model_version: str
    attempts: int  # failed ones so far


@dataclass(frozen=True)
class DeadLetter:
    """An embedding that failed as often as it may; it stays so until somebody has it tried again."""

    master: Master
    model_version: str
    attempts: int
    failure: str


@dataclass(frozen=True)
class MasterRecord:
    """All that the truth knows of a master."""

    master: Master
    indexed: dict[
        str, int | None
    ]  # model version -> revision that was indexed; None while that is pending


@dataclass(frozen=True)
class ModelVersion:
    id: str
    state: ModelState
    created_at: int  # milliseconds since 1970, UTC


@dataclass(frozen=True)
class Replica:
    """A running process and the model versions it has loaded."""

    id: str
    loaded: list[str]


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size: int  # bytes
    modified: float  # seconds since 1970


@dataclass(frozen=True)
class VectorRecord:
    master_id: UUID
    collection_id: UUID
    vector: NDArray[np.float32]  # (512,), length 1
    attributes: Attributes
    revision: int


@dataclass(frozen=True)
class VectorHit:
    master_id: UUID
    distance: float  # cosine distance, 0..2
