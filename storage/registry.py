"""The model registry on a SQL database: versions and their states, the switch between them, who has loaded what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, past, undone_transactions_retried
from storage.errors import ModelConflict, ModelNotReady
from storage.records import WORKER, MasterState, ModelState, ModelVersion, Replica
from storage.tables import (
    CollectionRow,
    EmbeddingRow,
    MasterRow,
    ModelVersionRow,
    ReplicaRow,
    table_of,
)

_collections = table_of(CollectionRow)
_masters = table_of(MasterRow)
_embeddings = table_of(EmbeddingRow)
_models = table_of(ModelVersionRow)
_replicas = table_of(ReplicaRow)
_LIVE = (ModelState.BUILDING, ModelState.ACTIVE, ModelState.PREVIOUS)
_SHOWN = (ModelState.ACTIVE, ModelState.PREVIOUS, ModelState.BUILDING, ModelState.RETIRED)
_LACKING_SHOWN = 1000
_FORGOTTEN = 86_400_000  # milliseconds without a heartbeat


def new_embedding(master_id: UUID, version: str) -> dict[str, Any]:
    return {
        "master_id": master_id,
        "model_version": version,
        "state": "pending",
        "attempts": 0,
        "run_after": now(),
    }


def live_models(connection: sa.Connection) -> Sequence[str]:
    """The versions that a master stored in this transaction needs an embedding of; none can start or end before its commit.

    The lock is on the active one, which every change of states locks, too; only then is it sure what the others are.
    """
    connection.execute(
        sa.select(_models.c.id).where(_models.c.only_active.is_(True)).with_for_update(read=True)
    ).all()
    return connection.scalars(sa.select(_models.c.id).where(_models.c.state.in_(_LIVE))).all()


@undone_transactions_retried
class SqlModelRegistry:
    """ModelRegistry on SQLite, MySQL and MariaDB: the same statements."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def models(self) -> list[ModelVersion]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(_models)).all()
        found = [ModelVersion(row.id, ModelState(row.state), row.created_at) for row in rows]
        return sorted(found, key=lambda model: (_SHOWN.index(model.state), model.id))

    def active(self) -> str | None:
        with self._db.read() as connection:
            return connection.scalar(sa.select(_models.c.id).where(_models.c.only_active.is_(True)))

    def register_active(self, version: str) -> str:
        active = self.active()
        if active is not None:
            return active
        try:
            with self._db.write() as connection:
                connection.execute(
                    _models.insert().values(
                        id=version, state=ModelState.ACTIVE, only_active=True, created_at=now()
                    )
                )
        except sa.exc.IntegrityError:  # another replica was faster
            return self.active() or version
        return version

    def replace_active(self, version: str) -> None:
        with self._db.write() as connection:
            connection.execute(_models.delete().where(_models.c.id != version))
            only = {"state": ModelState.ACTIVE, "only_active": True}
            if (
                connection.execute(
                    _models.update().where(_models.c.id == version).values(**only)
                ).rowcount
                == 0
            ):
                connection.execute(_models.insert().values(id=version, created_at=now(), **only))

    def start(self, version: str) -> None:
        with self._db.write() as connection:
            states = _locked(connection)
            building = [id_ for id_, state in states.items() if state is ModelState.BUILDING]
            if building == [version]:
                return
            if building:
                raise ModelConflict(f"{building[0]} is being built: activate or retire it first")
            if version in states:
                raise ModelConflict(f"{version} is {states[version]}" + _hint(states[version]))
            connection.execute(
                _models.insert().values(id=version, state=ModelState.BUILDING, created_at=now())
            )

    def backfill(self, version: str, after: UUID | None, limit: int) -> UUID | None:
        there = _masters.c.state.in_((MasterState.STORED, MasterState.DAMAGED))
        some = sa.select(_masters.c.id).where(there).order_by(_masters.c.id).limit(limit)
        if after is not None:
            some = some.where(_masters.c.id > after)
        with self._db.write() as connection:
            if _state_of(connection, version, share=True) is not ModelState.BUILDING:
                return None
            ids = connection.scalars(some.with_for_update(read=True)).all()
            have = sa.select(_embeddings.c.master_id).where(
                _embeddings.c.model_version == version, _embeddings.c.master_id.in_(ids)
            )
            known = set(connection.scalars(have))
            missing = [new_embedding(id_, version) for id_ in ids if id_ not in known]
            clock = connection.scalar(sa.select(now()))
            if missing:
                connection.execute(
                    _embeddings.insert(), [row | {"run_after": clock} for row in missing]
                )
        return ids[-1] if len(ids) == limit else None

    def count(self, version: str) -> dict[str, int]:
        statement = sa.select(_embeddings.c.state, sa.func.count()).where(
            _embeddings.c.model_version == version
        )
        with self._db.read() as connection:
            return {
                row[0]: row[1]
                for row in connection.execute(statement.group_by(_embeddings.c.state))
            }

    def activate(self, version: str) -> None:
        with self._db.write() as connection:
            states = _locked(connection)
            state = states.get(version)
            if state not in (ModelState.BUILDING, ModelState.PREVIOUS):
                raise ModelConflict(f"{version} is {state or 'not known'}" + _hint(state))
            (active,) = (id_ for id_, state in states.items() if state is ModelState.ACTIVE)
            older = [
                id_
                for id_, state in states.items()
                if state is ModelState.PREVIOUS and id_ != version
            ]
            if older:
                raise ModelConflict(f"{older[0]} is kept as the previous version: retire it first")
            unaware = [
                replica.id for replica in _running(connection) if version not in replica.loaded
            ]
            if unaware:
                raise ModelNotReady(
                    f"{len(unaware)} running processes have not loaded {version}: {', '.join(unaware)}"
                )
            lacking = _lacking(connection, version, active)
            if lacking:
                count = (
                    f"{lacking} masters lack"
                    if lacking < _LACKING_SHOWN
                    else f"{lacking} masters or more lack"
                )
                raise ModelNotReady(
                    f"{count} an embedding of {version}: wait for the workers, or see to the dead letters"
                )
            for id_, new in ((active, ModelState.PREVIOUS), (version, ModelState.ACTIVE)):
                only = True if new is ModelState.ACTIVE else None
                connection.execute(
                    _models.update().where(_models.c.id == id_).values(state=new, only_active=only)
                )

    def retire(self, version: str) -> None:
        with self._db.write() as connection:
            state = _locked(connection).get(version)
            if state not in (ModelState.BUILDING, ModelState.PREVIOUS):
                raise ModelConflict(f"{version} is {state or 'not known'}" + _hint(state))
            connection.execute(
                _models.update().where(_models.c.id == version).values(state=ModelState.RETIRED)
            )

    def drain(self, version: str, limit: int) -> int:
        of_it = _embeddings.c.model_version == version
        free = sa.or_(_embeddings.c.lease_until.is_(None), past(_embeddings.c.lease_until))
        with self._db.write() as connection:
            if _state_of(connection, version) is not ModelState.RETIRED:
                return 0
            ids = connection.scalars(
                sa.select(_embeddings.c.master_id).where(of_it, free).limit(limit)
            ).all()
            connection.execute(
                _embeddings.delete().where(of_it, free, _embeddings.c.master_id.in_(ids))
            )
            return (
                connection.scalar(sa.select(sa.func.count()).select_from(_embeddings).where(of_it))
                or 0
            )

    def forget(self, version: str) -> None:
        with self._db.write() as connection:
            connection.execute(
                _models.delete().where(
                    _models.c.id == version, _models.c.state == ModelState.RETIRED
                )
            )

    def heartbeat(self, replica: str, loaded: Sequence[str], seconds: float) -> None:
        said = {"loaded": list(loaded), "until": now() + int(seconds * 1000)}
        with self._db.write() as connection:
            if (
                connection.execute(
                    _replicas.update().where(_replicas.c.id == replica).values(**said)
                ).rowcount
                == 0
            ):
                connection.execute(_replicas.delete().where(_replicas.c.until < now() - _FORGOTTEN))
                connection.execute(_replicas.insert().values(id=replica, **said))

    def leave(self, replica: str) -> None:
        with self._db.write() as connection:
            connection.execute(_replicas.delete().where(_replicas.c.id == replica))

    def replicas(self) -> list[Replica]:
        with self._db.read() as connection:
            return _running(connection)


