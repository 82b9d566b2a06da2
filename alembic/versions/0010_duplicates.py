"""Add duplicates: local features, pairs, decisions, and deletions that can be undone."""

import sqlalchemy as sa

from storage.columns import binary, text
from storage.schema_steps import (
    AddColumn,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    run_steps,
)

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_masters_deletion_id": ("masters", ("deletion_id",)),
    "ix_deletions_undo_until": ("deletions", ("undo_until",)),
    "ix_duplicate_checks_master_id": ("duplicate_checks", ("master_id",)),
    "ix_duplicate_pairs_first_id": ("duplicate_pairs", ("first_id",)),
    "ix_duplicate_pairs_second_id": ("duplicate_pairs", ("second_id",)),
    "ix_duplicate_decisions_second_id": ("duplicate_decisions", ("second_id",)),
}


def upgrade() -> None:
    indexes = [CreateIndex(name, *where) for name, where in _INDEXES.items()]
    run_steps(revision, [_deletion_id(), *_tables(), *indexes])


def downgrade() -> None:
    indexes = [DropIndex(name, table) for name, (table, _) in _INDEXES.items()]
    tables = [DropTable(each.name) for each in _tables()]
    run_steps(revision, [*indexes, *tables, DropColumn("masters", "deletion_id")])


def _deletion_id() -> AddColumn:
    return AddColumn("masters", sa.Column("deletion_id", binary(16), nullable=True))


def _tables() -> list[CreateTable]:
    """Return the steps that create the tables, each with columns of its own."""
    return [
        CreateTable(
            "deletions",
            sa.Column("id", binary(16), primary_key=True),
            sa.Column("collection_id", binary(16), nullable=False),
            sa.Column("reason", text(16), nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("undo_until", sa.BigInteger, nullable=False),
        ),
        CreateTable(
            "merged_attributes",
            sa.Column("deletion_id", binary(16), primary_key=True),
            sa.Column("master_id", binary(16), primary_key=True),
            sa.Column("attributes", sa.JSON, nullable=False),
            sa.Column("revision", sa.BigInteger, nullable=False),
        ),
        CreateTable(
            "local_features",
            sa.Column("master_id", binary(16), primary_key=True),
            sa.Column("format", sa.BigInteger, nullable=False),
            sa.Column("features", sa.LargeBinary, nullable=False),
        ),
        CreateTable(
            "duplicate_scans",
            sa.Column("id", binary(16), primary_key=True),
            sa.Column("collection_id", binary(16), nullable=False),
            sa.Column("other_id", binary(16), nullable=False),
            sa.Column("space", text(63), nullable=False),
            sa.Column("max_distance", sa.Double, nullable=False),
            sa.Column("changes", sa.BigInteger, nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("completed_at", sa.BigInteger, nullable=True),
            sa.UniqueConstraint(
                "collection_id",
                "other_id",
                "space",
                name="uq_duplicate_scans_collection_id_other_id_space",
            ),
        ),
        CreateTable(
            "duplicate_checks",
            sa.Column("scan_id", binary(16), primary_key=True),
            sa.Column("master_id", binary(16), primary_key=True),
            sa.Column("model_version", text(64), nullable=False),
        ),
        CreateTable(
            "duplicate_pairs",
            sa.Column("scan_id", binary(16), primary_key=True),
            sa.Column("first_id", binary(16), primary_key=True),
            sa.Column("second_id", binary(16), primary_key=True),
            sa.Column("common", sa.BigInteger, nullable=False),
            sa.Column("distance", sa.Double, nullable=False),
        ),
        CreateTable(
            "duplicate_decisions",
            sa.Column("first_id", binary(16), primary_key=True),
            sa.Column("second_id", binary(16), primary_key=True),
            sa.Column("decision", text(16), nullable=False),
            sa.Column("decided_at", sa.BigInteger, nullable=False),
        ),
    ]
