"""Rebuilds rows of the metadata database from the bucket, after the database was lost.

It may also have been restored from an earlier dump. What the database and the catalogue know as
deleted stays deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from uuid import UUID, uuid4

from app.services.catalogue import CATALOGUE_MARK
from app.services.catalogue_files import CatalogueDamaged, CatalogueIndex, read_index
from app.services.catalogue_rows import CatalogueRows
from app.services.installation_id import adopt_bucket, is_of_other_bucket
from app.services.marks import has_reached, set_mark
from app.services.mirroring import RemovalRefused, allowed_removals
from app.services.recovered_masters import (
    MasterKey,
    NotRecoverable,
    build_master,
    parse_master_key,
)
from app.services.recovery_collections import RecoveredCollections
from app.services.recovery_decisions import recover_decisions
from app.services.recovery_models import choose_active
from storage.errors import MasterExists, ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import Master, MasterRecord, MasterState, ModelState, ObjectInfo

_BATCH = 200
_MAX_UNREADABLE = 3  # originals in a row that cannot be read before the store counts as down
_KEPT = (MasterState.STORED, MasterState.DAMAGED)
_DELETED = (MasterState.REMOVED, MasterState.DELETING)


@dataclass
class RecoveryCounts:
    """The number of masters by what happens to them."""

    present: int = 0  # the database has them already
    from_catalogue: int = 0  # come back with names and attributes
    from_key: int = 0  # come back without
    updated: int = 0  # get newer names and attributes
    damaged: int = 0  # come back hidden, because their bytes are not the ones that were uploaded
    left_deleted: int = 0  # have an original in the bucket, but were deleted
    withdrawn: int = 0  # are in the database, but were deleted later
    without_bytes: int = 0  # are in the catalogue, but have no original
    decisions: int = 0  # about duplicates, that come back; in a dry run, those of the catalogue
    failed: int = 0


class Recovery:
    """One recovery. Without ``apply`` it changes nothing, and does not read the originals.

    It can be interrupted and run again: masters that have a row are not visited twice. Every method
    may raise StoreUnavailable.
    """

    def __init__(
        self,
        stores: Stores,
        rows: CatalogueRows,
        *,
        installed: str,
        jobs: int,
        grace: float,
        apply: bool,
        allow_removal: bool,
        fail: Callable[[str, str], None],
    ) -> None:
        """``installed`` is the model version of `look` that this program would start with.

        ``grace`` is in seconds: an original that is at most that much older than the catalogue may
        have been uploaded after it was written. ``fail`` is called with what cannot be recovered,
        and the reason.
        """
        self._stores = stores
        self._rows = rows
        self._installed = installed
        self._jobs = jobs
        self._grace = grace
        self._apply = apply
        self._allow_removal = allow_removal
        self._report_failure = fail
        self._index: CatalogueIndex | None = None
        self._is_current = False  # whether the database is not older than the catalogue
        self._collections: set[UUID] = set()
        self._unreadable = 0  # originals in a row
        self.active: dict[str, str] = {}  # the active version of each space
        self.counts = RecoveryCounts()

    def prepare(self) -> int:
        """Read the catalogue, decide about collections, and return the number of originals.

        Raises RecoveryRefused, and RemovalRefused if rows of an older database would be deleted
        in an unusual number.
        """
        metadata = self._stores.metadata
        try:
            self._index = read_index(self._stores.objects)
        except CatalogueDamaged as error:
            self._fail("the catalogue", f"{error}; deletions that only it shows are not known")
        if self._index:
            self._is_current = has_reached(metadata, CATALOGUE_MARK, self._index.mark)
        self._rows.load(self._stores.objects, self._index, self._fail)
        total, in_bucket = 0, {}
        for info in self._stores.objects.list("masters/"):
            total += 1
            if key := parse_master_key(info.key):
                in_bucket[key.collection.id] = key.collection
        collections = RecoveredCollections(
            metadata,
            self._index,
            is_current=self._is_current,
            grace=self._grace,
            fail=self._fail,
        )
        self._collections = collections.choose(in_bucket.values())
        self._check_withdrawals(collections.deleted_masters)
        self.active = choose_active(
            self._stores,
            self._index.active if self._index else {},
            self._installed,
            self._fail,
        )
        if self._apply:
            # A new database keeps its own id until the end, so that no half of it is served.
            metadata.claim_database_id(str(uuid4()))
            self._apply_models()
            self._collections = collections.apply()
            self._compare_rows(apply=True)
        return total

    def _check_withdrawals(self, in_deleted_collections: int) -> None:
        total = self._compare_rows(apply=False)
        self.counts.withdrawn += in_deleted_collections
        is_other = is_of_other_bucket(self._stores)
        limit = 0 if is_other else allowed_removals(total)
        if self.counts.withdrawn > limit and not self._allow_removal:
            suspicion = ", or because it is the catalogue of another database" if is_other else ""
            raise RemovalRefused(
                f"{self.counts.withdrawn} of the {total} masters in the database would be deleted,"
                f" because the catalogue shows that they were deleted later{suspicion}; {limit} are"
                " deleted without being told to. Nothing was changed. If that is intended, run the"
                " command again with --allow-removal"
            )

    def _apply_models(self) -> None:
        registry = self._stores.registry
        if any(registry.find_active(space) != id_ for space, id_ in self.active.items()):
            registry.replace_active(self.active)

    def _compare_rows(self, *, apply: bool) -> int:
        """Compare the rows of an older database with the catalogue, and return their number.

        With ``apply``, bring them up to date; otherwise count.
        """
        total, after = 0, None
        while batch := self._stores.metadata.list_records(after, _BATCH):
            total, after = total + len(batch), batch[-1].master.id
            rows = self._rows.find([record.master.id for record in batch])
            if self._is_current:
                continue
            newer: list[Master] = []
            for record in batch:
                master, row = record.master, rows.get(record.master.id)
                if master.collection_id not in self._collections:
                    continue  # its collection is deleted as a whole
                if row is not None and row.revision > master.revision:
                    newer.append(row)
                elif row is None and self._was_withdrawn(master):
                    self.counts.withdrawn += not apply
                    if apply:
                        self._stores.metadata.delete_master(master.id)
            self.counts.updated += 0 if apply else len(newer)
            if apply and newer:
                self._stores.metadata.import_records(self._as_records(newer))
        return total

    def _was_deleted(self, collection_id: UUID, changed: float) -> bool:
        """Tell whether the absence of a master from the catalogue means that it was deleted.

        ``changed`` is the time of its last change in milliseconds since 1970.
        """
        if self._index is None or collection_id in self._rows.incomplete:
            return False
        return changed < self._index.at - self._grace * 1000

    def _was_withdrawn(self, master: Master) -> bool:
        """Tell whether a master of an older database was deleted later.

        A recent one counts as deleted only if its original is gone as well.
        """
        if self._was_deleted(master.collection_id, master.updated_at):
            return True
        if not self._was_deleted(master.collection_id, 0):
            return False
        try:
            self._stores.objects.stat(master.object_key)
        except ObjectMissing:
            return True
        return False

    def recover_masters(self, advance: Callable[[int], None]) -> RecoveryCounts:
        """Visit all originals; ``advance`` is called with the size of each batch."""
        objects = self._stores.objects.list("masters/")
        with ThreadPoolExecutor(self._jobs) as pool:
            while batch := list(islice(objects, _BATCH)):
                self._recover_batch(batch, pool)
                advance(len(batch))
        for batch_ in _split(self._rows.list_unseen()):
            known = self._stores.metadata.find_records([each.id for each in batch_])
            self.counts.without_bytes += len(batch_) - len(known)
        if not self._is_current:
            self.counts.decisions = recover_decisions(
                self._stores, self._index, apply=self._apply, fail=self._fail
            )
        if self._apply:
            adopt_bucket(self._stores)
        if self._apply and self._index and not self.counts.failed:
            # From now on the database may update the catalogue.
            set_mark(self._stores.metadata, CATALOGUE_MARK, self._index.mark)
        return self.counts

    def _recover_batch(self, batch: Sequence[ObjectInfo], pool: ThreadPoolExecutor) -> None:
        keys = {info.key: parse_master_key(info.key) for info in batch}
        ids = [key.id for key in keys.values() if key]
        records, rows = self._stores.metadata.find_records(ids), self._rows.find(ids)
        wanted: dict[tuple[UUID, bytes], tuple[MasterKey, Master | None]] = {}
        for info in batch:
            key = keys[info.key]
            if key is None:
                self._fail(info.key, "its key is not that of an original")
            elif self._is_wanted(key, records.get(key.id), rows.get(key.id), info):
                # A row in the database is of an upload that was under way when it was dumped.
                pending = records.get(key.id)
                row = rows.get(key.id) or (pending.master if pending else None)
                self._prefer(wanted, key, row)
        if not self._apply:
            with_row = sum(row is not None for _, row in wanted.values())
            self.counts.from_catalogue += with_row
            self.counts.from_key += len(wanted) - with_row
            return
        built = pool.map(lambda pair: self._build(*pair), wanted.values())
        named = {key.id for key, row in wanted.values() if row is not None}
        self._import_masters([master for master in built if master], named)

    def _is_wanted(
        self, key: MasterKey, record: MasterRecord | None, row: Master | None, info: ObjectInfo
    ) -> bool:
        """Tell whether the master of an original is to be inserted, and count it if not."""
        state = record.master.state if record else None
        if state in _DELETED or key.collection.id not in self._collections:
            self.counts.left_deleted += 1
        elif state in _KEPT:
            self.counts.present += 1
        elif row is None and self._was_deleted(key.collection.id, info.modified * 1000):
            self.counts.left_deleted += 1
        elif row is not None and row.object_key != key.key:
            self._fail(key.key, "the catalogue has other bytes under its id")
        elif row is not None and self._is_current:
            self.counts.left_deleted += 1
        else:
            return True
        return False

    def _prefer(
        self,
        wanted: dict[tuple[UUID, bytes], tuple[MasterKey, Master | None]],
        key: MasterKey,
        row: Master | None,
    ) -> None:
        """Keep one of several masters with the same bytes: the catalogue's, or the newest."""
        place = key.collection.id, key.sha256
        other = wanted.get(place)
        if other is not None:
            self.counts.left_deleted += 1  # its bytes were uploaded again after its deletion
            if (other[1] is not None, other[0].id) > (row is not None, key.id):
                return
        wanted[place] = key, row

    def _build(self, key: MasterKey, row: Master | None) -> Master | None:
        try:
            master = build_master(self._stores.objects, key, row)
        except NotRecoverable as error:
            self._fail(key.key, str(error))
            return None
        except StoreUnavailable as error:
            self._unreadable += 1
            if self._unreadable >= _MAX_UNREADABLE:
                raise
            self._fail(key.key, f"its bytes cannot be read: {error}")
            return None
        self._unreadable = 0
        return master

    def _import_masters(self, masters: Sequence[Master], named: set[UUID]) -> None:
        """Insert the rows; ``named`` are the ids of those with name and attributes."""
        try:
            self._stores.metadata.import_records(self._as_records(masters))
            imported = list(masters)
        except MasterExists:
            imported = [master for master in masters if self._import_alone(master)]
        for master in imported:
            if master.state is MasterState.DAMAGED:
                self.counts.damaged += 1
            elif master.id in named:
                self.counts.from_catalogue += 1
            else:
                self.counts.from_key += 1

    def _import_alone(self, master: Master) -> bool:
        try:
            self._stores.metadata.import_records(self._as_records([master]))
        except MasterExists:  # the same bytes were uploaded again under another id
            self.counts.left_deleted += 1
            return False
        return True

    def _as_records(self, masters: Sequence[Master]) -> list[MasterRecord]:
        """Return the records to insert, with a pending embedding of each live version."""
        models = self._stores.registry.list_models()
        live = [each.id for each in models if each.state is not ModelState.RETIRED]
        return [MasterRecord(master, dict.fromkeys(live)) for master in masters]

    def _fail(self, what: str, reason: str) -> None:
        self.counts.failed += 1
        self._report_failure(what, reason)


def _split(masters: Iterator[Master]) -> Iterator[list[Master]]:
    while batch := list(islice(masters, _BATCH)):
        yield batch
