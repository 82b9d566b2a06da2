"""Attribute filters: what each form means, agreement of the backends, and invalid filters."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import vector_blocks, vector_matrix
from storage.attributes import clean_attributes
from storage.database import Database
from storage.filter_parser import InvalidFilter, parse_filter
from storage.filters import And, Equals, Filter, Not, matches
from storage.list_records import Page, Position
from storage.metadata import SqlMetadataStore, attribute_index, lists
from storage.records import Master, NewMaster, VectorRecord, whole_image
from storage.vectors_exact import ExactVectorStore
from tests.support.filter_examples import ATTRIBUTES, FIELDS, FILTERS, about

Attributes = dict[str, Any]
SOMEWHERE = np.full(4, 0.5, np.float32)
_numbers = itertools.count()


@dataclass(frozen=True)
class Picks:
    """The masters that a filter selects, by each way to evaluate it."""

    by_meaning: set[UUID]
    by_database: set[UUID]
    by_index: set[UUID]
    by_search: set[UUID]
    counted: set[int]

    @property
    def agree(self) -> bool:
        picked = (self.by_database, self.by_index, self.by_search)
        return all(each == self.by_meaning for each in picked) and self.counted == {
            len(self.by_meaning)
        }


class Gallery:
    """A new collection with the same masters in the metadata store and in the vector store."""

    def __init__(self, metadata: SqlMetadataStore, vectors: ExactVectorStore) -> None:
        self.metadata = metadata
        self.vectors = vectors
        self.version = f"model-{next(_numbers)}"
        self.collection = metadata.create_collection(self.version).id
        self.masters: dict[UUID, Attributes] = {}  # what filters see of each

    def add(self, attributes: Attributes, **fields: Any) -> UUID:
        content = sha256(f"{self.version} {next(_numbers)}".encode()).digest()
        kept = clean_attributes(attributes)
        new = NewMaster(content, 1, "image/png", "png", 1, 1, "one pixel", kept)
        new = replace(new, **fields)
        master = self.metadata.reserve_master(self.collection, new, "test", lease=60).master
        assert self.metadata.commit_stored(master.id, "test", [], lease=60) is not None
        self._index(master)
        return master.id

    def change(self, master_id: UUID, attributes: Attributes) -> None:
        kept = clean_attributes(attributes)
        changed = self.metadata.update_master(master_id, name=None, attributes=kept)
        assert changed
        self._index(changed)

    def remove(self, master_id: UUID) -> None:
        assert self.metadata.delete_master(master_id)
        self.vectors.delete(self.version, [master_id])
        del self.masters[master_id]

    def _index(self, master: Master) -> None:
        fields = master.filterable
        self.vectors.upsert(
            self.version,
            [VectorRecord(master.id, self.collection, whole_image(SOMEWHERE), fields, 1)],
        )
        self.masters[master.id] = fields

    def pick(self, filter: Filter) -> Picks:
        by_database, by_index = (self.page(filter, most_in_sql) for most_in_sql in (1000, 0))
        return Picks(
            by_meaning={
                master_id
                for master_id, attributes in self.masters.items()
                if matches(filter, attributes)
            },
            by_database={master.id for master in by_database.masters},
            by_index={master.id for master in by_index.masters},
            by_search=self.search(self.vectors, filter),
            counted={by_database.total, by_index.total},
        )

    def page(
        self,
        filter: Filter,
        most_in_sql: int,
        limit: int = 1000,
        after: UUID | None = None,
        offset: int = 0,
    ) -> Page:
        """List by SQL if the filter has at most so many conditions, otherwise by the index."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lists, "_MOST_IN_SQL", most_in_sql)
            behind = None if after is None else Position(after)
            return self.metadata.list_masters(self.collection, filter, limit, behind, offset)

    def search(self, vectors: ExactVectorStore, filter: Filter) -> set[UUID]:
        return {
            hit.master_id
            for hit in vectors.search(self.version, self.collection, SOMEWHERE, 1000, filter)
        }


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('filters')}/test.db")
    SqlMetadataStore(database).upgrade_schema()
    yield database
    database.close()


@pytest.fixture(scope="module")
def vectors(database: Database) -> Iterator[ExactVectorStore]:
    store = ExactVectorStore(database)
    yield store
    store.close()


@pytest.fixture
def gallery(database: Database, vectors: ExactVectorStore) -> Gallery:
    return Gallery(SqlMetadataStore(database), vectors)


# random filters and attributes


