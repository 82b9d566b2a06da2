"""The contract of lists: pages in any order, whatever others do meanwhile, and numbers by month."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from storage.database import Database
from storage.filter_parser import parse_filter
from storage.list_records import Months, Position
from storage.metadata import SqlMetadataStore, new_id
from storage.metadata.orders import list_segments
from storage.metadata.rows import SELECT_MASTERS, is_inside
from storage.protocols import MetadataStore
from storage.records import Collection, Master, MasterRecord, MasterState
from storage.sorting import InvalidSort, Sort, parse_sort, write_sort

NEW = Master(
    id=UUID(int=0),
    collection_id=UUID(int=0),
    collection="shop",
    sha256=bytes(32),
    size=1,
    mime="image/jpeg",
    extension="jpg",
    width=1,
    height=1,
    name="a.jpg",
    attributes={},
    revision=1,
    state=MasterState.STORED,
    created_at=0,
    updated_at=0,
)
MAY = 1_714_521_600_000  # 2024-05-01
# What differs from NEW. Several masters have the same values, and several have none.
DIFFERENT: list[dict[str, Any]] = [
    {"name": "b.jpg", "capture": {"time": MAY}, "width": 3, "attributes": {"a": 1}},
    {"name": "B.jpg", "capture": {"time": MAY}, "width": 2, "attributes": {"a": 1.0}},
    {"name": "b.jpg", "capture": {"time": -1}, "attributes": {"a": -0.5}},
    {"name": "é.jpg", "capture": {}, "attributes": {"a": "red"}},
    {"name": "a", "capture": None, "attributes": {"a": "red "}},
    {"name": "a ", "capture": {"time": MAY + 1}, "attributes": {"a": True}},
    {"name": "\U0001f600", "capture": {"time": 0, "iso": 100}, "attributes": {"a": False}},
    {"name": "\uffff", "capture": None, "attributes": {"a": ["red"]}},
    {"name": "b.jpg", "capture": {"iso": 50}, "attributes": {"a": {"b": 1}}},
    {"name": "", "capture": {"time": -MAY}, "attributes": {"a": "\uffff", "width": "wide"}},
    {"name": "c.jpg", "capture": {"time": 5}, "attributes": {"a": "\U00010000"}},
    {"name": "c.jpg", "capture": {"time": 5}, "attributes": {"a": "", "capture": {"iso": 70}}},
    {"name": "x" * 255, "attributes": {"a": "é" * 300, "name": 1}},
    {"name": "x" * 255, "attributes": {"a": "é" * 299 + "z", "capture": "none"}},
    {"name": "x", "attributes": {"a": 1e300}},
    {"name": "x", "attributes": {"a": "é" * 254 + "z"}},
]
SORTS = [
    f"{sign}{path}"
    for path in ("created_at", "name", "capture.time", "a", "a.b", "width", "capture.iso", "mime")
    for sign in ("", "-")
]
FILTERS = [
    None,
    {"a": {"$exists": True}},
    # So many conditions that the embedded database is not asked for them.
    {"a": {"$nin": [7, 8]}, "b": {"$exists": False}, "c": {"$ne": 1}},
]


def fill(metadata: MetadataStore, different: Sequence[dict[str, Any]] = DIFFERENT) -> list[Master]:
    collection = Collection(new_id(), "shop", 0)
    metadata.import_collection(collection)
    ids = sorted(new_id() for _ in different)
    masters = [
        replace(NEW, id=id_, collection_id=collection.id, sha256=os.urandom(32), **each)
        for id_, each in zip(ids, different, strict=True)
    ]
    metadata.import_records([MasterRecord(master, {}) for master in masters])
    return masters


def value_of(master: Master, sort: Sort) -> Any:
    """Return the value that a master is sorted by, by the words of the documentation."""
    if sort.path == ("created_at",):
        return None
    built_in = sort.path in (("name",), ("capture", "time"))
    value: Any = master.built_in_fields if built_in else master.filterable
    for key in sort.path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict | list):
        return None
    return value[:255] if isinstance(value, str) else value


def ordered(masters: Sequence[Master], sort: Sort) -> list[Master]:
    """Sort by what the documentation says: numbers, strings, booleans, and the others last."""

    def key(master: Master) -> tuple[Any, ...]:
        value = value_of(master, sort)
        rank = next(
            rank
            for rank, types in enumerate(((int, float), (str,), (bool,), (type(None),)))
            if isinstance(value, types) and (rank == 2 or not isinstance(value, bool))
        )
        return rank, 0 if value is None else value, master.id

    present = [master for master in masters if value_of(master, sort) is not None]
    missing = [master for master in masters if value_of(master, sort) is None]
    return [
        master
        for part in (present, missing)
        for master in sorted(part, key=key, reverse=sort.descending)
    ]


@pytest.mark.parametrize("form", FILTERS, ids=str)
@pytest.mark.parametrize("text", SORTS)
def test_pages_are_in_order_and_complete(
    metadata: MetadataStore, text: str, form: dict[str, Any] | None
) -> None:
    masters, sort = fill(metadata), parse_sort(text)
    conditions = None if form is None else parse_filter(form)
    expected = [master.id for master in ordered(masters, sort)]
    (collection_id,) = {master.collection_id for master in masters}
    seen: list[UUID] = []
    after = None
    while True:
        page = metadata.list_masters(collection_id, conditions, 3, after, sort=sort)
        assert page.total == len(masters)
        seen += [master.id for master in page.masters]
        after = page.next_after
        if after is None:
            break
        ahead = metadata.list_masters(collection_id, conditions, 100, after, 4, sort)
        assert [master.id for master in ahead.masters] == expected[len(seen) + 4 :]
    assert seen == expected
    for offset in (1, 9, 15, 16, 17):
        skipped = metadata.list_masters(collection_id, conditions, 2, None, offset, sort)
        assert [master.id for master in skipped.masters] == expected[offset : offset + 2]
        assert (skipped.next_after is None) == (offset + 2 >= len(expected))


@pytest.mark.parametrize("text", SORTS)
def test_masters_that_do_not_change_are_on_one_page_whatever_others_do(
    metadata: MetadataStore, text: str
) -> None:
    masters, sort = fill(metadata), parse_sort(text)
    collection_id = masters[0].collection_id
    in_order = ordered(masters, sort)
    unchanged = {master.id for master in in_order[0:16:2]}
    seen: list[UUID] = []
    after = None
    for number in range(100):
        page = metadata.list_masters(collection_id, None, 2, after, sort=sort)
        seen += [master.id for master in page.masters]
        after = page.next_after
        if after is None:
            break
        # Remove or change a master that was seen, and one that was not; add others.
        for place in (2 * number + 1, 13 - 2 * number):
            if 0 <= place < len(in_order) and in_order[place].id not in unchanged:
                if number % 2:
                    metadata.delete_master(in_order[place].id)
                else:
                    changed = {"a": [None, 3, "z", True][number % 4] or "s"}
                    metadata.update_master(
                        in_order[place].id, name=f"{number}.jpg", attributes=changed
                    )
        added = replace(masters[number % 16], id=new_id(), sha256=os.urandom(32))
        metadata.import_records([MasterRecord(added, {})])
    assert sorted(id_ for id_ in seen if id_ in unchanged) == sorted(unchanged)


def test_a_list_goes_on_behind_values_that_no_master_has(metadata: MetadataStore) -> None:
    masters = fill(metadata)
    for text in ("a", "-a"):
        sort = parse_sort(text)
        in_order = ordered(masters, sort)
        for value in (-1, 0.7, 2, "", "rec", "red", "zzz", False, True, None):
            after = Position(UUID(int=2**127), value)
            page = metadata.list_masters(masters[0].collection_id, None, 100, after, sort=sort)
            marker = replace(NEW, id=after.id, attributes={} if value is None else {"a": value})
            place = ordered([*masters, marker], sort).index(marker)
            assert [each.id for each in page.masters] == [each.id for each in in_order[place:]], (
                value
            )


def test_only_visible_masters_of_the_collection_are_listed(metadata: MetadataStore) -> None:
    masters = fill(metadata)
    metadata.delete_master(masters[0].id)
    metadata.mark_damaged(masters[1].id)
    other = Collection(new_id(), "other", 0)
    metadata.import_collection(other)
    elsewhere = replace(masters[2], id=new_id(), collection_id=other.id, collection="other")
    metadata.import_records([MasterRecord(elsewhere, {})])
    for text in SORTS:
        page = metadata.list_masters(
            masters[0].collection_id, None, 100, None, sort=parse_sort(text)
        )
        assert {master.id for master in page.masters} == {master.id for master in masters[2:]}, text
        assert page.total == 14
    metadata.delete_collection("shop")
    for text in SORTS:
        page = metadata.list_masters(
            masters[0].collection_id, None, 100, None, sort=parse_sort(text)
        )
        assert (page.masters, page.total) == ([], 0), text


@pytest.mark.parametrize("text", ["name", "-name", "capture.time", "-capture.time", "-created_at"])
def test_an_index_has_the_order_of_a_column(sql: Database, text: str) -> None:
    metadata = SqlMetadataStore(sql)
    masters = fill(metadata, [{"name": f"{number % 300}"} for number in range(3000)])
    sort = parse_sort(text)
    value = {"name": "150", "capture.time": MAY}.get(text.removeprefix("-"))
    after = Position(masters[1500].id, value)
    for segment in list_segments(sort, after, embedded=sql.embedded):
        statement = (
            SELECT_MASTERS.where(is_inside(masters[0].collection_id), segment.condition)
            .order_by(*segment.order)
            .limit(100)
        )
        compiled = statement.compile(sql.engine, compile_kwargs={"render_postcompile": True})
        with sql.read() as connection:
            if not sql.embedded:
                connection.exec_driver_sql("ANALYZE TABLE masters")
            plan = "EXPLAIN QUERY PLAN " if sql.embedded else "EXPLAIN "
            positional = compiled.positiontup
            given = compiled.construct_params()
            processors = compiled._bind_processors
            values = {
                key: processors[key](item) if key in processors else item
                for key, item in given.items()
            }
            parameters = tuple(values[key] for key in positional) if positional else values
            rows = connection.exec_driver_sql(plan + str(compiled), parameters).all()
        explained = " ".join(str(row) for row in rows)
        assert "TEMP B-TREE" not in explained, explained
        assert "filesort" not in explained, explained
        assert "ix_masters_collection_id_state" in explained, explained


def test_masters_are_counted_by_the_month_in_which_they_were_taken(metadata: MetadataStore) -> None:
    day = 86_400_000
    times = [MAY, MAY + 31 * day - 1, MAY + 31 * day, MAY - 1, 0, -1, -day, -5_364_662_400_000]
    captures: list[dict[str, Any] | None] = [{"time": time} for time in times]
    captures += [{}, {"iso": 100}, None]
    masters = fill(
        metadata,
        [{"capture": capture, "attributes": {"n": n}} for n, capture in enumerate(captures)],
    )
    collection_id = masters[0].collection_id
    months = [("2024-06", 1), ("2024-05", 2), ("2024-04", 1), ("1970-01", 1), ("1969-12", 2)]
    assert metadata.count_months(collection_id, None) == Months([*months, ("1800-01", 1)], 2, 1)
    some = parse_filter({"n": {"$gte": 5, "$lt": 10}})
    assert metadata.count_months(collection_id, some) == Months(
        [("1969-12", 2), ("1800-01", 1)], 2, 0
    )
    long = parse_filter({"n": {"$gte": 5, "$lt": 10, "$ne": 6, "$nin": [8]}})
    assert metadata.count_months(collection_id, long) == Months(
        [("1969-12", 1), ("1800-01", 1)], 1, 0
    )
    metadata.delete_collection("shop")
    assert metadata.count_months(collection_id, None) == Months([], 0, 0)


def test_the_fields_of_masters_are_listed_newest_first_in_pages(metadata: MetadataStore) -> None:
    masters = fill(metadata)[::-1]
    metadata.delete_master(masters[2].id)
    kept = [master for master in masters if master is not masters[2]]
    collection_id = masters[0].collection_id
    first = metadata.list_fields(collection_id, 3, None)
    rest = metadata.list_fields(collection_id, 100, first[-1].id)
    assert [(each.id, each.attributes, each.built_in) for each in first + rest] == [
        (master.id, master.attributes, master.built_in_fields) for master in kept
    ]
    assert len(first) == 3
    assert all(one.id > other.id for one, other in pairwise(first + rest))


@pytest.mark.parametrize(
    "text", ["", "-", "--a", "a.", ".a", "$a", "a\\b", "\0", "a" * 65, "a" + ".a" * 16]
)
def test_an_invalid_order_is_refused(text: str) -> None:
    with pytest.raises(InvalidSort, match=r"key|NUL"):
        parse_sort(text)


def test_an_order_is_written_as_it_is_read() -> None:
    for text in SORTS:
        assert write_sort(parse_sort(text)) == text
    assert parse_sort("-a.b") == Sort(("a", "b"), descending=True)
