"""Groups, folded hits, orders, facets and pages of searches over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.images import PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.service import Service

Hits = list[dict[str, Any]]


@pytest.fixture
def shop(service: Service) -> dict[str, str]:
    """Upload two pictures of each of three products, and return the ids by name."""
    ids = {}
    for product, name in enumerate(("coffee", "chelsea", "retina")):
        for seed in range(2):
            attributes = json.dumps({"product": f"p{product}", "price": 10 * product + seed})
            image = encoded(part_of(name, seed))
            uploaded = service.client.post(
                "/masters",
                files={"file": (f"{name}{seed}.jpg", image)},
                data={"attributes": attributes},
            )
            ids[f"{name}{seed}"] = uploaded.json()["results"][0]["master"]["id"]
    return ids


def names(hits: Hits) -> list[str]:
    return [hit["master"]["name"] for hit in hits]


def test_a_form_and_json_have_the_same_options(service: Service, shop: dict[str, str]) -> None:
    asked = {
        "k": 2,
        "group_by": "product",
        "group_size": 2,
        "collapse_duplicates": 0.0,
        "sort": "-price",
        "facets": ["product", "price"],
    }
    form = service.client.post("/search", data={"master_id": shop["coffee0"], **asked})
    query = {"examples": [{"master_id": shop["coffee0"]}], **asked}
    body = service.client.post("/search", json=query)
    batch = service.client.post("/search/batch", json={"queries": [query]})
    assert form.status_code == 200, form.text
    answers = [form.json(), body.json(), batch.json()["results"][0]["answer"]]
    for answer in answers:
        assert answer | {"took_ms": 0} == answers[0] | {"took_ms": 0}
    hits = answers[0]["hits"]
    assert [hit["group"]["value"] for hit in hits] == sorted(
        (hit["group"]["value"] for hit in hits), reverse=True
    )
    own = next(hit for hit in hits if hit["exact"])
    assert own["group"]["value"] == "p0"
    assert names(own["group"]["more"]) == ["coffee1.jpg"]
    assert own["duplicates"] == {"count": 0, "ids": []}
    assert answers[0]["facets"]["masters"] == 2
    assert [path["path"] for path in answers[0]["facets"]["paths"]] == ["product", "price"]
    assert answers[0]["next_cursor"] is None


def test_parts_are_those_of_all_hits_in_a_group(service: Service, shop: dict[str, str]) -> None:
    asked = {"k": 1, "group_by": "product", "group_size": 2, "include": ["vector"]}
    query = {"examples": [{"master_id": shop["coffee0"]}], **asked}
    (hit,) = service.client.post("/search", json=query).json()["hits"]
    (inside,) = hit["group"]["more"]
    assert len(hit["parts"][0]["vector"]) == len(inside["parts"][0]["vector"]) > 0


def test_pages_with_a_file_that_is_sent_again(service: Service, shop: dict[str, str]) -> None:
    photo = encoded(part_of("coffee", 0))
    found, cursor = [], ""
    while cursor is not None:
        answer = service.client.post(
            "/search", files={"sample": ("a.jpg", photo)}, data={"k": "2", "cursor": cursor}
        ).json()
        found += answer["hits"]
        cursor = answer["next_cursor"]
    assert found == service.search(photo, k=50)
    assert found[0]["exact"]
    begun = service.client.post(
        "/search", files={"sample": ("a.jpg", photo)}, data={"k": "2"}
    ).json()["next_cursor"]
    other = service.client.post(
        "/search",
        files={"sample": ("a.jpg", encoded(photograph("rocket")))},
        data={"k": "2", "cursor": begun},
    )
    assert (other.status_code, other.json()["code"]) == (422, "invalid-cursor")
    assert "rocket" in PHOTOGRAPHS


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"group_by": "a..b"}, "invalid-path", "group_by takes the path"),
        ({"group_by": "$a"}, "invalid-path", "'$a'"),
        ({"group_by": ".".join("a" * 17)}, "invalid-path", "16 keys"),
        ({"group_by": 3}, "invalid-request", "group_by"),
        ({"group_by": "a", "group_size": 0}, "invalid-request", "group_size"),
        ({"group_by": "a", "group_size": 11}, "invalid-request", "group_size"),
        ({"group_size": 2}, "invalid-request", "group_size needs group_by"),
        ({"group_by": "a", "group_size": 2, "k": 501}, "invalid-request", "at most 1000"),
        ({"group_by": "a", "offset": 991}, "invalid-request", "at most 1000"),
        ({"collapse_duplicates": -0.1}, "invalid-request", "collapse_duplicates"),
        ({"collapse_duplicates": 2.1}, "invalid-request", "collapse_duplicates"),
        ({"collapse_duplicates": "x"}, "invalid-request", "collapse_duplicates"),
        ({"sort": "a..b"}, "invalid-sort", "sort takes a path"),
        ({"facets": ["a\u0000"]}, "invalid-path", "facets takes the path"),
        ({"facets": [""]}, "invalid-path", "facets takes the path"),
        ({"facets": "a"}, "invalid-request", "facets"),
        ({"facets": ["a"] * 11}, "invalid-request", "10 items"),
        ({"cursor": "x"}, "invalid-cursor", "next_cursor"),
        ({"cursor": "W10"}, "invalid-cursor", "next_cursor"),
        ({"cursor": "é"}, "invalid-cursor", "next_cursor"),
        ({"cursor": "[" * 9000}, "invalid-cursor", "next_cursor"),
        ({"groupby": "a"}, "invalid-request", "groupby"),
    ],
)
def test_options_that_cannot_be_understood_are_refused(
    service: Service, asked: dict[str, Any], code: str, words: str
) -> None:
    query = {"examples": [{"vector": [1.0]}], **asked}
    refused = service.client.post("/search", json=query)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert words in refused.json()["detail"]


def test_a_form_names_a_field_that_is_misspelled(service: Service) -> None:
    refused = service.client.post("/search", data={"text": "dog", "groupby": "a"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown-field")
    assert "group_by" in refused.json()["detail"]
