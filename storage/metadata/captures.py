"""Capture metadata of masters in the metadata database."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.metadata.rows import (
    IS_VISIBLE,
    MASTERS,
    SELECT_MASTERS,
    capture_values,
    index_again,
    master_of,
)
from storage.protocols.captures import CaptureChange
from storage.records import Master, MasterState


@retry_lost_transactions
class SqlCaptures:
    """CaptureStore on a SQL database."""

    _db: Database

    def list_unread(self, reader: int, limit: int) -> list[Master]:
        unread = SELECT_MASTERS.where(MASTERS.c.capture_reader < reader, IS_VISIBLE)
        in_order = unread.order_by(MASTERS.c.capture_reader, MASTERS.c.id).limit(limit)
        with self._db.read() as connection:
            return [master_of(row) for row in connection.execute(in_order)]

    def count_unread(self, reader: int) -> int:
        unread = SELECT_MASTERS.with_only_columns(sa.func.count()).where(
            MASTERS.c.capture_reader < reader, IS_VISIBLE
        )
        with self._db.read() as connection:
            return connection.scalar(unread) or 0

    def save_captures(self, reader: int, changes: Sequence[CaptureChange]) -> int:
        if not changes:
            return 0
        with self._db.write() as connection:
            return sum(_save(connection, reader, change) for change in changes)

    def forget_readers(self, reader: int, limit: int) -> int:
        some = sa.select(MASTERS.c.id).where(MASTERS.c.capture_reader == reader).limit(limit)
        with self._db.write() as connection:
            ids = connection.scalars(some.with_for_update(skip_locked=True)).all()
            forget = MASTERS.update().where(MASTERS.c.id.in_(ids)).values(capture_reader=0)
            connection.execute(forget)
        return len(ids)


def _save(connection: sa.Connection, reader: int, change: CaptureChange) -> bool:
    """Save one master's metadata; return whether the master is still as it was read."""
    master = change.master
    values = capture_values(change.capture, reader)
    if change.is_new:
        values |= {
            "name": change.name,
            "attributes": change.attributes,
            "revision": master.revision + 1,
            "updated_at": now(),
        }
    as_read = sa.and_(
        MASTERS.c.id == master.id,
        MASTERS.c.revision == master.revision,
        MASTERS.c.state == MasterState.STORED,
    )
    saved = connection.execute(MASTERS.update().where(as_read).values(**values)).rowcount == 1
    if saved and change.is_new:
        index_again(connection, [master.id])
    return saved
