"""Upserts of several threads that share one call to Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from storage.errors import StoreUnavailable
from storage.records import VectorRecord, new_id, whole_image
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.held_calls import HeldCalls
from tests.support.vector_records import VERSION, empty_milvus

SHOP = UUID(int=1)
_TOO_LONG = {"text": "x" * 70_000}  # bytes; Milvus keeps at most 65 536 in a field


@pytest.fixture
def store(milvus_options: MilvusOptions) -> Iterator[MilvusVectorStore]:
    with closing(MilvusVectorStore(fleet.url_of("milvus"), milvus_options, timeout=60.0)) as store:
        empty_milvus(store, VERSION)
        store.upsert(VERSION, [first := make_record(0)])  # creates the collection
        store.delete(VERSION, [first.master_id])
        yield store


def make_record(number: int) -> VectorRecord:
    vector = np.random.default_rng(number).normal(size=512).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return VectorRecord(new_id(), SHOP, whole_image(vector), {"n": number}, 1)


def test_upserts_that_wait_are_sent_in_one_call(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = HeldCalls(store._upserts, monkeypatch)
    records = [make_record(number) for number in range(6)]
    started = [calls.start(store.upsert, VERSION, [record]) for record in records]
    calls.release()
    for each in started:
        each.result(30)
    assert calls.sizes == [1, 5]
    found = store.fetch_vectors(VERSION, [record.master_id for record in records])
    assert [found[record.master_id].attributes for record in records] == [
        record.attributes for record in records
    ]


def test_a_record_that_milvus_refuses_fails_alone(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = HeldCalls(store._upserts, monkeypatch)
    records = [make_record(number) for number in range(4)]
    records[2] = replace(records[2], attributes=_TOO_LONG)
    started = [calls.start(store.upsert, VERSION, [record]) for record in records]
    calls.release()
    with pytest.raises(StoreUnavailable, match="exceeds max length"):
        started[2].result(30)
    for number in (0, 1, 3):
        started[number].result(30)
    found = store.fetch_vectors(VERSION, [record.master_id for record in records])
    assert found.keys() == {records[number].master_id for number in (0, 1, 3)}


def test_two_revisions_of_a_master_never_share_a_call(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milvus would keep both rows."""
    calls = HeldCalls(store._upserts, monkeypatch)
    first, old = make_record(1), make_record(2)
    new = replace(old, attributes={"n": 3}, revision=2)
    started = [calls.start(store.upsert, VERSION, [record]) for record in (first, old, new)]
    calls.release()
    for each in started:
        each.result(30)
    assert calls.sizes == [1, 1, 1]
    assert store.fetch_vectors(VERSION, [old.master_id])[old.master_id].revision == 2
    assert store.count(VERSION) == 2
