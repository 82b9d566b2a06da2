"""Compare all text by code point on MySQL and MariaDB, whatever the database's default is.

Trailing spaces and letter case count, as they do on SQLite. The server copies each table.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

from storage.columns import code_point_collation
from storage.schema_steps import run_steps

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_steps(
        revision,
        [
            _CompareByCodePoint(
                "collections",
                "name VARCHAR(63) {0} NOT NULL, live_name VARCHAR(63) {0} NULL,"
                " state VARCHAR(16) {0} NOT NULL",
            ),
            _CompareByCodePoint(
                "masters",
                "mime VARCHAR(64) {0} NOT NULL, extension VARCHAR(8) {0} NOT NULL,"
                " name VARCHAR(255) {0} NOT NULL, state VARCHAR(16) {0} NOT NULL,"
                " lease_owner VARCHAR(64) {0} NULL",
            ),
            _CompareByCodePoint(
                "embeddings",
                "model_version VARCHAR(64) {0} NOT NULL, state VARCHAR(16) {0} NOT NULL,"
                " lease_owner VARCHAR(64) {0} NULL, failure VARCHAR(500) {0} NULL",
            ),
            _CompareByCodePoint(
                "model_versions",
                "id VARCHAR(64) {0} NOT NULL, state VARCHAR(16) {0} NOT NULL,"
                " space VARCHAR(63) {0} NOT NULL DEFAULT 'look',"
                " active_space VARCHAR(63) {0} NULL",
            ),
            _CompareByCodePoint("replicas", "id VARCHAR(64) {0} NOT NULL"),
            _CompareByCodePoint(
                "leases", "name VARCHAR(64) {0} NOT NULL, owner VARCHAR(64) {0} NOT NULL"
            ),
            _CompareByCodePoint("vectors", "model_version VARCHAR(64) {0} NOT NULL"),
        ],
    )


def downgrade() -> None:
    """Leave the columns as they are, because earlier versions work with them."""


@dataclass(frozen=True)
class _CompareByCodePoint:
    """Change the text columns of a table in one statement, so that it is copied once."""

    table: str
    columns: str  # as in CREATE TABLE, with a place for the collation

    def __str__(self) -> str:
        return f"compare the text of {self.table} by code point"

    def is_done(self, schema: sa.Inspector) -> bool:
        if op.get_bind().dialect.name == "sqlite":  # it compares so already
            return True
        collations = {
            getattr(column["type"], "collation", None)
            for column in schema.get_columns(self.table)
            if column["name"] in self._names()
        }
        return collations == {self._collation()}

    def make(self) -> None:
        definition = f"CHARACTER SET utf8mb4 COLLATE {self._collation()}"
        columns = self.columns.format(definition).replace(", ", ", MODIFY COLUMN ")
        op.execute(f"ALTER TABLE {self.table} MODIFY COLUMN {columns}")

    def _names(self) -> set[str]:
        return {column.split()[0] for column in self.columns.split(", ")}

    @staticmethod
    def _collation() -> str:
        dialect = op.get_bind().dialect
        return code_point_collation(mariadb=getattr(dialect, "is_mariadb", False))
