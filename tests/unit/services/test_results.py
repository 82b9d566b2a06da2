"""What a search makes of the masters that it finds: groups, folded hits, pages, orders, facets."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.services import collapsing, grouping, results
from app.services.queries import Example, FileExample, ResultOptions, SearchOptions, VectorExample
from app.services.ranking import Hit
from app.services.search import SearchResult
from storage.records import Master, VectorRecord, whole_image
from storage.sorting import parse_sort
from tests.support.use_cases import UseCases, colours
from tests.support.vector_records import near, unit

SAMPLE = VectorExample(unit(0).tolist())
VALUES: list[Any] = [1, 1.0, 2, True, "1", "a", "b", "long" * 100, ["a"], {"x": 1}, None]
drawn = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pictures = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(VALUES)), min_size=1, max_size=14)


def options(collection: str = "default", *, k: int = 10, **asked: Any) -> SearchOptions:
    own = {name: asked.pop(name) for name in ("offset", "max_distance") if name in asked}
    return SearchOptions(collection, k=k, results=ResultOptions(**asked), **own)


def search(use_cases: UseCases, asked: SearchOptions, example: Example = SAMPLE) -> SearchResult:
    return use_cases.search.search([example], asked)


def ids(hits: Sequence[Hit]) -> list[UUID]:
    return [hit.master.id for hit in hits]


def put(
    use_cases: UseCases, seed: int, distance: float, collection: str = "default", **attributes: Any
) -> Master:
    """Store a master whose vector is at this distance from the sample's."""
    master = use_cases.upload(colours(seed), collection, f"{seed}.png", attributes).master
    vector = whole_image(near(unit(0), distance))
    record = VectorRecord(master.id, master.collection_id, vector, master.attributes, 9)
    use_cases.stores.vectors.upsert("model-1", [record])
    return master


def fill(use_cases: UseCases, drawing: list[tuple[int, Any]]) -> str:
    """Store masters in a new collection, and return its name."""
    collection = f"c{uuid4().hex[:8]}"
    for seed, (tenths, value) in enumerate(drawing):
        given = {} if value is None else {"v": value}
        put(use_cases, seed, tenths / 10, collection, **given)
    return collection


def key_of(hit: Hit) -> Any:
    """Return the group of a hit, in other words than the service."""
    value = hit.master.attributes.get("v")
    if value is None or isinstance(value, list | dict):
        return hit.master.id
    return isinstance(value, bool), isinstance(value, str), value


def ignore_filters(use_cases: UseCases, patch: pytest.MonkeyPatch) -> list[int]:
    """Let the vector store ignore filters; return the numbers of hits that it is asked for."""
    vectors, reaches = use_cases.stores.vectors, []
    known = vectors.search

    def search_without_filter(*given: Any) -> Any:
        reaches.append(given[3])
        return known(*given[:4], None, *given[5:])

    patch.setattr(vectors, "search", search_without_filter)
    return reaches


