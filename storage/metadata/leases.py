"""Leases in the metadata database.

Leases by name are for work that one process at a time may do; the others are on rows.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.metadata.rows import EMBEDDINGS, LEASES, MASTERS, from_now


@retry_lost_transactions
class SqlLeases:
    """LeaseStore on a SQL database."""

    _db: Database

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        named = LEASES.c.name == name
        available = sa.or_(LEASES.c.owner == owner, LEASES.c.until < now())
        held = {"owner": owner, "until": from_now(seconds)}
        try:
            with self._db.write() as connection:
                taken = connection.execute(LEASES.update().where(named, available).values(**held))
                if taken.rowcount == 1:
                    return True
                if connection.execute(sa.select(LEASES.c.name).where(named)).first() is not None:
                    return False
                connection.execute(LEASES.insert().values(name=name, **held))
        except sa.exc.IntegrityError:  # another process was faster
            return False
        return True

    def release_lease(self, name: str, owner: str) -> None:
        with self._db.write() as connection:
            connection.execute(
                LEASES.delete().where(LEASES.c.name == name, LEASES.c.owner == owner)
            )

    def is_leased(self, name: str) -> bool:
        held = sa.select(LEASES.c.name).where(LEASES.c.name == name, LEASES.c.until > now())
        with self._db.read() as connection:
            return connection.execute(held).first() is not None

    def find_lease_end(self, name: str) -> int | None:
        end = sa.select(LEASES.c.until).where(LEASES.c.name == name)
        with self._db.read() as connection:
            return connection.scalar(end)

    def release_owned_leases(self, owner: str) -> None:
        with self._db.write() as connection:
            for table in (MASTERS, EMBEDDINGS):
                connection.execute(
                    table.update()
                    .where(table.c.lease_owner == owner)
                    .values(lease_owner=None, lease_until=0)
                )
