"""The contract of decisions as whole records: what is listed, imported and forgotten."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from uuid import UUID

import pytest

from storage.protocols import DecidedPair, Decision, MetadataStore
from storage.records import LOOK, Collection, NewMaster, new_id

LEASE = 60.0
NEW = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})


@pytest.fixture
def collection(metadata: MetadataStore) -> Collection:
    return metadata.create_collection("shop")


@pytest.fixture
def ids(metadata: MetadataStore, collection: Collection) -> list[UUID]:
    """Store three masters, and return their sorted ids."""
    return sorted(store(metadata, collection, number) for number in range(3))


def store(metadata: MetadataStore, collection: Collection, number: int) -> UUID:
    new = replace(NEW, sha256=number.to_bytes(32))
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [], LEASE) == []
    return master.id


def make(first: UUID, second: UUID, at: int, decision: Decision = Decision.KEEP) -> DecidedPair:
    return DecidedPair((first, second), decision, at)


def test_decisions_are_imported_with_their_times_and_listed_in_pages(
    metadata: MetadataStore, ids: list[UUID]
) -> None:
    made = [make(*pair, at=at) for at, pair in enumerate(combinations(ids, 2))]
    assert metadata.import_decisions(made[::-1]) == 3
    assert metadata.list_all_decisions(2, None) == made[:2]
    assert metadata.list_all_decisions(2, made[1].masters) == made[2:]
    assert metadata.list_all_decisions(2, made[2].masters) == []


def test_the_later_decision_about_a_pair_stays(metadata: MetadataStore, ids: list[UUID]) -> None:
    first, second, third = ids
    earlier, later = make(first, second, 10), make(first, second, 20, Decision.DIFFERENT)
    other = make(second, third, 15)
    assert metadata.import_decisions([earlier, other]) == 2
    assert metadata.import_decisions([earlier, other]) == 0
    assert metadata.import_decisions([later, other]) == 1
    assert metadata.import_decisions([earlier]) == 0
    assert metadata.list_all_decisions(10, None) == [later, other]


def test_a_decision_without_its_masters_is_left_out(
    metadata: MetadataStore, ids: list[UUID]
) -> None:
    first, second, third = ids
    metadata.delete_master(third)
    decisions = [make(first, second, 1), make(first, third, 1), make(first, new_id(), 1)]
    assert metadata.import_decisions(decisions) == 1
    assert metadata.import_decisions(decisions[1:]) == 0
    assert metadata.import_decisions([]) == 0
    assert metadata.list_all_decisions(10, None) == decisions[:1]


def test_damaged_masters_keep_their_decisions(metadata: MetadataStore, ids: list[UUID]) -> None:
    first, second, _ = ids
    metadata.mark_damaged(first)
    decided = make(first, second, 1)
    assert metadata.import_decisions([decided]) == 1
    assert metadata.list_all_decisions(10, None) == [decided]


def test_only_the_pairs_themselves_are_forgotten(metadata: MetadataStore, ids: list[UUID]) -> None:
    first, second, third = ids
    made = [make(*pair, at=1) for pair in combinations(ids, 2)]
    metadata.import_decisions(made)
    metadata.forget_decisions([(first, third), (first, new_id())])
    metadata.forget_decisions([])
    assert metadata.list_all_decisions(10, None) == [made[0], make(second, third, 1)]


def test_scans_notice_decisions_that_were_imported_or_forgotten(
    metadata: MetadataStore, collection: Collection, ids: list[UUID]
) -> None:
    metadata.start_scan(collection.id, collection.id, LOOK, 0.5)

    def count_changes() -> int:
        scan = metadata.find_scan(collection.id, collection.id, LOOK)
        assert scan is not None
        return scan.changes

    decided = make(ids[0], ids[1], 1)
    metadata.import_decisions([decided])
    assert count_changes() == 1
    metadata.import_decisions([decided])
    assert count_changes() == 1
    metadata.forget_decisions([decided.masters])
    assert count_changes() == 2
