"""Upserts of several threads that share one call to Milvus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from storage.errors import StoreUnavailable
from storage.records import VectorRecord, new_id, whole_image
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.service import eventually
from tests.support.vector_records import VERSION, empty_milvus

SHOP = UUID(int=1)
_TOO_LONG = {"text": "x" * 70_000}  # bytes; Milvus keeps at most 65 536 in a field


class Uploads:
    """Upserts in threads of their own, of which the first is held until ``release``."""

    def __init__(self, store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[int] = []  # rows in each
        self._store = store
        self._held = threading.Event()
        self._pool = ThreadPoolExecutor(20)
        upsert_rows = store._upsert_rows

        def upsert_rows_later(name: str, rows: list[dict[str, Any]], client: Any) -> None:
            self.calls.append(len(rows))
            if len(self.calls) == 1:
                assert self._held.wait(30)
            upsert_rows(name, rows, client)

        monkeypatch.setattr(store, "_upsert_rows", upsert_rows_later)

    def start(self, record: VectorRecord) -> Future[None]:
        """Upsert in a thread; wait until its call is under way or it waits for another one."""
        seen = self._count_sent()
        started = self._pool.submit(self._store.upsert, VERSION, [record])
        assert eventually(lambda: self._count_sent() > seen, 10)
        return started

    def _count_sent(self) -> int:
        return len(self.calls) + len(self._store._upserts._waiting)

    def release(self) -> None:
        self._held.set()


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
    uploads, records = Uploads(store, monkeypatch), [make_record(number) for number in range(6)]
    started = [uploads.start(record) for record in records]
    uploads.release()
    for each in started:
        each.result(30)
    assert uploads.calls == [1, 5]
    found = store.fetch_vectors(VERSION, [record.master_id for record in records])
    assert [found[record.master_id].attributes for record in records] == [
        record.attributes for record in records
    ]


def test_a_record_that_milvus_refuses_fails_alone(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, records = Uploads(store, monkeypatch), [make_record(number) for number in range(4)]
    records[2] = replace(records[2], attributes=_TOO_LONG)
    started = [uploads.start(record) for record in records]
    uploads.release()
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
    uploads, (first, old) = Uploads(store, monkeypatch), [make_record(number) for number in (1, 2)]
    new = replace(old, attributes={"n": 3}, revision=2)
    started = [uploads.start(record) for record in (first, old, new)]
    uploads.release()
    for each in started:
        each.result(30)
    assert uploads.calls == [1, 1, 1]
    assert store.fetch_vectors(VERSION, [old.master_id])[old.master_id].revision == 2
    assert store.count(VERSION) == 2
