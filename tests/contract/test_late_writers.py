"""A process that acts after its lease ended never has the last word about a vector.

Each test lets a second process finish its work at the very moment when the first one writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.protocols import Stores, VectorStore
from storage.records import IndexTask, Master, MasterState
from tests.support.memory_stores import (
    MemoryMetadataStore,
    MemoryModelRegistry,
    MemoryObjectStore,
    MemoryTables,
    MemoryVectorStore,
)
from tests.support.use_cases import TinyEmbedder, UseCases, build_use_cases, colours
from tests.support.vector_records import VERSION

LEASE = 60.0


@pytest.fixture
def use_cases(
    vectors: VectorStore, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[UseCases]:
    """The use cases on each vector store; a SQLite database beside the real ones."""
    if isinstance(vectors, MemoryVectorStore):
        tables = MemoryTables()
        metadata, registry = MemoryMetadataStore(tables), MemoryModelRegistry(tables)
        stores = Stores(metadata, registry, MemoryObjectStore(), vectors)
    else:
        database = request.getfixturevalue("database")
        stores = Stores(
            SqlMetadataStore(database), SqlModelRegistry(database), MemoryObjectStore(), vectors
        )
    settings = Settings(data_dir=tmp_path / "data", lease_seconds=LEASE, _env_file=None)
    built = build_use_cases(settings, stores, TinyEmbedder(VERSION), TinyEmbedder)  # type: ignore[arg-type]
    yield built
    built.models.stop()


@dataclass
class Late:
    """A process whose lease on the embedding of ``master`` has ended."""

    use_cases: UseCases
    monkeypatch: pytest.MonkeyPatch
    master: Master
    task: IndexTask

    def finish(self, meanwhile: Callable[[], object]) -> None:
        """Write now; ``meanwhile`` happens between its last check and its write."""
        vectors = self.use_cases.stores.vectors
        upsert = vectors.upsert

        def late_upsert(*arguments: Any) -> None:
            self.monkeypatch.setattr(vectors, "upsert", upsert)
            meanwhile()
            upsert(*arguments)

        self.monkeypatch.setattr(vectors, "upsert", late_upsert)
        assert not self.use_cases.indexing.index_embedding(self.task, "late")

    def change(self) -> Master:
        """Change the attributes, which are indexed later."""
        metadata = self.use_cases.stores.metadata
        changed = metadata.update_master(self.master.id, name=None, attributes={"colour": "new"})
        assert changed is not None
        return changed

    def change_and_index(self) -> None:
        assert self.use_cases.indexing.reindex_inline(self.change(), "punctual")

    def stored(self) -> tuple[int, dict[str, Any]] | None:
        found = self.use_cases.stores.vectors.fetch_vectors(VERSION, [self.master.id])
        record = found.get(self.master.id)
        return None if record is None else (record.revision, record.attributes)

    def fields(self) -> dict[str, Any]:
        """Return what the vector store should keep of the master as it is now."""
        master = self.use_cases.masters.find_master(self.master.id)
        assert master.attributes == {"colour": "new"}
        return master.indexed_fields

    def run_worker(self) -> None:
        while self.use_cases.worker.run_round():
            pass


@pytest.fixture
def late(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> Late:
    metadata = use_cases.stores.metadata
    master = use_cases.upload(colours(1), attributes={"colour": "old"}).master
    metadata.update_master(master.id, name="renamed", attributes=None)
    (task,) = metadata.claim_embeddings([VERSION], "late", 1, 0.0)  # the lease ends at once
    return Late(use_cases, monkeypatch, master, task)


def test_the_newest_revision_is_written_last(late: Late) -> None:
    late.finish(late.change_and_index)
    late.run_worker()
    assert late.stored() == (3, late.fields())
    assert late.use_cases.stores.metadata.is_indexed(late.master.id, VERSION)


def test_a_process_between_its_write_and_its_mark_is_overtaken_and_writes_again(late: Late) -> None:
    """The late write comes after the punctual one, but before that one is marked as indexed."""
    metadata = late.use_cases.stores.metadata
    mark = metadata.mark_indexed

    def mark_after_the_late_one(task: IndexTask, owner: str) -> bool:
        late.monkeypatch.setattr(metadata, "mark_indexed", mark)
        late.finish(lambda: None)
        return mark(task, owner)

    changed = late.change()
    late.monkeypatch.setattr(metadata, "mark_indexed", mark_after_the_late_one)
    late.use_cases.indexing.reindex_inline(changed, "punctual")
    late.run_worker()
    assert late.stored() == (3, late.fields())
    assert metadata.is_indexed(late.master.id, VERSION)


def test_no_vector_of_a_deleted_master_is_left(late: Late) -> None:
    def delete_and_remove() -> None:
        late.use_cases.masters.delete_master(late.master.id)
        late.run_worker()

    late.finish(delete_and_remove)
    assert late.stored() is None
    assert late.use_cases.stores.vectors.count(VERSION) == 0


def test_no_vector_of_a_retired_version_is_left(late: Late) -> None:
    registry, metadata = late.use_cases.stores.registry, late.use_cases.stores.metadata
    loaded = late.use_cases.models._loaded
    late.monkeypatch.setattr(
        late.use_cases.models, "_loaded", loaded | {"model-2": TinyEmbedder("model-2")}
    )
    registry.start_building("model-2", "look")
    assert registry.backfill_embeddings("model-2", None, 10) is None
    (late.task,) = metadata.claim_embeddings(["model-2"], "late", 1, 0.0)
    registry.retire_model("model-2")
    late.finish(late.run_worker)
    assert [model.id for model in registry.list_models()] == [VERSION]
    assert late.use_cases.stores.vectors.count("model-2") == 0


def test_the_vector_of_a_damaged_master_stays_for_its_restoration(late: Late) -> None:
    metadata = late.use_cases.stores.metadata

    def index_and_damage() -> None:
        late.change_and_index()
        assert metadata.mark_damaged(late.master.id)

    late.finish(index_and_damage)
    assert metadata.restore_damaged(late.master.id)
    late.run_worker()
    assert late.stored() == (3, late.fields())


def test_a_long_wait_ends_without_a_write_if_the_master_has_changed(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is checked again before the write once a part of it is over."""
    late.change_and_index()
    written: list[Any] = []
    monkeypatch.setattr(
        late.use_cases.stores.vectors, "upsert", lambda *given: written.append(given)
    )
    leased_at = -LEASE  # long ago
    assert not late.use_cases.indexing.index_embedding(late.task, "late", None, leased_at)
    assert written == []


