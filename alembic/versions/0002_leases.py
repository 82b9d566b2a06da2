"""Add leases by name, and the last failure of an embedding.

A lease by name is for work that one process at a time may do.
"""

import sqlalchemy as sa

from storage.columns import text
from storage.schema_steps import AddColumn, CreateTable, DropColumn, DropTable, run_steps

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    leases = CreateTable(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    failure = sa.Column("failure", text(500), nullable=True)
    run_steps(revision, [leases, AddColumn("embeddings", failure)])


def downgrade() -> None:
    run_steps(revision, [DropColumn("embeddings", "failure"), DropTable("leases")])
