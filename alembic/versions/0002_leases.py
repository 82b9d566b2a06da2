"""Add leases by name, and the last failure of an embedding.

A lease by name is for work that one process at a time may do.
"""

import sqlalchemy as sa
from alembic import op

from storage.tables import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.add_column("embeddings", sa.Column("failure", text(500), nullable=True))


def downgrade() -> None:
    op.drop_column("embeddings", "failure")
    op.drop_table("leases")
