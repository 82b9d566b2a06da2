"""What a mirror may remove, where it goes, and by what it notices an older database."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest

from app.services import mirroring
from app.services.deletion import Deletion
from app.services.encoder_files import encoder_key
from app.services.installation_copy import InstallationCopy
from app.services.marks import has_reached, set_mark
from app.services.mirroring import CopyRefused, MirrorRules, RemovalRefused
from app.services.removed_objects import RemovedObjects
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from storage.records import Master
from tests.support.use_cases import TODAY, UseCases, colours


def put(stores: Stores, key: str, content: bytes = b"x") -> None:
    stores.objects.put(key, io.BytesIO(content), len(content), "image/png", "a")


def keys(stores: Stores, prefix: str) -> list[str]:
    return sorted(info.key for info in stores.objects.list(prefix))


def mirror(use_cases: UseCases, target: Stores, rules: MirrorRules | None = None) -> int:
    """Mirror into the target, finish its deletions, and return how many masters were removed."""
    copying = InstallationCopy(
        use_cases.stores,
        target,
        jobs=1,
        lease=60.0,
        fail=lambda what, why: pytest.fail(f"{what}: {why}"),
        mirror=True,
        rules=rules,
    )
    counts = copying.copy_masters(lambda _: None)
    copying.finish_deletions(target, lambda _: None)
    return counts.only_in_target


@pytest.fixture
def masters(use_cases: UseCases, other_stores: Stores) -> list[Master]:
    """Masters of the source, which are in the target, too."""
    uploaded = [use_cases.upload(colours(seed)).master for seed in range(12)]
    mirror(use_cases, other_stores)
    return uploaded


def delete(use_cases: UseCases, masters: list[Master]) -> None:
    for master in masters:
        use_cases.masters.delete_master(master.id)


def test_ten_masters_are_removed_and_moved(
    use_cases: UseCases, other_stores: Stores, masters: list[Master]
) -> None:
    delete(use_cases, masters[:10])
    assert mirror(use_cases, other_stores) == 10
    assert keys(other_stores, "masters") == sorted(each.object_key for each in masters[10:])
    moved = sorted(f"removed/{TODAY}/{each.object_key}" for each in masters[:10])
    assert keys(other_stores, "removed") == moved
    assert b"".join(other_stores.objects.read(f"removed/{TODAY}/{masters[0].object_key}")) == (
        colours(0)
    )


@pytest.mark.parametrize("how", ["masters", "collection"])
def test_eleven_masters_are_removed_only_if_that_is_allowed(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], how: str
) -> None:
    if how == "masters":
        delete(use_cases, masters[:11])
    else:  # its rows are still there, and not yet marked
        use_cases.upload(colours(99), "other")
        mirror(use_cases, other_stores)
        use_cases.collections.delete_collection("default")
    with pytest.raises(RemovalRefused, match=r"remove 1[12] of the 1[23] masters.*--allow-removal"):
        mirror(use_cases, other_stores)
    assert len(keys(other_stores, "masters")) >= 12
    assert keys(other_stores, "removed") == []
    assert mirror(use_cases, other_stores, MirrorRules(allow_removal=True)) >= 11


def test_one_in_a_hundred_may_be_removed() -> None:
    assert [mirroring.allowed_removals(total) for total in (0, 1000, 1100, 5000)] == [
        *(10, 10, 11, 50)
    ]


def test_masters_that_are_deleted_during_the_run_count_too(
    use_cases: UseCases, other_stores: Stores, masters: list[Master]
) -> None:
    def fail(what: str, why: str) -> None:
        pytest.fail(f"{what}: {why}")

    copying = InstallationCopy(
        use_cases.stores, other_stores, jobs=1, lease=60.0, fail=fail, mirror=True
    )
    copying.check_removals()
    delete(use_cases, masters[:11])
    with pytest.raises(RemovalRefused, match="deleted during the run"):
        copying.copy_masters(lambda _: None)
    assert len(other_stores.metadata.list_records(None, 100)) == 12


def test_an_older_database_is_refused_by_its_revisions_and_its_mark(
    use_cases: UseCases, other_stores: Stores, masters: list[Master]
) -> None:
    lost = MirrorRules(is_current=False)
    assert mirror(use_cases, other_stores, lost) == 0  # there is nothing to lose
    delete(use_cases, masters[:1])
    with pytest.raises(RemovalRefused, match=r"older than the backup.*lacks 1 of its masters"):
        mirror(use_cases, other_stores, lost)
    other_stores.metadata.update_master(masters[1].id, name="newer", attributes=None)
    with pytest.raises(RemovalRefused, match="older than the backup: 1 masters have names"):
        mirror(use_cases, other_stores)
    assert mirror(use_cases, other_stores, MirrorRules(allow_removal=True)) == 1


def test_an_emptied_installation_is_known_by_its_id(
    use_cases: UseCases, other_stores: Stores, masters: list[Master]
) -> None:
    delete(use_cases, masters[:5])
    mirror(use_cases, other_stores)
    use_cases.collections.empty_collection("default")
    with pytest.raises(RemovalRefused, match="may be the backup of another"):
        mirror(use_cases, other_stores)
    rules = MirrorRules(same_installation=False, allow_removal=True)
    with pytest.raises(CopyRefused, match="it is the backup of another"):
        mirror(use_cases, other_stores, rules)
    assert mirror(use_cases, other_stores, MirrorRules(same_installation=True)) == 7


@pytest.mark.parametrize("known", [True, False])
def test_the_encoder_of_an_earlier_version_is_kept_or_moved(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], known: bool
) -> None:
    put(other_stores, encoder_key("model-0"))
    record = use_cases.stores.vectors.fetch_vectors("model-1", [masters[0].id])
    other_stores.vectors.upsert("model-0", list(record.values()))
    if known:
        use_cases.stores.registry.start_building("model-0", "look")
    mirror(use_cases, other_stores)
    assert other_stores.vectors.versions() == ["model-1"]
    where = "" if known else f"removed/{TODAY}/"
    assert f"{where}{encoder_key('model-0')}" in keys(other_stores, "")


def test_removed_objects_expire_by_the_day(stores: Stores) -> None:
    removed = RemovedObjects(stores.objects)
    days = [TODAY - timedelta(days=age) for age in (0, 30, 31)]
    for day in days:
        put(stores, f"removed/{day}/masters/a")
    put(stores, "removed/notes.txt")
    assert removed.expire(30) == 1
    assert keys(stores, "removed") == sorted(
        ["removed/notes.txt", *(f"removed/{day}/masters/a" for day in days[:2])]
    )


def test_an_object_is_not_deleted_before_its_copy_is_complete(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stores, "masters/a", b"abc")
    removed = RemovedObjects(stores.objects)
    copy = stores.objects.copy

    def copy_half(key: str, target: str) -> None:
        copy(key, target)
        put(stores, target, b"a")

    monkeypatch.setattr(stores.objects, "copy", copy_half)
    with pytest.raises(StoreUnavailable, match="other bytes"):
        removed.move("masters/a")
    assert "masters/a" in keys(stores, "")
    monkeypatch.undo()
    stores.objects.delete(f"removed/{TODAY}/masters/a")
    removed.move("masters/a")
    removed.move("masters/a")  # as after a crash between the copy and the end of the deletion
    assert keys(stores, "") == [f"removed/{TODAY}/masters/a"]


def test_a_deletion_outside_a_mirror_deletes(use_cases: UseCases, masters: list[Master]) -> None:
    delete(use_cases, masters[:1])
    Deletion(use_cases.stores, 60.0).remove_deleted("me")
    assert keys(use_cases.stores, "removed") == []


def test_a_mark_moves_to_the_present_or_to_a_moment(stores: Stores) -> None:
    metadata = stores.metadata
    assert not has_reached(metadata, "a", 1)
    present = set_mark(metadata, "a")
    assert has_reached(metadata, "a", present)
    assert not has_reached(metadata, "a", present + 100_000)
    for moment in (5_000, present + 100_000):
        moved = set_mark(metadata, f"to-{moment}", moment)
        assert moment <= moved < moment + 60_000
    assert set_mark(metadata, f"to-{present + 100_000}") >= present + 100_000  # never back
