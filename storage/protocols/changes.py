"""Changes of many masters at once: selecting them by a filter, updating and deleting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from storage.filters import Filter
from storage.records import Attributes, Master


@dataclass(frozen=True)
class AttributeUpdate:
    """New attributes for the master as it was at one revision."""

    master_id: UUID
    revision: int
    attributes: Attributes


class ChangeStore(Protocol):
    """Changes of several masters of a collection, each under the revision that was seen."""

    def select_masters(
        self, collection_id: UUID, filter: Filter, limit: int, before: UUID | None
    ) -> list[Master]:
        """Return up to ``limit`` visible masters that match, by falling ids.

        The list begins below the id ``before``, or with the newest if that is None. Unlike
        ``list_masters``, it counts nothing, so a walk through a collection reads it once.
        """

    def update_masters(self, collection_id: UUID, updates: Sequence[AttributeUpdate]) -> set[UUID]:
        """Replace the attributes of masters in one transaction, and return whose were replaced.

        A master that is not visible in the collection, or has another revision, stays as it is.
        Each revision is raised by one, and every embedding of the master becomes `pending`.
        """

    def delete_masters(self, collection_id: UUID, revisions: Mapping[UUID, int]) -> set[UUID]:
        """Delete masters in one transaction, which acknowledges it, and return which were deleted.

        ``revisions`` has the revision of each by its id. A master that has another one by now, or
        that is not stored or damaged in the collection while this is live, stays as it is. The
        rows become `deleting`, as by ``delete_master``.
        """
