"""PATCH and DELETE /masters by a filter: counting, confirming, streaming, and bad input."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.services import changes
from tests.support.images import encoded, part_of
from tests.support.service import Service, eventually

RED = {"colour": "red"}


@pytest.fixture
def shelf(service: Service) -> Service:
    """Four red masters and a blue one."""
    for number in range(5):
        attributes = {"colour": "red" if number else "blue", "n": number}
        content = encoded(part_of("coffee", number, (96, 72)))
        service.put_master(content, f"{number}.jpg", attributes=json.dumps(attributes))
    return service


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def attributes_of(service: Service) -> list[dict[str, Any]]:
    masters = service.client.get("/masters").json()["masters"]
    return [master["attributes"] for master in reversed(masters)]


def change(service: Service, **body: Any) -> httpx.Response:
    return service.client.patch("/masters", json={"filter": RED} | body)


def delete(service: Service, **params: Any) -> httpx.Response:
    given = {"collection": "default", "filter": json.dumps(RED)} | params
    return service.client.delete("/masters", params=given)


def test_a_change_is_counted_confirmed_and_found_by_searches(
    shelf: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_BATCH", 3)
    new: dict[str, Any] = {"set": {"sale": {"percent": 20}}, "unset": ["n"]}
    counted = change(shelf, **new, dry_run=True)
    assert (counted.status_code, counted.json()) == (200, {"matched": 4})
    assert attributes_of(shelf)[1] == {"colour": "red", "n": 1}
    result = {"matched": 4, "changed": 4, "skipped": 0, "unchanged": 0, "refused": 0}
    result |= {"examples": []}
    assert lines(change(shelf, **new, confirm=4)) == [{"done": 3, "total": 4}, {"result": result}]
    after = {"colour": "red", "sale": {"percent": 20}}
    assert attributes_of(shelf) == [{"colour": "blue", "n": 0}, *[after] * 4]
    again = lines(change(shelf, **new, confirm=4))[-1]["result"]
    assert (again["changed"], again["unchanged"]) == (0, 4)
    assert {master["revision"] for master in shelf.client.get("/masters").json()["masters"]} == {
        1,
        2,
    }

    def is_found() -> bool:
        form = {"filter": json.dumps({"sale.percent": 20}), "k": "10"}
        files = {"sample": ("a.jpg", encoded(part_of("coffee", 1, (96, 72))))}
        answer = shelf.client.post("/search", data=form, files=files)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["hits"]) == 4

    assert eventually(is_found, 20)


def test_a_permanent_deletion_is_counted_confirmed_and_final(
    shelf: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_BATCH", 2)
    assert delete(shelf, dry_run="true").json() == {"matched": 4}
    assert delete(shelf, dry_run="true", filter='{"n": {"$gt": 3}}').json() == {"matched": 1}
    whole = {"collection": "default", "dry_run": "true"}
    assert shelf.client.delete("/masters", params=whole).json() == {"matched": 5}
    result = {"matched": 4, "deleted": 4, "skipped": 0}
    done = lines(delete(shelf, confirm="4", permanent="true"))
    assert done == [{"done": 2, "total": 4}, {"result": result}]
    assert shelf.client.get("/deletions").json() == {"deletions": []}
    assert attributes_of(shelf) == [{"colour": "blue", "n": 0}]
    nothing = {"matched": 0, "deleted": 0, "skipped": 0}
    assert lines(delete(shelf, confirm="0")) == [{"result": nothing}]


def test_another_number_is_refused_with_the_new_one(shelf: Service) -> None:
    before = attributes_of(shelf)
    for refused in (delete(shelf, confirm="5"), change(shelf, set={"a": 1}, confirm=3)):
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (409, "count-changed")
        assert problem["matched"] == 4
        assert "Nothing was done" in problem["detail"]
    assert attributes_of(shelf) == before


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "not-confirmed"),
        ({"confirm": "default"}, "not-confirmed"),
        ({"confirm": "-4"}, "not-confirmed"),
        ({"confirm": "４"}, "not-confirmed"),
        ({"confirm": "4.0"}, "not-confirmed"),
        ({"confirm": "9" * 5000}, "not-confirmed"),
        ({"filter": "", "confirm": "default"}, "invalid-filter"),
        ({"filter": "{}", "confirm": "4"}, "invalid-filter"),
        ({"filter": "{", "confirm": "4"}, "invalid-filter"),
        ({"filter": '{"a": {"$bad": 1}}', "dry_run": "true"}, "invalid-filter"),
        ({"filter": '{"$not": ' * 50 + '{"a": 1}' + "}" * 50, "confirm": "4"}, "invalid-filter"),
        ({"dry_run": "maybe"}, "invalid-request"),
        ({"confirm": "4", "permanent": "perhaps"}, "invalid-request"),
        ({"collection": "No", "confirm": "4"}, "invalid-collection-name"),
        ({"dryrun": "true", "confirm": "4"}, "unknown-parameter"),
    ],
)
def test_a_bad_deletion_deletes_nothing(shelf: Service, params: dict[str, Any], code: str) -> None:
    refused = delete(shelf, **params)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert len(attributes_of(shelf)) == 5


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"set": {"a": 1}}, "not-confirmed"),
        ({"set": {"a": 1}, "confirm": None}, "not-confirmed"),
        ({"set": {"a": 1}, "confirm": "4"}, "invalid-request"),
        ({"set": {"a": 1}, "confirm": True}, "invalid-request"),
        ({"set": {"a": 1}, "confirm": -1}, "invalid-request"),
        ({"set": {"a": 1}, "confirm": 4, "attributes": {}}, "invalid-request"),
        ({"confirm": 4}, "invalid-attributes"),
        ({"set": {}, "unset": [], "dry_run": True}, "invalid-attributes"),
        ({"set": {"a.b": 1}, "confirm": 4}, "invalid-attributes"),
        ({"set": {"a": "x" * 20_000}, "confirm": 4}, "invalid-attributes"),
        ({"set": deep(50), "confirm": 4}, "invalid-attributes"),
        ({"set": {"a": "\0"}, "confirm": 4}, "invalid-attributes"),
        ({"unset": ["$a"], "confirm": 4}, "invalid-attributes"),
        ({"unset": ["a."], "confirm": 4}, "invalid-attributes"),
        ({"unset": "a", "confirm": 4}, "invalid-request"),
        ({"unset": [1], "confirm": 4}, "invalid-request"),
        ({"set": [1], "confirm": 4}, "invalid-request"),
        ({"filter": {}, "set": {"a": 1}, "confirm": 4}, "invalid-filter"),
        ({"filter": None, "set": {"a": 1}, "confirm": 4}, "invalid-filter"),
        ({"filter": deep(50), "set": {"a": 1}, "confirm": 4}, "invalid-filter"),
        ({"filter": '{"a": 1}', "set": {"a": 1}, "confirm": 4}, "invalid-filter"),
        ({"collection": "No", "set": {"a": 1}, "confirm": 4}, "invalid-collection-name"),
    ],
)
def test_a_bad_change_changes_nothing(shelf: Service, body: dict[str, Any], code: str) -> None:
    before = attributes_of(shelf)
    refused = change(shelf, **body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert attributes_of(shelf) == before


def test_an_unknown_collection_is_not_found(shelf: Service) -> None:
    for refused in (
        delete(shelf, collection="none", confirm="4"),
        delete(shelf, collection="none", dry_run="true"),
        change(shelf, collection="none", set={"a": 1}, confirm=4),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "collection-not-found")


def test_a_refused_master_is_named(shelf: Service) -> None:
    last = shelf.client.get("/masters").json()["masters"][0]
    large = {"attributes": {"colour": "red", "text": "x" * 16_000}}
    assert shelf.client.patch(f"/masters/{last['id']}", json=large).status_code == 200
    (event,) = lines(change(shelf, set={"note": "y" * 500}, confirm=4))
    assert (event["result"]["changed"], event["result"]["refused"]) == (3, 1)
    reason = "attributes are over 16 KiB as JSON"
    assert event["result"]["examples"] == [{"id": last["id"], "reason": reason}]
    assert attributes_of(shelf)[-1] == large["attributes"]
