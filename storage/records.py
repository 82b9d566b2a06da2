"""The values that the storage protocols exchange: masters, embeddings, objects, vectors."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Attributes = dict[str, Any]
# Capture metadata, such as the camera: docs/filters.md lists the members. A time is in
# milliseconds since 1970.
Capture = dict[str, Any]
CAPTURE = "capture"
BUILT_IN_FIELDS = ("name", "mime", "width", "height", "size", "created_at")  # beside `capture`
LOOK = "look"  # the space that every installation has
WORDS = "words"  # the space in which texts are searched, if an installation has it
Box4 = tuple[int, int, int, int]  # x, y, width, height: pixels of the upright original
FARTHEST = 900.0  # seconds: the longest lease of a row, and the longest delay before a retry
WORKER = "worker-"  # prefix of lease owners whose masters are acknowledged; others are requests


def new_id() -> UUID:
    """Return a UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits.

    Ids sort by the millisecond of their creation.
    """
    value = int.from_bytes(os.urandom(16))
    value = (time.time_ns() // 1_000_000) << 80 | (value & (1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)


class MasterState(StrEnum):
    """How far the upload or the deletion of a master is."""

    PENDING = "pending"  # reserved by an upload that is not acknowledged yet
    STORED = "stored"  # acknowledged: it can be read and found
    DAMAGED = "damaged"  # its bytes are lost or wrong: hidden until they are uploaded again
    REMOVED = "removed"  # hidden; its bytes are kept while the deletion can be undone
    DELETING = "deleting"  # hidden; its vectors, object and row are being removed


class ModelState(StrEnum):
    """The place of a model version in its life cycle."""

    BUILDING = "building"  # workers make the embeddings of all masters
    ACTIVE = "active"  # searches use it
    PREVIOUS = "previous"  # kept complete, so that a rollback is possible
    RETIRED = "retired"  # its embeddings are being removed


@dataclass(frozen=True)
class Collection:
    """A named set of masters; a search stays inside one."""

    id: UUID
    name: str
    created_at: int  # milliseconds since 1970, UTC


@dataclass(frozen=True)
class NewMaster:
    """What is known about an upload before it has a row."""

    sha256: bytes  # 32 bytes
    size: int  # bytes
    mime: str
    extension: str  # without a dot
    width: int  # pixels, of the upright image
    height: int
    name: str
    attributes: Attributes
    capture: Capture | None = None  # None: the file has not been read for it
    capture_reader: int = 0  # the number of the reader that read it; 0 for none


@dataclass(frozen=True)
class Master:
    """An uploaded image. Its revision starts at 1; every change increases it."""

    id: UUID
    collection_id: UUID
    collection: str
    sha256: bytes  # 32 bytes
    size: int  # bytes
    mime: str
    extension: str  # without a dot
    width: int  # pixels, of the upright image
    height: int
    name: str
    attributes: Attributes
    revision: int
    state: MasterState
    created_at: int  # milliseconds since 1970, UTC
    updated_at: int
    capture: Capture | None = None  # None: the file has not been read for it
    capture_reader: int = 0  # the number of the reader that read it; 0 for none

    @property
    def filterable(self) -> Attributes:
        """What filters select by: the built-in fields, and the attributes.

        An attribute takes precedence over the built-in field of the same name.
        """
        return self.built_in_fields | self.attributes

    @property
    def built_in_fields(self) -> Attributes:
        """What filters select by, in addition to the attributes."""
        fields = {field: getattr(self, field) for field in BUILT_IN_FIELDS}
        return fields | {CAPTURE: self.capture or {}}

    @property
    def indexed_fields(self) -> Attributes:
        """What the vector stores keep, to filter by: the attributes alone until the file is read.

        So the vectors of an earlier release stay correct until their masters are read.
        """
        return self.attributes if self.capture is None else self.filterable

    @property
    def object_key(self) -> str:
        """The object key of the bytes.

        It names the collection for people who browse a bucket, and has the hash, so that the bytes
        can be verified without the database.
        """
        digest = self.sha256.hex()
        folder = f"masters/{self.collection}-{self.collection_id}/{digest[:2]}/{digest}"
        return f"{folder}/{self.id}.{self.extension}"


class Claim(StrEnum):
    """What an upload may do with the row of its collection and hash."""

    OURS = "ours"  # pending under the caller's lease: write the bytes and commit
    EXISTS = "exists"  # stored already: return it
    BUSY = "busy"  # another upload of the same bytes holds it: wait
    DAMAGED = "damaged"  # its bytes are lost: write them again and restore it


@dataclass(frozen=True)
class Reservation:
    """The row for the bytes of an upload, and what the upload may do with it."""

    claim: Claim
    master: Master


@dataclass(frozen=True)
class IndexTask:
    """One embedding to write to the vector store, leased to the caller."""

    master: Master
    model_version: str
    attempts: int  # failed ones so far


@dataclass(frozen=True)
class DeadLetter:
    """An embedding that failed in too many attempts, and waits for an operator to requeue it."""

    master: Master
    model_version: str
    attempts: int
    failure: str  # of the last attempt


@dataclass(frozen=True)
class MasterRecord:
    """A master with the state of its embeddings.

    ``indexed`` maps a model version to the revision that was indexed, or to None while the
    embedding is pending or a dead letter.
    """

    master: Master
    indexed: dict[str, int | None]


@dataclass(frozen=True)
class MasterRevision:
    """What changes whenever a master's row does, without its name and attributes."""

    id: UUID
    revision: int
    updated_at: int
    state: MasterState


