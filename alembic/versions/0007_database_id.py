"""Add the id of the database, which its bucket stores as well."""

import sqlalchemy as sa

from storage.columns import text
from storage.schema_steps import CreateTable, DropTable, run_steps

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False)
    id_ = sa.Column("id", text(64), nullable=False)
    run_steps(revision, [CreateTable("identity", number, id_)])


def downgrade() -> None:
    run_steps(revision, [DropTable("identity")])
