"""Wrong orders of writes, which the crash tests must find. This proves that the tests can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from app.errors import NotFound
from app.services.deletion import Deletion
from app.services.indexing import Indexing
from app.services.ingest import Ingest, UploadOutcome
from app.services.masters import Masters
from storage.records import Claim, IndexTask, Master


def row_before_object() -> None:
    """Store the row of an upload before its bytes."""

    def store(self: Ingest, file: Any, collection: str, new: Any, picture: Any) -> UploadOutcome:
        owner = uuid4().hex
        reservation = self._reserve_row(collection, new, owner)
        if reservation.claim is not Claim.OURS:
            return self._existing_outcome(reservation.master)
        master = reservation.master
        versions = self._stores.metadata.commit_stored(
            master.id, owner, self._indexing.live_versions, 60
        )
        self._write_object(file, master, owner)
        return UploadOutcome(
            master,
            created=True,
            indexed=self._indexing.index_inline(master, owner, versions or [], picture),
        )

    Ingest._store_master = store  # type: ignore[method-assign]


def object_before_row() -> None:
    """Remove the bytes of a deletion before it is committed."""

    def delete(self: Masters, master_id: UUID, revisions: object = None) -> None:
        master = self.find_master(master_id)
        self._stores.objects.delete(master.object_key)
        if not self._stores.metadata.delete_master(master_id):
            raise NotFound("master-not-found", "gone")

    Masters.delete_master = delete  # type: ignore[method-assign]


def row_forgotten_first() -> None:
    """Forget the row of a deletion before its bytes and vectors are removed."""

    def remove(self: Deletion, master: Master, owner: str) -> None:
        self._stores.metadata.forget_master(master.id, owner)
        for version in self._stores.vectors.versions():
            self._stores.vectors.delete(version, [master.id])
        self._stores.objects.delete(master.object_key)

    Deletion._remove_master = remove  # type: ignore[method-assign]


def marked_before_written() -> None:
    """Mark an embedding as indexed before its vector is written."""
    index = Indexing.index_embedding

    def early(self: Indexing, task: IndexTask, owner: str, picture: Any = None) -> bool:
        marked = self._stores.metadata.mark_indexed(task, owner)
        index(self, task, owner, picture)
        return marked

    Indexing.index_embedding = early  # type: ignore[method-assign]


MISTAKES: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "row before object": row_before_object,
    "object before row": object_before_row,
    "row forgotten first": row_forgotten_first,
    "marked before written": marked_before_written,
}
