"""A bucket belongs to one metadata database; others neither start on it nor repair it."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.errors import Conflict
from app.services.installation_id import (
    INSTALLATION_KEY,
    BucketRefused,
    adopt_bucket,
    check_bucket,
    claim_bucket,
    is_of_other_bucket,
    read_bucket_identity,
    take_over_installation_id,
)
from storage.protocols import Stores
from storage.records import new_id
from tests.support.memory_stores import open_memory_stores
from tests.support.use_cases import UseCases, colours


def with_new_database(stores: Stores) -> Stores:
    new = open_memory_stores()
    return Stores(new.metadata, new.registry, stores.objects, stores.vectors)


def write_bucket(stores: Stores, content: Any) -> None:
    encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
    stores.objects.put(INSTALLATION_KEY, io.BytesIO(encoded), len(encoded), "", "")


def test_a_new_installation_claims_its_bucket_once(stores: Stores) -> None:
    id_ = claim_bucket(stores)
    claimed = read_bucket_identity(stores.objects)
    assert claimed is not None
    assert claimed.id == id_
    assert claimed.database == stores.metadata.find_database_id() is not None
    assert claim_bucket(stores) == id_
    check_bucket(stores)
    assert read_bucket_identity(stores.objects) == claimed


def test_processes_that_start_at_once_agree(stores: Stores) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: claim_bucket(stores), range(8)))
    assert len(ids) == 1
    check_bucket(stores)


def test_of_two_databases_that_start_at_once_on_a_new_bucket_one_is_refused(stores: Stores) -> None:
    def claims(each: Stores) -> bool:
        try:
            claim_bucket(each)
        except BucketRefused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claims, [with_new_database(stores) for _ in range(8)]))
    assert claimed.count(True) == 1


def test_another_database_is_refused_also_by_an_empty_bucket(stores: Stores) -> None:
    claim_bucket(stores)
    before = read_bucket_identity(stores.objects)
    new = with_new_database(stores)
    with pytest.raises(BucketRefused, match=r"this one is new.*lookalike recover"):
        claim_bucket(new)
    assert new.metadata.find_database_id() is None
    new.metadata.claim_database_id("of another bucket")
    for refuse in (claim_bucket, check_bucket):
        with pytest.raises(BucketRefused, match=r"another id.*LOOKALIKE_OBJECTS_URL"):
            refuse(new)
    assert read_bucket_identity(stores.objects) == before


@pytest.mark.parametrize("content", [None, {"id": "old"}, b"{", [], {"id": 5}])
def test_an_installation_of_an_earlier_version_claims_its_bucket(
    use_cases: UseCases, content: Any
) -> None:
    stores = use_cases.stores
    use_cases.upload(colours(1))
    if content is not None:
        write_bucket(stores, content)
    id_ = claim_bucket(stores)
    assert (id_ == "old") is (content == {"id": "old"})
    check_bucket(stores)
    with pytest.raises(BucketRefused):
        claim_bucket(with_new_database(stores))


@pytest.mark.parametrize("content", [None, {"id": "old"}])
def test_a_new_database_cannot_claim_a_bucket_of_an_earlier_version_with_masters(
    use_cases: UseCases, content: Any
) -> None:
    stores = use_cases.stores
    use_cases.upload(colours(1))
    if content is not None:
        write_bucket(stores, content)
    with pytest.raises(BucketRefused, match=r"knows none.*lookalike recover"):
        claim_bucket(with_new_database(stores))
    claim_bucket(stores)


def test_an_older_database_is_known_by_its_masters_behind_many_unknown_ones(
    use_cases: UseCases,
) -> None:
    stores = use_cases.stores
    for _ in range(150):
        key = f"masters/lost-{new_id()}/aa/{'a' * 64}/{new_id()}.png"
        stores.objects.put(key, io.BytesIO(b"x"), 1, "image/png", "x")
    use_cases.upload(colours(1))
    claim_bucket(stores)
    check_bucket(stores)


def test_the_copy_of_an_installation_takes_over_its_id(stores: Stores) -> None:
    claim_bucket(stores)
    take_over_installation_id(stores.objects, "original")
    assert claim_bucket(stores) == "original"


def test_adoption_shuts_the_former_database_out(stores: Stores) -> None:
    id_ = claim_bucket(stores)
    new = with_new_database(stores)
    adopt_bucket(new)
    assert claim_bucket(new) == id_  # backups still know it
    with pytest.raises(BucketRefused):
        check_bucket(stores)
    assert is_of_other_bucket(stores)
    assert not is_of_other_bucket(new)


def test_a_repair_is_refused_in_the_bucket_of_another_database(use_cases: UseCases) -> None:
    stores = use_cases.stores
    claim_bucket(stores)
    adopt_bucket(with_new_database(stores))
    master = use_cases.upload(colours(1)).master
    with pytest.raises(Conflict, match="another metadata database"):
        list(use_cases.scrub.run_scrub(repair=True, full=False))
    assert list(use_cases.scrub.run_scrub(repair=False, full=False))[-1].clean
    assert stores.objects.stat(master.object_key).size
