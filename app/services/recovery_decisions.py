"""Brings back what people decided about near-identical masters, from the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from app.services.catalogue_decisions import DECISIONS_KEY, read_decisions
from app.services.catalogue_files import CatalogueDamaged, CatalogueIndex
from storage.errors import ObjectMissing
from storage.protocols import Stores

_BATCH = 500


def recover_decisions(
    stores: Stores,
    index: CatalogueIndex | None,
    *,
    apply: bool,
    fail: Callable[[str, str], None],
) -> int:
    """Save the catalogue's decisions about masters that the database has; return their number.

    A later decision of the database stays. Without ``apply``, nothing is saved, and the number is
    that of all decisions in the catalogue. ``fail`` is called with what cannot be read, and the
    reason. Raises StoreUnavailable.
    """
    count, decisions = 0, read_decisions(stores.objects)
    try:
        while batch := list(islice(decisions, _BATCH)):
            count += stores.metadata.import_decisions(batch) if apply else len(batch)
    except (CatalogueDamaged, ObjectMissing) as error:
        if isinstance(error, CatalogueDamaged) or (index and index.decisions):
            fail(DECISIONS_KEY, "this part of the catalogue is missing or damaged")
    return count
