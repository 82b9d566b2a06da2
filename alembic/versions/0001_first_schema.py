"""Create the first schema.

Collections, masters, embeddings, model versions, and the rows of the embedded vector store.
"""

import sqlalchemy as sa

from storage.columns import UuidBytes, binary, text
from storage.schema_steps import CreateIndex, CreateTable, DropTable, run_steps

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_steps(
        revision,
        [
            _collections(),
            _masters(),
            CreateIndex(
                "ix_masters_collection_id_state_id", "masters", ("collection_id", "state", "id")
            ),
            CreateIndex("ix_masters_state_lease_until", "masters", ("state", "lease_until")),
            _embeddings(),
            CreateIndex("ix_embeddings_state_run_after", "embeddings", ("state", "run_after")),
            _model_versions(),
            _vectors(),
        ],
    )


def downgrade() -> None:
    tables = ("vectors", "model_versions", "embeddings", "masters", "collections")
    run_steps(revision, [DropTable(table) for table in tables])


def _collections() -> CreateTable:
    return CreateTable(
        "collections",
        sa.Column("id", UuidBytes, primary_key=True),
        sa.Column("name", text(63), nullable=False),
        sa.Column("live_name", text(63), nullable=True, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )


def _masters() -> CreateTable:
    return CreateTable(
        "masters",
        sa.Column("id", UuidBytes, primary_key=True),
        sa.Column("collection_id", UuidBytes, sa.ForeignKey("collections.id"), nullable=False),
        sa.Column("sha256", binary(32), nullable=False),
        sa.Column("live_sha256", binary(32), nullable=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mime", sa.String(64), nullable=False),
        sa.Column("extension", sa.String(8), nullable=False),
        sa.Column("width", sa.BigInteger, nullable=False),
        sa.Column("height", sa.BigInteger, nullable=False),
        sa.Column("name", text(255), nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", sa.BigInteger, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint(
            "collection_id", "live_sha256", name="uq_masters_collection_id_live_sha256"
        ),
    )


def _embeddings() -> CreateTable:
    return CreateTable(
        "embeddings",
        sa.Column("master_id", UuidBytes, sa.ForeignKey("masters.id"), primary_key=True),
        sa.Column("model_version", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("indexed_revision", sa.BigInteger, nullable=True),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("run_after", sa.BigInteger, nullable=False),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", sa.BigInteger, nullable=True),
    )


def _model_versions() -> CreateTable:
    return CreateTable(
        "model_versions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("milvus_collection", sa.String(255), nullable=True),
        sa.Column("calibration", sa.JSON, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )


def _vectors() -> CreateTable:
    return CreateTable(
        "vectors",
        sa.Column("model_version", sa.String(64), primary_key=True),
        sa.Column("master_id", UuidBytes, primary_key=True),
        sa.Column("collection_id", UuidBytes, nullable=False),
        sa.Column("vector", sa.LargeBinary(2048), nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
