"""The invariants, checked through the service and on the raw stores of an embedded installation.

I1 An acknowledged upload is readable with the same hash.
I2 No row is stored without its exact object.
I3 An acknowledged deletion never returns.
I4 There is at most one live row per collection and hash; ids are never used again.
I5 The ids of rows, objects and vectors of each version are the same, each vector has all its
   parts, and a second scrub finds nothing.
I6 Unacknowledged data is absent or complete, and a retry converges on one id.
I7 Every hit is stored, and scored by a version that was active.
I8 No temporary file and no lease is left.
I9 The fields beside the vectors are those of the metadata database, and what they say of a file
   is what the file says.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from storage.records import LOOK
from tests.crash.journal import Image, Journal
from tests.crash.operations import Operations, digest_of
from tests.crash.process import PARTS
from tests.support.metadata import PHONE, PHONE_EXIF
from tests.support.service import eventually

_UNFINISHED = """
SELECT (SELECT count(*) FROM masters WHERE state IN ('pending', 'deleting'))
  + (SELECT count(*) FROM collections WHERE state <> 'live')
  + (SELECT count(*) FROM masters
     WHERE state = 'removed' AND coalesce(lease_owner, '') <> 'undo')
  + (SELECT count(*) FROM deletions WHERE undo_until = 0)
  + (SELECT count(*) FROM masters WHERE state = 'stored' AND capture_reader = 0)
  + (SELECT count(*) FROM embeddings WHERE state = 'pending')
  + (SELECT count(*) FROM model_versions WHERE state = 'retired')
  + (SELECT count(*) FROM masters JOIN model_versions ON model_versions.state = 'building'
     WHERE NOT EXISTS (SELECT 1 FROM embeddings
                       WHERE master_id = masters.id AND model_version = model_versions.id))
"""
_KEPT = """
SELECT id, attributes, collection_id, revision, state, sha256, capture, name, mime, width, height,
  size, created_at
FROM masters WHERE state IN ('stored', 'damaged')
"""
_REMOVED = "SELECT id FROM masters WHERE state = 'removed'"
_VECTORS = """
SELECT master_id, attributes, collection_id, revision, part FROM vectors
WHERE model_version = ? ORDER BY master_id, part
"""
_EMBEDDED = "SELECT master_id FROM embeddings WHERE model_version = ? AND state = 'indexed'"
_UNOWNED = """
SELECT model_version FROM vectors WHERE model_version NOT IN (SELECT id FROM model_versions)
UNION SELECT model_version FROM embeddings
WHERE model_version NOT IN (SELECT id FROM model_versions)
"""
_LEASES = """
SELECT (SELECT count(*) FROM masters WHERE lease_until > 0 AND lease_owner <> 'undo')
  + (SELECT count(*) FROM embeddings WHERE lease_until > 0)
