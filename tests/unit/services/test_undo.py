"""Deletions that are undone, and those whose time ends, beside a worker."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.errors import InvalidInput, NotFound
from app.services import undo
from app.services.deletion import BACKUP_LEASE
from storage.filter_parser import parse_filter
from storage.protocols import NewDeletion, Removal
from storage.records import Master, MasterState, new_id
from tests.support.use_cases import UseCases, colours

ALL = parse_filter({"size": {"$gte": 0}})


@pytest.fixture
def masters(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> list[Master]:
    """Five masters; a batch has two."""
    monkeypatch.setattr(undo, "_BATCH", 2)
    return [use_cases.upload(colours(seed)).master for seed in range(5)]


def remove_all(use_cases: UseCases) -> UUID:
    outcome = list(use_cases.changes.delete_matching("default", ALL, 5))[-1]
    assert outcome.deletion is not None
    return outcome.deletion.id


def vectors_of(use_cases: UseCases, masters: list[Master]) -> set[UUID]:
    ids = [master.id for master in masters]
    return set(use_cases.stores.vectors.fetch_vectors("model-1", ids))


def test_the_worker_removes_vectors_at_once_and_bytes_never_before_the_time_is_over(
    use_cases: UseCases, masters: list[Master]
) -> None:
    deletion = remove_all(use_cases)
    use_cases.worker.run_round()
    assert vectors_of(use_cases, masters) == set()
    assert not use_cases.worker.run_round()
    for master in masters:
        assert use_cases.stores.objects.stat(master.object_key).size == master.size
    walk = use_cases.undo.undo_deletion(deletion)
    assert [outcome.done for outcome in walk] == [2, 4, 5, 5]
    assert use_cases.undo.list_deletions(None, 9) == []
    assert use_cases.wake.is_set()
    use_cases.worker.run_round()
    assert vectors_of(use_cases, masters) == {master.id for master in masters}


def test_a_deletion_ends_with_its_time(use_cases: UseCases, masters: list[Master]) -> None:
    metadata = use_cases.stores.metadata
    over = NewDeletion(new_id(), masters[0].collection_id, "filter", 0.0)
    assert metadata.remove_masters(over, [Removal({masters[0].id: 1})])
    with pytest.raises(NotFound, match="Its time is over"):
        use_cases.undo.undo_deletion(over.id)
    assert metadata.acquire_lease(BACKUP_LEASE, "backup", 60.0)
    while use_cases.worker.run_round():
        pass
    assert use_cases.stores.objects.stat(masters[0].object_key).size
    metadata.release_lease(BACKUP_LEASE, "backup")
    while use_cases.worker.run_round():
        pass
    assert metadata.find_records([masters[0].id]) == {}
    assert len(list(use_cases.stores.objects.list("masters/"))) == 4


def test_masters_that_a_worker_holds_are_restored_when_it_has_finished(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion, metadata = remove_all(use_cases), use_cases.stores.metadata
    held = metadata.claim_removed("worker-1", 3, 60.0)
    polls = []

    def finish(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            metadata.settle_removed(held, "worker-1")

    monkeypatch.setattr(undo.time, "sleep", finish)
    outcome = list(use_cases.undo.undo_deletion(deletion))[-1]
    assert (outcome.restored, outcome.held) == (5, 0)
    assert len(polls) >= 3


def test_masters_that_a_worker_holds_on_to_are_reported(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "_PATIENCE", 0.0)
    deletion, metadata = remove_all(use_cases), use_cases.stores.metadata
    (held,) = metadata.claim_removed("worker-1", 1, 60.0)
    outcome = list(use_cases.undo.undo_deletion(deletion))[-1]
    assert (outcome.restored, outcome.held) == (4, 1)
    metadata.settle_removed([held], "worker-1")
    assert list(use_cases.undo.undo_deletion(deletion))[-1].restored == 1


def test_a_deletion_is_permanent_if_the_setting_says_so(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases.changes, "_undo_seconds", 0.0)
    outcome = list(use_cases.changes.delete_matching("default", ALL, 5))[-1]
    assert outcome.deletion is None
    states = {
        each.master.state
        for each in use_cases.stores.metadata.find_records([m.id for m in masters]).values()
    }
    assert states == {MasterState.DELETING}


def test_unknown_deletions_and_collections_are_refused(use_cases: UseCases) -> None:
    with pytest.raises(NotFound) as refused:
        use_cases.undo.undo_deletion(new_id())
    assert refused.value.code == "deletion-not-found"
    with pytest.raises(NotFound):
        use_cases.undo.list_deletions("none", 9)
    with pytest.raises(InvalidInput):
        use_cases.undo.list_deletions("No", 9)
    assert use_cases.undo.list_deletions(None, 9) == []
