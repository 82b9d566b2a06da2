"""Writes the catalogue: the rows of all masters, in the object store beside their bytes.

What people decided about near-identical masters goes with them.

A chunk holds the masters of one collection from an id on. The ids where chunks begin are part of
their keys and stay, so that a new master, a change or a deletion changes one chunk only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from app.services.catalogue_decisions import (
    DECISIONS_KEY,
    line_of_decision,
    write_decisions,
)
from app.services.catalogue_files import (
    CATALOGUE_PREFIX,
    CatalogueDamaged,
    CatalogueIndex,
    chunk_key,
    parse_chunk_key,
    read_index,
    write_chunk,
    write_index,
)
from app.services.decision_copy import list_decisions
from app.services.marks import has_reached, set_mark
from storage.protocols import Stores
from storage.records import Collection, Master, MasterRevision, MasterState, ModelState

CATALOGUE_LEASE = "catalogue"
CATALOGUE_MARK = "catalogue-mark"
_ROWS = 1000  # of a new chunk; it may grow to twice as many before it is split
_KEPT = (MasterState.STORED, MasterState.DAMAGED)
_ADVICE = (
    "If the database was lost or restored from a dump, stop the service and run"
    " `lookalike recover`. If nothing is missing, run `lookalike catalogue --replace`"
)
_BATCH = 200  # rows that are read at once, because attributes can be large


class CatalogueRefused(Exception):
    """The catalogue was written from another or a newer database; the message says what to do."""


@dataclass
class CatalogueReport:
    """What a pass has done so far."""

    masters: int = 0
    chunks: int = 0
    written: int = 0  # of the chunks
    removed: int = 0  # chunks of which no master is left
    decisions: int = 0  # about near-identical masters


@dataclass
class _Chunk:
    """A range of ids, from ``start`` to before the start of the next one."""

    start: UUID
    count: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, each: MasterRevision) -> None:
        self.count += 1
        self._digest.update(each.id.bytes)
        self._digest.update(f"{each.revision} {each.updated_at} {each.state}\n".encode())

    @property
    def fingerprint(self) -> str:
        return self._digest.hexdigest()[:32]


class Catalogue:
    """Updates the catalogue, in passes that write only the chunks that changed.

    Two writers at once do no harm: each chunk is replaced as a whole, and what the slower one
    writes is corrected by the next pass.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def find_last_pass(self) -> int:
        """Return the moment that the catalogue shows, in milliseconds since 1970; 0 without one.

        Raises StoreUnavailable.
        """
        try:
            index = read_index(self._stores.objects)
        except CatalogueDamaged:
            return 0
        return index.at if index else 0

    def write(self, *, replace_other: bool = False) -> Iterator[CatalogueReport]:
        """Yield the report so far after each batch, so that the caller may pause or stop.

        A pass that is stopped at any step leaves a catalogue that is as good as before, and the
        next one completes it. ``replace_other`` writes even if the catalogue is not of this
        database. Raises CatalogueRefused, StoreUnavailable.
        """
        report, at = CatalogueReport(), int(time.time() * 1000)
        old = self._mark_index(replace_other=replace_other)
        listed = {info.key for info in self._stores.objects.list(CATALOGUE_PREFIX)}
        present = {key: place for key in listed if (place := parse_chunk_key(key))}
        collections = [collection for collection, _ in self._stores.metadata.list_collections()]
        chunks: dict[str, str] = {}
        for collection in collections:
            starts = sorted(start for id_, start in present.values() if id_ == collection.id)
            unchanged = {key: old.chunks.get(key) for key in present}
            chunks |= yield from self._write_collection(collection, starts, unchanged, report)
        for key in present.keys() - chunks.keys():
            self._stores.objects.delete(key)
            report.removed += 1
        known = old.decisions if (DECISIONS_KEY in listed) == bool(old.decisions) else None
        decisions = yield from self._write_decisions(known, report)
        write_index(
            self._stores.objects,
            CatalogueIndex(old.mark, at, collections, self._list_active(), chunks, decisions),
        )
        yield report

    def _write_decisions(
        self, known: str | None, report: CatalogueReport
    ) -> Generator[CatalogueReport, None, str]:
        """Replace the decisions unless their fingerprint is ``known``, and return it."""
        digest = hashlib.sha256()
        for batch in list_decisions(self._stores.metadata):
            for decided in batch:
                digest.update(line_of_decision(decided))
            report.decisions += len(batch)
            yield report
        fingerprint = digest.hexdigest()[:32] if report.decisions else ""
        if fingerprint != known:
            write_decisions(self._stores)
            yield report
        return fingerprint

    def _mark_index(self, *, replace_other: bool) -> CatalogueIndex:
        """Check that the catalogue is of this database, and mark both with the present.

        The mark is written before any chunk, so that an earlier dump of the database is recognised
        even if this pass is stopped. Raises CatalogueRefused.
        """
        try:
            old = read_index(self._stores.objects)
        except CatalogueDamaged as error:
            if not replace_other:
                raise CatalogueRefused(f"{error}. {_ADVICE}") from None
            old = None
        metadata = self._stores.metadata
        if old and not replace_other and not has_reached(metadata, CATALOGUE_MARK, old.mark):
            raise CatalogueRefused(
                "the catalogue in the object store was written from a newer state of the metadata"
                f" database, or from another one, and is left alone. {_ADVICE}"
            )
        mark = set_mark(metadata, CATALOGUE_MARK, old.mark if old and replace_other else None)
        marked = replace(old, mark=mark) if old else CatalogueIndex(mark, 0)
        write_index(self._stores.objects, marked)
        return marked

    def _list_active(self) -> dict[str, str]:
        models = self._stores.registry.list_models()
        return {each.space: each.id for each in models if each.state is ModelState.ACTIVE}

    def _write_collection(
        self,
        collection: Collection,
        starts: Sequence[UUID],
        unchanged: dict[str, str | None],
        report: CatalogueReport,
    ) -> Generator[CatalogueReport, None, dict[str, str]]:
        """Write the changed chunks of a collection, and return the fingerprints of all by key."""
        chunks: list[_Chunk] = []
        after = None
        while batch := self._stores.metadata.list_revisions(collection.id, after, _ROWS):
            after = batch[-1].id
            _add_to_chunks(chunks, batch, starts)
            report.masters += len(batch)
            yield report
        report.chunks += len(chunks)
        fingerprints = {chunk_key(collection, each.start): each.fingerprint for each in chunks}
        # The last one first: a chunk that is split keeps its rows until the new one has them.
        ends = [*(each.start for each in chunks[1:]), None][: len(chunks)]
        for chunk, end in reversed(list(zip(chunks, ends, strict=True))):
            key = chunk_key(collection, chunk.start)
            if unchanged.get(key) != chunk.fingerprint:
                rows = self._list_masters(collection, chunk.start, end)
                write_chunk(self._stores.objects, key, rows)
                report.written += 1
                yield report
        return fingerprints

    def _list_masters(
        self, collection: Collection, start: UUID, end: UUID | None
    ) -> Iterator[Master]:
        metadata, after = self._stores.metadata, UUID(int=start.int - 1)
        while revisions := metadata.list_revisions(collection.id, after, _BATCH):
            after = revisions[-1].id
            ids = [each.id for each in revisions if end is None or each.id < end]
            records = metadata.find_records(ids)
            for id_ in ids:
                if id_ in records and records[id_].master.state in _KEPT:
                    yield records[id_].master
            if len(ids) < len(revisions):
                return


def _add_to_chunks(
    chunks: list[_Chunk], batch: Sequence[MasterRevision], starts: Sequence[UUID]
) -> None:
    """Add revisions, in the order of their ids, to the last chunk or to new ones after it.

    ``starts`` are the sorted ids where chunks began in the pass before.
    """
    later = [start for start in starts if not chunks or start > chunks[-1].start]
    for each in batch:
        begun = None
        while later and later[0] <= each.id:
            begun = later.pop(0)
        most = 2 * _ROWS if later else _ROWS
        if begun is not None:
            chunks.append(_Chunk(begun))
        elif not chunks or chunks[-1].count >= most:
            chunks.append(_Chunk(each.id))
        chunks[-1].add(each)
