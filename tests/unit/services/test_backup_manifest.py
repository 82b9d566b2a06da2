"""The manifest of a backup, and the note that a backup is being served."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.services import backup_manifest
from tests.support.use_cases import raising


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert backup_manifest.read_manifest(tmp_path) is None
    backup_manifest.write_manifest(tmp_path, complete=True, vectors=False)
    manifest = backup_manifest.read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest["complete"], manifest["vectors"], "at" in manifest) == (True, False, True)
    (tmp_path / "backup.json").write_text("[]")
    assert backup_manifest.read_manifest(tmp_path) is None


@pytest.mark.parametrize("complete", [True, False])
def test_a_served_backup_says_so(tmp_path: Path, complete: bool) -> None:
    backup_manifest.record_serving(tmp_path)
    assert list(tmp_path.iterdir()) == []  # it is no backup
    backup_manifest.write_manifest(tmp_path, complete=complete)
    for _ in range(2):
        backup_manifest.record_serving(tmp_path)
    manifest = backup_manifest.read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest["served"], manifest["complete"]) == (True, complete)


def test_a_backup_that_cannot_be_written_to_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_manifest.write_manifest(tmp_path, complete=True)
    monkeypatch.setattr("storage.durable_files.os.rename", raising(OSError("read-only")))
    backup_manifest.record_serving(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.json"]
