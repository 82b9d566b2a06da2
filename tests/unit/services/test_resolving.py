"""Groups of near-identical masters that are resolved, while others change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.errors import Conflict, InvalidInput, NotFound
from app.services import resolving
from app.services.keeping import Rule
from app.services.resolving import Group, Resolution, Task
from storage.records import Master, new_id
from tests.support.use_cases import UseCases, colours

RULES = [Rule.RESOLUTION]


@pytest.fixture
def masters(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> list[Master]:
    """Six masters, of which the odd ones are larger; a batch has two."""
    monkeypatch.setattr(resolving, "_BATCH", 2)
    sizes = [(64, 48), (96, 72)]
    return [
        use_cases.upload(colours(seed, sizes[seed % 2]), attributes={f"n{seed}": seed}).master
        for seed in range(6)
    ]


def pairs(masters: Sequence[Master]) -> list[Group]:
    """Return groups of two, in each of which the second one is larger."""
    return [
        Group((small.id, large.id))
        for small, large in zip(masters[::2], masters[1::2], strict=True)
    ]


def plan(
    use_cases: UseCases,
    groups: Sequence[Group],
    *,
    other: str | None = None,
    merge: bool = True,
    collection: str = "default",
) -> Task:
    return use_cases.resolving.plan_groups(collection, other, groups, RULES, merge_attributes=merge)


def resolve(use_cases: UseCases, task: Task, confirmed: int) -> Resolution:
    return list(use_cases.resolving.resolve(task, confirmed))[-1]


def attributes_of(use_cases: UseCases) -> dict[Any, Any]:
    page = use_cases.masters.list_masters("default", None, 100, None)
    return {master.id: master.attributes for master in page.masters}


def test_the_best_of_each_group_is_kept_with_all_attributes(
    use_cases: UseCases, masters: list[Master]
) -> None:
    before = attributes_of(use_cases)
    task = plan(use_cases, pairs(masters))
    preview = use_cases.resolving.preview(task)
    assert (preview.kept, preview.deleted, preview.merged) == (3, 3, 3)
    assert preview.bytes == sum(master.size for master in masters[::2])
    assert [choice.kept.id for choice in preview.choices] == [each.id for each in masters[1::2]]
    assert attributes_of(use_cases) == before
    walk = use_cases.resolving.resolve(task, 3)
    assert [outcome.done for outcome in walk] == [1, 2, 3]
    assert attributes_of(use_cases) == {
        masters[number].id: {f"n{number}": number, f"n{number - 1}": number - 1}
        for number in (1, 3, 5)
    }
    (deletion,) = use_cases.undo.list_deletions(None, 9)
    assert (deletion.reason, deletion.masters) == ("duplicates", 3)
    use_cases.worker.run_round()
    undone = list(use_cases.undo.undo_deletion(deletion.id))[-1]
    assert (undone.restored, undone.attributes_restored) == (3, 3)
    assert attributes_of(use_cases) == before
    use_cases.worker.run_round()
    vectors = use_cases.stores.vectors.fetch_vectors("model-1", [each.id for each in masters])
    assert {id_: vector.revision for id_, vector in vectors.items()} == {
        master.id: 2 if number % 2 == 0 else 3 for number, master in enumerate(masters)
    }


def test_a_master_can_be_kept_against_the_rules_and_without_merging(
    use_cases: UseCases, masters: list[Master]
) -> None:
    small, large, third = masters[:3]
    group = Group((small.id, large.id, third.id), keep=third.id)
    outcome = resolve(use_cases, plan(use_cases, [group], merge=False), 2)
    assert (outcome.kept, outcome.deleted, outcome.merged) == (1, 2, 0)
    kept = use_cases.masters.find_master(third.id)
    assert (kept.attributes, kept.revision) == ({"n2": 2}, 1)


def test_masters_of_two_collections_are_resolved(
    use_cases: UseCases, masters: list[Master]
) -> None:
    elsewhere = use_cases.upload(colours(20, (256, 192)), "other").master
    groups = [Group((masters[0].id, elsewhere.id))]
    assert use_cases.resolving.preview(plan(use_cases, groups)).skipped == 1
    assert resolve(use_cases, plan(use_cases, groups, other="other"), 1).kept == 1
    assert use_cases.masters.find_master(elsewhere.id).attributes == {"n0": 0}
    (deletion,) = use_cases.undo.list_deletions("default", 9)
    assert list(use_cases.undo.undo_deletion(deletion.id))[-1].restored == 1


def test_groups_of_which_little_is_left_are_skipped(
    use_cases: UseCases, masters: list[Master]
) -> None:
    use_cases.masters.delete_master(masters[0].id)
    use_cases.masters.delete_master(masters[3].id)
    groups = pairs(masters)
    groups[1] = Group((*groups[1].masters, masters[3].id)[:2], keep=masters[3].id)
    groups.append(Group((new_id(), new_id())))
    outcome = resolve(use_cases, plan(use_cases, groups), 1)
    assert (outcome.kept, outcome.skipped, outcome.total) == (1, 3, 4)


def test_masters_that_were_compared_with_a_deleted_one_alone_stay(
    use_cases: UseCases, masters: list[Master]
) -> None:
    first, *others = (master.id for master in masters[:3])
    group = Group((first, *others), representative=first)
    assert use_cases.resolving.preview(plan(use_cases, [group])).deleted == 2
    use_cases.masters.delete_master(first)
    outcome = resolve(use_cases, plan(use_cases, [group]), 0)
    assert (outcome.kept, outcome.skipped) == (0, 1)


def test_another_number_is_refused(use_cases: UseCases, masters: list[Master]) -> None:
    task = plan(use_cases, pairs(masters))
    with pytest.raises(Conflict, match="deletes 3 masters, not 4") as refused:
        use_cases.resolving.resolve(task, 4)
    assert (refused.value.code, refused.value.members) == ("count-changed", {"matched": 3})
    assert len(attributes_of(use_cases)) == 6


def test_a_group_whose_attributes_become_too_large_is_refused_alone(
    use_cases: UseCases, masters: list[Master]
) -> None:
    for master in masters[:2]:
        large = {str(master.id): "x" * 9000}
        use_cases.masters.update_master(master.id, None, large)
    outcome = resolve(use_cases, plan(use_cases, pairs(masters)), 2)
    assert (outcome.kept, outcome.refused) == (2, 1)
    assert outcome.examples == [(masters[1].id, "attributes are over 16 KiB as JSON")]
    assert use_cases.masters.find_master(masters[0].id)


def test_a_group_that_is_changed_meanwhile_is_chosen_again(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, changes = use_cases.stores.metadata.remove_masters, [{"new": 1}]

    def interfere(*arguments: Any) -> Any:
        if changes:
            use_cases.masters.update_master(masters[0].id, None, changes.pop())
        return remove(*arguments)

    task = plan(use_cases, pairs(masters))
    monkeypatch.setattr(use_cases.stores.metadata, "remove_masters", interfere)
    outcome = resolve(use_cases, task, 3)
    assert (outcome.kept, outcome.skipped) == (3, 0)
    assert use_cases.masters.find_master(masters[1].id).attributes == {"n1": 1, "new": 1}


def test_the_last_copy_stays_if_the_one_to_keep_is_deleted_meanwhile(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = use_cases.stores.metadata.remove_masters

    def interfere(*arguments: Any) -> Any:
        use_cases.stores.metadata.delete_master(masters[1].id)
        return remove(*arguments)

    task = plan(use_cases, pairs(masters[:2]))
    monkeypatch.setattr(use_cases.stores.metadata, "remove_masters", interfere)
    outcome = resolve(use_cases, task, 1)
    assert (outcome.kept, outcome.skipped, outcome.deletion) == (0, 1, None)
    assert use_cases.masters.find_master(masters[0].id)


def test_a_group_that_others_keep_changing_is_left_alone(
    use_cases: UseCases, masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = use_cases.stores.metadata.remove_masters

    def interfere(*arguments: Any) -> Any:
        use_cases.masters.update_master(masters[0].id, "again", None)
        return remove(*arguments)

    task = plan(use_cases, pairs(masters))
    monkeypatch.setattr(use_cases.stores.metadata, "remove_masters", interfere)
    outcome = resolve(use_cases, task, 3)
    assert (outcome.kept, outcome.deleted, outcome.skipped) == (2, 2, 1)


def test_bad_groups_are_refused(use_cases: UseCases, masters: list[Master]) -> None:
    one, two, three = (master.id for master in masters[:3])
    for groups in (
        [Group((one, one))],
        [Group((one, two)), Group((two, three))],
        [Group((one, two), keep=three)],
    ):
        with pytest.raises(InvalidInput) as refused:
            plan(use_cases, groups)
        assert refused.value.code == "invalid-groups"
    with pytest.raises(NotFound):
        plan(use_cases, pairs(masters), collection="none")
    with pytest.raises(NotFound):
        plan(use_cases, pairs(masters), other="none")
