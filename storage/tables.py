"""The schema: one declarative class per table. alembic/versions upgrades databases to it."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import Base, UuidBytes, binary, text


class CollectionRow(Base):
    __tablename__ = "collections"

    id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    name: Mapped[str] = mapped_column(text(63))
    # NULL while the collection is being deleted, which frees its name.
    live_name: Mapped[str | None] = mapped_column(text(63), unique=True)
    state: Mapped[str] = mapped_column(text(16))
    created_at: Mapped[int]


class MasterRow(Base):
    __tablename__ = "masters"
    __table_args__ = (
        UniqueConstraint(
            "collection_id", "live_sha256", name="uq_masters_collection_id_live_sha256"
        ),
        Index("ix_masters_collection_id_state_id", "collection_id", "state", "id"),
        Index("ix_masters_state_lease_until", "state", "lease_until"),
        Index(
            "ix_masters_collection_id_state_captured_at_id",
            "collection_id",
            "state",
            "captured_at",
            "id",
        ),
        Index("ix_masters_collection_id_state_name_id", "collection_id", "state", "name", "id"),
        Index("ix_masters_capture_reader_id", "capture_reader", "id"),
        Index("ix_masters_deletion_id", "deletion_id"),
    )

    id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    collection_id: Mapped[UUID] = mapped_column(UuidBytes, ForeignKey("collections.id"))
    sha256: Mapped[bytes] = mapped_column(binary(32))
    live_sha256: Mapped[bytes | None] = mapped_column(binary(32))  # NULL while deleting
    size: Mapped[int]
    mime: Mapped[str] = mapped_column(text(64))
    extension: Mapped[str] = mapped_column(text(8))
    width: Mapped[int]
    height: Mapped[int]
    name: Mapped[str] = mapped_column(text(255))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[int]
    state: Mapped[str] = mapped_column(text(16))
    lease_owner: Mapped[str | None] = mapped_column(text(64))
    # All times are in milliseconds since 1970, on the database's clock.
    lease_until: Mapped[int | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    # NULL until the file was read.
    capture: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    captured_at: Mapped[int | None]  # the time in `capture`, to sort by
    capture_reader: Mapped[int] = mapped_column(server_default="0")  # 0 until the file was read
    # Of a removed master: the deletion that can be undone.
    deletion_id: Mapped[UUID | None] = mapped_column(UuidBytes)


class EmbeddingRow(Base):
    __tablename__ = "embeddings"
    __table_args__ = (
        Index("ix_embeddings_state_run_after", "state", "run_after"),
        Index("ix_embeddings_model_version_state_run_after", "model_version", "state", "run_after"),
    )

    master_id: Mapped[UUID] = mapped_column(UuidBytes, ForeignKey("masters.id"), primary_key=True)
    model_version: Mapped[str] = mapped_column(text(64), primary_key=True)
    state: Mapped[str] = mapped_column(text(16))
    indexed_revision: Mapped[int | None]
    attempts: Mapped[int]
    run_after: Mapped[int]
    lease_owner: Mapped[str | None] = mapped_column(text(64))
    lease_until: Mapped[int | None]
    failure: Mapped[str | None] = mapped_column(text(500))  # of the last attempt


class ModelVersionRow(Base):
    __tablename__ = "model_versions"
    __table_args__ = (Index("ix_model_versions_active_space", "active_space", unique=True),)

    id: Mapped[str] = mapped_column(text(64), primary_key=True)
    state: Mapped[str] = mapped_column(text(16))
    space: Mapped[str] = mapped_column(text(63), server_default="look")
    # The space of an active version, otherwise NULL: the unique index allows one in each space.
    active_space: Mapped[str | None] = mapped_column(text(63))
    created_at: Mapped[int]


class ReplicaRow(Base):
    """A running process, by its last heartbeat."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(text(64), primary_key=True)
    loaded: Mapped[list[str]] = mapped_column(JSON)  # model versions
    until: Mapped[int]  # it counts as running until then


class LeaseRow(Base):
    """Work that one process at a time may do, under its name."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(text(64), primary_key=True)
    owner: Mapped[str] = mapped_column(text(64))
    until: Mapped[int]


class IdentityRow(Base):
    """The id of this database, in the only row. Its bucket has the id, too."""

    __tablename__ = "identity"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    id: Mapped[str] = mapped_column(text(64))


class VectorRow(Base):
    """The embedded vector store's rows, one per part; empty where Milvus keeps the vectors."""

    __tablename__ = "vectors"

    model_version: Mapped[str] = mapped_column(text(64), primary_key=True)
    master_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True, server_default="0")
    collection_id: Mapped[UUID] = mapped_column(UuidBytes)
    # x, y, width and height; NULL for the whole image
    box: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    vector: Mapped[bytes] = mapped_column(LargeBinary)  # little-endian float32
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[int]


