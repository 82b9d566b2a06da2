"""Writes one master's embedding to the vector store: inline after an upload, or by the worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from app.errors import Conflict, Unavailable
from app.logs import log
from app.metrics import Metrics
from app.services.loaded_models import LoadedModels
from app.services.originals import read_original
from app.services.vision import DecodedImage, Vision
from models.decoding.turns import Purpose
from models.imaging import ImageRejected
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import (
    IndexTask,
    Master,
    MasterState,
    VectorPart,
    VectorRecord,
    whole_image,
)

_RENEWALS = 3  # per lease


class Indexing:
    """Embeds masters and marks their embeddings as indexed."""

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
        vision: Vision,
        metrics: Metrics,
        lease: float,
    ) -> None:
        """``lease`` is the time in seconds for which an embedding is reserved."""
        self._stores = stores
        self._models = models
        self._vision = vision
        self._metrics = metrics
        self._lease = lease

    @property
    def live_versions(self) -> list[str]:
        """The live model versions that this process can embed with, the active one first."""
        return self._models.live_versions

    @property
    def active_versions(self) -> list[str]:
        """The live versions that searches use, one per space."""
        return self._models.active_versions

    def index_embedding(
        self,
        task: IndexTask,
        owner: str,
        image: DecodedImage | None = None,
        leased_at: float | None = None,
    ) -> bool:
        """Write the vectors of ``task``, which ``owner`` has leased, and mark it as indexed.

        ``image`` saves reading and decoding the original. ``leased_at`` is the time on the
        monotonic clock when the lease began; None means now. A lease that has lasted a while is
        renewed before the work begins, and again before the write. Returns False if the master was
        changed or deleted meanwhile, or if another process has taken the embedding over. Raises
        StoreUnavailable, ObjectMissing, Unavailable, Conflict and ImageRejected.
        """
        vectors, metadata, master = self._stores.vectors, self._stores.metadata, task.master
        leased_at = time.monotonic() if leased_at is None else leased_at
        if self._is_lease_old(leased_at):
            leased_at = time.monotonic()
            if not metadata.claim_embedding(master.id, task.model_version, owner, self._lease):
                return False
        parts = self._find_or_embed_parts(task, image)
        record = VectorRecord(
            master.id, master.collection_id, parts, master.indexed_fields, master.revision
        )
        if self._is_lease_old(leased_at) and not metadata.reserve_write(task, owner, self._lease):
            return False
        with self._metrics.stage("vector_upsert"):
            vectors.upsert(task.model_version, [record])
        if metadata.mark_indexed(task, owner):
            return True
        if self._is_gone(task):
            # The removal may have come before the upsert above, which wrote the vector again.
            vectors.delete(task.model_version, [master.id])
        return False

    def _is_lease_old(self, leased_at: float) -> bool:
        """Return whether so much of the lease has passed that a slow write might outlast it."""
        return time.monotonic() - leased_at > self._lease / _RENEWALS

    def _is_gone(self, task: IndexTask) -> bool:
        """Return whether the master was deleted, or its embedding with a retired version.

        Neither ever comes back under the same id, unless the version is built again: then every
        embedding is queued. A master whose deletion can be undone may come back and be indexed at
        any moment, so its vector is left to the worker.
        """
        record = self._stores.metadata.find_records([task.master.id]).get(task.master.id)
        if record is None or record.master.state is MasterState.DELETING:
            return True
        is_removed = record.master.state is MasterState.REMOVED
        return not is_removed and task.model_version not in record.indexed

    def _find_or_embed_parts(
        self, task: IndexTask, image: DecodedImage | None
    ) -> tuple[VectorPart, ...]:
        master, version = task.master, task.model_version
        if image is None or version not in image.inputs:
            # The bytes of a master never change, so the vectors it has already are still right.
            stored = self._stores.vectors.fetch_vectors(version, [master.id]).get(master.id)
            if stored is not None:
                return stored.parts
            image = self._vision.decode_image(
                partial(read_original, self._stores.objects, master),
                Purpose.INDEXING,
                versions=[version],
            )
        return whole_image(self._vision.embed_image(image, version))

    def index_inline(
        self, master: Master, owner: str, versions: Sequence[str], image: DecodedImage | None
    ) -> bool:
        """Index the embeddings of these versions now; ``owner`` holds their leases.

        Failures are left to the worker. Returns whether ``versions`` is not empty and all of them
        were indexed.
        """
        done = [self._index_version(master, owner, version, image) for version in versions]
        return bool(done) and all(done)

    def _index_version(
        self, master: Master, owner: str, version: str, image: DecodedImage | None
    ) -> bool:
        """Index until the embedding has the newest revision of the master.

        A change that happened meanwhile did not get the lease: its request relies on the holder.
        """
        metadata = self._stores.metadata
        current: Master | None = master
        while current is not None:
            task = IndexTask(current, version, attempts=0)
            try:
                if self.index_embedding(task, owner, image):
                    return True
            except (
                StoreUnavailable,
                ObjectMissing,
                Unavailable,
                Conflict,
                ImageRejected,
            ) as error:
                # Without its bytes the master is damaged or being deleted; without the model, the
                # version is being retired. Another process may decode what this one cannot.
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
        """Index a changed master now, except versions whose lease another process holds.

        The lease holder notices the new revision and indexes again. Returns whether all of the
        claimed embeddings were indexed.
        """
        claimed = [
            version
            for version in self.live_versions
            if self._stores.metadata.claim_embedding(master.id, version, owner, self._lease)
        ]
        return self.index_inline(master, owner, claimed, None)
