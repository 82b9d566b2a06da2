"""Indexing: whose vector is written, and what happens when a master changes meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from storage.protocols import NewDeletion, Removal
from storage.records import IndexTask, Master, new_id
from tests.support.use_cases import DOWN, UseCases, colours, raising


@pytest.fixture
def master(use_cases: UseCases) -> Master:
    return use_cases.upload(colours(1)).master


def claim(use_cases: UseCases, master: Master) -> IndexTask:
    """Change the master and claim its embedding, as a request of the owner `me` does."""
    use_cases.stores.metadata.update_master(master.id, name=None, attributes={"n": 1})
    (task,) = use_cases.stores.metadata.claim_embeddings(["model-1"], "me", 1, 60.0)
    return task


def test_a_vector_that_exists_is_not_embedded_again(use_cases: UseCases, master: Master) -> None:
    task, calls = claim(use_cases, master), use_cases.embedder.calls
    assert use_cases.indexing.index_embedding(task, "me")
    assert use_cases.embedder.calls == calls
    vector = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert vector.attributes == master.built_in_fields | {"n": 1}


def test_a_missing_vector_is_embedded_from_the_original(
    use_cases: UseCases, master: Master
) -> None:
    use_cases.stores.vectors.delete("model-1", [master.id])
    assert use_cases.indexing.index_embedding(claim(use_cases, master), "me")
    assert use_cases.stores.metadata.is_indexed(master.id, "model-1")


def test_a_vector_of_a_master_that_was_deleted_meanwhile_is_removed(
    use_cases: UseCases, master: Master
) -> None:
    task = claim(use_cases, master)
    use_cases.stores.metadata.delete_master(master.id)
    assert not use_cases.indexing.index_embedding(task, "me")
    assert use_cases.stores.vectors.fetch_vectors("model-1", [master.id]) == {}


def test_a_vector_of_a_master_that_may_come_back_is_left_to_the_worker(
    use_cases: UseCases, master: Master
) -> None:
    task, metadata = claim(use_cases, master), use_cases.stores.metadata
    deletion = NewDeletion(new_id(), master.collection_id, "filter", 60.0)
    assert metadata.remove_masters(deletion, [Removal({master.id: task.master.revision})])
    assert not use_cases.indexing.index_embedding(task, "me")
    assert metadata.restore_masters(deletion.id, [master.id]).masters == {master.id}
    use_cases.worker.run_round()
    vector = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert vector.revision == task.master.revision + 1


def test_a_change_during_indexing_is_indexed_by_the_lease_holder(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, vectors = claim(use_cases, master), use_cases.stores.vectors
    upsert, changes = vectors.upsert, [{"n": 2}, {"n": 3}]

    def change_meanwhile(*arguments: Any) -> None:
        upsert(*arguments)
        if changes:
            use_cases.stores.metadata.update_master(master.id, name=None, attributes=changes.pop(0))

    monkeypatch.setattr(vectors, "upsert", change_meanwhile)
    assert use_cases.indexing.index_inline(task.master, "me", ["model-1"], None)
    vector = vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert vector.attributes == master.built_in_fields | {"n": 3}


def test_a_master_deleted_during_indexing_ends_it(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, vectors = claim(use_cases, master), use_cases.stores.vectors
    upsert = vectors.upsert

    def delete_meanwhile(*arguments: Any) -> None:
        upsert(*arguments)
        use_cases.stores.metadata.delete_master(master.id)

    monkeypatch.setattr(vectors, "upsert", delete_meanwhile)
    assert not use_cases.indexing.index_inline(task.master, "me", ["model-1"], None)
    assert vectors.fetch_vectors("model-1", [master.id]) == {}


def test_an_embedding_that_another_process_claims_is_left_to_it(
    use_cases: UseCases, master: Master
) -> None:
    changed = claim(use_cases, master).master
    assert not use_cases.indexing.reindex_inline(changed, "another")
    assert not use_cases.stores.metadata.is_indexed(master.id, "model-1")


def test_a_failure_releases_the_embedding_for_the_worker(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = claim(use_cases, master)
    with monkeypatch.context() as patched:
        patched.setattr(use_cases.stores.vectors, "upsert", raising(DOWN))
        assert not use_cases.indexing.index_inline(task.master, "me", ["model-1"], None)
    assert use_cases.stores.metadata.claim_embedding(master.id, "model-1", "worker-1", 60.0)


def test_without_a_version_nothing_is_indexed(use_cases: UseCases, master: Master) -> None:
    assert not use_cases.indexing.index_inline(master, "me", [], None)