@settings(deadline=None, max_examples=60)
@given(
    masters=st.lists(st.tuples(ATTRIBUTES, FIELDS), min_size=1, max_size=6),
    forms=st.lists(FILTERS, min_size=4, max_size=8),
    data=st.data(),
)
def test_every_backend_picks_the_same_masters(
    database: Database,
    vectors: ExactVectorStore,
    masters: list[tuple[Attributes, Attributes]],
    forms: list[dict[str, Any]],
    data: st.DataObject,
) -> None:
    gallery = Gallery(SqlMetadataStore(database), vectors)
    for attributes, fields in masters:
        gallery.add(attributes, **fields)
    forms_about_them = [form for fields in gallery.masters.values() for form in about(fields)]
    if forms_about_them:
        forms += data.draw(
            st.lists(st.sampled_from(forms_about_them), min_size=4, max_size=8),
            label="forms about them",
        )
    for form in forms:
        assert gallery.pick(parse_filter(form)).agree, form


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "change", "change", "remove"]),
        st.integers(0, 100),
        ATTRIBUTES,
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=60)
@given(changes=CHANGES, forms=st.lists(FILTERS, min_size=3, max_size=6))
@example(
    changes=[("add", 0, {"a": 1}), ("change", 0, {}), ("add", 0, {"b": 1}), ("add", 0, {})],
    forms=[{"a": 1}, {"b": 1}],
)
def test_every_backend_picks_the_same_masters_after_changes(
    database: Database,
    vectors: ExactVectorStore,
    changes: list[tuple[str, int, Attributes]],
    forms: list[dict[str, Any]],
) -> None:
    with pytest.MonkeyPatch.context() as patch, closing(ExactVectorStore(database)) as restarted:
        # Compact the matrix every few writes.
        patch.setattr(vector_matrix, "ROWS", 3)
        gallery = Gallery(SqlMetadataStore(database), vectors)
        for kind, choice, attributes in changes:
            ids = list(gallery.masters)
            if kind == "add" or not ids:
                gallery.add(attributes)
            elif kind == "change":
                gallery.change(ids[choice % len(ids)], attributes)
            else:
                gallery.remove(ids[choice % len(ids)])
        for form in [*forms, *({path: {"$exists": True}} for path in ("a", "b", "a.b"))]:
            picks = gallery.pick(parse_filter(form))
            assert picks.agree, form
            assert gallery.search(restarted, parse_filter(form)) == picks.by_meaning, form
        for form in itertools.chain.from_iterable(
            about(attributes) for attributes in gallery.masters.values()
        ):
            wanted = parse_filter(form)
            expected = {
                master_id for master_id, kept in gallery.masters.items() if matches(wanted, kept)
            }
            assert gallery.search(vectors, wanted) == expected, form


def test_a_matrix_that_outgrows_its_blocks_keeps_all_attributes(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_matrix, "ROWS", 300)
    monkeypatch.setattr(vector_blocks, "ROWS", 300)

    def upsert(masters: dict[UUID, Attributes]) -> None:
        records = [
            VectorRecord(id_, gallery.collection, whole_image(SOMEWHERE), kept, 1)
            for id_, kept in masters.items()
        ]
        gallery.vectors.upsert(gallery.version, records)

    ids = [UUID(int=number) for number in range(700)]
    now: dict[UUID, Attributes] = {}
    for turn in range(4):  # 2100 rows in all
        written: dict[UUID, Attributes] = {}
        for number, master_id in enumerate(ids):
            if number % 4 != turn:
                tags = [turn + number % 7, str(number % 5)]
                written[master_id] = {
                    "turn": {"number": turn},
                    "word": f"{turn} {number}",
                    f"only {turn}": True,
                    "tags": tags,
                }
        upsert(written)
        gone = ids[turn * 20 : turn * 20 + 20]
        gallery.vectors.delete(gallery.version, gone)
        now = {
            master_id: kept for master_id, kept in (now | written).items() if master_id not in gone
        }
    others: dict[UUID, Attributes] = {UUID(int=number): {} for number in range(1000, 1700)}
    upsert(others)
    now |= others
    for form in (
        {"turn.number": 3},
        {"turn.number": {"$lt": 3}},
        {"word": "2 103"},
        {"word": {"$gt": "3 4"}},
        {"word": {"$lt": "3"}},
        {"only 0": {"$exists": True}},
        {"$not": {"only 3": True}},
        {"tags": {"$contains": 4}},
        {"tags": {"$contains": "4"}},
        {"tags": {"$contains": 1}},
    ):
        wanted = parse_filter(form)
        assert gallery.search(gallery.vectors, wanted) == {
            id_ for id_, kept in now.items() if matches(wanted, kept)
        }, form


def test_the_index_lists_the_same_pages_as_the_database(gallery: Gallery) -> None:
    ids = [gallery.add({"n": number % 3}) for number in range(20)]
    for form in ({"n": {"$lt": 2}}, {"n": 7}, {"n": {"$exists": True}}):
        wanted = parse_filter(form)
        for limit, after, offset in itertools.product(
            (1, 3, 6, 1000), (None, ids[0], ids[7], ids[19], UUID(int=1)), (0, 1, 5, 2**53)
        ):
            by_database, by_index = (
                gallery.page(wanted, most_in_sql, limit, after, offset) for most_in_sql in (9, 0)
            )
            assert by_index == by_database, (form, limit, after, offset)


