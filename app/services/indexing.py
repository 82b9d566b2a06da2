"""Brings one master's embedding into the vector store: inline after an upload, or later by the worker."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import Unavailable
from app.logs import log
from app.metrics import Metrics
from app.services.loaded_models import Models
from app.services.originals import original
from app.services.vision import Picture, Vision
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import IndexTask, Master, VectorRecord


class Indexing:
    def __init__(
        self, stores: Stores, models: Models, vision: Vision, metrics: Metrics, lease: float
    ) -> None:
        self._stores = stores
        self._models = models
        self._vision = vision
        self._metrics = metrics
        self._lease = lease

    @property
    def versions(self) -> list[str]:
        """The live model versions this process can embed with, the active one first."""
        return self._models.live

    def index(self, task: IndexTask, owner: str, picture: Picture | None = None) -> bool:
        """Embed, upsert, mark; the embedding is leased to ``owner``. False if the master changed or went meanwhile.

        Raises StoreUnavailable, ObjectMissing, Unavailable, ImageRejected.
        """
        vectors, metadata = self._stores.vectors, self._stores.metadata
        master = task.master
        if picture is not None:
            vector = self._vision.embed(picture, task.model_version)
        else:
            known = vectors.fetch_vectors(task.model_version, [master.id]).get(
                master.id
            )  # its attributes changed, its bytes cannot
            vector = (
                known.vector
                if known
                else self._vision.embed(
                    self._vision.read(original(self._stores.objects, master)), task.model_version
                )
            )
        record = VectorRecord(
            master.id, master.collection_id, vector, master.attributes, master.revision
        )
        with self._metrics.stage("vector_upsert"):
            vectors.upsert(task.model_version, [record])
        if metadata.mark_indexed(task, owner):
            return True
        if (
            metadata.find_master(master.id) is None
        ):  # deleted meanwhile: the deletion may have been there before us
            vectors.delete(task.model_version, [master.id])
        return False

    def index_inline(
        self, master: Master, owner: str, versions: Sequence[str], picture: Picture | None
    ) -> bool:
        """Index now what ``owner`` holds the leases of, by each version; whether there was any and all are done.

        A vector store that is down leaves the rest to the worker.
        """
        done = [self._index_inline(master, owner, version, picture) for version in versions]
        return bool(done) and all(done)

    def _index_inline(
        self, master: Master, owner: str, version: str, picture: Picture | None
    ) -> bool:
        """A change that came in between found the lease taken and relies on us: index again until there is none."""
        metadata = self._stores.metadata
        current: Master | None = master
        while current is not None:
            task = IndexTask(current, version, attempts=0)
            try:
                if self.index(task, owner, picture):
                    return True
            except (StoreUnavailable, ObjectMissing, Unavailable) as error:
                # without its bytes it is being deleted, or damaged; without a model, that is being retired
                log.warning(
                    "indexing left to the worker",
                    master=str(master.id),
                    version=version,
                    reason=str(error),
                )
                metadata.release_embedding(task, owner, delay=0.0)
                return False
            current = metadata.find_master(master.id)
            if current is None or not metadata.claim_embedding(
                master.id, version, owner, self._lease
            ):
                return False
        return False

    def reindex_inline(self, master: Master, owner: str) -> bool:
        """After a change of attributes: index now what nobody else is at; who is will see the change."""
        metadata = self._stores.metadata
        ours = [
            version
            for version in self.versions
            if metadata.claim_embedding(master.id, version, owner, self._lease)
        ]
        return self.index_inline(master, owner, ours, None)