@drawn
@given(
    drawing=pictures,
    k=st.integers(1, 6),
    offset=st.integers(0, 3),
    size=st.integers(1, 3),
    blind=st.booleans(),
)
def test_groups_are_those_of_all_hits(
    use_cases: UseCases,
    drawing: list[tuple[int, Any]],
    k: int,
    offset: int,
    size: int,
    blind: bool,
) -> None:
    """Also if the vector store ignores the filter, as Milvus does with a negation."""
    collection = fill(use_cases, drawing)
    every = search(use_cases, options(collection, k=50)).hits
    assert len(every) == len(drawing)
    groups: dict[Any, list[Hit]] = {}
    for hit in every:
        groups.setdefault(key_of(hit), []).append(hit)
    expected = [group[:size] for group in groups.values()][offset : offset + k]
    asked = options(collection, k=k, offset=offset, group_by=("v",), group_size=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_LEAST_READ", 1)
        if blind:
            ignore_filters(use_cases, patch)
        found = search(use_cases, asked)
    assert found.groups is not None
    assert [[hit, *found.groups[hit.master.id].more] for hit in found.hits] == expected


def test_a_group_with_many_near_masters_hides_no_other(use_cases: UseCases) -> None:
    for seed in range(30):
        put(use_cases, seed, 0.1, product="p1")
    far = [put(use_cases, 30 + seed, 0.5 + seed / 10, product=f"q{seed}") for seed in range(3)]
    found = search(use_cases, options(k=4, group_by=("product",)))
    assert ids(found.hits)[1:] == [master.id for master in far]
    assert found.groups is not None
    assert found.groups[far[0].id].value == "q0"


def test_a_search_for_groups_reads_only_so_many_hits(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "_MOST_READ", 5)
    monkeypatch.setattr(grouping, "_LEAST_READ", 1)
    for seed in range(8):
        put(use_cases, seed, 0.1, product="p1")
    put(use_cases, 8, 0.5, product="p2")
    assert len(search(use_cases, options(k=3, group_by=("product",))).hits) == 1
    reaches = ignore_filters(use_cases, monkeypatch)
    assert len(search(use_cases, options(k=2, group_by=("product",))).hits) == 1
    assert max(reaches) < 10


def test_the_exact_hit_is_first_and_comes_once(use_cases: UseCases) -> None:
    for attributes in ({}, {"product": "p"}):
        own = put(use_cases, 50 + len(attributes), 1.5, **attributes)
        for seed in range(3):
            put(use_cases, seed + 10 * len(attributes), 0.2 + seed / 10, **attributes)
        example = FileExample(io.BytesIO(colours(50 + len(attributes))))
        asked = options(k=20, group_by=("product",), group_size=2)
        found = search(use_cases, asked, example)
        assert found.groups is not None
        inside = [hit for group in found.groups.values() for hit in group.more]
        assert found.hits[0].exact
        assert found.hits[0].master.id == own.id
        assert Counter([*ids(found.hits), *ids(inside)])[own.id] == 1


def test_near_hits_are_folded_into_the_nearest(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collapsing, "_BATCH", 2)
    monkeypatch.setattr(collapsing, "_LEAST_READ", 1)
    first, second, third = (put(use_cases, seed, seed / 2) for seed in range(3))
    copies = [put(use_cases, 10 + seed, 0.001 * (1 + seed)) for seed in range(4)]
    other = put(use_cases, 20, 0.502)
    found = search(use_cases, options(k=3, collapse_duplicates=0.02))
    assert ids(found.hits) == [first.id, second.id, third.id]
    assert found.duplicates == {
        first.id: [copy.id for copy in copies],
        second.id: [other.id],
        third.id: [],
    }
    assert ids(search(use_cases, options(k=1, offset=1, collapse_duplicates=0.02)).hits) == [
        second.id
    ]


def test_the_exact_hit_stands_for_its_duplicates(use_cases: UseCases) -> None:
    nearest, own = put(use_cases, 1, 0.2), put(use_cases, 0, 0.21)
    example = FileExample(io.BytesIO(colours(0)))
    found = search(use_cases, options(collapse_duplicates=0.1), example)
    assert ids(found.hits) == [own.id]
    assert found.duplicates == {own.id: [nearest.id]}


def test_a_master_without_a_vector_is_not_folded(use_cases: UseCases) -> None:
    own = put(use_cases, 0, 0.2)
    use_cases.stores.vectors.delete("model-1", [own.id])
    put(use_cases, 1, 0.2)
    found = search(use_cases, options(collapse_duplicates=2.0), FileExample(io.BytesIO(colours(0))))
    assert len(found.hits) == 2


def test_groups_are_formed_before_hits_are_folded(use_cases: UseCases) -> None:
    red = [put(use_cases, seed, seed / 1000, colour="red") for seed in range(3)]
    blue = [put(use_cases, 3 + seed, 0.01 + seed / 2, colour="blue") for seed in range(2)]
    green = put(use_cases, 9, 0.4, colour="green")
    asked = options(group_by=("colour",), group_size=2, collapse_duplicates=0.05)
    found = search(use_cases, asked)
    assert ids(found.hits) == [red[0].id, green.id]
    assert found.duplicates == {red[0].id: [blue[0].id], green.id: []}
    assert found.groups is not None
    assert ids(found.groups[red[0].id].more) == [red[1].id]


def test_a_sort_changes_the_order_of_the_page_alone(use_cases: UseCases) -> None:
    prices = [3, None, "x", 1.5, True, 2]
    masters = [
        put(use_cases, seed, seed / 10, **({} if price is None else {"price": price}))
        for seed, price in enumerate([*prices, 0])
    ]

    def order(sort: str, k: int = 6) -> list[int]:
        found = search(use_cases, options(k=k, sort=parse_sort(sort))).hits
        return [[master.id for master in masters].index(id_) for id_ in ids(found)]

    assert order("distance") == [0, 1, 2, 3, 4, 5]
    assert order("-distance") == [5, 4, 3, 2, 1, 0]
    assert order("price") == [3, 5, 0, 2, 4, 1]
    assert order("-price") == [4, 2, 0, 5, 3, 1]
    assert order("-created_at", k=3) == [2, 1, 0]
    assert order("-name", k=3) == [2, 1, 0]
    assert order("missing") == [0, 1, 2, 3, 4, 5]


@drawn
@given(data=st.data(), drawing=pictures, k=st.integers(1, 4), exact=st.booleans())
def test_pages_lead_through_all_hits_while_masters_come_and_go(
    use_cases: UseCases, data: st.DataObject, drawing: list[tuple[int, Any]], k: int, exact: bool
) -> None:
    collection = fill(use_cases, drawing)
    example = FileExample(io.BytesIO(colours(0))) if exact else SAMPLE
    asked = options(collection, k=k, sort=parse_sort("-name"))
    lasting = set(ids(search(use_cases, options(collection, k=50), example).hits))
    new = 100
    walked: list[UUID] = []
    while True:
        page = search(use_cases, asked, example)
        walked += ids(page.hits)
        if page.next_page is None:
            break
        asked = replace(asked, results=replace(asked.results, after=page.next_page))
        for tenths in data.draw(st.lists(st.integers(0, 9), max_size=2)):
            put(use_cases, new, tenths / 10, collection)
            new += 1
        if len(lasting) > 1 and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(lasting)))
            use_cases.masters.delete_master(gone)
            lasting.discard(gone)
        if new > 120:
            break
    assert len(walked) == len(set(walked))
    assert new > 120 or lasting <= set(walked)


