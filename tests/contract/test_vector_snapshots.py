"""A store that starts from a snapshot answers as one that reads the database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from storage import block_files, vector_blocks, vector_matrix, vector_snapshots
from storage.database import Database
from storage.filter_parser import parse_filter
from storage.records import VectorRecord, whole_image
from storage.vectors_exact import ExactVectorStore
from tests.support.service import eventually
from tests.support.vector_records import ARCHIVE, SHOP, VERSION, several, unit

DIMENSION = 24


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_matrix, "ROWS", 64)
    monkeypatch.setattr(vector_blocks, "ROWS", 64)


def make_records(count: int, start: int = 0) -> list[VectorRecord]:
    """Return records of both collections, some with several parts and boxes."""
    made = []
    for seed in range(start, start + count):
        parts = [unit(seed * 10 + part, DIMENSION) for part in range(1 + (seed % 7 == 0))]
        boxes = ((seed, 2, 3, 4), None)[: len(parts)] if seed % 5 else ()
        one = several(*parts, boxes=boxes, number=seed, tags=["a", seed % 9], deep={"x": f"{seed}"})
        made.append(VectorRecord(one.master_id, one.collection_id, one.parts, one.attributes, 1))
    return [
        VectorRecord(one.master_id, ARCHIVE, one.parts, one.attributes, 1)
        if index % 4 == 3
        else one
        for index, one in enumerate(made)
    ]


class Installation:
    """A database with snapshots beside it, whose store can be restarted."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.directory = Path(str(database.url.database)).with_name("metadata.db.vectors")
        self.store = self.open()

    def open(self) -> ExactVectorStore:
        store = ExactVectorStore(self.database, self.directory, least=1, save_after=10**9)
        store.load()
        return store

    def restart(self) -> None:
        """Stop the store, which writes a snapshot, and start it again."""
        for version in self.store.versions():
            self.store._matrix(version)
        self.store.close()
        self.store = self.open()

    def kill(self) -> None:
        """Start another store as after a kill: the old one writes nothing more."""
        self.abandon()
        self.store = self.open()

    def abandon(self) -> None:
        self.store._snapshots = None
        self.store.close()

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir()) if self.directory.exists() else []

    def check(self) -> None:
        """Compare all answers with those of a store without a snapshot."""
        with closing(ExactVectorStore(self.database)) as plain:
            for collection in (SHOP, ARCHIVE):
                for chosen in (None, {"number": {"$lt": 100}}, {"tags": {"$contains": 3}}):
                    condition = parse_filter(chosen) if chosen else None
                    for seed in range(3):
                        query = (VERSION, collection, unit(7000 + seed, DIMENSION), 500, condition)
                        assert self.store.search(*query) == plain.search(*query)


@pytest.fixture
def installation(database: Database) -> Iterator[Installation]:
    installation = Installation(database)
    yield installation
    installation.abandon()


def copy_database(database: Database, path: Path) -> None:
    with (
        closing(sqlite3.connect(str(database.url.database))) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)


def reads_of_the_database(
    monkeypatch: pytest.MonkeyPatch, installation: Installation
) -> list[object]:
    """Return a list of how often all vectors are read from the database."""
    reads: list[object] = []
    original = ExactVectorStore.iterate_ids

    def count(self: ExactVectorStore, version: str) -> Any:
        reads.append(version)
        return original(self, version)

    monkeypatch.setattr(ExactVectorStore, "iterate_ids", count)
    return reads