def _hint(state: ModelState | None) -> str:
    return {
        None: ": start it first",
        ModelState.ACTIVE: ": every search uses it. Activate another one, then it can be retired",
        ModelState.RETIRED: " and being removed: a worker does that; then start it anew",
        ModelState.PREVIOUS: ": roll back to it, or retire it and start it anew",
    }.get(state, "")


def _locked(connection: sa.Connection) -> dict[str, ModelState]:
    """The states, which stay so until the transaction ends; uploads wait with their commit meanwhile."""
    connection.execute(
        sa.select(_models.c.id).where(_models.c.only_active.is_(True)).with_for_update()
    ).all()
    rows = connection.execute(sa.select(_models.c.id, _models.c.state).with_for_update())
    return {row.id: ModelState(row.state) for row in rows}


def _state_of(connection: sa.Connection, version: str, *, share: bool = False) -> ModelState | None:
    statement = (
        sa.select(_models.c.state).where(_models.c.id == version).with_for_update(read=share)
    )
    state = connection.scalar(statement)
    return ModelState(state) if state else None


def _running(connection: sa.Connection) -> list[Replica]:
    rows = connection.execute(
        sa.select(_replicas).where(_replicas.c.until > now()).order_by(_replicas.c.id)
    )
    return [Replica(row.id, row.loaded) for row in rows]


def _lacking(connection: sa.Connection, version: str, active: str) -> int:
    """How many stored masters a search by ``version`` would miss; counted to a thousand."""
    theirs = _embeddings.alias()
    unanswered = sa.and_(theirs.c.lease_until > now(), theirs.c.lease_owner.not_like(f"{WORKER}%"))
    given_up = (
        sa.exists()
        .where(
            _embeddings.c.master_id == _masters.c.id,
            _embeddings.c.model_version == active,
            _embeddings.c.state == "dead",
        )
        .correlate(_masters)
    )
    wanting = sa.or_(
        theirs.c.master_id.is_(None),
        sa.and_(
            theirs.c.state != "indexed",
            sa.not_(sa.func.coalesce(unanswered, False)),
            sa.not_(given_up),
        ),
    )
    some = (
        sa.select(_masters.c.id)
        .join(_collections, _collections.c.id == _masters.c.collection_id)
        .outerjoin(
            theirs, sa.and_(theirs.c.master_id == _masters.c.id, theirs.c.model_version == version)
        )
        .where(_masters.c.state == MasterState.STORED, _collections.c.state == "live", wanting)
        .limit(_LACKING_SHOWN)
        .subquery()
    )
    return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
