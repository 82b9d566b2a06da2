"""Add the files of the embedded vectors' snapshots, and the changes since."""

import sqlalchemy as sa
from alembic import op

from storage.columns import binary, text
from storage.schema_steps import CreateTable, DropTable, Execute, run_steps

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = ("vector_files", "vector_changes")
# By the name of the trigger: what it follows, and the rows of which masters changed.
_TRIGGERS = {
    "vectors_inserted": ("INSERT", ("NEW",)),
    "vectors_updated": ("UPDATE", ("OLD", "NEW")),
    "vectors_deleted": ("DELETE", ("OLD",)),
}
_RECORD = (
    "INSERT INTO vector_changes (model_version, master_id)"
    " SELECT {row}.model_version, {row}.master_id WHERE EXISTS"
    " (SELECT 1 FROM vector_files WHERE model_version = {row}.model_version);"
)


def upgrade() -> None:
    files = CreateTable(
        "vector_files",
        sa.Column("model_version", text(64), primary_key=True),
        sa.Column("file", text(64), primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("alive", sa.LargeBinary, nullable=False),
    )
    changes = CreateTable(
        "vector_changes",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("model_version", text(64), nullable=False),
        sa.Column("master_id", binary(16), nullable=False),
        sqlite_autoincrement=True,
    )
    run_steps(revision, [files, changes, *_triggers()])


def downgrade() -> None:
    removed = [
        Execute(f"drop the trigger {name}", f"DROP TRIGGER IF EXISTS {name}")
        for name in (_TRIGGERS if _on_sqlite() else ())
    ]
    run_steps(revision, [*removed, *map(DropTable, _TABLES)])


def _triggers() -> list[Execute]:
    """Return the steps that create the triggers of SQLite; elsewhere there are no snapshots."""
    if not _on_sqlite():
        return []
    return [
        Execute(
            f"create the trigger {name}",
            f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON vectors BEGIN"
            f" {' '.join(_RECORD.format(row=row) for row in rows)} END",
        )
        for name, (event, rows) in _TRIGGERS.items()
    ]


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
