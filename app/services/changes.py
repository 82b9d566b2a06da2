"""Changes and deletes all masters of a collection that match a filter, in small batches.

Each master is changed under the revision at which it was seen to match. So uploads and other
changes go on meanwhile, and a crash leaves each master as it was or as it should be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.errors import CountChanged, InvalidInput
from app.services.collections import Collections
from storage.attributes import (
    MAX_KEYS,
    InvalidAttributes,
    clean_attributes,
    clean_patch,
    merge_patch,
    remove_path,
)
from storage.filters import Filter, matches, parse_path
from storage.protocols import AttributeUpdate, Deletion, MetadataStore, NewDeletion, Removal
from storage.records import Attributes, Master, new_id

_BATCH = 200  # masters in one transaction
_ATTEMPTS = 5  # at masters that others change at the same time
_EXAMPLES = 20  # refused masters that are named


@dataclass(frozen=True)
class AttributeChange:
    """What to do with attributes: remove the values at ``unset``, then merge ``set`` (RFC 7396)."""

    set: Attributes
    unset: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def parse(cls, set_: object, unset: Sequence[str]) -> AttributeChange:
        """Check and normalise a change. Raises InvalidInput."""
        try:
            patch = clean_patch(set_)
            paths = tuple(parse_path(text, InvalidAttributes) for text in unset)
        except InvalidAttributes as error:
            raise InvalidInput("invalid-attributes", str(error)) from None
        if len(paths) > MAX_KEYS:
            raise InvalidInput("invalid-attributes", f"unset takes at most {MAX_KEYS} paths")
        if not patch and not paths:
            detail = "There is nothing to change: give attributes in set, or paths in unset."
            raise InvalidInput("invalid-attributes", detail)
        return cls(patch, paths)

    def apply(self, attributes: Attributes) -> Attributes:
        """Return the new attributes. Raises InvalidAttributes if they break a rule."""
        for path in self.unset:
            attributes = remove_path(attributes, path)
        return clean_attributes(merge_patch(attributes, self.set))


@dataclass
class Outcome:
    """What was done to the masters that matched."""

    matched: int  # at the start
    done: int = 0  # masters that had their turn
    changed: int = 0  # or deleted
    unchanged: int = 0  # the change has no effect on them
    skipped: int = 0  # others changed or deleted them, so that they no longer match
    refused: int = 0  # their new attributes would break a rule
    examples: list[tuple[UUID, str]] = field(default_factory=list)  # refused ones, with reasons
    deletion: Deletion | None = None  # by which what was deleted can be restored


class Changes:
    """Changes and deletions by filter. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        metadata: MetadataStore,
        collections: Collections,
        undo_seconds: float,
        wake_worker: Callable[[], None],
    ) -> None:
        """A deletion can be undone for ``undo_seconds``; 0 makes every deletion permanent.

        ``wake_worker`` is called when vectors or deletions are left to the worker.
        """
        self._metadata = metadata
        self._undo_seconds = undo_seconds
        self._collections = collections
        self._wake_worker = wake_worker

    def count_matching(self, collection_name: str, filter: Filter | None) -> int:
        """Return how many masters match; all for None. Raises InvalidInput, NotFound."""
        collection = self._collections.find_collection(collection_name)
        return self._metadata.list_masters(collection.id, filter, 1, None).total

    def delete_matching(
        self, collection_name: str, filter: Filter, confirmed: int, *, permanent: bool = False
    ) -> Iterator[Outcome]:
        """Delete the masters that match, and yield what is done after each batch.

        What is yielded as changed is acknowledged: no request finds it any more. Unless the
        deletion is ``permanent``, it can be undone for a while. No more than ``confirmed`` are
        deleted, nor any that was uploaded meanwhile. Raises InvalidInput, NotFound, and
        CountChanged unless ``confirmed`` is the number of those that match.
        """
        collection_id, first, outcome = self._begin(collection_name, filter, confirmed)
        deletion = NewDeletion(new_id(), collection_id, "filter", self._undo_seconds)

        def delete(masters: Sequence[Master]) -> set[UUID]:
            revisions = {master.id: master.revision for master in masters}
            deleted = self._metadata.delete_masters(collection_id, revisions)
            outcome.changed += len(deleted)
            return deleted

        def remove(masters: Sequence[Master]) -> set[UUID]:
            removals = [Removal({master.id: master.revision}) for master in masters]
            removed = self._metadata.remove_masters(deletion, removals)
            outcome.changed += len(removed)
            if removed and outcome.deletion is None:
                outcome.deletion = self._metadata.find_deletion(deletion.id)
            return removed

        act = delete if permanent or not self._undo_seconds else remove
        return self._walk(collection_id, filter, first, outcome, act)

    def change_matching(
        self, collection_name: str, filter: Filter, change: AttributeChange, confirmed: int
    ) -> Iterator[Outcome]:
        """Change the attributes of the masters that match; otherwise as ``delete_matching``.

        A master whose attributes would break a rule is refused, and stays as it is. The revision
        of one on which the change has no effect stays. The worker passes new attributes on to the
        vector store.
        """
        collection_id, first, outcome = self._begin(collection_name, filter, confirmed)

        def update(masters: Sequence[Master]) -> set[UUID]:
            updates, settled = [], set()
            for master in masters:
                try:
                    attributes = change.apply(master.attributes)
                except InvalidAttributes as error:
                    outcome.refused += 1
                    if len(outcome.examples) < _EXAMPLES:
                        outcome.examples.append((master.id, str(error)))
                    settled.add(master.id)
                    continue
                if _is_same(attributes, master.attributes):
                    outcome.unchanged += 1
                    settled.add(master.id)
                else:
                    updates.append(AttributeUpdate(master.id, master.revision, attributes))
            updated = self._metadata.update_masters(collection_id, updates) if updates else set()
            outcome.changed += len(updated)
            return updated | settled

        return self._walk(collection_id, filter, first, outcome, update)

    def _begin(
        self, collection_name: str, filter: Filter, confirmed: int
    ) -> tuple[UUID, list[Master], Outcome]:
        """Return the collection, the first batch, and an outcome with the number of all.

        The batch is read before all are counted, so that an upload in between cannot be in it.
        """
        collection = self._collections.find_collection(collection_name)
        first = self._metadata.select_masters(collection.id, filter, _BATCH, None)
        matched = self._metadata.list_masters(collection.id, filter, 1, None).total
        if matched != confirmed:
            raise CountChanged(confirmed, matched)
        return collection.id, first[:matched], Outcome(matched)

    def _walk(
        self,
        collection_id: UUID,
        filter: Filter,
        batch: list[Master],
        outcome: Outcome,
        act: Callable[[Sequence[Master]], set[UUID]],
    ) -> Iterator[Outcome]:
        """Act on one batch after the other, from the newest master to the oldest."""
        if not batch:
            yield outcome
        while batch:
            before = batch[-1].id
            outcome.done += len(batch)
            self._act_on_batch(collection_id, filter, batch, outcome, act)
            self._wake_worker()
            yield outcome
            left = min(_BATCH, outcome.matched - outcome.done)
            if not left:
                return
            batch = self._metadata.select_masters(collection_id, filter, left, before)

    def _act_on_batch(
        self,
        collection_id: UUID,
        filter: Filter,
        masters: Sequence[Master],
        outcome: Outcome,
        act: Callable[[Sequence[Master]], set[UUID]],
    ) -> None:
        """Act on each master, again on those that others changed but that still match."""
        for attempt in range(_ATTEMPTS):
            settled = act(masters)
            ids = [master.id for master in masters if master.id not in settled]
            if not ids or attempt == _ATTEMPTS - 1:
                outcome.skipped += len(ids)
                return
            found = self._metadata.find_masters(collection_id, ids)
            masters = [each for each in found.values() if matches(filter, each.filterable)]
            outcome.skipped += len(ids) - len(masters)
            if not masters:
                return


def _is_same(one: Attributes, other: Attributes) -> bool:
    """Return whether two documents are the same JSON; 1 and true are equal in Python only."""
    return one == other and _text(one) == _text(other)


def _text(attributes: dict[str, Any]) -> str:
    return json.dumps(attributes, sort_keys=True)
