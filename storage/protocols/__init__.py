"""The protocols that storage backends implement: one per store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from storage.protocols.captures import CaptureChange, CaptureStore
from storage.protocols.changes import AttributeUpdate, ChangeStore
from storage.protocols.deletions import (
    Deletion,
    DeletionStore,
    KeptMaster,
    NewDeletion,
    Removal,
    Restored,
)
from storage.protocols.duplicates import (
    DecidedPair,
    Decision,
    DuplicatePair,
    DuplicateScan,
    DuplicateStore,
    RawPair,
    Unchecked,
)
from storage.protocols.lists import ListStore
from storage.protocols.metadata import (
    CollectionStore,
    EmbeddingOutbox,
    IdentityStore,
    LeaseStore,
    MasterStore,
    MetadataStore,
    RecordStore,
    UploadStore,
)
from storage.protocols.objects import ObjectStore
from storage.protocols.registry import ModelRegistry
from storage.protocols.vectors import VectorStore

__all__ = [
    "AttributeUpdate",
    "CaptureChange",
    "CaptureStore",
    "ChangeStore",
    "CollectionStore",
    "DecidedPair",
    "Decision",
    "Deletion",
    "DeletionStore",
    "DuplicatePair",
    "DuplicateScan",
    "DuplicateStore",
    "EmbeddingOutbox",
    "IdentityStore",
    "KeptMaster",
    "LeaseStore",
    "ListStore",
    "MasterStore",
    "MetadataStore",
    "ModelRegistry",
    "NewDeletion",
    "ObjectStore",
    "RawPair",
    "RecordStore",
    "Removal",
    "Restored",
    "Stores",
    "Unchecked",
    "UploadStore",
    "VectorStore",
]


@dataclass(frozen=True)
class Stores:
    """The four stores of one installation, opened together.

    The writes to the metadata and the vector store inside ``with stores.together():`` are one
    durable transaction if both are in one database. Elsewhere, each write is its own.
    """

    metadata: MetadataStore
    registry: ModelRegistry
    objects: ObjectStore
    vectors: VectorStore
    together: Callable[[], AbstractContextManager[object]] = nullcontext

    def close(self) -> None:
        """Close all stores; none can be used afterwards."""
        self.vectors.close()
        self.objects.close()
        self.metadata.close()
