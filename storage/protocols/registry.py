"""The model registry: model versions, their progress, and the processes that loaded them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from storage.records import ModelVersion, Replica


class ModelRegistry(Protocol):
    """Model versions and their states.

    A version goes from `building` to `active`, between `active` and `previous`, and from `building`
    or `previous` to `retired`, before it is forgotten. The last live version of a space other than
    `look` may also go from `active` to `retired`, which removes the space. Versions that are
    building, active or previous are live: every upload gets an embedding of each.

    A version belongs to one space, in which its vectors are searched. At most one version of a
    space is active, one building and one previous. The spaces change independently of each other.
    `look` is the first space to have a version.

    Every method is one transaction and may raise StoreUnavailable.
    """

    def list_models(self) -> list[ModelVersion]:
        """Return all versions, those of `look` first, then the other spaces in alphabetical order.

        In each space the active one is first, then previous, building and retired ones.
        """

    def find_active(self, space: str) -> str | None:
        """Return the active version of a space, or None if it has none."""

    def register_active(self, version: str, space: str) -> str:
        """Make ``version`` active in a space without an active one; return its active version.

        Processes that start at the same time agree on one. Raises ModelConflict if the registry
        has ``version`` already, in another space or another state.
        """

    def replace_active(self, versions: Mapping[str, str]) -> None:
        """Make the given versions the active ones, by space, and forget all others.

        This is meant for stores that no process serves, because running processes are not checked.
        """

    def start_building(self, version: str, space: str) -> None:
        """Register ``version`` as `building`; do nothing if it is building there already.

        Raises ModelConflict if another version of the space is being built, or if this one is live
        or retired, or belongs to another space.
        """

    def backfill_embeddings(self, version: str, after: UUID | None, limit: int) -> UUID | None:
        """Visit up to ``limit`` masters, and add a pending embedding to those without one.

        Masters are visited in the order of their ids, beginning after the id ``after``, or with the
        first if that is None. Returns the last id visited, to continue from, or None at the end or
        if the version is not being built. Masters that are stored later get their embedding then.
        """

    def count_embeddings(self, version: str) -> dict[str, int]:
        """Return the number of the version's embeddings by state: pending, indexed, dead.

        States without embeddings are left out; an unknown version has none.
        """

    def activate_model(self, version: str) -> None:
        """Make a `building` or `previous` version the active one of its space.

        The active one, which a new space lacks, becomes previous. Raises ModelConflict if the state
        of the version forbids that or the space keeps another previous version. Raises
        ModelNotReady if a running process has not loaded it, or a stored master lacks a current
        embedding. Two kinds of embedding are not required: one whose lease an unanswered upload or
        change holds, and one that is also a dead letter under the active version.
        """

    def retire_model(self, version: str) -> None:
        """Move a version to `retired`, so that workers remove its embeddings, vectors and file.

        Retiring an `active` version removes its space, which can be created again. Raises
        ModelConflict for the active version of `look`, for one whose space has other live versions,
        and for a version that is not live.
        """

    def drain_retired(self, version: str, limit: int) -> int | None:
        """Remove up to ``limit`` embeddings of a retired version, and return the number left.

        Leased embeddings stay until they are released. Returns None if the version is not retired:
        it may have been removed and started again since the caller read the registry.
        """

    def forget_retired(self, version: str) -> None:
        """Remove a retired version with no embeddings left; do nothing if it is not retired."""

    def record_heartbeat(self, replica: str, loaded: Sequence[str], seconds: float) -> None:
        """Record that the process ``replica`` runs with these versions loaded.

        It counts as running for ``seconds`` from now; a process that has been silent for a day is
        forgotten.
        """

    def remove_replica(self, replica: str) -> None:
        """Remove a process that stops; do nothing if it is not known."""

    def list_replicas(self) -> list[Replica]:
        """Return the running processes, ordered by id."""
