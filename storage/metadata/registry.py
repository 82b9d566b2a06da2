"""The model registry in the metadata database.

It records model versions, their states, and the processes that loaded them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.errors import ModelConflict
from storage.metadata.readiness import (
    check_complete,
    check_loaded_everywhere,
    list_running_replicas,
)
from storage.metadata.rows import (
    EMBEDDINGS,
    KEPT,
    MASTERS,
    MODELS,
    REPLICAS,
    is_free,
    new_embedding,
)
from storage.records import LOOK, ModelState, ModelVersion, Replica

_LIVE_STATES = (ModelState.BUILDING, ModelState.ACTIVE, ModelState.PREVIOUS)
_ORDER = (ModelState.ACTIVE, ModelState.PREVIOUS, ModelState.BUILDING, ModelState.RETIRED)
_LOCKED = MODELS.c.active_space == LOOK
_FORGOTTEN_AFTER = 86_400_000  # milliseconds after which a replica without heartbeat is removed


_LOCK_ACTIVE = sa.select(MODELS.c.id).where(_LOCKED).with_for_update(read=True)
_LIST_LIVE = sa.select(MODELS.c.id, now().label("clock")).where(MODELS.c.state.in_(_LIVE_STATES))


def lock_live_models(connection: sa.Connection) -> dict[str, int]:
    """Return the live versions, each with the database's time in milliseconds, and lock them.

    None starts or ends before the transaction commits. A master stored in this transaction needs an
    embedding of each. The lock is on the active version of `look`, which every change of states in
    any space also locks; the others are read once it is held.
    """
    connection.execute(_LOCK_ACTIVE).all()
    return {row.id: row.clock for row in connection.execute(_LIST_LIVE)}


@retry_lost_transactions
class SqlModelRegistry:
    """ModelRegistry on SQLite, MySQL and MariaDB, with the same statements for each."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def list_models(self) -> list[ModelVersion]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(MODELS)).all()
        return sorted(map(_model, rows), key=_place_in_list)

    def find_active(self, space: str) -> str | None:
        with self._db.read() as connection:
            return connection.scalar(sa.select(MODELS.c.id).where(MODELS.c.active_space == space))

    def register_active(self, version: str, space: str) -> str:
        active = self.find_active(space)
        if active is not None:
            return active
        values = {"id": version, "created_at": now()} | _active_in(space)
        try:
            with self._db.write() as connection:
                connection.execute(MODELS.insert().values(**values))
        except sa.exc.IntegrityError:  # another replica was faster, or the version is known
            active = self.find_active(space)
            if active is None:
                raise _wrong_space_or_state(self._find(version), version, space) from None
            return active
        return version

    def _find(self, version: str) -> ModelVersion | None:
        return next((model for model in self.list_models() if model.id == version), None)

    def replace_active(self, versions: Mapping[str, str]) -> None:
        with self._db.write() as connection:
            connection.execute(MODELS.delete().where(MODELS.c.id.not_in(versions.values())))
            # Cleared first, because a version may become active in the space of another one.
            connection.execute(MODELS.update().values(active_space=None))
            for space, version in versions.items():
                active = _active_in(space)
                known = connection.execute(
                    MODELS.update().where(MODELS.c.id == version).values(**active)
                )
                if known.rowcount == 0:
                    values = {"id": version, "created_at": now()} | active
                    connection.execute(MODELS.insert().values(**values))

    def start_building(self, version: str, space: str) -> None:
        with self._db.write() as connection:
            models = _lock_models(connection)
            building = _in_state(models.values(), space, ModelState.BUILDING)
            if building == version:
                return
            if building:
                raise ModelConflict(f"{building} is being built: activate or retire it first")
            if version in models:
                raise _wrong_space_or_state(models[version], version, space)
            values = {"id": version, "state": ModelState.BUILDING, "space": space}
            connection.execute(MODELS.insert().values(**values, created_at=now()))

    def backfill_embeddings(self, version: str, after: UUID | None, limit: int) -> UUID | None:
        some = sa.select(MASTERS.c.id).where(MASTERS.c.state.in_(KEPT))
        some = some.order_by(MASTERS.c.id).limit(limit)
        if after is not None:
            some = some.where(MASTERS.c.id > after)
        its_state = sa.select(MODELS.c.state).where(MODELS.c.id == version)
        with self._db.write() as connection:
            state = connection.scalar(its_state.with_for_update(read=True))
            if state != ModelState.BUILDING:
                return None
            ids = connection.scalars(some.with_for_update(read=True)).all()
            have = sa.select(EMBEDDINGS.c.master_id).where(
                EMBEDDINGS.c.model_version == version, EMBEDDINGS.c.master_id.in_(ids)
            )
            known = set(connection.scalars(have))
            clock = {"run_after": connection.scalar(sa.select(now()))}
            missing = [new_embedding(id_, version) | clock for id_ in ids if id_ not in known]
            if missing:
                connection.execute(EMBEDDINGS.insert(), missing)
        return ids[-1] if len(ids) == limit else None

    def count_embeddings(self, version: str) -> dict[str, int]:
        state = EMBEDDINGS.c.state
        numbers = sa.select(state, sa.func.count()).where(EMBEDDINGS.c.model_version == version)
        with self._db.read() as connection:
            return {row[0]: row[1] for row in connection.execute(numbers.group_by(state))}

    def activate_model(self, version: str) -> None:
        with self._db.write() as connection:
            models = _lock_models(connection)
            space = _require_inactive(models.get(version), version).space
            active = _in_state(models.values(), space, ModelState.ACTIVE)
            previous = _in_state(models.values(), space, ModelState.PREVIOUS)
            if previous not in (None, version):
                raise ModelConflict(f"{previous} is kept as the previous version: retire it first")
            check_loaded_everywhere(connection, version)
            check_complete(connection, version, active)
            was_active = {"state": ModelState.PREVIOUS, "active_space": None}
            for id_, values in ((active, was_active), (version, _active_in(space))):
                connection.execute(MODELS.update().where(MODELS.c.id == id_).values(**values))

    def retire_model(self, version: str) -> None:
        with self._db.write() as connection:
            _check_retirable(_lock_models(connection), version)
            retired = {"state": ModelState.RETIRED, "active_space": None}
            connection.execute(MODELS.update().where(MODELS.c.id == version).values(**retired))

    def drain_retired(self, version: str, limit: int) -> int | None:
        of_it = EMBEDDINGS.c.model_version == version
        removable = sa.and_(of_it, is_free(EMBEDDINGS.c.lease_until))
        some = sa.select(EMBEDDINGS.c.master_id).where(removable).limit(limit)
        number_left = sa.select(sa.func.count()).select_from(EMBEDDINGS).where(of_it)
        its_state = sa.select(MODELS.c.state).where(MODELS.c.id == version)
        with self._db.write() as connection:
            if connection.scalar(its_state.with_for_update()) != ModelState.RETIRED:
                return None
            ids = connection.scalars(some).all()
            connection.execute(
                EMBEDDINGS.delete().where(removable, EMBEDDINGS.c.master_id.in_(ids))
            )
            return connection.scalar(number_left) or 0

    def forget_retired(self, version: str) -> None:
        retired = sa.and_(MODELS.c.id == version, MODELS.c.state == ModelState.RETIRED)
        with self._db.write() as connection:
            connection.execute(MODELS.delete().where(retired))

    def record_heartbeat(self, replica: str, loaded: Sequence[str], seconds: float) -> None:
        values = {"loaded": list(loaded), "until": now() + int(seconds * 1000)}
        forgotten = REPLICAS.c.until < now() - _FORGOTTEN_AFTER
        with self._db.write() as connection:
            known = connection.execute(
                REPLICAS.update().where(REPLICAS.c.id == replica).values(**values)
            )
            if known.rowcount == 0:
                connection.execute(REPLICAS.delete().where(forgotten))
                connection.execute(REPLICAS.insert().values(id=replica, **values))

    def remove_replica(self, replica: str) -> None:
        with self._db.write() as connection:
            connection.execute(REPLICAS.delete().where(REPLICAS.c.id == replica))

    def list_replicas(self) -> list[Replica]:
        with self._db.read() as connection:
            return list_running_replicas(connection)


