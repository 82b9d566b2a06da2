"""Brings one master's embedding into the vector store: inline after an upload, or later by the worker."""

from __future__ import annotations

import io

from app.observability import Metrics, log
from app.services.vision import Picture, Vision
from storage.protocols import IndexTask, Master, ObjectMissing, Stores, StoreUnavailable, VectorRecord


class Indexing:
    def __init__(self, stores: Stores, vision: Vision, metrics: Metrics, lease: float) -> None:
        self._stores = stores
        self._vision = vision
        self._metrics = metrics
        self._lease = lease

    @property
    def versions(self) -> list[str]:
        """The model versions this process can embed with."""
        return [self._vision.model_version]

    def index(self, task: IndexTask, owner: str, picture: Picture | None = None) -> bool:
        """Embed, upsert, mark; the embedding is leased to ``owner``. False if the master changed or went meanwhile.

        Raises StoreUnavailable, ObjectMissing, ImageRejected.
        """
        vectors, metadata = self._stores.vectors, self._stores.metadata
        master = task.master
        if picture is not None:
            vector = self._vision.embed(picture)
        else:
            known = vectors.get(task.model_version, [master.id]).get(master.id)  # its attributes changed, its bytes cannot
            vector = known.vector if known else self._vision.embed(self._vision.read(self._open(master)))
        record = VectorRecord(master.id, master.collection_id, vector, master.attributes, master.revision)
        with self._metrics.stage("vector_upsert"):
            vectors.upsert(task.model_version, [record])
        if metadata.mark_indexed(task, owner):
            return True
        if metadata.find_master(master.id) is None:  # deleted meanwhile: the deletion may have been there before us
            vectors.delete(task.model_version, [master.id])
        return False

    def _open(self, master: Master) -> io.BytesIO:
        return io.BytesIO(b"".join(self._stores.objects.read(master.object_key)))

    def index_inline(self, master: Master, owner: str, picture: Picture | None) -> bool:
        """Index now what ``owner`` holds the lease of; a vector store that is down leaves it to the worker.

        A change that came in between found the lease taken and relies on us: index again until there is none.
        """
        metadata, version = self._stores.metadata, self._vision.model_version
        current: Master | None = master
        while current is not None:
            task = IndexTask(current, version, attempts=0)
            try:
                if self.index(task, owner, picture):
                    return True
            except (StoreUnavailable, ObjectMissing) as error:  # without its bytes it is being deleted, or damaged
                log.warning("indexing left to the worker", master=str(master.id), reason=str(error))
                metadata.hand_back_embedding(task, owner, delay=0.0)
                return False
            current = metadata.find_master(master.id)
            if current is None or not metadata.claim_embedding(master.id, version, owner, self._lease):
                return False
        return False

    def reindex_inline(self, master: Master, owner: str) -> bool:
        """After a change of attributes: index now, unless somebody else is at it and will see the change."""
        if not self._stores.metadata.claim_embedding(master.id, self._vision.model_version, owner, self._lease):
            return False
        return self.index_inline(master, owner, None)