@dataclass(frozen=True)
class ModelVersion:
    """A model version that the registry knows; the id is a hash of weights and preprocessing."""

    id: str
    state: ModelState
    created_at: int  # milliseconds since 1970, UTC
    space: str = LOOK  # in which it is compared


@dataclass(frozen=True)
class Replica:
    """A running process and the model versions it has loaded."""

    id: str
    loaded: list[str]


@dataclass(frozen=True)
class ObjectInfo:
    """An object without its bytes."""

    key: str
    size: int  # bytes
    modified: float  # seconds since 1970, UTC


@dataclass(frozen=True)
class VectorPart:
    """One vector of a master, and the part of the image that it was computed from."""

    vector: NDArray[np.float32]  # (d,), of length 1; d is the dimension of the model version
    box: Box4 | None = None  # None: the whole image


@dataclass(frozen=True)
class VectorRecord:
    """The embedding of one master, with what searches filter by.

    Its parts, of which there is at least one, are numbered from 0. Raises ValueError without any.
    """

    master_id: UUID
    collection_id: UUID
    parts: tuple[VectorPart, ...]
    attributes: Attributes  # the indexed_fields of the master
    revision: int  # of the master, when the record was written

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError(f"the embedding of the master {self.master_id} has no part")


def whole_image(vector: NDArray[np.float32]) -> tuple[VectorPart, ...]:
    """Return the parts of an embedding that has one vector, of the whole image."""
    return (VectorPart(vector),)


def check_dimension(records: Sequence[VectorRecord], dimension: int | None) -> int | None:
    """Return the dimension of the records, which must be ``dimension`` unless that is None.

    Returns ``dimension`` if there are no records. Raises ValueError.
    """
    for record in records:
        for part in record.parts:
            dimension = check_length(part.vector, dimension)
    return dimension


def check_length(vector: NDArray[np.float32], dimension: int | None) -> int:
    """Return the length of a vector, which must be ``dimension`` unless that is None.

    Raises ValueError.
    """
    if vector.ndim != 1 or (dimension is not None and len(vector) != dimension):
        raise ValueError(
            f"a vector has the shape {vector.shape}, but those of its model version have"
            f" {dimension} numbers"
        )
    return len(vector)


@dataclass(frozen=True)
class VectorHit:
    """A master that a search found, by the part that is nearest to the query."""

    master_id: UUID
    distance: float  # cosine distance, 0 to 2
    part: int = 0  # the number of the part
    box: Box4 | None = None  # of the part


@dataclass(frozen=True)
class LoadProgress:
    """How far a model version's vectors have been read into memory."""

    loaded: int  # rows
    total: int  # 0 until it is known
