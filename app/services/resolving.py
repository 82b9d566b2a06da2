"""Resolves groups of near-identical masters: keeps one of each, and deletes the others.

Each group is resolved as a whole or not at all, under the revisions at which it was seen, and the
deletion can be undone. So uploads and other changes go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.errors import Conflict, InvalidInput
from app.services.collections import Collections
from app.services.duplicates import Duplicates, check_other_name
from app.services.keeping import Choice, Rule, merge_all, sort_best_first
from storage.attributes import InvalidAttributes
from storage.protocols import Deletion, KeptMaster, MetadataStore, NewDeletion, Removal
from storage.records import Collection, Master, new_id

_BATCH = 200  # masters in one transaction, unless a group has more
_ATTEMPTS = 5  # at groups that others change at the same time
_EXAMPLES = 20  # refused groups that are named
_SHOWN = 100  # choices in a preview
_REASON = "duplicates"


@dataclass(frozen=True)
class Group:
    """Masters that show the same; ``keep`` is the one to keep, None leaves it to the rules.

    Each was compared with ``representative`` alone, if there is one: without it, the others may
    not show the same.
    """

    masters: tuple[UUID, ...]
    keep: UUID | None = None
    representative: UUID | None = None


@dataclass(frozen=True)
class Task:
    """Which groups to resolve, and how."""

    collections: tuple[Collection, ...]  # that the masters may belong to
    groups: Sequence[Group]
    rules: tuple[Rule, ...]
    merge_attributes: bool


@dataclass
class Resolution:
    """What was done to the groups, or would be done."""

    total: int  # groups
    done: int = 0  # groups that had their turn
    kept: int = 0  # groups that were resolved, each with one master
    deleted: int = 0  # masters
    bytes: int = 0  # of the deleted masters
    merged: int = 0  # masters that were kept and got attributes
    skipped: int = 0  # groups of which others deleted so much that nothing is left to resolve
    refused: int = 0  # groups whose merged attributes would break a rule
    examples: list[tuple[UUID, str]] = field(default_factory=list)  # masters to keep, and reasons
    choices: list[Choice] = field(default_factory=list)  # the first ones, of a preview
    deletion: Deletion | None = None

    def count(self, choice: Choice) -> None:
        """Add a group that is resolved."""
        self.kept += 1
        self.deleted += len(choice.others)
        self.bytes += sum(master.size for master in choice.others)
        self.merged += choice.attributes is not None


class Resolving:
    """Resolves groups. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        metadata: MetadataStore,
        collections: Collections,
        duplicates: Duplicates,
        undo_seconds: float,
        wake_worker: Callable[[], None],
    ) -> None:
        """A deletion can be undone for ``undo_seconds``; 0 makes every deletion permanent.

        ``wake_worker`` is called when vectors or deletions are left to the worker.
        """
        self._metadata = metadata
        self._collections = collections
        self._duplicates = duplicates
        self._undo_seconds = undo_seconds
        self._wake_worker = wake_worker

    def plan_groups(
        self,
        collection_name: str,
        other_name: str | None,
        groups: Sequence[Group],
        rules: Sequence[Rule],
        *,
        merge_attributes: bool,
    ) -> Task:
        """Check what is to be resolved. Raises InvalidInput, NotFound.

        Each master is in one group, and in one of the two collections.
        """
        collections = self._find_collections(collection_name, other_name)
        seen: set[UUID] = set()
        for number, group in enumerate(groups):
            inside = set(group.masters)
            if len(inside) < len(group.masters) or inside & seen:
                detail = f"groups[{number}] names a master that is in a group already."
                raise InvalidInput("invalid-groups", detail)
            if group.keep is not None and group.keep not in inside:
                detail = f"groups[{number}] does not contain the master to keep, {group.keep}."
                raise InvalidInput("invalid-groups", detail)
            seen |= inside
        return Task(collections, groups, tuple(rules), merge_attributes)

    def plan_all(
        self,
        collection_name: str,
        other_name: str | None,
        space: str,
        rules: Sequence[Rule],
        *,
        merge_attributes: bool,
    ) -> Task:
        """Plan to resolve all groups that a scan has found until now.

        Raises InvalidInput, NotFound, Unavailable.
        """
        collections = self._find_collections(collection_name, other_name)
        found = self._duplicates.iterate_groups(collection_name, other_name, space)
        groups = [
            Group(tuple(each.master.id for each in group.members), representative=group.id)
            for group in found
        ]
        return Task(collections, groups, tuple(rules), merge_attributes)

    def _find_collections(self, name: str, other_name: str | None) -> tuple[Collection, ...]:
        names = [name]
        if other_name is not None:
            check_other_name(name, other_name)
            names.append(other_name)
        return tuple(self._collections.find_collection(each) for each in names)

    def preview(self, task: Task) -> Resolution:
        """Return what resolving the groups would do."""
        outcome = Resolution(len(task.groups))
        for batch in _split_into_batches(task.groups):
            for _, choice in self._choose_all(task, batch, outcome):
                outcome.count(choice)
                if len(outcome.choices) < _SHOWN:
                    outcome.choices.append(choice)
            outcome.done += len(batch)
        return outcome

    def resolve(self, task: Task, confirmed: int) -> Iterator[Resolution]:
        """Resolve the groups, and yield what is done after each batch.

        What is yielded as deleted is acknowledged: no request finds it any more. Raises Conflict
        unless ``confirmed`` is the number of masters that a preview would delete.
        """
        planned = self.preview(task).deleted
        if planned != confirmed:
            error = Conflict(
                "count-changed",
                f"Resolving the groups deletes {planned} masters, not {confirmed} as was confirmed."
                " Nothing was done. Check them, and repeat the request with this number.",
            )
            error.members = {"matched": planned}
            raise error
        return self._resolve_batches(task)

    def _resolve_batches(self, task: Task) -> Iterator[Resolution]:
        outcome = Resolution(len(task.groups))
        deletion = NewDeletion(new_id(), task.collections[0].id, _REASON, self._undo_seconds)
        for batch in _split_into_batches(task.groups):
            self._resolve_batch(task, batch, deletion, outcome)
            if outcome.deleted and outcome.deletion is None:
                outcome.deletion = self._metadata.find_deletion(deletion.id)
            outcome.done += len(batch)
            self._wake_worker()
            yield outcome
        if not task.groups:
            yield outcome

    def _resolve_batch(
        self, task: Task, groups: Sequence[Group], deletion: NewDeletion, outcome: Resolution
    ) -> None:
        """Resolve groups, again those of which others have changed a master meanwhile."""
        for _ in range(_ATTEMPTS):
            chosen = list(self._choose_all(task, groups, outcome))
            removals = [_removal_of(choice) for _, choice in chosen]
            removed = self._metadata.remove_masters(deletion, removals) if removals else set()
            groups = []
            for group, choice in chosen:
                if choice.others[0].id in removed:
                    outcome.count(choice)
                else:
                    groups.append(group)
            if not groups:
                return
        outcome.skipped += len(groups)

    def _choose_all(
        self, task: Task, groups: Sequence[Group], outcome: Resolution
    ) -> Iterator[tuple[Group, Choice]]:
        """Yield the choices in groups; count those in which there is none."""
        ids = [id_ for group in groups for id_ in group.masters]
        visible: dict[UUID, Master] = {}
        for collection in task.collections:
            visible |= self._metadata.find_masters(collection.id, ids)
        for group in groups:
            masters = [visible[id_] for id_ in group.masters if id_ in visible]
            needed = {group.keep, group.representative} - {None}
            if len(masters) < 2 or not needed <= visible.keys():
                outcome.skipped += 1
                continue
            ranked = sort_best_first(masters, task.rules)
            ranked.sort(key=lambda master: master.id != group.keep)  # which is stable
            kept, *others = ranked
            try:
                attributes = _merge(task, kept, others)
            except InvalidAttributes as error:
                outcome.refused += 1
                if len(outcome.examples) < _EXAMPLES:
                    outcome.examples.append((kept.id, str(error)))
                continue
            yield group, Choice(kept, tuple(others), attributes)


def _merge(task: Task, kept: Master, others: Sequence[Master]) -> dict[str, object] | None:
    if not task.merge_attributes:
        return None
    return merge_all(kept.attributes, (other.attributes for other in others))


def _removal_of(choice: Choice) -> Removal:
    kept = KeptMaster(choice.kept.id, choice.kept.revision, choice.attributes)
    return Removal({master.id: master.revision for master in choice.others}, kept)


def _split_into_batches(groups: Sequence[Group]) -> Iterator[list[Group]]:
    batch: list[Group] = []
    size = 0
    for group in groups:
        if batch and size + len(group.masters) > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(group)
        size += len(group.masters)
    if batch:
        yield batch
