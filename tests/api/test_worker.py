"""How the worker handles failures."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.settings import Settings
from models.embedder import Embedder
from storage.errors import StoreUnavailable
from storage.records import ObjectInfo
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import Service, eventually, serving


def run(service: Service, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, list(arguments), env={"LOOKALIKE_URL": str(service.client.base_url)}
    )


def unindexed(service: Service, content: bytes) -> str:
    """Upload an image while the vector store is down; return the id of its master."""
    with pytest.MonkeyPatch.context() as patch:

        def down(*_: object) -> None:
            raise StoreUnavailable("vector", "it is down")

        patch.setattr(service.stores.vectors, "upsert", down)
        response = service.put(content)
    assert response.status_code == 202, response.text
    id_: str = response.json()["results"][0]["master"]["id"]
    return id_


def test_a_master_that_cannot_be_indexed_becomes_a_dead_letter_and_delays_no_other(
    settings: Settings, embedder: Embedder
) -> None:
    stopped = settings.model_copy(update={"worker": "off"})
    with serving(stopped, embedder) as service:
        poisonous, fine = unindexed(service, CAT), unindexed(service, encoded(photograph("rocket")))
        (path,) = Path(settings.data_dir / "objects").rglob(f"{poisonous}.*")
        path.write_bytes(b"no image")
    with serving(settings.model_copy(update={"index_attempts": 2}), embedder) as service:
        assert eventually(lambda: service.stores.metadata.count_dead_letters() == 1)
        assert [hit["master"]["id"] for hit in service.search(encoded(part_of("coffee", 1)))] == [
            fine
        ]
        answer = service.client.get("/admin/dead-letters").json()
        assert answer["total"] == 1
        (letter,) = answer["dead_letters"]
        assert (letter["master"]["id"], letter["attempts"]) == (poisonous, 2)
        assert "lookalike_dead_letters 1.0" in service.client.get("/metrics").text
        listed = run(service, "dead-letters")
        assert (listed.exit_code, poisonous in listed.output) == (1, True), listed.output
        path.write_bytes(CAT)
        assert "Retrying 1 images." in run(service, "dead-letters", "--retry").output
        assert eventually(lambda: len(service.search(CAT)) == 2)
        assert run(service, "dead-letters").exit_code == 0


def test_a_store_that_is_down_causes_no_dead_letters(
    settings: Settings, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker._POSTPONED", 0.01)
    with serving(settings.model_copy(update={"index_attempts": 1}), embedder) as service:
        calls = []

        def down(*_: object) -> None:
            calls.append(1)
            raise StoreUnavailable("vector", "it is down")

        with monkeypatch.context() as patch:
            patch.setattr(service.stores.vectors, "upsert", down)
            assert service.put(CAT).status_code == 202
            assert eventually(lambda: len(calls) > 5)
        assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
        assert service.stores.metadata.count_dead_letters() == 0


def test_an_object_that_cannot_be_removed_delays_no_other(
    service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, *others = [service.put_master(encoded(part_of("coffee", seed))) for seed in range(3)]
    objects = service.stores.objects
    delete = objects.delete

    def refused(key: str) -> None:
        if stuck["id"] in key:
            raise StoreUnavailable("object", "access denied")
        delete(key)

    monkeypatch.setattr(objects, "delete", refused)
    for master in (stuck, *others):
        service.client.delete(f"/masters/{master['id']}")

    def left() -> list[ObjectInfo]:
        return list(objects.list("masters"))

    assert eventually(lambda: len(left()) == 1)
    assert stuck["id"] in left()[0].key


def test_a_master_that_lost_its_bytes_can_be_changed(service: Service, settings: Settings) -> None:
    master = service.put_master(CAT)
    (version,) = service.stores.vectors.versions()
    service.stores.vectors.delete(version, [UUID(master["id"])])
    for path in Path(settings.data_dir / "objects").rglob("*.jpg"):
        path.unlink()
    changed = service.client.patch(f"/masters/{master['id']}", json={"attributes": {"n": 1}})
    assert (changed.status_code, changed.json()["attributes"]) == (200, {"n": 1})
