"""Scans for near-identical masters in memory, and what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from storage.errors import CollectionGone
from storage.protocols import DuplicatePair, DuplicateScan, RawPair, Unchecked
from storage.protocols.duplicates import IdPair
from tests.support.memory_stores.tables import INDEXED, PENDING, OnTables, hold_the_lock


@hold_the_lock
class MemoryFeatures(OnTables):
    """Implements FeatureStore in memory."""

    def find_features(self, ids: Sequence[UUID], format: int) -> dict[UUID, bytes]:
        found = {id_: self._tables.features.get(id_) for id_ in ids}
        return {id_: row[1] for id_, row in found.items() if row is not None and row[0] == format}

    def save_features(self, features: Mapping[UUID, bytes], format: int) -> None:
        for master_id, its_features in features.items():
            if self._tables.find_visible(master_id) is not None:
                self._tables.features[master_id] = format, its_features


@hold_the_lock
class MemoryScans(OnTables):
    """Implements ScanStore in memory."""

    def start_scan(
        self, collection_id: UUID, other_id: UUID, space: str, max_distance: float
    ) -> DuplicateScan:
        tables = self._tables
        first, second = sorted((collection_id, other_id))
        if not self._is_live(first, second):
            raise CollectionGone(str(collection_id))
        found = self.find_scan(first, second, space)
        if found is not None and found.max_distance == max_distance:
            scan = replace(found, completed_at=None)
        else:
            if found is not None:
                del tables.scans[found.id]
            made = (tables.next_id(), first, second, space, max_distance, 0, tables.now(), None)
            scan = DuplicateScan(*made)
        tables.scans[scan.id] = scan
        return scan

    def find_scan(self, collection_id: UUID, other_id: UUID, space: str) -> DuplicateScan | None:
        wanted = (*sorted((collection_id, other_id)), space)
        for scan in self.list_scans():
            if (scan.collection_id, scan.other_id, scan.space) == wanted:
                return scan
        return None

    def list_scans(self) -> list[DuplicateScan]:
        scans = sorted(self._tables.scans.values(), key=lambda scan: scan.id)
        return [scan for scan in scans if self._is_live(*scan.collection_ids)]

    def end_scan(self, scan_id: UUID) -> bool:
        return self._tables.scans.pop(scan_id, None) is not None

    def complete_scan(self, scan_id: UUID) -> None:
        scan = self._tables.scans.get(scan_id)
        if scan is not None and scan.completed_at is None:
            self._tables.scans[scan_id] = replace(scan, completed_at=self._tables.now())

    def remove_leftovers(self, limit: int) -> int:
        tables = self._tables
        checks = [key for key in tables.checks if key[0] not in tables.scans][:limit]
        pairs = [key for key in tables.pairs if key[0] not in tables.scans]
        for key in checks:
            del tables.checks[key]
        some = pairs[: limit - len(checks)]
        for pair_key in some:
            del tables.pairs[pair_key]
        return len(checks) + len(some)

    def list_unchecked(
        self, scan_id: UUID, version: str, collection_id: UUID, after: UUID | None, limit: int
    ) -> Unchecked:
        tables = self._tables
        visited = sorted(
            id_
            for id_, row in tables.masters.items()
            if row.master.collection_id == collection_id
            and tables.is_visible(row)
            and (after is None or id_ > after)
        )[:limit]
        states: dict[str, list[UUID]] = {INDEXED: [], PENDING: []}
        for id_ in visited:
            embedding = tables.embeddings.get((id_, version))
            unchecked = tables.checks.get((scan_id, id_)) != version
            if embedding is not None and unchecked and embedding.state in states:
                states[embedding.state].append(id_)
        end = visited[-1] if len(visited) == limit else None
        return Unchecked(states[INDEXED], len(states[PENDING]), end)

    def save_checks(
        self, scan_id: UUID, version: str, ids: Sequence[UUID], pairs: Sequence[DuplicatePair]
    ) -> bool:
        tables = self._tables
        scan = tables.scans.get(scan_id)
        if scan is None:
            return False
        for id_ in ids:
            if tables.find_visible(id_) is not None:
                tables.checks[scan_id, id_] = version
        changed = False
        for pair in pairs:
            visible = all(tables.find_visible(id_) is not None for id_ in pair.masters)
            if visible and tables.pairs.get((scan_id, pair.masters)) != pair:
                tables.pairs[scan_id, pair.masters] = pair
                changed = True
        if changed:
            tables.scans[scan_id] = replace(scan, changes=scan.changes + 1)
        return True

    def count_checked(self, scan_id: UUID, version: str) -> int:
        checks = self._tables.checks.items()
        return sum(key[0] == scan_id and its == version for key, its in checks)

    def count_pairs(self, scan_id: UUID) -> int:
        return sum(key[0] == scan_id for key in self._tables.pairs)

    def list_pairs(self, scan_id: UUID, limit: int, after: IdPair | None) -> list[RawPair]:
        found = sorted(
            (masters, pair)
            for (its_scan, masters), pair in self._tables.pairs.items()
            if its_scan == scan_id
            and all(self._tables.find_visible(id_) is not None for id_ in masters)
            and (after is None or masters > after)
        )
        return [
            RawPair(first.bytes, second.bytes, pair.common, pair.distance)
            for (first, second), pair in found[:limit]
        ]

    def _is_live(self, *collection_ids: UUID) -> bool:
        rows = [self._tables.collections.get(id_) for id_ in collection_ids]
        return all(row is not None and row.live for row in rows)
