"""What a mirror removes from its target: how much at most, and where it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.services.encoder_files import encoder_key
from app.services.removed_objects import RemovedObjects
from storage.protocols import Stores
from storage.records import MasterRecord, MasterState, ModelState

_BATCH = 100
_KEPT = (MasterState.STORED, MasterState.DAMAGED)
_FEW, _SHARE = 10, 100  # a run removes ten masters, or a hundredth of them, unless it is told to
_ON_PURPOSE = "If that is intended, run the command again with --allow-removal."


class CopyRefused(Exception):
    """The target cannot take the masters; the message says why and what to do."""


class RemovalRefused(CopyRefused):
    """The mirror would remove more than it may without being told to."""


@dataclass(frozen=True)
class MirrorRules:
    """What is known about the source, and whether any number of masters may be removed."""

    same_installation: bool | None = None  # as the target was made from; None: not known
    is_current: bool = True  # whether the source's database has seen the target's last run
    allow_removal: bool = False


def allowed_removals(total: int) -> int:
    """Return how many of ``total`` masters a run may remove without being told to."""
    return max(_FEW, total // _SHARE)


class Mirroring:
    """Removes from the target what the source has deleted. Methods may raise StoreUnavailable."""

    def __init__(self, source: Stores, target: Stores, rules: MirrorRules) -> None:
        self._source = source
        self._target = target
        self._rules = rules
        self._limit: int | None = None  # None: check_removals has not run
        self.removed = 0  # masters

    def check_removals(self) -> None:
        """Check what the whole run would remove, before it changes anything.

        Raises CopyRefused, RemovalRefused.
        """
        self._check_same_installation()
        total = removed = outdated = 0
        for batch, kept in self._compare_target():
            total += len(batch)
            removed += len(batch) - len(kept)
            outdated += sum(
                kept[each.master.id].master.revision < each.master.revision
                for each in batch
                if each.master.id in kept
            )
        self._limit = allowed_removals(total)
        if self._rules.allow_removal:
            return
        if removed > self._limit:
            raise RemovalRefused(
                f"the run would remove {removed} of the {total} masters in the target, more than"
                f" the {self._limit} that it removes by itself, and was stopped before it changed"
                " anything. Check that the metadata database is complete: it may have been"
                f" restored from an earlier dump. {_ON_PURPOSE}"
            )
        if outdated or (removed and not self._rules.is_current):
            what = (
                f"{outdated} masters have names or attributes from before it"
                if outdated
                else f"it does not know it, and lacks {removed} of its masters"
            )
            raise RemovalRefused(
                f"the metadata database is older than the backup: {what}. Nothing was changed."
                f" The database was probably restored from an earlier dump. {_ON_PURPOSE}"
            )

    def _check_same_installation(self) -> None:
        """Refuse to mirror into another installation's copy, which would delete all it holds."""
        in_target = {collection.id for collection, _ in self._target.metadata.list_collections()}
        in_source = {collection.id for collection, _ in self._source.metadata.list_collections()}
        if not in_target or not in_target.isdisjoint(in_source) or self._rules.same_installation:
            return
        what = "backup of another installation: none of its collections is in this one"
        if self._rules.same_installation is None:
            if not self._rules.allow_removal:
                raise RemovalRefused(f"it may be the {what}. Nothing was changed. {_ON_PURPOSE}")
            return
        raise CopyRefused(
            f"it is the {what}. Name another directory, or check why the installation is empty"
        )

    def delete_extra_collections(self) -> None:
        """Delete the target's collections that are not live in the source. Raises RemovalRefused.

        ``finish_deletions`` removes their masters.
        """
        live = {collection for collection, _ in self._source.metadata.list_collections()}
        for collection, count in self._target.metadata.list_collections():
            if collection not in live:
                self._count_removals(count)
                self._target.metadata.delete_collection(collection.name)

    def delete_extra_masters(self) -> None:
        """Delete the target's masters that the source has not, or not any more.

        Raises RemovalRefused.
        """
        for batch, kept in self._compare_target():
            extra = [each.master.id for each in batch if each.master.id not in kept]
            self._count_removals(len(extra))
            for id_ in extra:
                self._target.metadata.delete_master(id_)

    def _count_removals(self, count: int) -> None:
        self.removed += count
        if self._rules.allow_removal or self._limit is None or self.removed <= self._limit:
            return
        raise RemovalRefused(
            f"masters were deleted during the run, more than the {self._limit} that it removes by"
            f" itself. The target keeps the others. {_ON_PURPOSE}"
        )

    def drop_other_versions(self, active: Sequence[str]) -> None:
        """Remove the vectors of versions that are not active in the source.

        An encoder that the source does not know any more is moved to `removed/`.
        """
        if not active:
            return
        models = self._source.registry.list_models()
        live = {each.id for each in models if each.state is not ModelState.RETIRED}
        for version in set(self._target.vectors.versions()) - set(active):
            if version not in live:
                RemovedObjects(self._target.objects).move(encoder_key(version))
            self._target.vectors.drop_version(version)

    def _compare_target(self) -> Iterator[tuple[list[MasterRecord], dict[UUID, MasterRecord]]]:
        """Yield the target's records, and the source's of those that it still shows, by id."""
        live = {collection.id for collection, _ in self._source.metadata.list_collections()}
        after = None
        while batch := self._target.metadata.list_records(after, _BATCH):
            after = batch[-1].master.id
            found = self._source.metadata.find_records([each.master.id for each in batch])
            kept = {
                id_: each
                for id_, each in found.items()
                if each.master.state in _KEPT and each.master.collection_id in live
            }
            yield batch, kept
