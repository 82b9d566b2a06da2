"""`/admin/models` and `lookalike models`: changing the model of a service in use."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from app.settings import Settings
from models.embedder import Embedder
from storage.records import VectorRecord
from tests.support.images import encoded, part_of, photograph
from tests.support.processes import ROOT, run_command
from tests.support.service import Service, eventually, serving


def models(service: Service) -> dict[str, dict[str, Any]]:
    return {
        model["version"]: model for model in service.client.get("/admin/models").json()["models"]
    }


def states(service: Service) -> list[str]:
    return sorted(model["state"] for model in models(service).values())


def add(service: Service, weights: Path) -> str:
    with weights.open("rb") as file:
        response = service.client.post(
            "/admin/models", files={"weights": ("weights.safetensors", file)}
        )
    assert response.status_code == 201, response.text
    return str(response.json()["version"])


def started(service: Service, weights: Path) -> str:
    version = add(service, weights)
    assert service.client.post(f"/admin/models/{version}/start").status_code == 202
    return version


def complete(service: Service, version: str) -> bool:
    def check() -> bool:
        model = models(service)[version]
        return bool(model["indexed"] == model["masters"] and model["loaded"] > 0)

    return eventually(check, 30)


def activate(service: Service, version: str) -> dict[str, Any]:
    """Activate a version; return the last event of the response."""
    response = service.client.post(f"/admin/models/{version}/activate")
    assert response.status_code == 200, response.text
    said: dict[str, Any] = json.loads(response.text.splitlines()[-1])
    return said


def search(service: Service, content: bytes, **fields: str) -> dict[str, Any]:
    response = service.client.post(
        "/search", files={"sample": ("sample.jpg", content)}, data=fields
    )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_model_is_built_activated_rolled_back_and_removed(
    service: Service, other_weights: Path
) -> None:
    masters = [
        service.put_master(encoded(part_of("coffee", seed)), attributes='{"n": 1}')
        for seed in range(5)
    ]
    sample = encoded(part_of("coffee", 0), quality=60)
    before = search(service, sample)
    old, new = before["model_version"], started(service, other_weights)
    assert complete(service, new)
    assert search(service, sample)["model_version"] == old
    during = service.put_master(encoded(photograph("rocket")))
    assert activate(service, new) == {"active": new}
    after = search(service, sample)
    assert after["model_version"] == new
    assert [hit["master"]["id"] for hit in after["hits"]][:5] == [
        hit["master"]["id"] for hit in before["hits"]
    ][:5]
    assert after["hits"][0]["distance"] == pytest.approx(before["hits"][0]["distance"], abs=0.01)
    assert (
        search(service, encoded(photograph("rocket"), quality=60))["hits"][0]["master"]["id"]
        == during["id"]
    )
    later = service.put_master(encoded(photograph("chelsea")))
    service.client.patch(f"/masters/{masters[0]['id']}", json={"attributes": {"n": 2}})
    assert activate(service, old) == {"active": old}
    hits = search(service, encoded(photograph("chelsea"), quality=60))["hits"]
    assert (hits[0]["master"]["id"], hits[0]["distance"] < 0.2) == (later["id"], True)
    assert [hit["master"]["id"] for hit in search(service, sample, filter='{"n": 2}')["hits"]] == [
        masters[0]["id"]
    ]
    assert service.client.post(f"/admin/models/{new}/retire").status_code == 202
    assert eventually(lambda: list(models(service)) == [old])
    assert service.stores.vectors.versions() == [old]
    assert list(service.stores.objects.list(f"models/{new}")) == []
    report = service.client.post("/admin/scrub", json={"full": True}).text.splitlines()[-1]
    assert json.loads(report)["report"]["clean"]


def test_every_answer_uses_one_version_during_a_change(
    service: Service, other_weights: Path
) -> None:
    """Searches and uploads never fail, mix versions or miss acknowledged masters."""
    known = {seed: service.put_master(encoded(part_of("coffee", seed)))["id"] for seed in range(4)}
    samples = {seed: encoded(part_of("coffee", seed), quality=60) for seed in known}
    (old,) = models(service)
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    done = threading.Event()

    def searching(number: int) -> None:
        while not done.is_set():
            answer = search(service, samples[number])
            seen[answer["model_version"]] += 1
            first = answer["hits"][0]
            if first["master"]["id"] != known[number] or first["distance"] > 0.1:
                wrong.append(answer)

    def uploading() -> None:
        seed = 100
        while not done.is_set():
            seed += 1
            put = service.put(encoded(part_of("astronaut", seed)))
            (result,) = put.json()["results"]
            found = search(service, encoded(part_of("astronaut", seed), quality=60), k="1")["hits"][
                0
            ]
            if result["indexed"] and (
                found["master"]["id"] != result["master"]["id"] or found["distance"] > 0.1
            ):
                wrong.append((result, found))

    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(searching, 0), pool.submit(searching, 1), pool.submit(uploading)]
        try:
            new = started(service, other_weights)
            assert complete(service, new)
            for version in (new, old, new):
                assert activate(service, version) == {"active": version}
                before = seen[version]
                assert eventually(lambda before=before, version=version: seen[version] > before + 4)  # type: ignore[misc]
        finally:
            done.set()
        for task in tasks:
            task.result()
    assert wrong == []
    assert set(seen) == {old, new}


def test_missing_or_wrong_vectors_prevent_activation(
    service: Service, settings: Settings, other_weights: Path
) -> None:
    masters = [service.put_master(encoded(part_of("coffee", seed))) for seed in range(3)]
    (old,) = models(service)
    new = started(service, other_weights)
    assert complete(service, new)
    vectors = service.stores.vectors
    ids = [UUID(master["id"]) for master in masters]
    right = vectors.fetch_vectors(new, ids)
    vectors.delete(new, ids[:1])
    said = activate(service, new)["error"]
    assert (said["code"], "1 x vector-missing" in said["detail"]) == ("model-not-ready", True)
    # Each master gets the vector of another one.
    for id_, wrong in zip(ids, ids[1:] + ids[:1], strict=True):
        record = right[id_]
        vectors.upsert(
            new,
            [
                VectorRecord(
                    id_,
                    record.collection_id,
                    right[wrong].parts,
                    record.attributes,
                    record.revision,
                )
            ],
        )
    assert "does not find itself" in activate(service, new)["error"]["detail"]
    assert search(service, encoded(part_of("coffee", 0)))["model_version"] == old
    vectors.upsert(new, list(right.values()))
    assert activate(service, new) == {"active": new}


def test_a_master_that_cannot_be_embedded_prevents_activation_until_it_is_deleted(
    settings: Settings, embedder: Embedder, other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services import reembed

    monkeypatch.setattr(reembed, "_ACTIVATION_WAIT", 0.3)
    with serving(settings.model_copy(update={"index_attempts": 1}), embedder) as service:
        service.put_master(encoded(photograph("rocket")))
        master = service.put_master(encoded(photograph("chelsea")))
        (path,) = (settings.data_dir / "objects").rglob(f"{master['id']}.*")
        path.write_bytes(path.read_bytes()[:1000])
        new = started(service, other_weights)
        assert eventually(lambda: models(service)[new]["dead"] == 1)
        assert "1 masters lack an embedding" in activate(service, new)["error"]["detail"]
        service.client.delete(f"/masters/{master['id']}")
        assert activate(service, new) == {"active": new}


def _without_metadata(content: bytes) -> bytes:
    """Return the weights with null in the place of their metadata."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]) | {"__metadata__": None}).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _of_type(dtype: bytes) -> bytes:
    """Return a file with one tensor of a type."""
    header = b'{"x":{"dtype":"%s","shape":[4],"data_offsets":[0,4]}}' % dtype
    return len(header).to_bytes(8, "little") + header + b"0000"


