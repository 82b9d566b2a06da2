"""Collections, their attributes, and dead letters."""

from __future__ import annotations

import pytest

from app.errors import Conflict, InvalidInput, NotFound
from app.services import attributes as attributes_module
from storage.errors import CollectionExists, CollectionGone
from tests.support.use_cases import UseCases, colours


def test_a_new_collection_is_listed_without_masters(use_cases: UseCases) -> None:
    created = use_cases.collections.create_collection("cats")
    assert (created, 0) in use_cases.collections.list_collections()


def test_a_name_that_exists_cannot_be_created_again(use_cases: UseCases) -> None:
    use_cases.collections.create_collection("cats")
    with pytest.raises(Conflict, match="named cats exists already") as caught:
        use_cases.collections.create_collection("cats")
    assert caught.value.code == "collection-exists"


@pytest.mark.parametrize("name", ["", "Cats", "-cats", "a" * 64, "a/b", "a b"])
def test_an_invalid_name_is_refused_by_every_method(use_cases: UseCases, name: str) -> None:
    collections = use_cases.collections
    for method in (
        collections.create_collection,
        collections.find_collection,
        collections.find_or_create_collection,
        collections.delete_collection,
        collections.empty_collection,
    ):
        with pytest.raises(InvalidInput):
            method(name)


def test_the_default_collection_is_created_when_it_is_missing(use_cases: UseCases) -> None:
    created = use_cases.collections.find_collection("default")
    assert use_cases.collections.find_collection("default") == created


def test_another_missing_collection_is_not_created(use_cases: UseCases) -> None:
    with pytest.raises(NotFound, match="no collection named cats"):
        use_cases.collections.find_collection("cats")


@pytest.mark.parametrize("error", [CollectionExists(), CollectionGone()])
def test_a_collection_that_changes_hands_while_it_is_created_is_found(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    metadata = use_cases.stores.metadata
    create = metadata.create_collection

    def create_elsewhere(name: str) -> None:
        create(name)
        raise error

    monkeypatch.setattr(metadata, "create_collection", create_elsewhere)
    assert use_cases.collections.find_or_create_collection("cats").name == "cats"


def test_a_deleted_collection_is_gone_and_wakes_the_worker(use_cases: UseCases) -> None:
    use_cases.collections.create_collection("cats")
    use_cases.collections.delete_collection("cats")
    assert use_cases.wake.is_set()
    with pytest.raises(NotFound):
        use_cases.collections.delete_collection("cats")


def test_an_emptied_collection_stays_without_masters(use_cases: UseCases) -> None:
    use_cases.upload(colours(1), "cats")
    use_cases.wake.clear()
    use_cases.collections.empty_collection("cats")
    assert use_cases.wake.is_set()
    counts = {each.name: count for each, count in use_cases.collections.list_collections()}
    assert counts["cats"] == 0
    with pytest.raises(NotFound):
        use_cases.collections.empty_collection("dogs")


def test_attributes_are_summarised_by_key(use_cases: UseCases) -> None:
    use_cases.upload(colours(1), attributes={"size": {"cm": 3}, "tags": ["a", "b"]})
    use_cases.upload(colours(2), attributes={"size": {"cm": 5.5}, "tags": ["b"], "new": True})
    use_cases.upload(colours(3), attributes={"tags": "b", "new": 1})
    summary = use_cases.attributes.summarize_attributes("default")
    by_key = {each.key: each for each in summary.attributes}
    assert summary.masters == 3
    assert [each.key for each in summary.attributes] == ["tags", "new", "size.cm"]
    assert by_key["tags"].types == {"list", "string"}
    assert by_key["tags"].most_frequent(1) == [("b", 3)]
    assert (by_key["size.cm"].minimum, by_key["size.cm"].maximum) == (3, 5.5)
    assert len(by_key["new"].counts) == 2  # true and 1


def test_built_in_fields_are_summarised_apart(use_cases: UseCases) -> None:
    use_cases.upload(colours(1), attributes={"name": "mine"})
    use_cases.upload(colours(2))
    summary = use_cases.attributes.summarize_attributes("default")
    assert [each.key for each in summary.attributes] == ["name"]
    fields = {each.key: each for each in summary.fields}
    assert {"name", "mime", "width", "height", "size", "created_at"} <= set(fields)
    assert [count for _, count in fields["mime"].most_frequent(5)] == [2]
    assert fields["name"].most_frequent(5) == fields["size"].most_frequent(5) == []
    assert (fields["size"].masters, fields["name"].types) == (2, {"string"})
    assert (fields["size"].minimum or 0) > 0


def test_attributes_are_read_in_pages_up_to_a_limit(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        use_cases.upload(colours(seed), attributes={"number": seed})
    monkeypatch.setattr(attributes_module, "_PAGE", 2)
    assert use_cases.attributes.summarize_attributes("default").masters == 5
    monkeypatch.setattr(attributes_module, "_MAX_MASTERS", 4)
    assert use_cases.attributes.summarize_attributes("default").masters == 4


def test_values_beyond_the_limit_are_not_counted(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes_module, "_MAX_VALUES", 2)
    for seed in range(4):
        use_cases.upload(colours(seed), attributes={"number": seed})
    (summary,) = use_cases.attributes.summarize_attributes("default").attributes
    assert (summary.masters, len(summary.counts), summary.minimum) == (4, 2, 0)


def test_dead_letters_are_listed_and_retried(use_cases: UseCases) -> None:
    use_cases.upload(colours(1), attributes={"a": 1})
    metadata = use_cases.stores.metadata
    (master,) = use_cases.masters.list_masters("default", None, 10, None).masters
    metadata.update_master(master.id, name=None, attributes={"a": 2})
    (task,) = metadata.claim_embeddings(["model-1"], "somebody", 1, 60.0)
    metadata.retry_embedding(task, "somebody", "it is broken", None)
    (letter,), total = use_cases.dead_letters.list_dead_letters(10)
    assert (letter.master.id, letter.failure, total) == (master.id, "it is broken", 1)
    assert use_cases.collections.count_pending_embeddings() == 0
    assert use_cases.dead_letters.retry_dead_letters() == 1
    assert use_cases.wake.is_set()
    assert use_cases.dead_letters.list_dead_letters(10) == ([], 0)
    assert use_cases.collections.count_pending_embeddings() == 1
