"""The id of the metadata database."""

from __future__ import annotations

import sqlalchemy as sa

from storage.database import Database, retry_lost_transactions
from storage.metadata.rows import IDENTITY


@retry_lost_transactions
class SqlIdentity:
    """IdentityStore on a SQL database."""

    _db: Database

    def find_database_id(self) -> str | None:
        with self._db.read() as connection:
            return connection.scalar(sa.select(IDENTITY.c.id))

    def claim_database_id(self, id_: str) -> str:
        try:
            with self._db.write() as connection:
                found = connection.scalar(sa.select(IDENTITY.c.id))
                if found is None:
                    connection.execute(IDENTITY.insert().values(number=1, id=id_))
        except sa.exc.IntegrityError:  # another process was faster
            found = self.find_database_id()
        return found or id_
