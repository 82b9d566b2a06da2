"""Several searches in one request."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.http.schemas import SearchQuery
from app.http.search_queries import chain_by_files
from tests.support.images import PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.service import Service


@pytest.fixture
def gallery(service: Service) -> dict[str, str]:
    """Upload every photograph; return the ids by name."""
    return {
        name: service.put_master(encoded(photograph(name)), f"{name}.jpg")["id"]
        for name in PHOTOGRAPHS
    }


def ask(service: Service, *queries: Any) -> httpx.Response:
    return service.client.post("/search/batch", json={"queries": list(queries)})


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def test_each_query_has_the_answer_that_it_has_alone(
    service: Service, gallery: dict[str, str]
) -> None:
    queries = [
        {"examples": [{"master_id": id_}], "k": k}
        for k, id_ in enumerate(list(gallery.values()) * 20, start=1)
    ]
    found = results(ask(service, *queries))
    assert len(found) == 100
    for query, result in zip(queries, found, strict=True):
        alone = service.client.post("/search", json=query).json()
        assert (result["status"], result["error"]) == (200, None)
        assert result["answer"]["hits"] == alone["hits"]


def test_a_bad_query_does_not_spoil_the_others(service: Service, gallery: dict[str, str]) -> None:
    good = {"examples": [{"master_id": gallery["coffee"]}]}
    bad = {
        "invalid-request": {"examples": []},
        "master-not-found": {"examples": [{"master_id": str(uuid4())}]},
        "collection-not-found": good | {"collection": "nowhere"},
        "invalid-filter": good | {"filter": {"$near": 1}},
        "not-calibrated": {"examples": [{"master_id": gallery["coffee"], "weight": -1}]}
        | {"min_probability": 0.5},
        "file-missing": {"examples": [{"upload": "mine"}]},
    }
    found = results(ask(service, good, *bad.values(), good, "text"))
    assert [result["status"] for result in found] == [200, 422, 404, 404, 422, 409, 422, 200, 422]
    assert [result["error"]["code"] for result in found[1:7]] == list(bad)
    assert all(result["answer"] is None for result in found[1:7])
    assert found[0]["answer"]["hits"] == found[7]["answer"]["hits"] != []


def test_queries_share_the_files_of_a_form(service: Service, gallery: dict[str, str]) -> None:
    photos = {name: encoded(part_of(name, 0)) for name in ("coffee", "chelsea")}
    queries = [{"examples": [{"upload": name}]} for name in ("coffee", "chelsea") * 10]
    answer = service.client.post(
        "/search/batch",
        data={"query": json.dumps({"queries": queries})},
        files={name: ("a.jpg", content) for name, content in photos.items()},
    )
    expected = {name: service.search(content) for name, content in photos.items()}
    for query, result in zip(queries, results(answer), strict=True):
        assert result["answer"]["hits"] == expected[query["examples"][0]["upload"]]


def test_queries_run_at_the_same_time(
    service: Service, gallery: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, search = threading.Barrier(4, timeout=20), service.services.search.search

    def wait_for_the_others(*arguments: Any) -> Any:
        together.wait()
        return search(*arguments)

    monkeypatch.setattr(service.services.search, "search", wait_for_the_others)
    found = results(ask(service, *[{"examples": [{"master_id": gallery["coffee"]}]}] * 8))
    assert [result["status"] for result in found] == [200] * 8


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid-request"),
        ({"queries": []}, "invalid-request"),
        ({"queries": [{}] * 101}, "invalid-request"),
        ({"queries": [{}], "k": 3}, "invalid-request"),
        ([], "invalid-request"),
        ({"queries": [{"examples": [{"text": "dog"}] * 20}] * 11}, "invalid-request"),
        ({"queries": [{"examples": [{"text": "dog"}], "k": 101}] * 100}, "invalid-request"),
        (
            {"queries": [{"examples": [{"text": "a"}, {"text": "b", "space": "look"}]}] * 21},
            "invalid-request",
        ),
        (
            {"queries": [{"examples": [{"master_id": str(uuid4())}], "turns": True}] * 101},
            "invalid-request",
        ),
        (
            {"queries": [{"examples": [{"master_id": str(uuid4())}] * 11, "turns": True}] * 10},
            "invalid-request",
        ),
        (
            {"queries": [{"examples": [{"text": "dog"}], "include": ["vector"], "k": 501}] * 2},
            "invalid-request",
        ),
    ],
)
def test_a_batch_that_cannot_be_understood_is_refused(
    service: Service, body: Any, code: str
) -> None:
    refused = service.client.post("/search/batch", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_a_batch_of_vectors_may_be_large(service: Service, gallery: dict[str, str]) -> None:
    query = {"examples": [{"vector": [0.123456789012] * 512}]}
    assert len(json.dumps(query)) * 100 > 600_000
    assert {each["status"] for each in results(ask(service, *[query] * 100))} == {200}
    refused = service.client.post("/search/batch", content=b" " * (4 * 1024 * 1024 + 1))
    assert refused.status_code in (413, 415)


def test_searches_that_share_a_file_follow_one_another() -> None:
    named = [["a"], ["b"], ["a", "c"], [], ["d"], ["c", "b"], ["e"]]
    queries = [
        SearchQuery.model_validate(
            {"examples": [{"upload": each} for each in names] or [{"text": "x"}]}
        )
        for names in named
    ]
    chains = chain_by_files(queries)
    assert sorted(chains) == [[0, 1, 2, 5], [3], [4], [6]]