class VectorFileRow(Base):
    """A file of the embedded vectors' snapshot; see ``storage.vector_snapshots``.

    Once a version has a row here, triggers of SQLite record each change of its vectors in
    ``vector_changes``.
    """

    __tablename__ = "vector_files"

    model_version: Mapped[str] = mapped_column(text(64), primary_key=True)
    # Random, and empty in the row that makes the triggers record changes.
    file: Mapped[str] = mapped_column(text(64), primary_key=True)
    rows: Mapped[int]
    alive: Mapped[bytes] = mapped_column(LargeBinary)  # a bit for each row that is up to date


class VectorChangeRow(Base):
    """A master whose vectors were written or removed since the snapshot of a version."""

    __tablename__ = "vector_changes"
    __table_args__ = ({"sqlite_autoincrement": True},)  # no number is used again

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    model_version: Mapped[str] = mapped_column(text(64))
    master_id: Mapped[UUID] = mapped_column(UuidBytes)


class DeletionRow(Base):
    """A deletion of several masters that can be undone for a while."""

    __tablename__ = "deletions"
    __table_args__ = (Index("ix_deletions_undo_until", "undo_until"),)

    id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    collection_id: Mapped[UUID] = mapped_column(UuidBytes)
    reason: Mapped[str] = mapped_column(text(16))  # `filter` or `duplicates`
    created_at: Mapped[int]
    undo_until: Mapped[int]


class MergedAttributesRow(Base):
    """A master that got attributes of deleted ones, and what undoing the deletion gives it back."""

    __tablename__ = "merged_attributes"

    deletion_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    master_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)  # before
    revision: Mapped[int]  # after; a later one is not touched


class LocalFeaturesRow(Base):
    """The local features of a master's image; see ``models.local_features``."""

    __tablename__ = "local_features"

    master_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    format: Mapped[int]
    features: Mapped[bytes] = mapped_column(LargeBinary)  # empty if the image has no corners


class DuplicateScanRow(Base):
    """A search for near-identical masters in a collection, or between two, kept up to date."""

    __tablename__ = "duplicate_scans"
    __table_args__ = (
        UniqueConstraint(
            "collection_id",
            "other_id",
            "space",
            name="uq_duplicate_scans_collection_id_other_id_space",
        ),
    )

    id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    collection_id: Mapped[UUID] = mapped_column(UuidBytes)  # the smaller id of the two
    other_id: Mapped[UUID] = mapped_column(UuidBytes)  # the same id: within the collection
    space: Mapped[str] = mapped_column(text(63))
    max_distance: Mapped[float]
    changes: Mapped[int]  # raised with each change of its pairs
    created_at: Mapped[int]
    completed_at: Mapped[int | None]  # when all masters had been compared; NULL before


class DuplicateCheckRow(Base):
    """A master that a scan has compared, with its vector of that model version."""

    __tablename__ = "duplicate_checks"
    __table_args__ = (Index("ix_duplicate_checks_master_id", "master_id"),)

    scan_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    master_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    model_version: Mapped[str] = mapped_column(text(64))


class DuplicatePairRow(Base):
    """Two masters that a scan found to show one photograph; ``first_id`` is the smaller id."""

    __tablename__ = "duplicate_pairs"
    __table_args__ = (
        Index("ix_duplicate_pairs_first_id", "first_id"),
        Index("ix_duplicate_pairs_second_id", "second_id"),
    )

    scan_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    first_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    second_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    common: Mapped[int]  # local features
    distance: Mapped[float]


class DuplicateDecisionRow(Base):
    """What somebody decided about two masters; ``first_id`` is the smaller id."""

    __tablename__ = "duplicate_decisions"
    __table_args__ = (Index("ix_duplicate_decisions_second_id", "second_id"),)

    first_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    second_id: Mapped[UUID] = mapped_column(UuidBytes, primary_key=True)
    decision: Mapped[str] = mapped_column(text(16))  # `different`, or `keep` for duplicates
    decided_at: Mapped[int]


def table_of(row: type[Base]) -> Table:
    """Return the table of a declarative class, for statements that need no objects."""
    return cast("Table", row.__table__)