def test_a_start_reads_the_snapshot_instead_of_the_database(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.store.upsert(VERSION, make_records(300))
    installation.restart()
    reads = reads_of_the_database(monkeypatch, installation)
    installation.store.search(VERSION, SHOP, unit(1, DIMENSION), 5)
    assert reads == []
    assert len(installation.files) > 3
    assert {path.stat().st_mode & 0o777 for path in installation.files} == {0o600}
    assert installation.directory.stat().st_mode & 0o777 == 0o700
    installation.check()


def test_changes_since_the_snapshot_are_found_after_a_kill(installation: Installation) -> None:
    written = make_records(300)
    installation.store.upsert(VERSION, written)
    installation.restart()
    changed = [
        VectorRecord(one.master_id, SHOP, whole_image(unit(n, DIMENSION)), {"number": -n}, 2)
        for n, one in enumerate(written[:40])
    ]
    installation.store.upsert(VERSION, changed)
    installation.store.delete(VERSION, [one.master_id for one in written[100:150]])
    installation.store.upsert(VERSION, make_records(50, start=1000))
    installation.check()
    installation.kill()
    installation.check()
    installation.restart()
    installation.check()


def test_only_blocks_that_changed_are_written_again(installation: Installation) -> None:
    installation.store.upsert(VERSION, make_records(300))
    installation.restart()
    before = set(installation.files)
    installation.store.upsert(VERSION, make_records(5, start=1000))
    installation.restart()
    kept = before & set(installation.files)
    assert len(kept) >= len(before) - 1
    installation.check()


def test_a_direct_change_of_the_database_is_noticed(installation: Installation) -> None:
    written = make_records(200)
    installation.store.upsert(VERSION, written)
    installation.restart()
    installation.abandon()
    with installation.database.write() as connection:
        connection.execute(
            sa.text("DELETE FROM vectors WHERE master_id = :id"), {"id": written[3].master_id.bytes}
        )
        connection.execute(
            sa.text("UPDATE vectors SET vector = :vector WHERE master_id = :id AND part = 0"),
            {"id": written[5].master_id.bytes, "vector": unit(1, DIMENSION).tobytes()},
        )
    installation.store = installation.open()
    installation.check()


def damage_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def damage_bits(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 4
    path.write_bytes(content)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Installation], object]] = {
    "a file is missing": lambda one: one.files[0].unlink(),
    "all files are missing": lambda one: shutil.rmtree(one.directory),
    "a file is cut off": lambda one: damage_end(one.files[0]),
    "a file is empty": lambda one: one.files[0].write_bytes(b""),
    "a file is that of another block": lambda one: shutil.copy(one.files[0], one.files[1]),
    "a file is a directory": lambda one: replace_by_directory(one.files[0]),
    **{
        f"a bit is wrong after {share:.0%} of each file": (
            lambda one, share=share: [damage_bits(path, share) for path in one.files]
        )
        for share in np.linspace(0, 0.999, 12).tolist()
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_gives_the_same_answers(installation: Installation, damage: str) -> None:
    installation.store.upsert(VERSION, make_records(200))
    installation.restart()
    installation.abandon()
    DAMAGES[damage](installation)
    installation.store = installation.open()
    installation.check()
    installation.store.upsert(VERSION, make_records(20, start=1000))
    installation.restart()
    installation.check()


def test_vectors_that_are_damaged_while_they_are_searched_are_read_again(
    installation: Installation,
) -> None:
    installation.store.upsert(VERSION, make_records(200))
    installation.restart()
    installation.check()
    for path in installation.files:
        damage_bits(path, 0.01)
    installation.check()


def test_an_earlier_or_a_foreign_database_gets_no_snapshot_that_is_not_its_own(
    installation: Installation, tmp_path: Path
) -> None:
    store, file = installation.store, tmp_path / "earlier.db"
    written = make_records(300)
    store.upsert(VERSION, written[:200])
    installation.restart()

    copy_database(installation.database, file)
    installation.store.upsert(VERSION, written[200:])
    installation.store.delete(VERSION, [one.master_id for one in written[:100]])
    installation.restart()
    with closing(Database(f"sqlite:///{file}")) as earlier:
        assert installation.directory.exists()
        restored = Installation.__new__(Installation)
        restored.database, restored.directory = earlier, installation.directory
        installation.abandon()
        restored.store = restored.open()
        # As many changes as the other database had.
        restored.store.upsert(VERSION, make_records(100, start=5000))
        restored.check()
        restored.restart()
        restored.check()
        restored.abandon()
    installation.store = installation.open()
    installation.check()


def test_what_is_written_while_the_matrix_is_loaded_is_found(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = make_records(200)
    installation.store.upsert(VERSION, written)
    installation.restart()
    installation.abandon()
    reached, go_on = threading.Event(), threading.Event()
    original = vector_snapshots.read_block

    def read_slowly(*arguments: Any) -> Any:
        reached.set()
        assert go_on.wait(30)
        return original(*arguments)

    monkeypatch.setattr(vector_snapshots, "read_block", read_slowly)
    installation.store = installation.open()
    assert reached.wait(30)
    installation.store.upsert(VERSION, make_records(20, start=1000))
    installation.store.delete(VERSION, [one.master_id for one in written[:10]])
    assert set(installation.store.loading()) == {VERSION}
    go_on.set()
    installation.check()
    assert installation.store.loading() == {}


def test_a_search_waits_no_longer_than_the_limit(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage import loaded_vectors
    from storage.errors import StoreUnavailable

    installation.store.upsert(VERSION, make_records(100))
    installation.restart()
    installation.abandon()
    go_on = threading.Event()
    monkeypatch.setattr(vector_snapshots, "read_block", lambda *_: go_on.wait(30))
    monkeypatch.setattr(loaded_vectors, "_LONGEST_WAIT", 0.01)
    installation.store = installation.open()
    assert eventually(lambda: VERSION in installation.store._loaded)
    with pytest.raises(StoreUnavailable, match="being loaded"):
        installation.store.search(VERSION, SHOP, unit(1, DIMENSION), 5)
    monkeypatch.undo()
    go_on.set()


def test_many_changes_are_saved_in_the_background(installation: Installation) -> None:
    installation.abandon()
    store = ExactVectorStore(installation.database, installation.directory, least=1, save_after=90)
    store.load()
    installation.store = store
    store.upsert(VERSION, make_records(200))
    store.search(VERSION, SHOP, unit(1, DIMENSION), 5)
    assert eventually(lambda: len(installation.files) > 2)
    store.upsert(VERSION, make_records(200, start=1000))
    assert eventually(lambda: len(installation.files) > 5)
    blocks = store._matrix(VERSION)._blocks.values()

    def are_read_from_files() -> bool:
        full = list(blocks)[:-1]
        return all(isinstance(block.vectors, block_files.StoredVectors) for block in full)

    assert eventually(are_read_from_files)
    installation.check()
    installation.kill()
    installation.check()


def test_a_full_disk_only_means_no_snapshot(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    installation.store.upsert(VERSION, make_records(200))
    with monkeypatch.context() as full:
        full.setattr(vector_snapshots, "write_block", fail)
        installation.restart()
        installation.check()
    installation.store.upsert(VERSION, make_records(3, start=1000))
    installation.restart()
    installation.check()


def test_a_version_that_is_dropped_loses_its_files(installation: Installation) -> None:
    written = make_records(200)
    installation.store.upsert(VERSION, written)
    installation.store.upsert("other", written[:100])
    installation.restart()
    number = len(installation.files)
    installation.store.drop_version(VERSION)
    assert 0 < len(installation.files) < number
    assert installation.store.search(VERSION, SHOP, unit(1, DIMENSION), 5) == []
    installation.store.upsert(VERSION, make_records(30, start=1000))
    installation.check()
    installation.restart()
    installation.check()
    with installation.database.read() as connection:
        changes = connection.scalar(sa.text("SELECT count(*) FROM vector_changes"))
    assert changes == 0


_KILLED = """
import os, sys
from pathlib import Path
import storage.block_files, storage.durable_files, storage.vector_snapshots as snapshots
from storage import vector_blocks, vector_matrix
from storage.database import Database
from storage.vectors_exact import ExactVectorStore
from tests.contract.test_vector_snapshots import VERSION, make_records

vector_blocks.ROWS = vector_matrix.ROWS = 64
database, directory, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
store = ExactVectorStore(Database(database), directory, least=1, save_after=10**9)
store.load()
store.upsert(VERSION, make_records(150, start=2000))
store._matrix(VERSION)
count = 0

def killing(original):
    def call(*arguments, **options):
        global count
        count += 1
        if count == step:
            os._exit(9)
        try:
            return original(*arguments, **options)
        finally:
            count += 1
            if count == step:
                os._exit(9)
    return call

storage.block_files._write = killing(storage.block_files._write)
for module, name in ((storage.durable_files, "_move_into_place"), (Path, "unlink")):
    setattr(module, name, killing(getattr(module, name)))
for name in ("_begin", "_write", "_publish", "_move_vectors"):
    original = getattr(snapshots.VectorSnapshots, name)
    setattr(snapshots.VectorSnapshots, name, killing(original))
store.close()
"""


def test_a_kill_at_any_step_of_writing_a_snapshot_leaves_right_answers(
    installation: Installation, tmp_path: Path
) -> None:
    installation.store.upsert(VERSION, make_records(200))
    installation.restart()
    installation.abandon()
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    saved = tmp_path / "saved"
    saved.mkdir()
    path = Path(str(installation.database.url.database))
    copy_database(installation.database, saved / path.name)
    shutil.copytree(installation.directory, saved / installation.directory.name)
    for step in range(1, 200, 11):
        copy = tmp_path / f"step-{step}"
        shutil.copytree(saved, copy)
        command = [sys.executable, str(script), f"sqlite:///{copy / path.name}"]
        command += [str(copy / installation.directory.name), str(step)]
        ended = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": os.getcwd()})
        with closing(Database(f"sqlite:///{copy / path.name}")) as database:
            after = Installation.__new__(Installation)
            after.database, after.directory = database, copy / installation.directory.name
            after.store = after.open()
            after.check()
            assert after.store.count(VERSION) == 350
            after.restart()
            after.check()
            after.abandon()
        if ended.returncode == 0:
            break
    else:
        raise AssertionError("the snapshot was never completed")
