"""The tables of the metadata database, and the conditions and values that its statements share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import now, past
from storage.records import Capture, Master, MasterState
from storage.tables import (
    CollectionRow,
    DeletionRow,
    EmbeddingRow,
    IdentityRow,
    LeaseRow,
    MasterRow,
    MergedAttributesRow,
    ModelVersionRow,
    ReplicaRow,
    table_of,
)

COLLECTIONS = table_of(CollectionRow)
MASTERS = table_of(MasterRow)
EMBEDDINGS = table_of(EmbeddingRow)
LEASES = table_of(LeaseRow)
MODELS = table_of(ModelVersionRow)
REPLICAS = table_of(ReplicaRow)
IDENTITY = table_of(IdentityRow)
DELETIONS = table_of(DeletionRow)
MERGED_ATTRIBUTES = table_of(MergedAttributesRow)

LIVE, DELETING = "live", "deleting"  # states of a collection
PENDING, INDEXED, DEAD = "pending", "indexed", "dead"  # states of an embedding
KEPT = (MasterState.STORED, MasterState.DAMAGED)  # states of a master whose upload was acknowledged
FREE_LEASE: dict[str, Any] = {"lease_owner": None, "lease_until": None}

SELECT_MASTERS = sa.select(*MASTERS.c, COLLECTIONS.c.name.label("collection")).join(
    COLLECTIONS, COLLECTIONS.c.id == MASTERS.c.collection_id
)
IS_VISIBLE = sa.and_(MASTERS.c.state == MasterState.STORED, COLLECTIONS.c.state == LIVE)


# As bytes: UUIDs would take longer to make than everything else about a long list.
RAW_ID = sa.type_coerce(MASTERS.c.id, sa.LargeBinary).label("id")
_MOST_VARIABLES = 500  # ids in one statement, below each database's limit of bound variables


def is_inside(collection_id: UUID) -> sa.ColumnElement[bool]:
    """Return the condition that a master is visible in the collection."""
    return sa.and_(MASTERS.c.collection_id == collection_id, IS_VISIBLE)


def find_by_ids(
    connection: sa.Connection, ids: Sequence[UUID], condition: sa.ColumnElement[bool]
) -> dict[UUID, Master]:
    """Return the masters with these ids that meet the condition, by id."""
    found: dict[UUID, Master] = {}
    for start in range(0, len(ids), _MOST_VARIABLES):
        some = MASTERS.c.id.in_(ids[start : start + _MOST_VARIABLES])
        for row in connection.execute(SELECT_MASTERS.where(some, condition)):
            found[row.id] = master_of(row)
    return found


def from_now(seconds: float) -> sa.ColumnElement[int]:
    """Return the moment so many seconds from now on the database's clock, in ms since 1970."""
    return now() + int(seconds * 1000)


def is_free(lease_until: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that nobody holds the lease, or that it has expired."""
    return sa.or_(lease_until.is_(None), past(lease_until))


def is_reserved_by(master_id: UUID, owner: str, state: MasterState) -> sa.ColumnElement[bool]:
    """Return the condition that a row is this master's, in that state, and leased to ``owner``."""
    return sa.and_(
        MASTERS.c.id == master_id, MASTERS.c.lease_owner == owner, MASTERS.c.state == state
    )


def lock_live_collection(connection: sa.Connection, master_id: UUID) -> bool:
    """Return whether the master's collection is live, and keep it so until the transaction ends.

    The lock is shared, so changes of masters do not wait for each other, but a deletion of the
    collection waits for them.
    """
    its_id = sa.select(MASTERS.c.collection_id).where(MASTERS.c.id == master_id).scalar_subquery()
    live = sa.select(COLLECTIONS.c.id).where(
        COLLECTIONS.c.id == its_id, COLLECTIONS.c.state == LIVE
    )
    return connection.execute(live.with_for_update(read=True)).first() is not None


def is_embedding(master_id: UUID, version: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row is this master's embedding of that model version."""
    return sa.and_(EMBEDDINGS.c.master_id == master_id, EMBEDDINGS.c.model_version == version)


def deleting_values() -> dict[str, Any]:
    """Return the values that mark a master's row for deletion."""
    return FREE_LEASE | {
        "state": MasterState.DELETING,
        "live_sha256": None,
        "deletion_id": None,
        "updated_at": now(),
    }


def new_embedding(master_id: UUID, version: str) -> dict[str, Any]:
    """Return the values of a new pending embedding, which is due at once."""
    return {
        "master_id": master_id,
        "model_version": version,
        "state": PENDING,
        "attempts": 0,
        "run_after": now(),
    }


def index_again(connection: sa.Connection, master_ids: Collection[UUID]) -> None:
    """Queue all embeddings of masters that were changed, so that their vectors get the new fields.

    A lease on an embedding stays: its holder notices the new revision and releases it.
    """
    connection.execute(
        EMBEDDINGS.update()
        .where(EMBEDDINGS.c.master_id.in_(master_ids))
        .values(state=PENDING, attempts=0, run_after=now())
    )


def capture_values(capture: Capture | None, reader: int) -> dict[str, Any]:
    """Return the values of the columns for what reader number ``reader`` found in a file."""
    time = None if capture is None else capture.get("time")
    return {"capture": capture, "captured_at": time, "capture_reader": reader}


def master_of(row: Any) -> Master:
    """Return the master in a row of ``SELECT_MASTERS``."""
    return Master(
        id=row.id,
        collection_id=row.collection_id,
        collection=row.collection,
        sha256=row.sha256,
        size=row.size,
        mime=row.mime,
        extension=row.extension,
        width=row.width,
        height=row.height,
        name=row.name,
        attributes=row.attributes,
        revision=row.revision,
        state=MasterState(row.state),
        created_at=row.created_at,
        updated_at=row.updated_at,
        capture=row.capture,
        capture_reader=row.capture_reader,
    )
