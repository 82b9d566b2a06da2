"""Health checks, metrics, errors, request ids, and the API docs."""

from __future__ import annotations

import itertools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.settings import Settings
from models.embedder import Embedder
from storage.errors import StoreUnavailable
from tests.support.images import CAT
from tests.support.service import Service, eventually, serving


def down(*arguments: Any, **options: Any) -> Any:
    raise StoreUnavailable("vector", "switched off by the test")


def test_alive_and_ready(service: Service) -> None:
    assert service.client.get("/livez").status_code == 200
    ready = service.client.get("/readyz").json()
    assert ready["ready"]
    assert set(ready["checks"]) == {"metadata", "objects", "vectors", "model"}
    assert ready["model_version"].startswith("rn50-")


def test_not_ready_names_the_store(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.stores.vectors, "ping", down)
    response = service.client.get("/readyz")
    assert response.status_code == 503
    assert {name for name, state in response.json()["checks"].items() if state != "ok"} == {
        "vectors"
    }
    assert service.client.get("/livez").status_code == 200


@pytest.mark.parametrize("store", ["metadata", "objects", "vectors"])
def test_a_store_that_hangs_holds_one_thread_however_many_ask(
    settings: Settings, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    release, asked = threading.Event(), itertools.count()
    monkeypatch.setattr("app.services.health._LIMIT", 0.5)
    with serving(settings.model_copy(update={"max_requests": 4}), embedder) as service:

        def hang() -> None:
            next(asked)
            release.wait(30)

        monkeypatch.setattr(getattr(service.stores, store), "ping", hang)
        try:
            with ThreadPoolExecutor(80) as pool:
                answers = list(pool.map(lambda _: service.client.get("/readyz"), range(80)))
            assert {answer.status_code for answer in answers} == {503}
            assert answers[0].json()["checks"][store] == "no answer within 0.5 seconds"
            assert service.client.get("/livez").status_code == 200
            assert service.client.get("/collections").status_code == 200
            assert next(asked) == 1
        finally:
            release.set()
        assert eventually(lambda: service.client.get("/readyz").status_code == 200)


def test_metrics_hold_one_thread_while_the_database_hangs(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, waiting = threading.Event(), threading.Event()

    def hang() -> int:
        waiting.set()
        release.wait(30)
        return 5

    monkeypatch.setattr(
        service.services.metrics, "_counts", [(service.services.metrics.dead, hang)]
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.client.get, "/metrics")
        assert waiting.wait(10)
        assert "lookalike_dead_letters 0.0" in service.client.get("/metrics").text
        release.set()
        assert "lookalike_dead_letters 5.0" in first.result().text


def test_an_upload_without_the_vector_store_is_202_and_is_indexed_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(service.stores.vectors, "upsert", down)
        broken.setattr(service.stores.vectors, "search", down)
        response = service.put(CAT)
        assert response.status_code == 202
        assert response.json()["results"][0]["indexed"] is False
        again = service.put(CAT)
        assert (again.status_code, again.json()["results"][0]["indexed"]) == (200, False)
        search = service.client.post("/search", files={"sample": ("a.jpg", CAT)})
        assert (search.status_code, search.json()["code"]) == (503, "store-unavailable")
        assert int(search.headers["retry-after"]) > 0
    assert eventually(lambda: service.put(CAT).json()["results"][0]["indexed"])
    assert service.search(CAT)[0]["exact"]


def test_an_object_store_that_fails_leaves_nothing_behind(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(service.stores.objects, "put", down)
        response = service.put(CAT)
        assert (response.status_code, response.json()["code"]) == (503, "store-unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert service.client.get("/masters").json()["total"] == 0
    assert service.put(CAT).status_code == 201


def test_an_unexpected_error_is_problem_json_and_reveals_no_secrets(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.stores.metadata, "list_collections", broken)
    response = service.client.get("/collections")
    assert (response.status_code, response.json()["code"]) == (500, "internal-error")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


def test_metrics_count_what_happened(service: Service) -> None:
    service.put(CAT)
    service.put(CAT)
    service.put(b"x")
    service.search(CAT)
    text = service.client.get("/metrics").text
    for line in (
        'lookalike_uploads_total{outcome="created"} 1.0',
        'lookalike_uploads_total{outcome="existing"} 1.0',
        'lookalike_uploads_total{outcome="rejected"} 1.0',
        "lookalike_searches_total 1.0",
        "lookalike_pending_embeddings 0.0",
        'lookalike_stage_seconds_count{stage="embed"} 2.0',
        'lookalike_http_requests_total{method="POST",route="/masters",status="201"} 1.0',
    ):
        assert line in text


def test_a_valid_request_id_is_returned(service: Service) -> None:
    assert (
        service.client.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    assert re.fullmatch(
        "[0-9a-f]{32}",
        service.client.get("/livez", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"],
    )


def test_unknown_paths_and_methods_are_problem_json(service: Service) -> None:
    for method, path, status, code in (
        ("GET", "/none", 404, "not-found"),
        ("PUT", "/masters", 405, "method-not-allowed"),
    ):
        response = service.client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"


def test_the_docs_load_nothing_from_other_hosts(service: Service) -> None:
    page = service.client.get("/docs")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 3
    for source in sources:
        assert source.startswith(("/", "data:"))
        if source.startswith("/"):
            assert service.client.get(source).status_code == 200
    assert "http" not in page.headers["content-security-policy"]
    assert service.client.get("/docs/../api.py").status_code == 404


def test_the_docs_offer_forms_that_work_as_they_are(service: Service) -> None:
    """Files have a file picker; optional fields start empty, which counts as not given."""
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    upload, search = (
        schemas["Body_upload_masters_post"]["properties"],
        schemas["Body_search_search_post"]["properties"],
    )
    assert upload["file"]["items"]["format"] == search["sample"]["format"] == "binary"
    empty = {
        name: member["example"]
        for name, member in search.items()
        if "example" in member and name != "sample"
    }
    assert set(empty) >= {"master_id", "max_distance", "filter", "box"}
    assert (
        service.client.post(
            "/masters", files={"file": ("a.jpg", CAT)}, data={"name": ""}
        ).status_code
        == 201
    )
    assert len(service.search(CAT, **empty)) == 1


def test_the_openapi_document_states_errors_and_keys(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    assert "/masters" in document["paths"]
    assert "HTTPValidationError" not in json.dumps(document)
    assert document["components"]["securitySchemes"]
    for path in document["paths"].values():
        for operation in path.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert operation.get("summary")