def _place_in_list(model: ModelVersion) -> tuple[bool, str, int, str]:
    return (model.space != LOOK, model.space, _ORDER.index(model.state), model.id)


def _active_in(space: str) -> dict[str, Any]:
    """Return the values of the active version of a space."""
    return {"state": ModelState.ACTIVE, "space": space, "active_space": space}


def _in_state(models: Iterable[ModelVersion], space: str, state: ModelState) -> str | None:
    """Return the version of a space that is in a state, of which a space has at most one."""
    return next((each.id for each in models if (each.space, each.state) == (space, state)), None)


def _require_inactive(model: ModelVersion | None, version: str) -> ModelVersion:
    """Return the model if it is building or previous. Raises ModelConflict."""
    if model is None or model.state not in (ModelState.BUILDING, ModelState.PREVIOUS):
        raise _wrong_state(version, model.state if model else None)
    return model


def _check_retirable(models: Mapping[str, ModelVersion], version: str) -> None:
    """Raise ModelConflict if the version has to stay, is already retired, or is unknown."""
    model = models.get(version)
    if model is None or model.state is not ModelState.ACTIVE or model.space == LOOK:
        _require_inactive(model, version)
        return
    others = [
        each.id
        for each in models.values()
        if each.space == model.space and each.id != version and each.state in _LIVE_STATES
    ]
    if others:
        raise ModelConflict(
            f"{version} is active. To remove the space {model.space}, retire the others first:"
            f" {', '.join(sorted(others))}"
        )


def _wrong_space_or_state(model: ModelVersion | None, version: str, space: str) -> ModelConflict:
    if model is not None and model.space != space:
        return ModelConflict(
            f"{version} belongs to the space {model.space}: retire it there first, or use another"
            f" version in {space}"
        )
    return _wrong_state(version, model.state if model else None)


def _wrong_state(version: str, state: ModelState | None) -> ModelConflict:
    return ModelConflict(f"{version} is {state or 'not known'}" + _hint(state))


def _hint(state: ModelState | None) -> str:
    """Return the end of a message: what to do about a version in this state."""
    return {
        None: ": start it first",
        ModelState.ACTIVE: ": every search uses it. Activate another version, then retire this one",
        ModelState.RETIRED: " and being removed: start it again once a worker has removed it",
        ModelState.PREVIOUS: ": roll back to it, or retire it and start it again",
    }.get(state, "")


def _lock_models(connection: sa.Connection) -> dict[str, ModelVersion]:
    """Return all versions by id and lock them until the transaction ends.

    Uploads cannot commit in the meantime (see ``lock_live_models``).
    """
    connection.execute(sa.select(MODELS.c.id).where(_LOCKED).with_for_update()).all()
    rows = connection.execute(sa.select(MODELS).with_for_update())
    return {row.id: _model(row) for row in rows}


def _model(row: Any) -> ModelVersion:
    return ModelVersion(row.id, ModelState(row.state), row.created_at, row.space)