def test_a_cursor_is_for_the_same_search(use_cases: UseCases) -> None:
    for seed in range(4):
        put(use_cases, seed, seed / 10)
    use_cases.upload(colours(9), "other")
    asked = options(k=1)
    after = search(use_cases, asked).next_page
    same = options(k=2, after=after, sort=parse_sort("name"), facets=(("v",),))
    assert len(search(use_cases, same).hits) == 2
    for changed, example in (
        (options(k=1, after=after, max_distance=0.5), SAMPLE),
        (options("other", k=1, after=after), SAMPLE),
        (options(k=1, after=after), VectorExample(unit(1).tolist())),
        (options(k=1, after=after), FileExample(io.BytesIO(colours(0)))),
    ):
        with pytest.raises(InvalidInput, match="another search") as refused:
            search(use_cases, changed, example)
        assert refused.value.code == "invalid-cursor"


def test_options_that_contradict_each_other_are_refused(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(use_cases, 0, 0.1)
    after = search(use_cases, options(k=1)).next_page
    for asked, words in (
        (options(after=after, offset=1), "Leave out offset or cursor"),
        (options(after=after, group_by=("v",)), "neither group_by"),
        (options(after=after, collapse_duplicates=0.1), "neither group_by"),
        (options(group_size=2), "needs group_by"),
        (options(k=500, group_by=("v",), group_size=3), "at most 1000"),
        (options(k=1000, offset=1, group_by=("v",)), "at most 1000"),
        (options(k=1000, offset=1, collapse_duplicates=0.1), "at most 1000"),
    ):
        with pytest.raises(InvalidInput, match=words):
            search(use_cases, asked)
    monkeypatch.setattr(results, "MAX_PASSED", 10)
    with pytest.raises(InvalidInput, match="first 10 hits"):
        search(use_cases, options(after=after, k=10))


def test_facets_count_what_is_near(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        tags = ["all", f"t{seed}"]
        put(use_cases, seed, seed / 20, colour=["red", "blue"][seed % 2], tags=tags, deep={"n": 1})
    paths = (("colour",), ("tags",), ("deep", "n"), ("deep",), ("mime",))
    found = search(use_cases, options(k=5, facets=paths)).facets
    assert found is not None
    assert (found.masters, found.complete) == (5, True)
    assert [facet.values for facet in found.facets] == [
        [("red", 3), ("blue", 2)],
        [("all", 5), *((f"t{seed}", 1) for seed in range(5))],
        [(1, 5)],
        [],
        [("image/png", 5)],
    ]
    within = search(use_cases, options(k=1, facets=paths[:2], max_distance=1.2)).facets
    assert within is not None
    assert (within.masters, within.complete) == (25, True)
    assert within.facets[1].values[0] == ("all", 25)
    assert (len(within.facets[1].values), within.facets[1].others) == (20, 6)
    monkeypatch.setattr(results, "MAX_REACH", 10)
    cut = search(use_cases, options(k=1, facets=paths[:1], max_distance=1.2, group_by=("v",)))
    assert cut.facets is not None
    assert (cut.facets.masters, cut.facets.complete) == (10, False)
