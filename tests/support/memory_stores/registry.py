"""The model registry in memory: versions, their states, and the processes that loaded them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from storage.errors import ModelConflict, ModelNotReady
from storage.records import LOOK, WORKER, ModelState, ModelVersion, Replica
from tests.support.memory_stores.tables import (
    DEAD,
    INDEXED,
    KEPT,
    MasterRow,
    ModelRow,
    OnTables,
    ReplicaRow,
    hold_the_lock,
)

_ORDER = (ModelState.ACTIVE, ModelState.PREVIOUS, ModelState.BUILDING, ModelState.RETIRED)
_FORGOTTEN_AFTER = 86_400.0  # seconds after which a replica without heartbeat is removed
_HINTS = {  # advice for a version whose state forbids the change
    None: ": start it first",
    ModelState.ACTIVE: ": activate another version first",
    ModelState.RETIRED: " and being removed: start it again later",
    ModelState.PREVIOUS: ": roll back to it, or retire it",
}


@hold_the_lock
class MemoryModelRegistry(OnTables):
    """Implements ModelRegistry in memory."""

    def list_models(self) -> list[ModelVersion]:
        models = self._tables.models.items()
        found = [ModelVersion(id_, row.state, row.created_at, row.space) for id_, row in models]
        return sorted(found, key=_place_in_list)

    def find_active(self, space: str) -> str | None:
        return self._find_in_state(space, ModelState.ACTIVE)

    def register_active(self, version: str, space: str) -> str:
        active = self._find_in_state(space, ModelState.ACTIVE)
        if active is not None:
            return active
        self._check_unknown(version, space)
        self._insert(version, space, ModelState.ACTIVE)
        return version

    def replace_active(self, versions: Mapping[str, str]) -> None:
        known = dict(self._tables.models)
        self._tables.models.clear()
        for space, version in versions.items():
            self._insert(version, space, ModelState.ACTIVE)
            if version in known:
                self._tables.models[version].created_at = known[version].created_at

    def start_building(self, version: str, space: str) -> None:
        building = self._find_in_state(space, ModelState.BUILDING)
        if building == version:
            return
        if building is not None:
            raise ModelConflict(f"{building} is being built: activate or retire it first")
        self._check_unknown(version, space)
        self._insert(version, space, ModelState.BUILDING)

    def backfill_embeddings(self, version: str, after: UUID | None, limit: int) -> UUID | None:
        model = self._tables.models.get(version)
        if model is None or model.state is not ModelState.BUILDING:
            return None
        kept = [row.master.id for row in self._tables.masters.values() if row.master.state in KEPT]
        ids = sorted(id_ for id_ in kept if after is None or id_ > after)[:limit]
        for master_id in ids:
            if (master_id, version) not in self._tables.embeddings:
                self._tables.add_embedding(master_id, version)
        return ids[-1] if len(ids) == limit else None

    def count_embeddings(self, version: str) -> dict[str, int]:
        states = [row.state for row in self._tables.embeddings.values() if row.version == version]
        return {state: states.count(state) for state in set(states)}

    def activate_model(self, version: str) -> None:
        self._check_state(version, ModelState.BUILDING, ModelState.PREVIOUS)
        space = self._tables.models[version].space
        previous = self._find_in_state(space, ModelState.PREVIOUS)
        if previous not in (None, version):
            raise ModelConflict(f"{previous} is kept as the previous version: retire it first")
        unaware = [each.id for each in self._running_replicas() if version not in each.loaded]
        if unaware:
            raise ModelNotReady(
                f"{len(unaware)} running processes have not loaded {version}: {', '.join(unaware)}"
            )
        active = self._find_in_state(space, ModelState.ACTIVE)
        lacking = sum(
            self._tables.is_visible(row) and self._is_lacking(row, version, active)
            for row in self._tables.masters.values()
        )
        if lacking:
            raise ModelNotReady(f"{lacking} masters lack an embedding of {version}")
        if active is not None:
            self._tables.models[active].state = ModelState.PREVIOUS
        self._tables.models[version].state = ModelState.ACTIVE

    def retire_model(self, version: str) -> None:
        row = self._tables.models.get(version)
        if row is None or row.state is not ModelState.ACTIVE or row.space == LOOK:
            self._check_state(version, ModelState.BUILDING, ModelState.PREVIOUS)
        elif others := self._list_live(row.space) - {version}:
            raise ModelConflict(
                f"{version} is active: retire the others first: {', '.join(sorted(others))}"
            )
        self._tables.models[version].state = ModelState.RETIRED

    def drain_retired(self, version: str, limit: int) -> int | None:
        if not self._is_retired(version):
            return None
        embeddings = self._tables.embeddings
        of_it = {key: row for key, row in embeddings.items() if row.version == version}
        removable = [key for key, row in of_it.items() if self._tables.is_free(row)][:limit]
        for key in removable:
            del embeddings[key]
        return len(of_it) - len(removable)

    def forget_retired(self, version: str) -> None:
        if self._is_retired(version):
            del self._tables.models[version]

    def record_heartbeat(self, replica: str, loaded: Sequence[str], seconds: float) -> None:
        replicas = self._tables.replicas
        replicas[replica] = ReplicaRow(list(loaded), self._tables.from_now(seconds))
        oldest = self._tables.from_now(-_FORGOTTEN_AFTER)
        for silent in [id_ for id_, row in replicas.items() if row.until < oldest]:
            del replicas[silent]

    def remove_replica(self, replica: str) -> None:
        self._tables.replicas.pop(replica, None)

    def list_replicas(self) -> list[Replica]:
        return self._running_replicas()

    def _running_replicas(self) -> list[Replica]:
        rows = sorted(self._tables.replicas.items())
        now = self._tables.now()
        return [Replica(id_, list(row.loaded)) for id_, row in rows if row.until > now]

    def _insert(self, version: str, space: str, state: ModelState) -> None:
        self._tables.models[version] = ModelRow(state, self._tables.now(), space)

    def _find_in_state(self, space: str, state: ModelState) -> str | None:
        """Return the version of a space in a state that at most one has."""
        models = self._tables.models.items()
        return next((id_ for id_, row in models if row.space == space and row.state is state), None)

    def _list_live(self, space: str) -> set[str]:
        models = self._tables.models.items()
        in_space = {id_: row.state for id_, row in models if row.space == space}
        return {id_ for id_, state in in_space.items() if state is not ModelState.RETIRED}

    def _check_unknown(self, version: str, space: str) -> None:
        row = self._tables.models.get(version)
        if row is not None and row.space != space:
            raise ModelConflict(f"{version} belongs to the space {row.space}")
        if row is not None:
            raise self._wrong_state(version)

    def _is_retired(self, version: str) -> bool:
        row = self._tables.models.get(version)
        return row is not None and row.state is ModelState.RETIRED

    def _check_state(self, version: str, *allowed: ModelState) -> None:
        row = self._tables.models.get(version)
        if row is None or row.state not in allowed:
            raise self._wrong_state(version)

    def _wrong_state(self, version: str) -> ModelConflict:
        row = self._tables.models.get(version)
        state = None if row is None else row.state
        return ModelConflict(f"{version} is {state or 'not known'}" + _HINTS.get(state, ""))

    def _is_lacking(self, row: MasterRow, version: str, active: str | None) -> bool:
        """Return whether this master prevents the activation of ``version``."""
        embedding = self._tables.embeddings.get((row.master.id, version))
        if embedding is None:
            return True
        if embedding.state == INDEXED:
            return False
        leased = embedding.until is not None and embedding.until > self._tables.now()
        unanswered = leased and not (embedding.owner or "").startswith(WORKER)
        under_active = self._tables.embeddings.get((row.master.id, active or ""))
        dead_already = under_active is not None and under_active.state == DEAD
        return not unanswered and not dead_already


def _place_in_list(model: ModelVersion) -> tuple[bool, str, int, str]:
    return (model.space != LOOK, model.space, _ORDER.index(model.state), model.id)
