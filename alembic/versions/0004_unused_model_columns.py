"""Drop two columns of model_versions that no release ever filled."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("model_versions", "milvus_collection")
    op.drop_column("model_versions", "calibration")


def downgrade() -> None:
    op.add_column("model_versions", sa.Column("milvus_collection", sa.String(255), nullable=True))
    op.add_column("model_versions", sa.Column("calibration", sa.JSON, nullable=True))
