"""Decides whether a scrub may remove what it does not know, before it changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from app.services.database_doubt import ADVICE, find_doubt
from app.services.mirroring import allowed_removals
from app.services.scrub_report import ScrubReport
from app.services.unknown_items import UnknownItems
from storage.protocols import Stores

_ORIGINALS = "masters/"
_ADVICE = f"{ADVICE} `lookalike scrub --repair --allow-removal`."


def may_expire(stores: Stores) -> bool:
    """Return whether the database is complete enough for the quarantine to expire.

    It is not if it is in doubt, or if it is empty while the bucket has originals. Raises
    StoreUnavailable.
    """
    if find_doubt(stores):
        return False
    has_rows = bool(stores.metadata.list_records(None, 1))
    return has_rows or not any(stores.objects.list(_ORIGINALS))


class RepairGuard:
    """Ends the repair of one scrub if it would remove too much. May raise StoreUnavailable."""

    def __init__(self, stores: Stores, unknown: UnknownItems, report: ScrubReport) -> None:
        self._stores = stores
        self._unknown = unknown
        self._report = report
        self._totals: Counter[str] = Counter()  # of originals, and of the vectors of each version
        self._removals: Counter[str] = Counter()  # what a repair would remove, or has removed

    def survey(self) -> Iterator[None]:
        """Count what a repair would remove, and refuse the repair if that is too much.

        Yields after each batch. Nothing is changed.
        """
        if doubt := find_doubt(self._stores):
            self._refuse(doubt)
            return
        for objects in self._unknown.check_objects(_ORIGINALS):
            self._count(_ORIGINALS, objects.count, len(objects.unknown))
            yield
        for vectors in self._unknown.check_vectors():
            self._count(vectors.version, vectors.count, len(vectors.unknown))
            yield
        if self._removals.total() and not self._stores.metadata.list_records(None, 1):
            self._refuse(
                "the metadata database has no masters, but the stores have"
                f" {self._describe(_ORIGINALS)}"
            )
            return
        for group, count in self._removals.items():
            if count > allowed_removals(self._totals[group]):
                self._refuse(
                    f"{count} of {self._describe(group)} belong to no master in the metadata"
                    f" database; a repair removes {allowed_removals(self._totals[group])} by itself"
                )
                return
        self._removals.clear()

    def allow_object(self) -> bool:
        """Return whether the repair may remove one more original, and count it."""
        return self._allow(_ORIGINALS)

    def allow_vector(self, version: str) -> bool:
        """Return whether the repair may remove one more vector of a version, and count it."""
        return self._allow(version)

    def _allow(self, group: str) -> bool:
        if not self._report.repair or self._report.allow_removal:
            return self._report.repair
        self._removals[group] += 1
        if self._removals[group] <= allowed_removals(self._totals[group]):
            return True
        self._report.refuse(
            "The repair was stopped: rows disappeared from the metadata database while it ran, and"
            f" of {self._describe(group)} more would be removed than a repair removes by itself."
            f" {_ADVICE}"
        )
        return False

    def _count(self, group: str, total: int, unknown: int) -> None:
        self._totals[group] += total
        self._removals[group] += unknown
        self._report.surveyed += total

    def _describe(self, group: str) -> str:
        what = "originals" if group == _ORIGINALS else f"vectors of {group}"
        return f"{self._totals[group]} {what}"

    def _refuse(self, reason: str) -> None:
        self._report.refuse(f"Nothing was changed: {reason}. {_ADVICE}")
