"""Copies an installation with ids, bytes and vectors: to move it, to back it up, to restore it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import uuid4

from app.services.decision_copy import copy_decisions, mirror_decisions
from app.services.deletion import Deletion
from app.services.mirroring import CopyRefused, Mirroring, MirrorRules
from app.services.removed_objects import RemovedObjects
from app.services.verified_copy import VerifiedCopy, describe_master
from storage.errors import CollectionExists, MasterExists
from storage.protocols import Stores
from storage.records import Collection, Master, MasterRecord, MasterState, ModelState

_BATCH = 100
_DRAIN_PAUSE = 0.5  # seconds


@dataclass
class CopyCounts:
    """The number of masters by what happened to them, and of decisions about duplicates."""

    copied: int = 0
    unchanged: int = 0  # the target had them already
    changed: int = 0  # the target had them with another name or other attributes
    failed: int = 0
    only_in_target: int = 0  # the source does not have them, or not any more
    to_embed: int = 0  # of those copied, without a vector
    decisions: int = 0  # about duplicates, that were copied


class InstallationCopy:
    """Copies every master from one installation to another.

    The row of a master is written last, after its bytes and vector were read back and verified. So
    a row in the target means that its master is complete, and an interrupted copy can resume. The
    source may be in use meanwhile: a master that is deleted before its turn is left out.
    """

    def __init__(
        self,
        source: Stores,
        target: Stores,
        *,
        jobs: int,
        lease: float,
        fail: Callable[[str, str], None],
        vectors: bool = True,
        mirror: bool = False,
        verify: bool = False,
        rules: MirrorRules | None = None,
    ) -> None:
        """Prepare a copy with ``jobs`` threads. ``lease`` is in seconds, for deletions.

        ``fail`` is called with a description of what cannot be copied, and the reason; the copy
        continues. Without ``vectors`` the target's worker embeds the masters again. ``mirror``
        makes the target equal to the source: masters are changed and deleted, too, and nothing
        else may write to the target. ``verify`` hashes the bytes that the target has already.
        ``rules`` limit what a mirror removes.
        """
        self._source = source
        self._target = target
        self._jobs = jobs
        self._lease = lease
        self._report_failure = fail
        self._vectors = vectors
        self._mirror = mirror
        self._verify = verify
        self._versions: list[str] = []  # the active model version of each of the source's spaces
        self._counts = CopyCounts()
        self._verified = VerifiedCopy(source, target, self._fail)
        self._mirroring = Mirroring(source, target, rules or MirrorRules())
        self._checked = False

    def finish_deletions(self, stores: Stores, waiting: Callable[[int], None]) -> None:
        """Finish deletions and unfinished uploads in stores that no process serves.

        ``waiting`` is called with the number of those left. A lease that a killed process left
        behind is waited for until it expires. The originals that a mirror removes from its target
        are moved to `removed/`. Raises StoreUnavailable.
        """
        moved = self._mirror and stores is self._target
        remove_object = RemovedObjects(stores.objects).move if moved else None
        deletion = Deletion(stores, self._lease, remove_object)
        owner = f"copying-{uuid4().hex}"
        while left := stores.metadata.count_unfinished():
            waiting(left)
            if not deletion.remove_deleted(owner):
                time.sleep(_DRAIN_PAUSE)

    def count_masters(self) -> int:
        """Return the number of masters to copy. Raises StoreUnavailable."""
        return sum(count for _, count in self._source.metadata.list_collections())

    def check_removals(self) -> None:
        """Check what a mirror would remove, and change nothing.

        Raises CopyRefused, RemovalRefused, StoreUnavailable.
        """
        self._mirroring.check_removals()
        self._checked = True

    def copy_masters(self, advance: Callable[[int], None]) -> CopyCounts:
        """Copy what the target lacks; ``advance`` is called with the size of each batch.

        Raises CopyRefused, StoreUnavailable.
        """
        if self._mirror and not self._checked:
            self.check_removals()
        self._copy_models()
        if self._mirror:
            self._mirroring.delete_extra_collections()
            # Before the copy, because bytes that were deleted and uploaded again have another id.
            self._mirroring.delete_extra_masters()
        for collection, _ in self._source.metadata.list_collections():
            self._copy_collection(collection, advance)
        if self._mirror:
            self._mirroring.delete_extra_masters()
            self._mirroring.drop_other_versions(self._versions)
            self._counts.only_in_target = self._mirroring.removed
        write_decisions = mirror_decisions if self._mirror else copy_decisions
        self._counts.decisions = write_decisions(self._source.metadata, self._target.metadata)
        return self._counts

    def _copy_models(self) -> None:
        """Make the source's active versions the target's. Other versions can be built again."""
        models = self._source.registry.list_models()
        active = {each.space: each.id for each in models if each.state is ModelState.ACTIVE}
        self._versions = list(active.values())
        if not active:
            return
        registry = self._target.registry
        if self._mirror or not any(count for _, count in self._target.metadata.list_collections()):
            registry.replace_active(active)
        for space, version in active.items():
            in_target = registry.register_active(version, space)
            if in_target != version:
                raise CopyRefused(
                    f"the target has vectors of the model {in_target} already, and the source has"
                    f" those of {version}. Copy into empty stores"
                )
            self._verified.copy_encoder(version, space)

    def _copy_collection(self, collection: Collection, advance: Callable[[int], None]) -> None:
        self._import_collection(collection)
        present, after = 0, None
        with ThreadPoolExecutor(self._jobs) as pool:
            while batch := self._source.metadata.list_records(after, _BATCH, collection.id):
                present += self._copy_batch(batch, pool)
                after = batch[-1].master.id
                advance(len(batch))
        if not self._mirror:
            total = self._target.metadata.count_masters(collection.id)
            self._counts.only_in_target += total - present

    def _import_collection(self, collection: Collection) -> None:
        """Create the collection with its id. An empty one of the same name is replaced.

        Raises CopyRefused.
        """
        metadata = self._target.metadata
        try:
            metadata.import_collection(collection)
        except CollectionExists:  # such as the default collection of a service that ran there
            same_name = metadata.find_collection(collection.name)
            if same_name is not None and metadata.count_masters(same_name.id):
                raise CopyRefused(
                    f"the target has a collection {collection.name} already, with other masters in"
                    " it. Delete it there, or copy into empty stores"
                ) from None
            metadata.delete_collection(collection.name)
            try:
                metadata.import_collection(collection)
            except CollectionExists:
                raise CopyRefused(
                    f"the collection {collection.name} is in use or being deleted in the target."
                    " Stop the service there, let a worker finish, and run the command again"
                ) from None

    def _copy_batch(self, batch: Sequence[MasterRecord], pool: ThreadPoolExecutor) -> int:
        """Copy a batch, and return how many of its masters are in the target afterwards."""
        present = self._target.metadata.find_records([record.master.id for record in batch])
        missing: list[MasterRecord] = []
        changed: list[MasterRecord] = []
        for record in map(self._keep_active_embeddings, batch):
            self._classify(record, present.get(record.master.id), missing, changed)
        problems = list(pool.map(self._verified.copy_object, [each.master for each in missing]))
        copied = []
        for record, problem in zip(missing, problems, strict=True):
            if problem is None:
                copied.append(record)
            elif problem:
                self._fail(describe_master(record.master), problem)
        complete = copied + changed
        for version in self._versions if self._vectors else ():
            complete = self._verified.copy_vectors(complete, version)
        self._import_records(complete)
        new = sum(record.master.id not in present for record in complete)
        # Without a mirror, masters that the target had lacked only the vectors of a newer space.
        updated = len(complete) - new if self._mirror else 0
        self._counts.copied += len(complete) - updated
        self._counts.changed += updated
        self._counts.to_embed += sum(None in record.indexed.values() for record in complete)
        return len(present) + new

    def _classify(
        self,
        record: MasterRecord,
        target: MasterRecord | None,
        missing: list[MasterRecord],
        changed: list[MasterRecord],
    ) -> None:
        """Append a record to what is to be copied, or count it as unchanged or failed.

        ``target`` is the target's record of the same id.
        """
        master = record.master
        if master.state is MasterState.DAMAGED:
            self._fail(describe_master(master), "it is damaged: upload it again, or delete it")
        elif target is None or (self._mirror and not self._is_complete(target.master)):
            missing.append(record)
        elif target.master == master and self._has_same_embeddings(target, record):
            self._counts.unchanged += 1
        elif target.master == master or self._mirror:
            changed.append(record)
        else:
            reason = "it was changed or deleted, in the source or the target, since it was copied"
            self._fail(describe_master(master), reason)

    def _keep_active_embeddings(self, record: MasterRecord) -> MasterRecord:
        """Return the record as the target shall have it: with the active versions' embeddings."""
        indexed = record.indexed if self._vectors else {}
        return replace(
            record, indexed={version: indexed.get(version) for version in self._versions}
        )

    def _is_complete(self, master: Master) -> bool:
        return master.state is MasterState.STORED and self._verified.target_has_object(
            master, verify=self._verify
        )

    def _has_same_embeddings(self, target: MasterRecord, record: MasterRecord) -> bool:
        if not self._mirror:  # the target has been in use, but a space may be newer than its copy
            return set(record.indexed) <= set(target.indexed)
        if self._vectors:
            return target.indexed == record.indexed
        return set(target.indexed) == set(record.indexed)

    def _import_records(self, records: Sequence[MasterRecord]) -> None:
        try:
            self._target.metadata.import_records(records)
        except MasterExists:
            if not self._mirror:
                raise CopyRefused(
                    "some of the same images were uploaded to the target meanwhile. Delete them"
                    " there, and run the command again"
                ) from None
            # They were copied, then deleted and uploaded again under another id.
            self._mirroring.delete_extra_masters()
            self._target.metadata.import_records(records)

    def _fail(self, what: str, reason: str) -> None:
        self._counts.failed += 1
        self._report_failure(what, reason)
