"""Allow one active model by a unique key, add replicas, and index pending embeddings by version."""

import sqlalchemy as sa

from storage.schema_steps import (
    AddColumn,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    Execute,
    run_steps,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_steps(
        revision,
        [
            AddColumn("model_versions", sa.Column("only_active", sa.Boolean, nullable=True)),
            CreateIndex(
                "ix_model_versions_only_active", "model_versions", ("only_active",), unique=True
            ),
            Execute(
                "mark the active model",
                "UPDATE model_versions SET only_active = true WHERE state = 'active'",
            ),
            CreateTable(
                "replicas",
                sa.Column("id", sa.String(64), primary_key=True),
                sa.Column("loaded", sa.JSON, nullable=False),
                sa.Column("until", sa.BigInteger, nullable=False),
            ),
            CreateIndex(
                "ix_embeddings_model_version_state_run_after",
                "embeddings",
                ("model_version", "state", "run_after"),
            ),
        ],
    )


def downgrade() -> None:
    run_steps(
        revision,
        [
            DropIndex("ix_embeddings_model_version_state_run_after", "embeddings"),
            DropTable("replicas"),
            DropIndex("ix_model_versions_only_active", "model_versions"),
            DropColumn("model_versions", "only_active"),
        ],
    )