def test_a_model_whose_weights_are_removed_meanwhile_is_not_started(
    service: Service, other_weights: Path
) -> None:
    """A worker removes retired weights after they are checked and before the version is started."""
    version = service.client.post(
        "/admin/models", files={"weights": ("w.safetensors", other_weights.read_bytes())}
    ).json()["version"]
    registry = service.stores.registry
    original = registry.start_building

    def started_after_removal(version: str, space: str) -> None:
        service.stores.objects.delete(f"models/{version}/weights.safetensors")
        original(version, space)

    registry.start_building = started_after_removal
    try:
        response = service.client.post(f"/admin/models/{version}/start")
    finally:
        del registry.start_building
    assert (response.status_code, response.json()["code"]) == (404, "model-not-found")
    assert eventually(lambda: states(service) == ["active"])


@pytest.mark.slow
def test_invalid_weights_and_impossible_changes_are_refused(
    service: Service, real_other_weights: Path
) -> None:
    (old,) = models(service)
    nothing = service.client.post("/admin/models", files={"weights": ("w.safetensors", b"nothing")})
    assert (nothing.status_code, nothing.json()["code"]) == (422, "invalid-weights")
    with safe_open(real_other_weights, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    silent = {name: 0 * tensors[name] for name in ("projection.weight", "projection.bias")}
    # The tensors are checked in the order of the network, so the first few are enough.
    first = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(("conv1.", "bn1.", "projection."))
    }
    scale = tensors["bn1.weight"]
    spoilt = [
        ("vector of length 0", save(tensors | silent, metadata)),
        ("layer1.0.downsample.0.weight is missing", save(first, metadata)),
        ("NaN, infinite", save(first | {"bn1.weight": scale * np.float32("nan")}, metadata)),
        ("int64", save(first | {"bn1.weight": scale.astype(np.int64)}, metadata)),
        (
            "bn1.weight is float32 ()",
            save(first | {"bn1.weight": np.array(np.float32(1))}, metadata),
        ),
        ("bn1.weight is", save(first | {"bn1.weight": scale.reshape(8, 8)}, metadata)),
        ("could not convert", save(first, metadata | {"pooling": "gem", "gem_p": "much"})),
        ("unknown pooling", save(first, metadata | {"pooling": "gem", "gem_p": "inf"})),
        ("unknown pooling", save(first, metadata | {"pooling": "another"})),
        ("metadata", save(first, metadata | {"calibration": '{"slope": -1, "intercept": 0}'})),
        ("no preprocessing", _without_metadata(save(first, metadata))),
        ("unsupported type", _of_type(b"F8_E4M3")),
    ]
    for cause, content in spoilt:
        answer = service.client.post("/admin/models", files={"weights": ("w.safetensors", content)})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-weights"), answer.text
        assert cause in answer.json()["detail"]
    assert list(service.stores.objects.list("models/")) == []
    for path, status, code in (
        ("rn50-unknown/start", 404, "model-not-found"),
        ("%2e%2e/start", 422, "invalid-request"),
        ("a%00b/start", 422, "invalid-request"),
        ("-/start", 422, "invalid-request"),
        (f"{'a' * 65}/start", 422, "invalid-request"),
        ("rn50-unknown/activate", 404, "model-not-found"),
        ("rn50-unknown/retire", 409, "model-conflict"),
        (f"{old}/start", 409, "model-conflict"),
        (f"{old}/retire", 409, "model-conflict"),
    ):
        response = service.client.post(f"/admin/models/{path}")
        assert (response.status_code, response.json()["code"]) == (status, code)
    assert "is active" in activate(service, old)["error"]["detail"]


