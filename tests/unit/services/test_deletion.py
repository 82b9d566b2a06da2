"""Deletions: order of removal, backups in progress, and failures of one master or of a store."""

from __future__ import annotations

from typing import Any

import pytest

from app.services.deletion import BACKUP_LEASE, Deletion
from storage.errors import StoreUnavailable
from tests.support.use_cases import DOWN, UseCases, colours


@pytest.fixture
def deletion(use_cases: UseCases) -> Deletion:
    return Deletion(use_cases.stores, lease=60.0)


def delete(use_cases: UseCases, number: int) -> list[Any]:
    masters = [use_cases.upload(colours(seed)).master for seed in range(number)]
    for master in masters:
        use_cases.masters.delete_master(master.id)
    return masters


def test_vectors_object_and_row_are_removed_in_this_order(
    use_cases: UseCases, deletion: Deletion, monkeypatch: pytest.MonkeyPatch
) -> None:
    (master,) = delete(use_cases, 1)
    stores, calls = use_cases.stores, []
    for store, name in (
        (stores.vectors, "delete"),
        (stores.objects, "delete"),
        (stores.metadata, "forget_master"),
    ):
        method = getattr(store, name)

        def recorded(*arguments: Any, _method: Any = method, _store: Any = store) -> Any:
            calls.append(_store)
            return _method(*arguments)

        monkeypatch.setattr(store, name, recorded)
    assert deletion.remove_deleted("me")
    assert calls == [stores.vectors, stores.objects, stores.metadata]
    assert list(stores.objects.list("masters")) == []
    assert stores.metadata.find_records([master.id]) == {}
    assert not deletion.remove_deleted("me")


def test_a_deleted_collection_is_drained(use_cases: UseCases, deletion: Deletion) -> None:
    use_cases.upload(colours(1), "cats")
    use_cases.collections.delete_collection("cats")
    while deletion.remove_deleted("me"):
        pass
    assert use_cases.stores.metadata.count_unfinished() == 0
    assert list(use_cases.stores.objects.list("masters")) == []


def test_a_backup_in_progress_keeps_the_bytes(use_cases: UseCases, deletion: Deletion) -> None:
    (master,) = delete(use_cases, 1)
    use_cases.stores.metadata.acquire_lease(BACKUP_LEASE, "backup-1", 60.0)
    assert not deletion.remove_deleted("me")
    assert use_cases.stores.objects.stat(master.object_key).size == master.size
    use_cases.stores.metadata.release_lease(BACKUP_LEASE, "backup-1")
    assert deletion.remove_deleted("me")
    assert list(use_cases.stores.objects.list("masters")) == []


def test_one_master_that_cannot_be_removed_does_not_stop_the_others(
    use_cases: UseCases, deletion: Deletion, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, *_ = delete(use_cases, 3)
    remove = use_cases.stores.objects.delete

    def fail_for_one(key: str) -> None:
        if key == stuck.object_key:
            raise DOWN
        remove(key)

    monkeypatch.setattr(use_cases.stores.objects, "delete", fail_for_one)
    assert deletion.remove_deleted("me")
    (left,) = use_cases.stores.objects.list("masters")
    assert left.key == stuck.object_key
    assert use_cases.stores.metadata.count_unfinished() == 1


def test_a_store_that_is_down_ends_the_round(
    use_cases: UseCases, deletion: Deletion, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(use_cases, 5)
    attempts = []

    def fail(key: str) -> None:
        attempts.append(key)
        raise DOWN

    monkeypatch.setattr(use_cases.stores.objects, "delete", fail)
    with pytest.raises(StoreUnavailable):
        deletion.remove_deleted("me")
    assert len(attempts) == 3


def test_a_process_that_stops_removes_no_further_master(
    use_cases: UseCases, deletion: Deletion
) -> None:
    delete(use_cases, 2)
    assert deletion.remove_deleted("me", lambda: True)
    assert len(list(use_cases.stores.objects.list("masters"))) == 2
