"""Add the capture metadata of masters, and the indexes that lists are sorted by."""

import sqlalchemy as sa

from storage.schema_steps import AddColumn, CreateIndex, DropColumn, DropIndex, run_steps

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = (
    sa.Column("capture", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("captured_at", sa.BigInteger, nullable=True),
    sa.Column("capture_reader", sa.BigInteger, nullable=False, server_default="0"),
)
_INDEXES = {
    "ix_masters_collection_id_state_captured_at_id": (
        "collection_id",
        "state",
        "captured_at",
        "id",
    ),
    "ix_masters_collection_id_state_name_id": ("collection_id", "state", "name", "id"),
    "ix_masters_capture_reader_id": ("capture_reader", "id"),
}


def upgrade() -> None:
    columns = [AddColumn("masters", column) for column in _COLUMNS]
    indexes = [CreateIndex(name, "masters", columns) for name, columns in _INDEXES.items()]
    run_steps(revision, [*columns, *indexes])


def downgrade() -> None:
    indexes = [DropIndex(name, "masters") for name in _INDEXES]
    columns = [DropColumn("masters", column.name) for column in _COLUMNS]
    run_steps(revision, [*indexes, *columns])