@pytest.mark.slow
def test_a_release_with_other_weights_keeps_the_active_model(
    settings: Settings, other_weights: Path
) -> None:
    """The weights of the program serve only the first start; later ones use the object store."""
    with serving(settings, None) as service:
        master = service.put_master(encoded(photograph("chelsea")))
        (old,) = models(service)
    with serving(settings.model_copy(update={"weights": other_weights}), None) as service:
        assert (list(models(service)), service.client.get("/readyz").status_code) == ([old], 200)
        answer = search(service, encoded(photograph("chelsea"), quality=60))
        assert (answer["model_version"], answer["hits"][0]["master"]["id"]) == (old, master["id"])
    (weights,) = (settings.data_dir / "objects" / "models").rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with serving(settings.model_copy(update={"weights": other_weights}), None) as service:
        assert service.client.get("/readyz").json()["checks"]["model"] != "ok"
        refused = service.client.post(
            "/search", files={"sample": ("sample.jpg", encoded(photograph("chelsea")))}
        )
        assert (refused.status_code, refused.json()["code"], "retry-after" in refused.headers) == (
            503,
            "model-not-loaded",
            True,
        )
        put = service.put(encoded(photograph("rocket")))
        assert (put.status_code, put.json()["results"][0]["indexed"]) == (202, False)
    with serving(settings, None) as service:  # starts with the original weights again
        assert eventually(
            lambda: (
                search(service, encoded(photograph("rocket"), quality=60))["hits"][0]["distance"]
                < 0.2
            )
        )


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "150"}
    return run_command("models", *arguments, "--url", url, environment=environment)


def test_the_command_line_changes_the_model(service: Service, other_weights: Path) -> None:
    url = str(service.client.base_url)
    for seed in range(3):
        service.put_master(encoded(part_of("coffee", seed)))
    (old,) = models(service)
    begun = run(url, "start", str(other_weights))
    assert (begun.returncode, "is being built" in begun.stdout) == (0, True), begun
    new = begun.stdout.split()[0]
    watched = run(url, "list", "--watch")
    assert (
        watched.returncode,
        "3 of 3" in watched.stdout,
        "models activate" in watched.stdout,
    ) == (0, True, True), watched
    assert run(url, "activate").returncode == 0
    assert json.loads(run(url, "list", "--json").stdout)["models"][0] == models(service)[new]
    rolled = run(url, "rollback")
    assert (rolled.returncode, rolled.stdout.split()[0]) == (0, old), rolled
    assert run(url, "retire", new).returncode == 0
    assert eventually(lambda: states(service) == ["active"])
    nothing = run(url, "rollback")
    assert (
        nothing.returncode,
        "no model version that is kept as the previous one" in nothing.stderr,
    ) == (2, True)
    missing = run(url, "start", "nowhere.safetensors")
    assert (missing.returncode, "there is no file nowhere.safetensors" in missing.stderr) == (
        2,
        True,
    )
    wrong = run(url, "start", str(ROOT / "README.md"))
    assert (wrong.returncode, "cannot be used" in wrong.stderr) == (2, True), wrong
