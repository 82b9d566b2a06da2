"""The id of the database, in memory."""

from __future__ import annotations

from tests.support.memory_stores.tables import OnTables, hold_the_lock


@hold_the_lock
class MemoryIdentity(OnTables):
    """Implements IdentityStore in memory."""

    def find_database_id(self) -> str | None:
        return self._tables.database_id

    def claim_database_id(self, id_: str) -> str:
        if self._tables.database_id is None:
            self._tables.database_id = id_
        return self._tables.database_id