def test_the_index_knows_what_other_processes_have_changed(
    gallery: Gallery, database: Database
) -> None:
    kept, changed, deleted, damaged = (gallery.add({"a": number}) for number in range(4))
    wanted = parse_filter({"a": {"$lt": 5}})
    with closing(Database(str(database.url))) as elsewhere:
        other = SqlMetadataStore(elsewhere)

        def found() -> set[UUID]:
            return {master.id for master in gallery.page(wanted, 0).masters}

        assert found() == {kept, changed, deleted, damaged}
        other.update_master(changed, name=None, attributes={"a": 6})
        other.delete_master(deleted)
        other.mark_damaged(damaged)
        assert found() == {kept}
        other.update_master(changed, name=None, attributes={"a": 1})
        other.restore_damaged(damaged)
        assert found() == {kept, changed, damaged}
        (record,) = other.find_records([kept]).values()
        attributes = replace(record.master, attributes={"a": 9}, updated_at=1)
        other.import_records([replace(record, master=attributes)])
        assert found() == {changed, damaged}
        other.delete_collection(gallery.version)
        assert found() == set()


def test_the_index_forgets_earlier_revisions(gallery: Gallery) -> None:
    master = gallery.add({"a": 0})
    wanted = parse_filter({"a": {"$exists": True}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribute_index, "_FEW", 3)
        for number in range(20):
            gallery.change(master, {"a": number})
            assert gallery.page(wanted, 0).masters[0].attributes == {"a": number}
            index = gallery.metadata._index._collections[gallery.collection]
            assert len(index._rows) <= 6


def test_threads_that_browse_and_change_get_current_answers(
    gallery: Gallery, database: Database
) -> None:
    ids = [gallery.add({"n": 0}) for _ in range(8)]

    def change_and_list(id_: UUID) -> None:
        store = SqlMetadataStore(database)
        for number in range(1, 15):
            assert store.update_master(id_, name=None, attributes={"n": number})
            page = gallery.metadata.list_masters(
                gallery.collection, parse_filter({"n": number}), 100, None
            )
            assert id_ in {master.id for master in page.masters}

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(lists, "_MOST_IN_SQL", 0)
        list(pool.map(change_and_list, ids))


def test_a_filter_picks_from_its_own_collection_only(
    database: Database, vectors: ExactVectorStore
) -> None:
    one, other = (Gallery(SqlMetadataStore(database), vectors) for _ in range(2))
    other.version = one.version
    mine, _ = one.add({"a": 1}), other.add({"a": 1})
    picks = one.pick(parse_filter({"a": 1}))
    assert picks.by_meaning == {mine}
    assert picks.agree


# the meaning of each form: the filter, attributes that pass, attributes that do not

MEANING: dict[str, tuple[dict[str, Any], list[Attributes], list[Attributes]]] = {
    "equal strings": (
        {"a": "red"},
        [{"a": "red"}, {"a": "red", "b": 1}],
        [{"a": "Red"}, {"a": "red "}, {"b": "red"}, {}],
    ),
    "a letter and its accent apart are that letter": (
        {"a": "é"},
        [{"a": "é"}, {"a": "e\u0301"}],
        [{"a": "e"}],
    ),
    "an empty string": ({"a": ""}, [{"a": ""}], [{}, {"a": []}, {"a": {}}, {"a": False}, {"a": 0}]),
    "1 is 1.0": (
        {"a": 1},
        [{"a": 1}, {"a": 1.0}],
        [{"a": True}, {"a": "1"}, {"a": [1]}, {"a": 1.5}],
    ),
    "1.0 is 1": (
        {"a": 1.0},
        [{"a": 1}, {"a": 1.0}],
        [{"a": True}, {"a": "1.0"}, {"a": 1.0000000000000002}],
    ),
    "0 is -0.0": ({"a": 0}, [{"a": 0}, {"a": -0.0}], [{"a": False}, {"a": ""}, {"a": 5e-324}]),
    "large integers to the last digit": (
        {"a": 2**53 - 1},
        [{"a": 2**53 - 1}],
        [{"a": 2**53 - 2}, {"a": 2.0**53}],
    ),
    "true is only true": (
        {"a": True},
        [{"a": True}],
        [{"a": 1}, {"a": 1.0}, {"a": "true"}, {"a": False}, {}],
    ),
    "false is only false": (
        {"a": False},
        [{"a": False}],
        [{"a": 0}, {"a": ""}, {"a": []}, {"a": True}, {}],
    ),
    "a list equals nothing": ({"a": "x"}, [{"a": "x"}], [{"a": ["x"]}, {"a": {"x": "x"}}]),
    "$eq is equality": ({"a": {"$eq": 1}}, [{"a": 1.0}], [{"a": True}, {}]),
    "$ne takes what has no such key": (
        {"a": {"$ne": 1}},
        [{}, {"a": 2}, {"a": True}, {"a": [1]}, {"a": {}}],
        [{"a": 1}, {"a": 1.0}],
    ),
    "$in of several types": (
        {"a": {"$in": ["x", 1, True]}},
        [{"a": "x"}, {"a": 1}, {"a": 1.0}, {"a": True}],
        [{"a": "1"}, {"a": False}, {"a": ["x"]}, {}],
    ),
    "$in keeps 1 and true apart": (
        {"a": {"$in": [1, "true"]}},
        [{"a": 1}, {"a": "true"}],
        [{"a": True}],
    ),
    "$in of nothing": ({"a": {"$in": []}}, [], [{"a": 1}, {"a": ""}, {"a": []}, {}]),
    "$nin takes what has no such key": (
        {"a": {"$nin": ["x", 1]}},
        [{}, {"a": True}, {"a": ["x"]}, {"a": 2}],
        [{"a": "x"}, {"a": 1.0}],
    ),
    "$nin of nothing": ({"a": {"$nin": []}}, [{}, {"a": 1}, {"a": []}], []),
    "$gt": (
        {"a": {"$gt": 1}},
        [{"a": 1.5}, {"a": 2}],
        [{"a": 1}, {"a": 1.0}, {"a": "2"}, {"a": True}, {"a": [2]}, {}],
    ),
    "$gte": (
        {"a": {"$gte": 1}},
        [{"a": 1}, {"a": 1.0}, {"a": 2}],
        [{"a": 0.9}, {"a": True}, {"a": "1"}],
    ),
    "$lt": (
        {"a": {"$lt": 1.5}},
        [{"a": 1}, {"a": -1e300}],
        [{"a": 1.5}, {"a": 2}, {"a": False}, {"a": ""}, {}],
    ),
    "$lte": ({"a": {"$lte": 1.5}}, [{"a": 1}, {"a": 1.5}], [{"a": 1.6}, {"a": False}]),
    "both ends": ({"a": {"$gte": 1, "$lt": 2}}, [{"a": 1}, {"a": 1.9}], [{"a": 2}, {"a": 0}, {}]),
    "strings by code point": (
        {"a": {"$gt": "Z"}},
        [{"a": "a"}, {"a": "é"}, {"a": "Za"}, {"a": "\uffff"}, {"a": "\U00010000"}],
        [{"a": "Z"}, {"a": "A"}, {"a": "9"}, {"a": ""}, {"a": 99}],
    ),
    "code points above those of 16 bits come last": (
        {"a": {"$lt": "\U00010000"}},
        [{"a": "\uffff"}, {"a": "\ue000"}, {"a": "z"}],
        [{"a": "\U00010000"}, {"a": "\U0001f600"}],
    ),
    "digits in strings are no numbers": (
        {"a": {"$lt": "9"}},
        [{"a": "10"}, {"a": ""}],
        [{"a": "9"}, {"a": 1}],
    ),
    "$contains": (
        {"a": {"$contains": "x"}},
        [{"a": ["x"]}, {"a": [1, "x", True]}],
        [{"a": "x"}, {"a": ["xy"]}, {"a": []}, {}],
    ),
    "$contains keeps types apart": (
        {"a": {"$contains": 1}},
        [{"a": [1]}, {"a": [1.0, "x"]}],
        [{"a": [True]}, {"a": ["1"]}, {"a": 1}, {"a": {"1": 1}}],
    ),
    "$contains true": (
        {"a": {"$contains": True}},
        [{"a": [0, True]}],
        [{"a": [1, "true"]}, {"a": True}],
    ),
    "$contains does not look into objects": (
        {"a": {"$contains": 1}},
        [{"a": [1]}],
        [{"a": {"b": 1}}, {"a": {"b": [1]}}],
    ),
    "$exists": (
        {"a": {"$exists": True}},
        [{"a": 1}, {"a": ""}, {"a": False}, {"a": []}, {"a": {}}, {"a": {"b": 1}}],
        [{}, {"b": {"a": 1}}],
    ),
    "$exists false": (
        {"a": {"$exists": False}},
        [{}, {"b": 1}, {"b": {"a": 1}}],
        [{"a": 0}, {"a": {}}, {"a": []}],
    ),
    "$exists inside an object": (
        {"a.b": {"$exists": True}},
        [{"a": {"b": False}}],
        [{"a": {}}, {"a": "b"}, {"a": ["b"]}, {"b": 1}, {}],
    ),
    "$exists false inside what is no object": (
        {"a.b": {"$exists": False}},
        [{}, {"a": 1}, {"a": ["b"]}, {"a": {}}],
        [{"a": {"b": 1}}],
    ),
    "a key left null is missing": ({"a": {"$exists": False}}, [{"a": None}], [{"a": 0}]),
    "a dotted key": (
        {"a.b": 1},
        [{"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}],
        [{"a": 1}, {"b": 1}, {"a": {"b": {"b": 1}}}],
    ),
    "an object within the filter": (
        {"a": {"b": 1, "c": {"$gt": 2}}},
        [{"a": {"b": 1, "c": 3}}],
        [{"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"b": 1, "c": 3}],
    ),
    "a number as a key is no place in a list": ({"a.0": "x"}, [{"a": {"0": "x"}}], [{"a": ["x"]}]),
    "all keys must hold": (
        {"a": 1, "b": 2},
        [{"a": 1, "b": 2}],
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 3}],
    ),
    "$and": ({"$and": [{"a": 1}, {"b": 2}]}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
    "$or": (
        {"$or": [{"a": 1}, {"b": 2}]},
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
        [{"a": 2, "b": 1}, {}],
    ),
    "$not takes what has no such key": ({"$not": {"a": 1}}, [{}, {"a": 2}, {"b": 1}], [{"a": 1}]),
    "$not of a range takes other types": (
        {"a": {"$not": {"$gt": 1}}},
        [{}, {"a": 1}, {"a": "x"}, {"a": True}, {"a": [2]}],
        [{"a": 2}],
    ),
    "$not of all is not all": (
        {"$not": {"a": 1, "b": 2}},
        [{"a": 1}, {"b": 2}, {}],
        [{"a": 1, "b": 2}],
    ),
    "$not twice": ({"$not": {"$not": {"a": 1}}}, [{"a": 1}], [{}, {"a": 2}]),
    "$or inside a key": (
        {"a": {"$or": [{"$lt": 1}, {"b": 2}]}},
        [{"a": 0}, {"a": {"b": 2}}],
        [{"a": 1}, {"b": 2}],
    ),
    "$prefix": (
        {"a": {"$prefix": "IMG_"}},
        [{"a": "IMG_"}, {"a": "IMG_20.jpg"}],
        [{"a": "img_20.jpg"}, {"a": "IMG-20"}, {"a": " IMG_"}, {"a": ["IMG_"]}, {"a": 1}, {}],
    ),
    "$prefix of nothing takes every text": (
        {"a": {"$prefix": ""}},
        [{"a": ""}, {"a": "x"}],
        [{"a": 0}, {"a": False}, {"a": []}, {}],
    ),
    "$prefix has no wildcards": (
        {"a": {"$prefix": "%\\"}},
        [{"a": "%\\x"}],
        [{"a": "x\\"}, {"a": "%%"}, {"a": "%"}],
    ),
    "$like with any text": (
        {"a": {"$like": "IMG%.jpg"}},
        [{"a": "IMG.jpg"}, {"a": "IMG\n.jpg"}, {"a": "IMG.jpg.jpg"}],
        [{"a": "IMG.JPG"}, {"a": "IMG.jpg2"}, {"a": "1 IMG.jpg"}, {"a": "IMG"}, {}],
    ),
    "$like with one character": (
        {"a": {"$like": "r_d"}},
        [{"a": "red"}, {"a": "réd"}, {"a": "r\U0001f600d"}, {"a": "r_d"}, {"a": "r\nd"}],
        [{"a": "rd"}, {"a": "reed"}, {"a": "Red"}, {"a": "red "}, {"a": 1}],
    ),
    "$like with escapes": (
        {"a": {"$like": "100\\%\\_\\\\%"}},
        [{"a": "100%_\\"}, {"a": "100%_\\x"}],
        [{"a": "100x_\\"}, {"a": "100%x\\"}, {"a": "100%_"}],
    ),
    "$like without a wildcard": (
        {"a": {"$like": "a\\%"}},
        [{"a": "a%"}],
        [{"a": "a"}, {"a": "ab"}],
    ),
    "$like takes the pieces in order, without overlap": (
        {"a": {"$like": "ab%bc%cd"}},
        [{"a": "abbccd"}, {"a": "ab..bc..cd"}],
        [{"a": "abcd"}, {"a": "abbcd"}, {"a": "cdbcab"}],
    ),
    "$like with characters that other patterns know": (
        {"a": {"$like": "[a-c]*?!^%"}},
        [{"a": "[a-c]*?!^"}, {"a": "[a-c]*?!^x"}],
        [{"a": "b"}, {"a": "bx?!^"}],
    ),
    "$like keeps apart what SQLite confuses": (
        {"a": {"$like": "\ufffe%\ufffd%_"}},
        [{"a": "\ufffe\ufffd\uffff"}, {"a": "\ufffe\x01\x02\ufffdx"}],
        [
            {"a": "\uffff\ufffdx"},
            {"a": "\ufffd\ufffdx"},
            {"a": "\x01\ufffdx"},
            {"a": "\ufffe\ufffe\uffff"},
            {"a": "\ufffe\ufffd"},
        ],
    ),
    "$not of $like takes other types": (
        {"a": {"$not": {"$like": "r%"}}},
        [{"a": "blue"}, {"a": 1}, {"a": ["red"]}, {}],
        [{"a": "red"}],
    ),
    "$within": (
        {"a": {"$within": [5, 45, 10, 48]}},
        [{"a": {"latitude": 45, "longitude": 10.0}}, {"a": {"latitude": 47.5, "longitude": 5}}],
        [
            {"a": {"latitude": 44.9, "longitude": 7}},
            {"a": {"latitude": 46, "longitude": 10.1}},
            {"a": {"latitude": "46", "longitude": 7}},
            {"a": {"latitude": 46}},
            {"a": [46, 7]},
            {},
        ],
    ),
    "$within across the antimeridian": (
        {"a": {"$within": [170, -50, -170, -30]}},
        [{"a": {"latitude": -40, "longitude": 175}}, {"a": {"latitude": -40, "longitude": -175}}],
        [{"a": {"latitude": -40, "longitude": 0}}, {"a": {"latitude": 40, "longitude": 175}}],
    ),
    "a time of capture": (
        {"capture.time": {"$gte": "2024-05-01", "$lt": "2024-05-02T02:00:00+02:00"}},
        [{"capture": {"time": 1714521600000}}, {"capture": {"time": 1714607999999}}],
        [
            {"capture": {"time": 1714521599999}},
            {"capture": {"time": 1714608000000}},
            {"capture": {"time": "2024-05-01"}},
            {"capture": {}},
            {},
        ],
    ),
    "a moment of capture": (
        {"capture": {"time": {"$in": ["2024-05-01T00:00:00.5Z", 7]}}},
        [{"capture": {"time": 1714521600500}}, {"capture": {"time": 7}}],
        [{"capture": {"time": 1714521600000}}],
    ),
    "a time of upload is a moment or an attribute": (
        {"created_at": {"$gte": "2024-05-01", "$lt": "2024-05-02"}},
        [{"created_at": 1714521600000}, {"created_at": "2024-05-01T10:00:00"}],
        [{"created_at": 1714521599999}, {"created_at": "2024"}, {"created_at": "2024-05-02"}, {}],
    ),
    "an attribute may have the name of a time and no time": (
        {"created_at": "long ago"},
        [{"created_at": "long ago"}],
        [{"created_at": "2024-05-01"}, {}],
    ),
    "keys with odd characters": ({"it's [0]": 1}, [{"it's [0]": 1}], [{"it's ": [1]}, {}]),
}


@pytest.mark.parametrize("name", MEANING)
def test_each_form_selects_what_it_means(name: str, gallery: Gallery) -> None:
    form, passing, failing = MEANING[name]
    expected = {gallery.add(attributes) for attributes in passing}
    for attributes in failing:
        gallery.add(attributes)
    picks = gallery.pick(parse_filter(form))
    assert picks.by_meaning == expected
    assert picks.agree


CAPTURE = {
    "time": 1_714_521_600_000,
    "camera": "Leica Q2",
    "gps": {"latitude": 46.9, "longitude": 7.4},
}


@pytest.mark.parametrize(
    "form",
    [
        {"name": "IMG_2.jpg"},
        {"name": {"$prefix": "IMG_"}},
        {"name": {"$like": "img%"}},
        {"name": {"$gt": "IMG"}},
        {"name": {"$contains": "I"}},
        {"name": 7},
        {"name": {"$gt": 7}},
        {"name.first": {"$exists": True}},
        {"mime": {"$in": ["image/jpeg", 1, True]}},
        {"width": {"$gte": 4000}},
        {"width": {"$lt": 4000.5}},
        {"width": "4000"},
        {"height": {"$like": "3%"}},
        {"size": {"$exists": True}},
        {"size": 123},
        {"size": {"$ne": 123}},
        {"created_at": {"$gte": "2024-05-01"}},
        {"created_at": {"$lt": "2024-05-01"}},
        {"capture": {"$exists": True}},
        {"capture": {"$exists": False}},
        {"capture.time": {"$gte": "2024-05-01", "$lt": "2024-05-02"}},
        {"capture.time": "2024-05-01T02:00:00+02:00"},
        {"capture.time": {"$exists": False}},
        {"capture.camera": {"$prefix": "Leica"}},
        {"capture.gps": {"$within": [5, 45, 10, 48]}},
        {"$not": {"capture.gps": {"$within": [5, 45, 10, 48]}}},
    ],
    ids=str,
)
def test_a_filter_reaches_what_a_picture_says_of_itself(
    form: dict[str, Any], gallery: Gallery
) -> None:
    gallery.add(
        {}, name="IMG_2.jpg", mime="image/jpeg", width=4000, height=3000, size=123, capture=CAPTURE
    )
    gallery.add({}, name="cat.png", width=1, height=3, size=2**40, capture={})
    gallery.add({"a": 1})
    # An attribute comes first.
    gallery.add(
        {"name": 7, "width": "4000", "size": [1], "capture": {"time": 1_714_521_600_001}},
        capture=CAPTURE,
    )
    gallery.add({"name": {"first": "I"}, "capture": "x", "mime": ["image/jpeg"]}, capture=CAPTURE)
    assert gallery.pick(parse_filter(form)).agree


@pytest.mark.parametrize("key", ["größe", "色", "\U0001f600"])
def test_a_key_may_be_in_any_language(key: str, gallery: Gallery) -> None:
    sized = gallery.add({key: 3})
    nested = gallery.add({"a": {key: [3]}})
    assert gallery.pick(parse_filter({key: 3})) == Picks({sized}, {sized}, {sized}, {sized}, {1})
    assert gallery.pick(parse_filter({f"a.{key}": {"$contains": 3}})) == Picks(
        {nested}, {nested}, {nested}, {nested}, {1}
    )


@pytest.mark.parametrize("key", ["a\\b", "a\\", "a\nb", "k" * 65, 'a"b', "a\0b", "\ud800"])
def test_a_key_that_attributes_may_not_have_is_refused(key: str) -> None:
    with pytest.raises(InvalidFilter, match="cannot be"):
        parse_filter({key: {"$exists": True}})


def test_backends_agree_on_the_largest_number_of_values(gallery: Gallery) -> None:
    inside, outside = gallery.add({"a": 999}), gallery.add({"a": 1000})
    among = list(range(1000))
    assert gallery.pick(parse_filter({"a": {"$in": among}})) == Picks(
        {inside}, {inside}, {inside}, {inside}, {1}
    )
    assert gallery.pick(parse_filter({"a": {"$nin": among}})) == Picks(
        {outside}, {outside}, {outside}, {outside}, {1}
    )


def test_backends_agree_on_the_largest_number_of_conditions(gallery: Gallery) -> None:
    last, _ = gallery.add({"a": 98}), gallery.add({"a": 99})
    anyone = parse_filter({"$or": [{"a": number} for number in range(99)]})
    assert gallery.pick(anyone) == Picks({last}, {last}, {last}, {last}, {1})


# valid and invalid forms


@pytest.mark.parametrize(
    ("form", "normal"),
    [
        ({"folder": "Fru\u0308hling"}, {"folder": "Frühling"}),
        ({"gro\u0308ße.o\u0308": 1}, {"größe.ö": 1}),
        ({"a": {"$in": ["o\u0308", 1]}}, {"a": {"$in": ["ö", 1]}}),
        ({"a": {"$gte": "o\u0308"}}, {"a": {"$gte": "ö"}}),
        ({"a": {"$like": "o\u0308%"}}, {"a": {"$like": "ö%"}}),
        ({"a": {"$prefix": "o\u0308"}}, {"a": {"$prefix": "ö"}}),
        ({"a": {"$contains": "\u1112\u1161\u11ab"}}, {"a": {"$contains": "한"}}),
        ({"o\u0308": {"$exists": True}}, {"ö": {"$exists": True}}),
    ],
    ids=ascii,
)
def test_keys_and_strings_are_parsed_to_the_normal_form_nfc(
    form: dict[str, Any], normal: dict[str, Any]
) -> None:
    assert parse_filter(form) == parse_filter(normal)


def test_the_length_of_a_key_is_that_of_its_normal_form() -> None:
    assert parse_filter({"o\u0308" * 64: 1}) == Equals(("ö" * 64,), 1)


def test_a_dotted_key_is_an_object_within_an_object() -> None:
    assert (
        parse_filter({"a.b": {"c": 1}})
        == parse_filter({"a": {"b": {"c": 1}}})
        == Equals(("a", "b", "c"), 1)
    )


def test_several_members_must_all_hold() -> None:
    assert parse_filter({"a": 1, "b": {"$ne": "x"}}) == And(
        (Equals(("a",), 1), Not(Equals(("b",), "x")))
    )


@pytest.mark.parametrize(
    ("form", "place"),
    [
        (None, "filter"),
        ([], "filter"),
        ("red", "filter"),
        (1, "filter"),
        ({}, "filter"),
        ({"colour": {}}, "colour"),
        ({"size": {"height": {}}}, "size.height"),
        ({"$and": []}, "$and"),
        ({"$and": {"a": 1}}, "$and"),
        ({"$or": []}, "$or"),
        ({"$or": "a"}, "$or"),
        ({"$or": [1]}, "filter"),
        ({"$or": [{}]}, "filter"),
        ({"$not": []}, "filter"),
        ({"$not": {}}, "filter"),
        ({"colour": {"$not": 1}}, "colour"),
        ({"colour": {"$or": [{"$eq": 1}, 2]}}, "colour"),
        ({"$eq": 1}, "$eq"),
        ({"$and": [{"$gt": 1}]}, "$gt"),
        ({"$regex": "x"}, "'$regex'"),
        ({"colour": {"$regex": "x"}}, "'$regex'"),
        ({"colour": {"$": 1}}, "'$'"),
        ({"colour": {"$a\nb": 1}}, r"'$a\nb'"),
        ({"": 1}, "''"),
        ({"colour": {"$eq": "red", "x": 1}}, "colour: operators and keys"),
        ({"$nor": []}, "'$nor'"),
        ({"size..height": 1}, "'size..height'"),
        ({".size": 1}, "'.size'"),
        ({"size.": 1}, "'size.'"),
        ({"size": {"": 1}}, "''"),
        ({"colour": None}, "colour"),
        ({"colour": ["red"]}, "colour"),
        ({"size.height": {"$eq": None}}, "size.height"),
        ({"colour": {"$eq": {"a": 1}}}, "colour"),
        ({"colour": {"$ne": []}}, "colour"),
        ({"price": math.nan}, "price"),
        ({"price": {"$lt": math.inf}}, "price"),
        ({"price": {"$gt": -math.inf}}, "price"),
        ({"price": 2**53}, "price"),
        ({"price": {"$in": [1, -(2**53)]}}, "price"),
        ({"colour": {"$in": "red"}}, "colour: $in"),
        ({"colour": {"$nin": {"a": 1}}}, "colour: $nin"),
        ({"colour": {"$in": [None]}}, "colour"),
        ({"colour": {"$nin": [["red"]]}}, "colour"),
        ({"colour": {"$in": list(range(1001))}}, "colour: $in"),
        ({"price": {"$gt": True}}, "price: $gt"),
        ({"price": {"$lte": False}}, "price: $lte"),
        ({"price": {"$gte": None}}, "price"),
        ({"price": {"$lt": [1]}}, "price"),
        ({"tags": {"$contains": ["a"]}}, "tags"),
        ({"tags": {"$contains": None}}, "tags"),
        ({"colour": {"$exists": 1}}, "colour: $exists"),
        ({"colour": {"$exists": "true"}}, "colour: $exists"),
        ({".".join(["a"] * 17): 1}, "'a.a."),
        ({"a": {".".join(["a"] * 16): 1}}, "'a.a."),
        ({"colour": {"$prefix": 1}}, "colour: $prefix takes a string"),
        ({"colour": {"$prefix": None}}, "colour"),
        ({"colour": {"$like": True}}, "colour: $like takes a string"),
        ({"colour": {"$like": ["%"]}}, "colour"),
        ({"colour": {"$like": "a\\"}}, "colour: $like: the pattern ends with a backslash"),
        ({"colour": {"$like": "a" * 256}}, "colour: $like: a pattern has at most 255"),
        ({"colour": {"$prefix": "a" * 255}}, "colour: $prefix: a pattern has at most 255"),
        ({"colour": {"$like": "%" * 9}}, "colour: $like: a pattern has at most 8 wildcards %"),
        ({"$like": "a%"}, "$like"),
        ({"place": {"$within": [1, 2, 3]}}, "place: $within takes [west"),
        ({"place": {"$within": {"west": 1}}}, "place: $within takes [west"),
        ({"place": {"$within": [1, 2, 3, "4"]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [1, 2, 3, True]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [1, 2, 3, math.nan]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [181, 2, 3, 4]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [1, 2, 3, 10**400]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [1, -91, 3, 4]}}, "place: $within takes longitudes"),
        ({"place": {"$within": [1, 5, 3, 4]}}, "place: $within takes [west"),
        ({"capture.time": "May 2024"}, "capture.time: 'May 2024' is not a time in ISO 8601"),
        ({"capture.time": {"$in": ["2024-05-01", ""]}}, "capture.time: ''"),
        ({"capture": {"time": {"$gt": "2024-13-01"}}}, "capture.time: '2024-13-01'"),
        ({"capture.time": {"$prefix": "2024"}}, "capture.time: $prefix"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_invalid_filter_is_refused_with_the_place_of_the_error(form: object, place: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(form)
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfff!"], ids=ascii)
@pytest.mark.parametrize("operator", ["$eq", "$in", "$gt", "$contains"])
def test_text_that_no_store_can_keep_is_refused(text: str, operator: str) -> None:
    with pytest.raises(
        InvalidFilter, match="colour: text with a NUL character or half of a surrogate pair"
    ):
        parse_filter({"colour": {operator: [text] if operator == "$in" else text}})


@pytest.mark.parametrize("form", [{"$\ud800": 1}, {"colour": {"$\ud800": 1}}], ids=ascii)
def test_the_message_about_half_a_surrogate_pair_can_be_encoded(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(form)
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    "wrap", [lambda form: {"$not": form}, lambda form: {"$and": [form]}, lambda form: {"a": form}]
)
def test_a_filter_nests_ten_deep_and_no_deeper(wrap: Any) -> None:
    form: dict[str, Any] = {"a": 1}
    for _ in range(10):
        form = wrap(form)
    parse_filter(form)
    with pytest.raises(InvalidFilter, match="more than 10 deep"):
        parse_filter(wrap(form))


def test_a_filter_that_nests_without_end_is_refused() -> None:
    form: dict[str, Any] = {}
    form["$not"] = form
    with pytest.raises(InvalidFilter, match="more than 10 deep"):
        parse_filter(form)


def test_a_filter_has_a_hundred_conditions_and_no_more() -> None:
    parse_filter({f"key {number}": 1 for number in range(100)})
    with pytest.raises(InvalidFilter, match="more than 100 conditions"):
        parse_filter({f"key {number}": 1 for number in range(101)})
    with pytest.raises(InvalidFilter, match="more than 100 conditions"):
        parse_filter({"$or": [{"a": number} for number in range(100)]})


def test_a_box_counts_as_four_conditions() -> None:
    box = {"$within": [0, 0, 1, 1]}
    parse_filter({f"key {number}": box for number in range(20)})
    with pytest.raises(InvalidFilter, match="more than 100 conditions"):
        parse_filter({f"key {number}": box for number in range(21)})


def test_a_list_has_a_thousand_values_and_no_more() -> None:
    parse_filter({"a": {"$in": list(range(1000))}})
    with pytest.raises(InvalidFilter, match="at most 1000 values"):
        parse_filter({"a": {"$in": list(range(1001))}})


@pytest.mark.parametrize("operator", ["$eq", "$in", "$like"])
def test_a_value_that_nests_too_deep_to_be_shown_is_refused(operator: str) -> None:
    value: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        value = [value]
    with pytest.raises(InvalidFilter, match="more than 10 deep"):
        parse_filter({"a": {operator: [value] if operator == "$in" else value}})
