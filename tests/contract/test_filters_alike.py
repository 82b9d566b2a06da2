"""Filters select the same masters in MariaDB and Milvus as in the reference implementation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.attributes import clean_attributes
from storage.database import Database
from storage.filters import Filter, matches, parse_filter
from storage.metadata import SqlMetadataStore
from storage.records import Attributes, NewMaster, VectorRecord, whole_image
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.filter_examples import ATTRIBUTES, FILTERS, about

VECTOR = np.zeros(512, dtype=np.float32)
VECTOR[0] = 1.0
VERSION = "model-1"


class Backends:
    """The same masters in MariaDB and in Milvus."""

    def __init__(self, database: Database, vectors: MilvusVectorStore) -> None:
        self.metadata = SqlMetadataStore(database)
        self.vectors = vectors

    def fill(self, attributes: list[Attributes]) -> tuple[UUID, dict[UUID, Attributes]]:
        collection = self.metadata.create_collection(f"c-{uuid4().hex}").id
        kept: dict[UUID, Attributes] = {}
        for number, each in enumerate(attributes):
            new = NewMaster(number.to_bytes(32), 1, "image/jpeg", "jpg", 1, 1, "a.jpg", each)
            master = self.metadata.reserve_master(collection, new, "test", 60).master
            self.metadata.commit_stored(master.id, "test", [], 60)
            kept[master.id] = each
        self.vectors.upsert(
            VERSION,
            [
                VectorRecord(id_, collection, whole_image(VECTOR), each, 1)
                for id_, each in kept.items()
            ],
        )
        return collection, kept

    def pick(self, collection: UUID, filter: Filter) -> tuple[set[UUID], set[UUID]]:
        listed = {
            master.id
            for master in self.metadata.list_masters(collection, filter, 1000, None).masters
        }
        return listed, {
            hit.master_id for hit in self.vectors.search(VERSION, collection, VECTOR, 1000, filter)
        }


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    import sqlalchemy as sa

    name = f"test_{uuid4().hex}"
    server = sa.create_engine(fleet.url_of("mariadb"))
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    database = Database(server.url.set(database=name).render_as_string(hide_password=False))
    SqlMetadataStore(database).upgrade_schema()
    vectors = MilvusVectorStore(fleet.url_of("milvus"), MilvusOptions(prefix=name, index="FLAT"))
    yield Backends(database, vectors)
    vectors.drop_version(VERSION)
    vectors.close()
    database.close()
    server.dispose()


@given(
    masters=st.lists(ATTRIBUTES, min_size=1, max_size=12),
    forms=st.lists(FILTERS, min_size=1, max_size=6),
    data=st.data(),
)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_servers_select_the_same_masters_as_the_reference(
    backends: Backends,
    masters: list[Attributes],
    forms: list[dict[str, object]],
    data: st.DataObject,
) -> None:
    collection, kept = backends.fill([clean_attributes(attributes) for attributes in masters])
    present = [form for attributes in masters for form in about(attributes)]
    if present:
        forms = forms + data.draw(st.lists(st.sampled_from(present), min_size=3, max_size=8))
    parsed_forms = [parse_filter(form) for form in forms]
    with ThreadPoolExecutor(16) as pool:  # each search waits for the next tick of Milvus
        picked = pool.map(lambda parsed: backends.pick(collection, parsed), parsed_forms)
    for form, parsed, (listed, found) in zip(forms, parsed_forms, picked, strict=True):
        expected = {id_ for id_, attributes in kept.items() if matches(parsed, attributes)}
        assert listed == expected, ("mariadb", form)
        assert found == expected, ("milvus", form)
