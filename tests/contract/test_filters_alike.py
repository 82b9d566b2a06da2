"""Filters select the same masters in every store as in the reference implementation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.attributes import InvalidAttributes, clean_attributes
from storage.database import Database
from storage.filter_parser import InvalidFilter, parse_filter
from storage.filters import And, Filter, Like, Not, Or, matches
from storage.metadata import SqlMetadataStore, new_id
from storage.protocols import MetadataStore, VectorStore
from storage.records import (
    Attributes,
    Collection,
    Master,
    MasterRecord,
    MasterState,
    VectorRecord,
    whole_image,
)
from storage.store_urls import MilvusOptions
from storage.vectors_exact import ExactVectorStore
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.filter_examples import ATTRIBUTES, FIELDS, FILTERS, about
from tests.support.memory_stores import MemoryMetadataStore, MemoryTables, MemoryVectorStore

VECTOR = np.zeros(512, dtype=np.float32)
VECTOR[0] = 1.0
VERSION = "model-1"
DEFAULTS = {  # of a database on the server, which an administrator may have chosen
    "mariadb": "utf8mb4",
    "mariadb latin1": "latin1",
    "mariadb unicode": "utf8mb4 COLLATE utf8mb4_unicode_ci",
}


class Backends:
    """The same masters, with the same ids, in every store."""

    def __init__(self, metadata: dict[str, MetadataStore], vectors: dict[str, VectorStore]) -> None:
        self.metadata = metadata
        self.vectors = vectors
        self.documents: dict[UUID, dict[UUID, Attributes]] = {}  # by collection and master

    def fill(
        self, attributes: list[Attributes], fields: list[Attributes] | None = None
    ) -> tuple[UUID, dict[UUID, Attributes]]:
        """Return the id of a new collection, and what filters see of its masters."""
        collection = Collection(new_id(), f"c-{uuid4().hex}", 0)
        fields = fields or [{} for _ in attributes]
        pairs = zip(attributes, fields, strict=True)
        records = [_record(collection, each, **others) for each, others in pairs]
        for metadata in self.metadata.values():
            metadata.import_collection(collection)
            metadata.import_records(records)
        kept = {record.master.id: record.master.filterable for record in records}
        embedded = [
            VectorRecord(id_, collection.id, whole_image(VECTOR), each, 1)
            for id_, each in kept.items()
        ]
        for vectors in self.vectors.values():
            vectors.upsert(VERSION, embedded)
        self.documents[collection.id] = kept
        return collection.id, kept

    def pick(self, collection: UUID, filter: Filter) -> dict[str, set[UUID]]:
        picked = {}
        for name, metadata in self.metadata.items():
            page = metadata.list_masters(collection, filter, 1000, None)
            picked[name] = {master.id for master in page.masters}
            assert page.total == len(page.masters), name
        for name, vectors in self.vectors.items():
            hits = vectors.search(VERSION, collection, VECTOR, 1000, filter)
            picked[name] = {hit.master_id for hit in hits}
        if is_sent_in_part(filter):  # the service checks each hit
            kept = self.documents[collection]
            picked["milvus"] = {id_ for id_ in picked["milvus"] if matches(filter, kept[id_])}
        return picked


def is_sent_in_part(filter: Filter) -> bool:
    """Return whether Milvus selects more than the filter does."""
    match filter:
        case And(parts) | Or(parts):
            return any(map(is_sent_in_part, parts))
    return isinstance(filter, Not | Like)


def _record(collection: Collection, attributes: Attributes, **fields: Any) -> MasterRecord:
    master = Master(
        id=new_id(),
        collection_id=collection.id,
        collection=collection.name,
        sha256=os.urandom(32),
        size=1,
        mime="image/jpeg",
        extension="jpg",
        width=1,
        height=1,
        name="a.jpg",
        attributes=attributes,
        revision=1,
        state=MasterState.STORED,
        created_at=0,
        updated_at=0,
    )
    return MasterRecord(replace(master, **fields), {VERSION: 1})


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    name = f"test_{uuid4().hex}"
    server = sa.create_engine(fleet.url_of("mariadb"))
    with ExitStack() as ending:
        ending.callback(server.dispose)
        urls = {"sqlite": f"sqlite:///{tmp_path_factory.mktemp('filters')}/test.db"}
        for number, (backend, charset) in enumerate(DEFAULTS.items()):
            schema = f"{name}_{number}"
            with server.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {schema} CHARACTER SET {charset}"))
            urls[backend] = server.url.set(database=schema).render_as_string(hide_password=False)
        databases = {
            backend: ending.enter_context(closing(Database(url))) for backend, url in urls.items()
        }
        metadata: dict[str, MetadataStore] = {"memory": MemoryMetadataStore(MemoryTables())}
        for backend, database in databases.items():
            metadata[backend] = SqlMetadataStore(database)
            metadata[backend].upgrade_schema()
        options = MilvusOptions(prefix=name, index="FLAT")
        milvus = ending.enter_context(closing(MilvusVectorStore(fleet.url_of("milvus"), options)))
        ending.callback(milvus.drop_version, VERSION)
        exact = ending.enter_context(closing(ExactVectorStore(databases["sqlite"])))
        yield Backends(metadata, {"memory": MemoryVectorStore(), "exact": exact, "milvus": milvus})


@given(
    masters=st.lists(st.tuples(ATTRIBUTES, FIELDS), min_size=1, max_size=12),
    forms=st.lists(FILTERS, min_size=1, max_size=6),
    data=st.data(),
)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_every_store_selects_the_same_masters_as_the_reference(
    backends: Backends,
    masters: list[tuple[Attributes, Attributes]],
    forms: list[dict[str, object]],
    data: st.DataObject,
) -> None:
    attributes = [clean_attributes(each) for each, _ in masters]
    collection, kept = backends.fill(attributes, [fields for _, fields in masters])
    present = [form for document in kept.values() for form in about(document)]
    if present:
        forms = forms + data.draw(st.lists(st.sampled_from(present), min_size=3, max_size=8))
    parsed_forms = [parse_filter(form) for form in forms]
    with ThreadPoolExecutor(16) as pool:  # each search waits for the next tick of Milvus
        picked = pool.map(lambda parsed: backends.pick(collection, parsed), parsed_forms)
    for form, parsed, each in zip(forms, parsed_forms, picked, strict=True):
        expected = {id_ for id_, document in kept.items() if matches(parsed, document)}
        for backend, found in each.items():
            assert found == expected, (backend, form)


WORDS = [
    "red",
    "red ",
    "red\t",
    "red\n",
    "red\x01",
    "Red",
    "réd",
    "re\u0301d",
    "r",
    "",
    " ",
    "😀",
    "😀 ",
]


@pytest.mark.parametrize(
    "operator", ["$eq", "$ne", "$in", "$gt", "$gte", "$lt", "$lte", "$contains"]
)
def test_every_store_compares_strings_by_code_point(backends: Backends, operator: str) -> None:
    attributes = [{"a": [word] if operator == "$contains" else word} for word in WORDS]
    collection, kept = backends.fill(attributes)
    for word in WORDS:
        form = {"a": {operator: [word] if operator == "$in" else word}}
        parsed = parse_filter(form)
        expected = {id_ for id_, each in kept.items() if matches(parsed, each)}
        for backend, found in backends.pick(collection, parsed).items():
            assert found == expected, (backend, form)


def test_every_store_matches_patterns_by_code_point(backends: Backends) -> None:
    texts = [*WORDS, "red%", "red_", "re\\d", "[red]", "*", "?", "!", "\ufffd", "\ufffe", "\uffff"]
    collection, kept = backends.fill([{"a": text} for text in texts])
    forms = [{"$prefix": text[:2]} for text in texts]
    forms += [{"$like": pattern} for pattern in ("_", "__", "r_d", "R%", "%d", "%\\%", "%\\_")]
    forms += [
        {"$like": pattern} for pattern in ("%\\\\%", "[red]%", "*%", "?%", "!%", "%e%d%", "%")
    ]
    forms += [{"$like": f"{text}%"} for text in "\ufffd\ufffe\uffff"]
    for form in forms:
        parsed = parse_filter({"a": form})
        expected = {id_ for id_, each in kept.items() if matches(parsed, each)}
        for backend, found in backends.pick(collection, parsed).items():
            assert found == expected, (backend, form)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\0", "a\0b"])
def test_text_that_no_store_keeps_is_refused_in_filters_and_attributes(text: str) -> None:
    for form in ({"a": text}, {"a": {"$in": ["b", text]}}, {"a": {"$gt": text}}, {text: 1}):
        with pytest.raises(InvalidFilter):
            parse_filter(form)
    for attributes in ({"a": text}, {"a": [text]}, {"a": {"b": text}}, {text: 1}):
        with pytest.raises(InvalidAttributes):
            clean_attributes(attributes)
