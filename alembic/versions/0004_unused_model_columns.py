"""Drop two columns of model_versions that no release ever filled."""

import sqlalchemy as sa

from storage.schema_steps import AddColumn, DropColumn, run_steps

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_steps(
        revision,
        [
            DropColumn("model_versions", "milvus_collection"),
            DropColumn("model_versions", "calibration"),
        ],
    )


def downgrade() -> None:
    run_steps(
        revision,
        [
            AddColumn("model_versions", sa.Column("milvus_collection", sa.String(255))),
            AddColumn("model_versions", sa.Column("calibration", sa.JSON)),
        ],
    )
