"""Give a master's vector several parts, and each space of model versions an active one.

SQLite cannot change a primary key: the vectors are copied into a new table there, which needs
about three times as much free disk space as they take, until the log is written back.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

from storage.columns import UuidBytes, text
from storage.schema_steps import (
    AddColumn,
    CreateIndex,
    DropColumn,
    DropIndex,
    Execute,
    has_column,
    run_steps,
)

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_VECTORS = "model_version, master_id, collection_id, vector, attributes, revision"
_OTHER_SPACES = "(SELECT id FROM model_versions WHERE space <> 'look')"


def upgrade() -> None:
    space = sa.Column("space", text(63), nullable=False, server_default="look")
    without_only_active = DropColumn("model_versions", "only_active")
    run_steps(
        revision,
        [
            _AddParts(),
            AddColumn("model_versions", space),
            AddColumn("model_versions", sa.Column("active_space", text(63), nullable=True)),
            Execute(
                "mark the active model of each space",
                "UPDATE model_versions SET active_space = space WHERE state = 'active'",
            ),
            CreateIndex(
                "ix_model_versions_active_space", "model_versions", ("active_space",), unique=True
            ),
            DropIndex("ix_model_versions_only_active", "model_versions"),
            without_only_active,
        ],
    )


def downgrade() -> None:
    """Revert the schema. Other spaces are removed, and so are other parts than the first."""
    without_space = DropColumn("model_versions", "space")
    run_steps(
        revision,
        [
            *(
                Execute(
                    f"delete the {table} of other spaces",
                    f"DELETE FROM {table} WHERE model_version IN {_OTHER_SPACES}",  # noqa: S608
                    before=without_space,
                )
                for table in ("embeddings", "vectors")
            ),
            Execute(
                "delete the models of other spaces",
                "DELETE FROM model_versions WHERE space <> 'look'",
                before=without_space,
            ),
            AddColumn("model_versions", sa.Column("only_active", sa.Boolean, nullable=True)),
            Execute(
                "mark the active model",
                "UPDATE model_versions SET only_active = true WHERE state = 'active'",
            ),
            CreateIndex(
                "ix_model_versions_only_active", "model_versions", ("only_active",), unique=True
            ),
            DropIndex("ix_model_versions_active_space", "model_versions"),
            DropColumn("model_versions", "active_space"),
            without_space,
            Execute(
                "delete the other parts",
                "DELETE FROM vectors WHERE part <> 0",
                before=_DropParts(),
            ),
            _DropParts(),
        ],
    )


@dataclass(frozen=True)
class _AddParts:
    def __str__(self) -> str:
        return "add parts to the vectors, which are copied on SQLite"

    def is_done(self, schema: sa.Inspector) -> bool:
        return has_column(schema, "vectors", "part")

    def make(self) -> None:
        if op.get_bind().dialect.name == "sqlite":
            _create_vectors("new_vectors", with_parts=True)
            _replace_vectors()
        else:
            op.execute(
                "ALTER TABLE vectors"
                " ADD COLUMN part BIGINT NOT NULL DEFAULT 0 AFTER master_id,"
                " ADD COLUMN box JSON NULL,"
                " DROP PRIMARY KEY, ADD PRIMARY KEY (model_version, master_id, part)"
            )


@dataclass(frozen=True)
class _DropParts:
    def __str__(self) -> str:
        return "drop the parts of the vectors, which are copied on SQLite"

    def is_done(self, schema: sa.Inspector) -> bool:
        return not has_column(schema, "vectors", "part")

    def make(self) -> None:
        if op.get_bind().dialect.name == "sqlite":
            _create_vectors("new_vectors", with_parts=False)
            _replace_vectors()
        else:
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


def _replace_vectors() -> None:
    op.execute(f"INSERT INTO new_vectors ({_VECTORS}) SELECT {_VECTORS} FROM vectors")  # noqa: S608
    op.drop_table("vectors")
    op.rename_table("new_vectors", "vectors")
