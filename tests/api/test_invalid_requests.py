"""Requests that are refused: what the answer says is allowed, for JSON and for forms."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.images import CAT
from tests.support.service import Service

EXAMPLE = {"vector": [1.0] * 512}
WRONG_MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"k": True}, "k must be a whole number."),
    ({"k": "5"}, "k must be a whole number."),
    ({"k": 1.5}, "k must be a whole number."),
    ({"k": None}, "k must be a whole number."),
    ({"k": 0}, "k must be at least 1."),
    ({"k": 1001}, "k must be at most 1000."),
    ({"offset": "1"}, "offset must be a whole number."),
    ({"group_size": True}, "group_size must be a whole number."),
    ({"max_distance": "0.5"}, "max_distance must be a number."),
    ({"max_distance": True}, "max_distance must be a number."),
    ({"max_distance": 2.5}, "max_distance must be at most 2."),
    ({"min_probability": "1"}, "min_probability must be a number."),
    ({"collapse_duplicates": False}, "collapse_duplicates must be a number."),
    ({"mirror": "true"}, "mirror must be true or false."),
    ({"turns": 1}, "turns must be true or false."),
    ({"feedback": "no"}, "feedback must be true or false."),
    ({"collection": 5}, "collection must be a string."),
    ({"space": True}, "space must be a string."),
    ({"filter": "{}"}, "filter must be an object."),
    ({"include": "box"}, "include must be a list."),
    ({"include": ["size"]}, "include.0 must be 'box' or 'vector'."),
    ({"facets": "tag"}, "facets must be a list."),
    ({"facets": [1]}, "facets.0 must be a string."),
    ({"facets": ["a"] * 11}, "facets must have at most 10 items."),
    ({"sort": 1}, "sort must be a string."),
    ({"cursor": 1}, "cursor must be a string."),
    ({"limit": 3}, "limit is not a known member."),
    ({"k": "5", "turns": 1}, "k must be a whole number. turns must be true or false."),
    ({"examples": []}, "examples must have at least 1 item."),
    ({"examples": {}}, "examples must be a list."),
    ({"examples": [5]}, "examples.0 must be an object."),
    ({"examples": [EXAMPLE | {"weight": "1"}]}, "examples.0.weight must be a number."),
    ({"examples": [EXAMPLE | {"weight": True}]}, "examples.0.weight must be a number."),
    ({"examples": [EXAMPLE | {"weight": -2}]}, "examples.0.weight must be at least -1."),
    ({"examples": [{"vector": ["1"]}]}, "examples.0.vector.0 must be a number."),
    ({"examples": [{"vector": [True]}]}, "examples.0.vector.0 must be a number."),
    ({"examples": [{"upload": 1}]}, "examples.0.upload must be a string."),
    ({"examples": [{"master_id": "cat.jpg"}]}, "examples.0.master_id must be an id (a UUID)."),
    ({"examples": [{"master_id": 5}]}, "examples.0.master_id must be an id (a UUID)."),
    (
        {"examples": [{"upload": "a", "box": [0, 0, "9", 9]}]},
        "examples.0.box.2 must be a whole number.",
    ),
    ({"examples": [{"upload": "a", "box": [0, 0, 9]}]}, "examples.0.box.3 is required."),
    ({"examples": [{"upload": "a", "box": [0] * 5}]}, "examples.0.box must have at most 4 items."),
    (
        {"examples": [{"upload": "a", "box": [0, 0, 10**9, 9]}]},
        "examples.0.box.2 must be less than 1000000000.",
    ),
]


def send(service: Service, method: str, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    return service.client.request(method, path, content=content, headers=headers)


def detail_of(response: httpx.Response, code: str = "invalid-request") -> str:
    assert (response.status_code, response.json()["code"]) == (422, code), response.text
    return str(response.json()["detail"])


@pytest.mark.parametrize(("members", "detail"), WRONG_MEMBERS)
def test_a_member_of_a_query_has_exactly_its_type(
    service: Service, members: dict[str, Any], detail: str
) -> None:
    query = {"examples": [EXAMPLE]} | members
    assert detail_of(send(service, "POST", "/search", query)) == detail
    batch = send(service, "POST", "/search/batch", {"queries": [query]})
    assert batch.json()["results"][0]["error"]["detail"] == detail
    form = service.client.post("/search", data={"query": json.dumps(query)}, files={"a": CAT})
    assert detail_of(form) == detail


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", "/embed", {"examples": [EXAMPLE], "space": 5}, "space must be a string."),
        ("POST", "/embed", {}, "examples is required."),
        ("POST", "/embed", {"examples": [{"box": 5}]}, "examples.0.box must be a list."),
        ("POST", "/search/batch", {"queries": {}}, "queries must be a list."),
        ("POST", "/search/batch", [], "body must be an object."),
        ("POST", "/search", None, "body must be an object."),
        ("PATCH", "/masters", {"filter": {}, "confirm": True}, "confirm must be a whole number."),
        ("PATCH", "/masters", {"filter": {}, "dry_run": "yes"}, "dry_run must be true or false."),
        ("PATCH", "/masters", {"filter": {}, "unset": "a"}, "unset must be a list."),
        ("PATCH", "/masters", {"filter": {}, "set": []}, "set must be an object."),
        ("PATCH", "/masters", {}, "filter is required."),
        ("PATCH", "/masters", [], "body must be an object."),
        ("PATCH", "/masters/ID", {"name": 5}, "name must be a string."),
        (
            "PATCH",
            "/masters/ID",
            {"name": "a" * 10_001},
            "name must have at most 10000 characters.",
        ),
        ("PATCH", "/masters/ID", {"colour": 5}, "colour is not a known member."),
        ("PATCH", "/masters/cat.jpg", {}, "master_id must be an id (a UUID)."),
        ("POST", "/collections", {"name": 5}, "name must be a string."),
        ("POST", "/admin/scrub", {"repair": 1}, "repair must be true or false."),
    ],
)
def test_a_member_of_any_other_body_does_too(
    service: Service, method: str, path: str, body: Any, detail: str
) -> None:
    path = path.replace("ID", "01a2110d-aed9-7aeb-9f6c-37a7492bdf73")
    assert detail_of(send(service, method, path, body)) == detail


def test_a_wrong_parameter_or_field_is_told_what_is_allowed(service: Service) -> None:
    for url, detail in (
        ("/masters?limit=5000", "limit must be at most 1000."),
        ("/masters?limit=x", "limit must be a whole number."),
        ("/masters/x", "master_id must be an id (a UUID)."),
    ):
        assert detail_of(service.client.get(url)) == detail
    wrong = {"dry_run": "maybe", "collection": "default"}
    deletion = service.client.delete("/masters", params=wrong)
    assert detail_of(deletion) == "dry_run must be true or false."
    for fields, detail in (
        ({"k": "ten"}, "k must be a whole number."),
        ({"mirror": "maybe"}, "mirror must be true or false."),
        ({"max_distance": "nan"}, "max_distance must be a finite number."),
        ({"include": "size"}, "include.0 must be 'box' or 'vector'."),
        ({"master_id": "cat.jpg"}, "master_id must be an id (a UUID)."),
    ):
        assert detail_of(service.client.post("/search", data=fields)) == detail
    explanation = service.client.post("/explain", data={"sample_id": "a", "master_id": "b"})
    assert "master_id must be an id (a UUID)." in detail_of(explanation)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/search", '{"examples": [{"text": "dog", "text": "cat"}]}'),
        ("POST", "/search/batch", '{"queries": [{"text": 1, "text": 2}]}'),
        ("POST", "/embed", '{"text": 1, "text": 2}'),
        ("PATCH", "/masters", '{"filter": {}, "set": {"text": 1, "text": 2}}'),
        ("PATCH", "/masters/01a2110d-aed9-7aeb-9f6c-37a7492bdf73", '{"text": 1, "text": 1}'),
        ("POST", "/collections", '{"text": "a", "text": "b"}'),
        ("POST", "/admin/scrub", '{"text": true, "text": false}'),
    ],
)
def test_json_with_a_member_twice_is_refused(
    service: Service, method: str, path: str, body: str
) -> None:
    detail = detail_of(send(service, method, path, body))
    assert detail == 'The body has the member "text" twice in one object. Send it once.'


def test_json_in_a_parameter_or_a_field_with_a_member_twice_is_refused(service: Service) -> None:
    twice = '{"a": 1, "a": 2}'
    listed = service.client.get("/masters", params={"filter": twice})
    assert detail_of(listed, "invalid-filter").startswith('filter has the member "a" twice')
    stored = service.put(CAT, attributes=twice)
    assert detail_of(stored, "invalid-attributes").startswith('attributes has the member "a" twice')
    query = '{"examples": [], "examples": []}'
    searched = service.client.post("/search", data={"query": query})
    assert detail_of(searched).startswith('query has the member "examples" twice')


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\xef\xbb\xbf{}", b"1" * 5000, b"{'a': 1}"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/search"), ("POST", "/search/batch"), ("POST", "/embed"), ("POST", "/collections")],
)
def test_a_body_that_is_no_json_is_refused(
    service: Service, method: str, path: str, body: bytes
) -> None:
    detail = detail_of(send(service, method, path, body))
    assert "not valid JSON" in detail or detail == "body is required."
    assert "sys." not in detail


def test_half_a_surrogate_pair_is_refused(service: Service) -> None:
    for query in (r'{"examples": [], "sort": "\ud800"}', r'{"\udfff": 1}'):
        detail = detail_of(send(service, "POST", "/search", query))
        assert "half a surrogate pair" in detail
    whole = r'{"examples": [{"text": "\ud83d\ude00"}], "space": "look"}'
    detail_of(send(service, "POST", "/search", whole), "text-not-supported")


def test_a_file_part_with_the_name_of_an_option_is_refused_in_words(service: Service) -> None:
    query = {"query": json.dumps({"examples": [{"upload": "k"}]})}
    for files in ({"k": CAT}, {"text": CAT}, {"query": CAT}, {"filter": CAT}):
        (name,) = files
        for fields in (query, {}):
            detail = detail_of(service.client.post("/search", files=files, data=fields))
            assert detail == (
                f"{name} is sent as a file, but it is an option that takes text. Send it as text,"
                " or give the file part another name."
            )
    upload = service.client.post("/masters", files={"file": CAT, "collection": CAT})
    assert detail_of(upload).startswith("collection is sent as a file")
