"""The metadata store in memory, composed of its parts."""

from __future__ import annotations

from tests.support.memory_stores.captures import MemoryCaptures
from tests.support.memory_stores.changes import MemoryChanges
from tests.support.memory_stores.collections import MemoryCollections
from tests.support.memory_stores.decision_records import MemoryDecisionRecords
from tests.support.memory_stores.deletions import MemoryDeletions
from tests.support.memory_stores.duplicate_scans import MemoryFeatures, MemoryScans
from tests.support.memory_stores.duplicates import MemoryDecisions
from tests.support.memory_stores.identity import MemoryIdentity
from tests.support.memory_stores.lists import MemoryLists
from tests.support.memory_stores.masters import MemoryMasters
from tests.support.memory_stores.outbox import MemoryOutbox
from tests.support.memory_stores.transfer import MemoryRecords
from tests.support.memory_stores.uploads import MemoryLeases, MemoryUploads


class MemoryMetadataStore(
    MemoryCollections,
    MemoryUploads,
    MemoryMasters,
    MemoryLists,
    MemoryOutbox,
    MemoryLeases,
    MemoryRecords,
    MemoryIdentity,
    MemoryCaptures,
    MemoryChanges,
    MemoryDecisions,
    MemoryDecisionRecords,
    MemoryFeatures,
    MemoryScans,
    MemoryDeletions,
):
    """Implements MetadataStore in memory."""

    def upgrade_schema(self) -> None:
        """Do nothing: there is no schema."""

    def ping(self) -> None:
        """Do nothing: memory always answers."""

    def close(self) -> None:
        """Do nothing: there are no connections."""
