"""Give a master's vector several parts, and each space of model versions an active one.

MySQL commits after every statement, so each step is skipped where an interrupted upgrade has done
it. SQLite cannot change a primary key: the vectors are copied into a new table there, which needs
about three times as much free disk space as they take, until the log is written back.
"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UuidBytes, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_VECTORS = "model_version, master_id, collection_id, vector, attributes, revision"


def upgrade() -> None:
    if "part" not in _columns("vectors"):
        if op.get_bind().dialect.name == "sqlite":
            _create_vectors("new_vectors", with_parts=True)
            _replace_vectors("INSERT INTO new_vectors ({0}) SELECT {0} FROM vectors")
        else:
            op.execute(
                "ALTER TABLE vectors"
                " ADD COLUMN part BIGINT NOT NULL DEFAULT 0 AFTER master_id,"
                " ADD COLUMN box JSON NULL,"
                " DROP PRIMARY KEY, ADD PRIMARY KEY (model_version, master_id, part)"
            )
    _add_spaces()


def _add_spaces() -> None:
    columns = _columns("model_versions")
    if "space" not in columns:
        space = sa.Column("space", text(63), nullable=False, server_default="look")
        op.add_column("model_versions", space)
    if "active_space" not in columns:
        op.add_column("model_versions", sa.Column("active_space", text(63), nullable=True))
    op.execute("UPDATE model_versions SET active_space = space WHERE state = 'active'")
    if "ix_model_versions_active_space" not in _indexes("model_versions"):
        op.create_index(
            "ix_model_versions_active_space", "model_versions", ["active_space"], unique=True
        )
    if "ix_model_versions_only_active" in _indexes("model_versions"):
        op.drop_index("ix_model_versions_only_active", "model_versions")
    if "only_active" in columns:
        op.drop_column("model_versions", "only_active")


def downgrade() -> None:
    """Revert the schema. Other spaces are removed, and so are other parts than the first."""
    op.execute(
        "DELETE FROM embeddings WHERE model_version IN"
        " (SELECT id FROM model_versions WHERE space <> 'look')"
    )
    op.execute(
        "DELETE FROM vectors WHERE model_version IN"
        " (SELECT id FROM model_versions WHERE space <> 'look')"
    )
    op.execute("DELETE FROM model_versions WHERE space <> 'look'")
    op.add_column("model_versions", sa.Column("only_active", sa.Boolean, nullable=True))
    op.execute("UPDATE model_versions SET only_active = true WHERE state = 'active'")
    op.create_index("ix_model_versions_only_active", "model_versions", ["only_active"], unique=True)
    op.drop_index("ix_model_versions_active_space", "model_versions")
    op.drop_column("model_versions", "active_space")
    op.drop_column("model_versions", "space")
    if op.get_bind().dialect.name == "sqlite":
        _create_vectors("new_vectors", with_parts=False)
        _replace_vectors("INSERT INTO new_vectors ({0}) SELECT {0} FROM vectors WHERE part = 0")
    else:
        op.execute("DELETE FROM vectors WHERE part <> 0")
        op.execute(
            "ALTER TABLE vectors DROP PRIMARY KEY, DROP COLUMN part, DROP COLUMN box,"
            " ADD PRIMARY KEY (model_version, master_id)"
        )


def _create_vectors(name: str, *, with_parts: bool) -> None:
    part = sa.Column("part", sa.BigInteger, primary_key=True, server_default="0")
    op.create_table(
        name,
        sa.Column("model_version", sa.String(64), primary_key=True),
        sa.Column("master_id", UuidBytes, primary_key=True),
        *([part] if with_parts else []),
        sa.Column("collection_id", UuidBytes, nullable=False),
        *([sa.Column("box", sa.JSON, nullable=True)] if with_parts else []),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )


def _replace_vectors(copying: str) -> None:
    op.execute(copying.format(_VECTORS))
    op.drop_table("vectors")
    op.rename_table("new_vectors", "vectors")


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
