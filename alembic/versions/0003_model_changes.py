"""Allow one active model by a unique key, add replicas, and index pending embeddings by version."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("only_active", sa.Boolean, nullable=True))
    op.create_index("ix_model_versions_only_active", "model_versions", ["only_active"], unique=True)
    op.execute("UPDATE model_versions SET only_active = true WHERE state = 'active'")
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("loaded", sa.JSON, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "ix_embeddings_model_version_state_run_after",
        "embeddings",
        ["model_version", "state", "run_after"],
    )


def downgrade() -> None:
    op.drop_index("ix_embeddings_model_version_state_run_after", "embeddings")
    op.drop_table("replicas")
    op.drop_index("ix_model_versions_only_active", "model_versions")
    op.drop_column("model_versions", "only_active")
