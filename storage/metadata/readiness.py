"""Checks that a model version may become active: it is loaded everywhere, and complete."""

from __future__ import annotations

import sqlalchemy as sa

from storage.database import now
from storage.errors import ModelNotReady
from storage.metadata.rows import COLLECTIONS, DEAD, EMBEDDINGS, INDEXED, LIVE, MASTERS, REPLICAS
from storage.records import WORKER, MasterState, Replica

_COUNTED_LACKING = 1000  # masters without an embedding are counted up to this number


def list_running_replicas(connection: sa.Connection) -> list[Replica]:
    """Return the processes whose last heartbeat still counts, ordered by id."""
    running = sa.select(REPLICAS).where(REPLICAS.c.until > now()).order_by(REPLICAS.c.id)
    return [Replica(row.id, row.loaded) for row in connection.execute(running)]


def check_loaded_everywhere(connection: sa.Connection, version: str) -> None:
    """Raise ModelNotReady if a running process has not loaded the version."""
    replicas = list_running_replicas(connection)
    unaware = [replica.id for replica in replicas if version not in replica.loaded]
    if unaware:
        raise ModelNotReady(
            f"{len(unaware)} running processes have not loaded {version}: {', '.join(unaware)}"
        )


def check_complete(connection: sa.Connection, version: str, active: str | None) -> None:
    """Raise ModelNotReady if a search by the version would miss stored masters."""
    lacking = _count_lacking(connection, version, active)
    if lacking:
        more = "" if lacking < _COUNTED_LACKING else " or more"
        raise ModelNotReady(
            f"{lacking} masters{more} lack an embedding of {version}:"
            " wait for the workers, or check the dead letters"
        )


def _count_lacking(connection: sa.Connection, version: str, active: str | None) -> int:
    """Count the stored masters that a search by ``version`` would miss, up to a thousand.

    An embedding that an upload or a change holds the lease of does not count, because its request
    is not answered yet. Neither does one that is also a dead letter under the active version.
    """
    theirs = EMBEDDINGS.alias()
    unanswered = sa.and_(theirs.c.lease_until > now(), theirs.c.lease_owner.not_like(f"{WORKER}%"))
    dead_already = (
        sa.exists()
        .where(
            EMBEDDINGS.c.master_id == MASTERS.c.id,
            EMBEDDINGS.c.model_version == active,
            EMBEDDINGS.c.state == DEAD,
        )
        .correlate(MASTERS)
    )
    lacking = sa.or_(
        theirs.c.master_id.is_(None),
        sa.and_(
            theirs.c.state != INDEXED,
            sa.not_(sa.func.coalesce(unanswered, False)),
            sa.not_(dead_already),
        ),
    )
    of_version = sa.and_(theirs.c.master_id == MASTERS.c.id, theirs.c.model_version == version)
    some = (
        sa.select(MASTERS.c.id)
        .join(COLLECTIONS, COLLECTIONS.c.id == MASTERS.c.collection_id)
        .outerjoin(theirs, of_version)
        .where(MASTERS.c.state == MasterState.STORED, COLLECTIONS.c.state == LIVE, lacking)
        .limit(_COUNTED_LACKING)
        .subquery()
    )
    return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