def test_processes_that_are_slower_than_their_leases_still_finish(late: Late) -> None:
    """Two processes embed the same revision; the lease changes hands, and the work is not lost."""
    metadata = late.use_cases.stores.metadata
    assert metadata.claim_embedding(late.master.id, VERSION, "another", LEASE)
    assert metadata.reserve_write(late.task, "late", LEASE)
    assert late.use_cases.indexing.index_embedding(late.task, "late")
    other = IndexTask(late.task.master, VERSION, 0)
    assert not metadata.mark_indexed(other, "another")
    assert metadata.is_indexed(late.master.id, VERSION)


def test_a_write_is_reserved_only_for_the_current_revision_of_a_stored_master(late: Late) -> None:
    metadata = late.use_cases.stores.metadata
    assert metadata.reserve_write(late.task, "late", LEASE)
    changed = late.change()
    assert not metadata.reserve_write(late.task, "late", LEASE)
    task = IndexTask(changed, VERSION, 0)
    assert metadata.claim_embedding(late.master.id, VERSION, "next", LEASE)  # it was released
    assert metadata.mark_indexed(task, "next")
    assert not metadata.reserve_write(task, "late", LEASE)  # there is nothing left to write
    assert (
        late.use_cases.stores.metadata.find_records([late.master.id])[late.master.id].master.state
        is MasterState.STORED
    )
