"""The checks of the soak test report a master that was lost, kept or changed unexpectedly."""

from __future__ import annotations

from uuid import UUID

from app.settings import Settings
from tests.support.load import Load
from tests.support.service import Service, eventually


def test_a_loss_is_reported(service: Service, settings: Settings) -> None:
    load = Load([str(service.client.base_url)], clients=4)
    load.run(3.0)
    assert load.failures == []
    assert eventually(lambda: load.drained(service.client))
    assert (load.lost(service.client), load.scrub(service.client)) == ([], {})
    mine = [own for owned in load._own for own in owned]
    present = [own for own in mine if own.present]
    service.stores.metadata.delete_master(UUID(present[0].id))
    assert load.lost(service.client) == ["own image: acknowledged True, there None"]
    present[1].dead.add(present[1].id)  # pretends that its deletion was acknowledged
    assert f"the deleted {present[1].id} is there" in load.lost(service.client)
    (path,) = (settings.data_dir / "objects").rglob(f"{present[2].id}.*")
    path.write_bytes(b"other bytes")
    assert f"{present[2].id} is not what was uploaded, or is missing" in load.lost(service.client)
    shared = next(which for which, ids in load._shared_ids.items() if ids)
    load._shared_ids[shared].add("another id")
    assert any(what.startswith(f"shared image {shared}") for what in load.lost(service.client))
    assert load.scrub(service.client) == {"object-wrong": 1}
