"""The lock of the embedded stores: one process, whatever path leads to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.bootstrap import connect_stores
from app.settings import Settings
from storage.errors import ConfigurationError


def settings_of(directory: Path, **urls: str) -> Settings:
    return Settings(data_dir=directory, _env_file=None, **urls)


@pytest.mark.parametrize("spelling", ["absolute", "four slashes", "relative", "link", "file link"])
@pytest.mark.parametrize("shared", ["database", "objects"])
def test_a_store_has_one_process_whatever_path_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str, spelling: str
) -> None:
    first = tmp_path / "first"
    store = first / {"database": "lookalike.db", "objects": "objects"}[shared]
    monkeypatch.chdir(tmp_path)
    with connect_stores(settings_of(first), load_vectors=False):
        (tmp_path / "link").symlink_to(first)
        (tmp_path / "direct").symlink_to(store)
        path = {
            "relative": f"first/../first/{store.name}",
            "link": str(tmp_path / "link" / store.name),
            "file link": str(tmp_path / "direct"),
            "four slashes": f"/{store}",
        }.get(spelling, str(store))
        if shared == "objects":
            path = os.path.join(tmp_path, path)  # a file: URL is absolute
        url = f"sqlite:///{path}" if shared == "database" else f"file://{path}"
        second = settings_of(tmp_path / "second", **{f"{shared}_url": url})
        with pytest.raises(ConfigurationError, match=rf"serves {store} \(process {os.getpid()} on"):
            connect_stores(second, load_vectors=False).__enter__()
        with connect_stores(settings_of(first), load_vectors=False, read_only=True):
            pass
    with connect_stores(second, load_vectors=False) as stores:
        assert list(stores.objects.list("")) == []


def test_different_stores_may_have_one_data_directory(tmp_path: Path) -> None:
    urls = {
        "database_url": f"sqlite:///{tmp_path}/other.db",
        "objects_url": f"file://{tmp_path}/other",
    }
    with (
        connect_stores(settings_of(tmp_path), load_vectors=False),
        connect_stores(settings_of(tmp_path, **urls), load_vectors=False),
    ):
        assert {"lookalike.db", "other.db"} <= {path.name for path in tmp_path.iterdir()}


def test_a_refused_process_holds_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shared = settings_of(second, objects_url=(first / "objects").as_uri())
    with connect_stores(settings_of(first), load_vectors=False):
        with pytest.raises(ConfigurationError):
            connect_stores(shared, load_vectors=False).__enter__()
        with connect_stores(settings_of(second), load_vectors=False):
            pass
