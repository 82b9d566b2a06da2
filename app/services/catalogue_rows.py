"""The rows of a whole catalogue, in a temporary file in which they are found by id."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from uuid import UUID

from app.services.catalogue_files import (
    CATALOGUE_PREFIX,
    CatalogueDamaged,
    CatalogueIndex,
    line_of_master,
    master_of_line,
    parse_chunk_key,
    read_chunk,
)
from storage.errors import ObjectMissing
from storage.protocols import ObjectStore
from storage.records import Master


class CatalogueRows:
    """The rows, and which collections lack some because a chunk is lost or damaged."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.incomplete: set[UUID] = set()  # ids of collections

    def load(
        self, objects: ObjectStore, index: CatalogueIndex | None, fail: Callable[[str, str], None]
    ) -> None:
        """Read all chunks. ``fail`` is called with what cannot be read, and the reason.

        Raises StoreUnavailable.
        """
        present = {info.key for info in objects.list(CATALOGUE_PREFIX)}
        for key in sorted(present | set(index.chunks if index else ())):
            place = parse_chunk_key(key)
            if place is None:
                continue
            try:
                with self._database:
                    for master in read_chunk(objects, key):
                        row = (master.id.bytes, line_of_master(master))
                        self._database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, 0)", row)
            except (CatalogueDamaged, ObjectMissing):
                self.incomplete.add(place[0])
                fail(key, "this part of the catalogue is missing or damaged")

    def find(self, ids: Sequence[UUID]) -> dict[UUID, Master]:
        """Return the rows of these masters by id, and mark them as seen."""
        places = ",".join("?" * len(ids))
        wanted = [id_.bytes for id_ in ids]
        with self._database:
            # Only question marks are put into the statements.
            seen = f"UPDATE rows SET seen = 1 WHERE id IN ({places})"  # noqa: S608
            self._database.execute(seen, wanted)
            select = f"SELECT line FROM rows WHERE id IN ({places})"  # noqa: S608
            found = self._database.execute(select, wanted)
            return {master.id: master for master in (master_of_line(row[0]) for row in found)}

    def list_unseen(self) -> Iterator[Master]:
        """Yield the masters that nobody asked for."""
        for row in self._database.execute("SELECT line FROM rows WHERE seen = 0"):
            yield master_of_line(row[0])


@contextmanager
def open_rows() -> Iterator[CatalogueRows]:
    """Yield rows without content, which need no memory; the file is removed after the block."""
    with (
        TemporaryDirectory(prefix="lookalike-catalogue-") as directory,
        closing(sqlite3.connect(f"{directory}/rows.db")) as database,
    ):
        database.execute("PRAGMA synchronous=OFF")
        database.execute("CREATE TABLE rows (id BLOB PRIMARY KEY, line BLOB, seen INTEGER)")
        yield CatalogueRows(database)
