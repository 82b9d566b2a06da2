"""The rules for which master to keep, and how attributes are merged."""

from __future__ import annotations

import json
import random
from typing import Any
from uuid import UUID

import pytest

from app.services.keeping import Rule, merge_all, sort_best_first
from storage.attributes import InvalidAttributes
from storage.records import Master, MasterState


def make_master(number: int, **values: Any) -> Master:
    usual: dict[str, Any] = {
        "id": UUID(int=number),
        "collection_id": UUID(int=99),
        "collection": "shop",
        "sha256": bytes(32),
        "size": 1000,
        "mime": "image/jpeg",
        "extension": "jpg",
        "width": 100,
        "height": 50,
        "name": "a.jpg",
        "attributes": {},
        "revision": 1,
        "state": MasterState.STORED,
        "created_at": 1000 + number,
        "updated_at": 0,
    }
    return Master(**usual | values)


@pytest.mark.parametrize(
    ("rule", "better", "worse"),
    [
        (Rule.RESOLUTION, {"width": 50, "height": 101}, {"width": 100, "height": 50}),
        (Rule.SIZE, {"size": 1001}, {"size": 1000}),
        (Rule.FORMAT, {"mime": "image/png"}, {"mime": "image/webp"}),
        (Rule.FORMAT, {"mime": "image/x-nikon-nef"}, {"mime": "image/jpeg"}),
        (Rule.FORMAT, {"mime": "image/tiff"}, {"mime": "image/gif"}),
        (Rule.OLDEST, {"created_at": 5}, {"created_at": 6}),
        (Rule.ATTRIBUTES, {"attributes": {"a": {"b": 1, "c": 2}}}, {"attributes": {"a": 1}}),
    ],
)
def test_a_rule_tells_which_master_is_better(
    rule: Rule, better: dict[str, Any], worse: dict[str, Any]
) -> None:
    given = [make_master(1, **worse), make_master(2, **better)]
    assert [each.id.int for each in sort_best_first(given, [rule])] == [2, 1]


def test_the_first_rule_matters_most_and_the_oldest_wins_a_tie() -> None:
    large = make_master(3, width=200, size=10)
    heavy = make_master(4, size=5000)
    usual = [make_master(1), make_master(2)]
    masters = [*usual, large, heavy]
    random.Random(1).shuffle(masters)
    ranked = sort_best_first(masters, [Rule.RESOLUTION, Rule.SIZE])
    assert [each.id.int for each in ranked] == [3, 4, 1, 2]
    ranked = sort_best_first(masters, [Rule.SIZE, Rule.RESOLUTION])
    assert [each.id.int for each in ranked] == [4, 1, 2, 3]
    assert [each.id.int for each in sort_best_first(masters, [])] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kept", "others", "merged"),
    [
        ({"a": 1}, [{"a": 2, "b": 3}], {"a": 1, "b": 3}),
        ({"a": {"b": 1}}, [{"a": {"b": 2, "c": 3}}], {"a": {"b": 1, "c": 3}}),
        ({"a": {"b": 1}}, [{"a": 5}], None),
        ({"a": 5}, [{"a": {"b": 1}}], None),
        ({"a": [1]}, [{"a": [2]}], None),
        ({}, [{"a": 1}, {"a": 2, "b": 2}], {"a": 1, "b": 2}),
        ({"a": True}, [{"a": 1}], None),
        ({"a": 0}, [{"a": False, "b": ""}], {"a": 0, "b": ""}),
        ({}, [], None),
        ({}, [{}], None),
    ],
)
def test_what_the_kept_master_lacks_is_added(
    kept: dict[str, Any], others: list[dict[str, Any]], merged: dict[str, Any] | None
) -> None:
    before = json.dumps([kept, others])
    result = merge_all(kept, others)
    assert json.dumps(result, sort_keys=True) == json.dumps(merged, sort_keys=True)
    assert json.dumps([kept, others]) == before


def test_attributes_that_become_too_large_are_refused() -> None:
    with pytest.raises(InvalidAttributes, match="16 KiB"):
        merge_all({"a": "x" * 9000}, [{"b": "y" * 9000}])
