"""Marks in the metadata database, by which a later run notices that an older one is in its place.

A mark is a moment of the database's clock, which only moves forward. Whoever writes something that
depends on the database's state sets a mark, and stores the moment beside it. A database that was
lost, or restored from an earlier dump, has no mark of that moment.
"""

from __future__ import annotations

from uuid import uuid4

from storage.protocols import MetadataStore


def set_mark(metadata: MetadataStore, name: str, moment: int | None = None) -> int:
    """Move the mark to the present, or to ``moment``, and return where it is afterwards.

    Moments are in milliseconds since 1970; the mark may be a few later than ``moment``. A lease
    that has ended is the mark, so that it needs no table of its own. Raises StoreUnavailable.
    """
    owner = uuid4().hex
    metadata.acquire_lease(name, owner, 0.0)  # refused only if the mark is later than the present
    present = metadata.find_lease_end(name) or 0
    if moment is None:
        return present
    metadata.acquire_lease(name, owner, (moment - present) / 1000 + 0.002)
    return metadata.find_lease_end(name) or 0


def has_reached(metadata: MetadataStore, name: str, moment: int) -> bool:
    """Return whether the database has the mark of this moment or of a later one.

    Raises StoreUnavailable.
    """
    end = metadata.find_lease_end(name)
    return end is not None and end >= moment