"""


DRAIN_SECONDS = 20.0  # far more than the worker needs


def is_drained(directory: Path) -> bool:
    """Report whether the worker has nothing left to do according to the database."""
    with closing(sqlite3.connect(directory / "lookalike.db", timeout=10)) as database:
        return bool(database.execute(_UNFINISHED).fetchone()[0] == 0)


def drain(directory: Path) -> None:
    assert eventually(lambda: is_drained(directory), DRAIN_SECONDS), (
        "I5: the worker does not come to an end"
    )


def drain_until(directory: Path, stopped: Callable[[], bool]) -> None:
    """Wait until the worker has nothing left to do or ``stopped`` returns true."""
    assert eventually(lambda: stopped() or is_drained(directory), DRAIN_SECONDS), (
        "the worker does not end"
    )


def bring_expiry_forward(directory: Path, seconds: float) -> None:
    """Change an installation that is not running as if it stood still for this long."""
    database = sqlite3.connect(directory / "lookalike.db", timeout=10)
    milliseconds = (int(seconds * 1000),)
    with closing(database), database:
        for table, column in (
            ("masters", "lease_until"),
            ("embeddings", "lease_until"),
            ("leases", "until"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = {column} - ? WHERE {column} > 0",  # noqa: S608
                milliseconds,
            )


def forget_heartbeats(directory: Path) -> None:
    """Let nobody wait for a killed process to load a model, which lasts 15 seconds."""
    database = sqlite3.connect(directory / "lookalike.db", timeout=10)
    with closing(database), database:
        database.execute("DELETE FROM replicas")


def check_invariants(journal: Journal, operations: Operations, directory: Path) -> None:
    """Check I1 to I9. The worker must have drained."""
    spaces = {model.space for model in operations.models() if model.state == "active"}
    assert LOOK in spaces, "I7: no version is active"
    for image in journal.images.values():
        check_image(journal, operations, image, spaces)
    for master_id in journal.dead:
        assert not operations.exists(master_id), "I3: by id"
    _check_stores(directory)
    _check_captures(journal, directory)


def hits_of(operations: Operations, image: Image, space: str = LOOK) -> list[tuple[str, bool]]:
    """Search a space with an image, check I7, and return the id and exactness of each hit."""
    versions = {model.version for model in operations.models() if model.space == space}
    found = operations.search(image.content, image.collection, space)
    if found is None:
        return []
    assert found.version in versions, f"I7: scored by a version that is not active in {space}"
    return found.hits


def check_image(
    journal: Journal, operations: Operations, image: Image, spaces: Iterable[str]
) -> None:
    digest = digest_of(image.content)
    masters = operations.list(image.collection)
    same = [master for master in masters if master.sha256 == digest]
    assert len(same) <= 1, "I4: two live rows"
    assert bool(same) in image.present, f"I1, I3: stored {bool(same)}, allowed {image.present}"
    hits = {space: hits_of(operations, image, space) for space in spaces}
    found = {master_id for of_space in hits.values() for master_id, _ in of_space}
    assert not journal.dead & found, "I3: by search"
    assert found <= {master.id for master in masters}, "I7: a hit that is not stored"
    if not same:
        return
    (master,) = same
    assert not image.ids or master.id in image.ids, "I4: another id"
    assert master.attributes in image.attributes, "I6: attributes that nobody gave"
    assert digest_of(operations.content(master.id)) == digest, "I1, I2: other bytes"
    for space, of_space in hits.items():
        assert of_space, f"I6: the image is not found in {space}"
        assert of_space[0] == (master.id, True), f"I6: the image is not found first in {space}"


def _check_stores(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "lookalike.db", timeout=10)) as database:
        rows = database.execute(_KEPT).fetchall()
        kept = {UUID(bytes=row[0]): (_fields_of(row), row[2], row[3]) for row in rows}
        # A damaged master keeps its vector until its bytes are uploaded again.
        damaged = {UUID(bytes=row[0]) for row in rows if row[4] == "damaged"}
        removed = {UUID(bytes=row[0]) for row in database.execute(_REMOVED)}
        for version, space in database.execute("SELECT id, space FROM model_versions").fetchall():
            _check_version(database, f"{version} in {space}", version, kept)
        assert database.execute(_UNOWNED).fetchall() == [], "I5: something of no version"
        assert database.execute(_LEASES).fetchone()[0] == 0, "I8: a lease is left"
    files = (directory / "objects" / "masters").rglob("*")
    objects = {UUID(path.stem) for path in files if path.is_file()}
    assert objects - damaged == (set(kept) | removed) - damaged, "I5: objects"
    assert list((directory / "objects" / ".incoming").iterdir()) == [], "I8: a temporary file"


def _fields_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return what the vector stores keep of a master to filter by."""
    attributes: dict[str, Any] = json.loads(row[1])
    names = ("name", "mime", "width", "height", "size", "created_at")
    built_in = dict(zip(names, row[7:], strict=True)) | {"capture": json.loads(row[6] or "null")}
    return attributes if built_in["capture"] is None else built_in | attributes


def _check_captures(journal: Journal, directory: Path) -> None:
    contents = {digest_of(image.content): image.content for image in journal.images.values()}
    with closing(sqlite3.connect(directory / "lookalike.db", timeout=10)) as database:
        for row in database.execute(_KEPT).fetchall():
            content = contents.get(row[5].hex())
            if content is not None and row[4] == "stored":
                said = PHONE if PHONE_EXIF[6:] in content else {}
                assert json.loads(row[6] or "null") == said, "I9: what a file says"


def _check_version(
    database: sqlite3.Connection, name: str, version: str, kept: dict[UUID, tuple[Any, ...]]
) -> None:
    """Compare the embeddings and vectors of a version with the masters that are kept."""
    parts: dict[UUID, list[tuple[Any, ...]]] = {}
    for row in database.execute(_VECTORS, (version,)):
        of_master = parts.setdefault(UUID(bytes=row[0]), [])
        assert row[4] == len(of_master), f"I5: a part of a vector of {name} is missing"
        of_master.append((json.loads(row[1]), row[2], row[3]))
    vectors = {id_: of_master[0] for id_, of_master in parts.items()}
    assert vectors == kept, f"I5, I9: vectors of {name}"
    same = all(found == [found[0]] * PARTS for found in parts.values())
    assert same, f"I5, I9: the parts of a vector of {name}"
    embedded = {UUID(bytes=row[0]) for row in database.execute(_EMBEDDED, (version,))}
    assert embedded == set(kept), f"I5: embeddings of {name}"
