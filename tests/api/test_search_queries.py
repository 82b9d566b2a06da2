"""Searches that are sent in JSON, alone or in a form beside files."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.images import PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.service import Service


@pytest.fixture
def gallery(service: Service) -> dict[str, str]:
    """Upload every photograph; return the ids by name."""
    return {
        name: service.put_master(encoded(photograph(name)), f"{name}.jpg")["id"]
        for name in PHOTOGRAPHS
    }


def ask(service: Service, *examples: dict[str, Any], **options: Any) -> httpx.Response:
    return service.client.post("/search", json={"examples": list(examples), **options})


def ask_in_form(
    service: Service, query: dict[str, Any] | str, files: dict[str, bytes], **fields: str
) -> httpx.Response:
    text = query if isinstance(query, str) else json.dumps(query)
    return service.client.post(
        "/search",
        data={"query": text, **fields},
        files={name: (f"{name}.jpg", content) for name, content in files.items()},
    )


def hits(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["hits"]
    return found


def test_json_finds_what_a_form_finds(service: Service, gallery: dict[str, str]) -> None:
    form = {
        "master_id": gallery["coffee"],
        "k": "3",
        "offset": "1",
        "filter": '{"a": {"$exists": false}}',
    }
    expected = service.client.post("/search", data=form)
    options = {"k": 3, "offset": 1, "filter": {"a": {"$exists": False}}}
    answer = ask(service, {"master_id": gallery["coffee"]}, **options)
    assert hits(answer) == hits(expected)
    assert answer.json()["model_versions"] == {"look": answer.json()["model_version"]}


def test_a_form_has_the_files_that_the_query_names(
    service: Service, gallery: dict[str, str]
) -> None:
    photo = encoded(part_of("coffee", 0))
    expected = service.search(photo)
    lone = ask_in_form(service, {"examples": [{"upload": "mine"}]}, {"mine": photo})
    assert hits(lone) == expected
    weights = {"coffee": 0.5, "chelsea": -1.0, "retina": 0.3}
    files = {name: encoded(photograph(name)) for name in ("coffee", "chelsea")}
    uploads = [
        {"upload" if name in files else "master_id": name if name in files else gallery[name]}
        | {"weight": weight}
        for name, weight in weights.items()
    ]
    masters = [{"master_id": gallery[name], "weight": each} for name, each in weights.items()]
    by_upload = hits(ask_in_form(service, {"examples": uploads}, files))
    by_master = hits(ask(service, *masters))
    assert distances(by_upload) == pytest.approx(distances(by_master), abs=1e-5)
    assert distances(by_upload)[gallery["chelsea"]] > 1
    part = {"examples": [{"upload": "mine", "box": [0, 0, 90, 80]}]}
    form = {"master_id": gallery["coffee"], "box": "0,0,90,80"}
    by_part = hits(ask_in_form(service, part, {"mine": encoded(photograph("coffee"))}))
    assert by_part == hits(service.client.post("/search", data=form))


def distances(found: list[dict[str, Any]]) -> dict[str, float]:
    return {hit["master"]["id"]: hit["distance"] for hit in found}


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("", "invalid-request", "JSON"),
        ("{", "invalid-request", "JSON"),
        ("[]", "invalid-request", "object"),
        ('{"examples": []}', "invalid-request", "at least 1 item"),
        ('{"examples": [{}]}', "invalid-request", "none of them"),
        ('{"examples": [{"text": "dog", "vector": [1]}]}', "invalid-request", "text and vector"),
        ('{"examples": [{"text": "dog", "box": [0, 0, 1, 1]}]}', "invalid-request", "box needs"),
        ('{"examples": [{"text": "dog", "weight": 1.5}]}', "invalid-request", "weight"),
        ('{"examples": [{"text": "dog", "weight": NaN}]}', "invalid-request", "weight"),
        ('{"examples": [{"text": 1}]}', "invalid-request", "text"),
        ('{"examples": [{"text": "dog", "colour": 1}]}', "invalid-request", "colour"),
        ('{"examples": [{"text": "dog"}], "limit": 3}', "invalid-request", "limit"),
        ('{"examples": [{"text": "dog"}], "k": 0}', "invalid-request", "k"),
        ('{"examples": [{"text": "dog"}], "filter": []}', "invalid-request", "filter"),
        ('{"examples": [{"vector": [NaN]}]}', "invalid-request", "finite"),
        ('{"examples": [{"vector": [1e999]}]}', "invalid-request", "finite"),
        ('{"examples": [{"vector": ["a"]}]}', "invalid-request", "number"),
        ('{"examples": [{"vector": []}]}', "invalid-vector", "0 numbers"),
        ('{"examples": [{"master_id": "abc"}]}', "invalid-request", "UUID"),
        ('{"examples": [{"upload": "mine"}]}', "file-missing", "field query"),
        (
            json.dumps({"examples": [{"text": "dog"}], "filter": {"a": "x" * 70_000}}),
            "invalid-filter",
            "64 KiB",
        ),
        (json.dumps({"examples": [{"text": "dog"}] * 21}), "invalid-request", "20 items"),
        (
            '{"examples": [{"text": "dog"}], "filter": ' + '{"$and": [' * 50 + "]}" * 50 + "}",
            "invalid-filter",
            "deep",
        ),
        ("[" * 100_000, "invalid-request", "JSON"),
    ],
)
def test_a_query_that_cannot_be_understood_is_refused(
    service: Service, body: str, code: str, words: str
) -> None:
    headers = {"Content-Type": "application/json"}
    refused = service.client.post("/search", content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert words in refused.json()["detail"]


def test_json_without_its_header_is_refused_in_words(service: Service) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = '{"examples": [{"text": "dog"}]}'
    refused = service.client.post("/search", content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown-field")
    assert "Content-Type: application/json" in refused.json()["detail"]


def test_a_form_with_a_query_has_nothing_else(service: Service, gallery: dict[str, str]) -> None:
    photo = encoded(photograph("coffee"))
    lone = {"examples": [{"upload": "mine"}]}
    for refused, code in (
        (ask_in_form(service, lone, {}), "file-missing"),
        (ask_in_form(service, lone, {"mine": photo, "other": photo}), "file-not-used"),
        (ask_in_form(service, lone, {"mine": photo}, k="3"), "invalid-request"),
        (ask_in_form(service, lone, {"mine": photo}, limit="3"), "unknown-field"),
        (ask_in_form(service, "{", {"mine": photo}), "invalid-request"),
        (
            service.client.post(
                "/search",
                data={"query": json.dumps(lone)},
                files=[("mine", ("a.jpg", photo)), ("mine", ("b.jpg", photo))],
            ),
            "invalid-request",
        ),
        (
            service.client.post("/search", files={"picture": ("a.jpg", photo)}),
            "unknown-field",
        ),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    "broken",
    [
        {"examples": [{"vector": [""] * 50_000}]},
        {"examples": [{"vector": [0]}], "include": [""] * 50_000},
        {"examples": [{"vector": [0]}]} | {f"m{number}": 0 for number in range(20_000)},
        {"examples": [{"vector": [0]}]} | {f"m{number}": 0 for number in range(90)},
        {"examples": [{"vector": [0]}], "m" * 200_000: 0},
    ],
    ids=["vector", "include", "members", "some members", "long member"],
)
def test_the_errors_of_a_query_take_little_memory(service: Service, broken: Any) -> None:
    """Each error once took a hundred times as much as what caused it."""
    alone = service.client.post("/search", json=broken)
    batch = service.client.post("/search/batch", json={"queries": [broken]})
    assert (alone.status_code, alone.json()["code"]) == (422, "invalid-request")
    assert batch.json()["results"][0]["error"]["detail"] == alone.json()["detail"]
    assert len(alone.content) < 5_000
    assert len(batch.content) < 5_000


def test_a_form_has_one_query(service: Service) -> None:
    parts = [("query", (None, '{"examples": [{"text": "dog"}]}'))] * 2
    answer = service.client.post("/search", files=parts)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "several fields named query" in answer.json()["detail"]


def test_a_master_that_is_not_there_is_not_found(service: Service) -> None:
    refused = ask(service, {"master_id": str(uuid4())})
    assert (refused.status_code, refused.json()["code"]) == (404, "master-not-found")


def test_the_document_shows_both_ways_to_search(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    content = document["paths"]["/search"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    schema = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(document["components"]["schemas"][schema]["properties"]) > {"examples", "k"}
    assert "weight" in document["components"]["schemas"]["Example"]["properties"]
