"""The metadata store and the model registry on a SQL database; each concern has its own module."""

from __future__ import annotations

import sqlalchemy as sa

from storage import schema_upgrade
from storage.database import Database, retry_lost_transactions
from storage.metadata.attribute_index import AttributeIndex
from storage.metadata.captures import SqlCaptures
from storage.metadata.changes import SqlChanges
from storage.metadata.collections import SqlCollections
from storage.metadata.decision_records import SqlDecisionRecords
from storage.metadata.deletions import SqlDeletions
from storage.metadata.duplicate_scans import SqlFeatures, SqlScans
from storage.metadata.duplicates import SqlDecisions
from storage.metadata.identity import SqlIdentity
from storage.metadata.leases import SqlLeases
from storage.metadata.lists import SqlLists
from storage.metadata.masters import SqlMasters
from storage.metadata.outbox import SqlEmbeddingOutbox
from storage.metadata.registry import SqlModelRegistry
from storage.metadata.transfer import SqlRecords
from storage.metadata.uploads import SqlUploads
from storage.records import new_id
from storage.shared_calls import SharedCalls

# Transactions of one kind at the same time; what comes meanwhile shares the next one. With one at a
# time, 8 clients of a server on the same machine waited 1.6 times as long.
_CALLS = 4

__all__ = ["SqlMetadataStore", "SqlModelRegistry", "new_id"]


@retry_lost_transactions
class SqlMetadataStore(
    SqlCollections,
    SqlUploads,
    SqlMasters,
    SqlLists,
    SqlEmbeddingOutbox,
    SqlLeases,
    SqlRecords,
    SqlIdentity,
    SqlCaptures,
    SqlChanges,
    SqlDecisions,
    SqlDecisionRecords,
    SqlFeatures,
    SqlScans,
    SqlDeletions,
):
    """MetadataStore on SQLite, MySQL and MariaDB, with the same statements for each."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._index = AttributeIndex()
        patience = database.timeout / 2
        self._reservations = SharedCalls(self._reserve_together, patience=patience, calls=_CALLS)
        self._commits = SharedCalls(self._commit_together, patience=patience, calls=_CALLS)
        self._marks = SharedCalls(self._mark_together, patience=patience, calls=_CALLS)

    def upgrade_schema(self) -> None:
        schema_upgrade.upgrade(self._db)

    def ping(self) -> None:
        with self._db.read() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        self._db.close()
