"""Changes and deletions of all masters that match a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from app.errors import CountChanged, InvalidInput, NotFound
from app.services import changes
from app.services.changes import AttributeChange, Outcome
from storage.filter_parser import parse_filter
from storage.records import Master
from tests.support.use_cases import DOWN, UseCases, colours, raising

RED = parse_filter({"colour": "red"})


@pytest.fixture
def masters(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> list[Master]:
    """Seven red masters and a blue one; a batch has three."""
    monkeypatch.setattr(changes, "_BATCH", 3)
    stored = [
        use_cases.upload(colours(seed), attributes={"colour": "red", "n": seed}).master
        for seed in range(7)
    ]
    use_cases.upload(colours(9), attributes={"colour": "blue", "n": 9})
    return stored


def attributes_of(use_cases: UseCases) -> list[dict[str, Any]]:
    page = use_cases.masters.list_masters("default", None, 100, None)
    return [master.attributes for master in reversed(page.masters)]


def change(use_cases: UseCases, set_: object, *unset: str, confirmed: int = 7) -> Outcome:
    wanted = AttributeChange.parse(set_, unset)
    return list(use_cases.changes.change_matching("default", RED, wanted, confirmed))[-1]


def test_all_that_match_are_changed_in_batches(use_cases: UseCases, masters: list[Master]) -> None:
    use_cases.wake.clear()
    wanted = AttributeChange.parse({"colour": "green", "sale": {"from": 5}}, ["n"])
    walk = use_cases.changes.change_matching("default", RED, wanted, 7)
    assert [outcome.done for outcome in walk] == [3, 6, 7]
    assert use_cases.wake.is_set()
    new = {"colour": "green", "sale": {"from": 5}}
    assert attributes_of(use_cases) == [new] * 7 + [{"colour": "blue", "n": 9}]
    use_cases.worker.run_round()
    for master in masters:
        vector = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
        assert vector.revision == 2
        assert vector.attributes["sale"] == {"from": 5}


@pytest.mark.parametrize("permanent", [True, False])
def test_all_that_match_are_deleted_in_batches(
    use_cases: UseCases, masters: list[Master], permanent: bool
) -> None:
    outcome = list(use_cases.changes.delete_matching("default", RED, 7, permanent=permanent))[-1]
    assert (outcome.matched, outcome.changed, outcome.skipped) == (7, 7, 0)
    assert (outcome.deletion is None) == permanent
    assert attributes_of(use_cases) == [{"colour": "blue", "n": 9}]
    use_cases.worker.run_round()
    vectors = use_cases.stores.vectors.fetch_vectors("model-1", [each.id for each in masters])
    assert vectors == {}
    assert list(use_cases.changes.delete_matching("default", RED, 0)) == [Outcome(0)]


@pytest.mark.parametrize(
    ("set_", "unset", "before", "after"),
    [
        ({"a": 1}, [], {"b": 2}, {"a": 1, "b": 2}),
        ({"a": None}, [], {"a": 1, "b": 2}, {"b": 2}),
        ({"a": {"b": 1}}, [], {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": None}}, [], {"a": {"b": 1}}, {"a": {}}),
        ({"a": {"b": 1}}, [], {"a": 5}, {"a": {"b": 1}}),
        ({"a": [1]}, [], {"a": [1, 2]}, {"a": [1]}),
        ({}, ["a.b"], {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ({}, ["a.b", "x", "c.d"], {"a": 5, "c": {}}, {"a": 5, "c": {}}),
        ({"a": {"b": 1}}, ["a"], {"a": {"c": 2}}, {"a": {"b": 1}}),
        ({"e\u0301": 1}, [], {"\u00e9": 2}, {"\u00e9": 1}),
        ({}, ["e\u0301"], {"\u00e9": 2}, {}),
    ],
)
def test_a_change_is_a_merge_patch_after_what_it_removes(
    set_: object, unset: list[str], before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert AttributeChange.parse(set_, unset).apply(before) == after


@pytest.mark.parametrize(
    ("set_", "unset"),
    [
        ({}, []),
        ([], []),
        ("red", []),
        ({"a.b": 1}, []),
        ({"a.b": None}, []),
        ({"$a": None}, []),
        ({"a": [None]}, []),
        ({"a": float("nan")}, []),
        ({"a": "x" * 17_000}, []),
        ({f"k{number}": None for number in range(101)}, []),
        ({}, [""]),
        ({}, ["a..b"]),
        ({}, ["$a"]),
        ({}, [".".join("a" * 17)]),
        ({}, [f"k{number}" for number in range(101)]),
    ],
)
def test_an_invalid_change_is_refused(set_: object, unset: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        AttributeChange.parse(set_, unset)
    assert refused.value.code == "invalid-attributes"


def test_a_change_without_effect_raises_no_revision(
    use_cases: UseCases, masters: list[Master]
) -> None:
    use_cases.masters.update_master(masters[0].id, None, {"colour": "red", "n": True})
    outcome = change(use_cases, {"n": 1, "colour": "red"}, "none")
    assert (outcome.changed, outcome.unchanged) == (6, 1)  # true is not 1
    assert use_cases.masters.find_master(masters[1].id).revision == 1
    assert use_cases.masters.find_master(masters[0].id).revision == 3
    again = change(use_cases, {"n": 1, "colour": "red"}, "none")
    assert (again.changed, again.unchanged) == (0, 7)


def test_another_number_than_was_confirmed_changes_nothing(
    use_cases: UseCases, masters: list[Master]
) -> None:
    before = attributes_of(use_cases)
    with pytest.raises(CountChanged, match="matches 7 masters, not 6") as refused:
        use_cases.changes.delete_matching("default", RED, 6)
    assert (refused.value.code, refused.value.members) == ("count-changed", {"matched": 7})
    with pytest.raises(CountChanged):
        change(use_cases, {"a": 1}, confirmed=8)
    assert attributes_of(use_cases) == before
    assert use_cases.changes.count_matching("default", RED) == len(masters)
    assert use_cases.changes.count_matching("default", None) == len(masters) + 1
    for call in (use_cases.changes.delete_matching, use_cases.changes.count_matching):
        with pytest.raises(NotFound):
            call("none", RED, *([0] if call == use_cases.changes.delete_matching else []))


def test_a_master_whose_attributes_would_be_too_large_is_refused_alone(
    use_cases: UseCases, masters: list[Master]
) -> None:
    large = {"colour": "red", "text": "x" * 16_000}
    use_cases.masters.update_master(masters[3].id, None, large)
    outcome = change(use_cases, {"note": "y" * 500})
    assert (outcome.changed, outcome.refused) == (6, 1)
    assert outcome.examples == [(masters[3].id, "attributes are over 16 KiB as JSON")]
    assert use_cases.masters.find_master(masters[3].id).attributes == large
    assert use_cases.masters.find_master(masters[2].id).attributes["note"] == "y" * 500


def before_each_batch(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]
) -> None:
    """Act once, between the moment at which a batch was read and that at which it is written."""
    method, pending = getattr(use_cases.stores.metadata, name), [act]

    def write(collection_id: UUID, given: Any) -> Any:
        if pending:
            pending.pop()()
        return method(collection_id, given)

    monkeypatch.setattr(use_cases.stores.metadata, name, write)


def test_a_concurrent_change_is_kept(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interfere() -> None:
        use_cases.masters.update_master(masters[6].id, None, {"colour": "red", "by": "other"})
        use_cases.masters.update_master(masters[5].id, None, {"colour": "blue"})
        use_cases.masters.delete_master(masters[4].id)

    before_each_batch(use_cases, monkeypatch, "update_masters", interfere)
    outcome = change(use_cases, {"sale": True})
    assert (outcome.done, outcome.changed, outcome.skipped) == (7, 5, 2)
    kept = {"colour": "red", "by": "other", "sale": True}
    assert use_cases.masters.find_master(masters[6].id).attributes == kept
    assert use_cases.masters.find_master(masters[5].id).attributes == {"colour": "blue"}


@pytest.mark.parametrize("permanent", [True, False])
def test_a_master_that_no_longer_matches_is_not_deleted(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch, permanent: bool
) -> None:
    def interfere() -> None:
        use_cases.masters.update_master(masters[6].id, "new name", None)
        use_cases.masters.update_master(masters[0].id, None, {"colour": "blue"})

    method = "delete_masters" if permanent else "remove_masters"
    before_each_batch(use_cases, monkeypatch, method, interfere)
    outcome = list(use_cases.changes.delete_matching("default", RED, 7, permanent=permanent))[-1]
    assert outcome.changed == 6
    assert attributes_of(use_cases) == [{"colour": "blue"}, {"colour": "blue", "n": 9}]


def test_an_upload_during_a_deletion_stays(use_cases: UseCases, masters: list[Master]) -> None:
    walk = use_cases.changes.delete_matching("default", RED, 7)
    next(walk)
    new = use_cases.upload(colours(20), attributes={"colour": "red"}).master
    assert list(walk)[-1].changed == len(masters)
    assert use_cases.masters.find_master(new.id)


def test_a_master_that_others_keep_changing_is_left_alone(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = use_cases.stores.metadata.update_masters

    def interfere(collection_id: UUID, given: Any) -> Any:
        use_cases.masters.update_master(masters[0].id, None, {"colour": "red"})
        return update(collection_id, given)

    monkeypatch.setattr(use_cases.stores.metadata, "update_masters", interfere)
    outcome = change(use_cases, {"sale": True})
    assert (outcome.changed, outcome.skipped) == (6, 1)
    assert use_cases.masters.find_master(masters[0].id).attributes == {"colour": "red"}


def test_a_change_that_stops_midway_is_resumed(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = AttributeChange.parse({"sale": True}, [])
    walk = use_cases.changes.change_matching("default", RED, wanted, 7)
    next(walk)
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.stores.metadata, "select_masters", raising(DOWN))
        with pytest.raises(type(DOWN)):
            next(walk)
    changed = [each.get("sale", False) for each in attributes_of(use_cases)[: len(masters)]]
    assert changed == [False] * 4 + [True] * 3
    again = change(use_cases, {"sale": True})
    assert (again.changed, again.unchanged) == (4, 3)
