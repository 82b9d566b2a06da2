"""Near-identical masters over HTTP: scans, groups, decisions, and bad input."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.images import encoded, part_of
from tests.support.service import Service, eventually

PATH = "/collections/default/duplicates"
DECISIONS = "/duplicates/decisions"
NOBODY = str(uuid4())


def put(service: Service, seed: int, side: int = 240, collection: str = "default") -> str:
    """Upload a part of a photograph; each seed shows another one, whatever its size."""
    image = part_of("coffee", seed, (320, 240)).resize((side * 4 // 3, side))
    answer = service.put_master(encoded(image, quality=90), f"{seed}.jpg", collection=collection)
    return str(answer["id"])


def start(service: Service, **body: Any) -> httpx.Response:
    return service.client.post(PATH, json={"max_distance": 2} | body)


def read(service: Service, **params: Any) -> Any:
    answer = service.client.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def complete(service: Service, **params: Any) -> Any:
    def is_complete() -> bool:
        return read(service, **params)["scan"]["state"] == "complete"

    assert eventually(is_complete, 30)
    return read(service, **params)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def ids_of(group: Any) -> set[str]:
    return {member["id"] for member in group["members"]}


def test_duplicates_are_found_decided_about_and_forgotten(service: Service) -> None:
    ids = [put(service, 1), put(service, 1, 180), put(service, 2)]
    started = start(service)
    assert started.status_code == 202
    assert list(started.json()) == [
        "collection",
        "with",
        "space",
        "max_distance",
        "state",
        "checked",
        "total",
        "pairs",
        "eta",
    ]
    assert started.json()["state"] == "running"
    found = complete(service)
    assert found["scan"] == {
        "collection": "default",
        "with": None,
        "space": "look",
        "max_distance": 2,
        "state": "complete",
        "checked": 3,
        "total": 3,
        "pairs": 1,
        "eta": None,
    }
    (group,) = found["groups"]
    assert found["next_cursor"] is None
    assert ids_of(group) == set(ids[:2])
    first, second = group["members"]
    assert (group["id"], first["common"], first["distance"]) == (first["id"], None, None)
    assert second["common"] == group["certainty"] >= 15
    master = service.client.get(f"/masters/{second['id']}").json()
    assert {name: second[name] for name in master} == master

    decided = service.client.post(DECISIONS, json={"masters": ids[:2], "decision": "different"})
    assert (decided.status_code, decided.json()) == (200, {"pairs": 1})
    assert read(service)["groups"] == []
    (decision,) = service.client.get(DECISIONS).json()["decisions"]
    assert (decision["masters"], decision["decision"]) == (sorted(ids[:2]), "different")
    removed = service.client.request("DELETE", DECISIONS, json={"masters": ids[:2]})
    assert (removed.status_code, removed.json()) == (200, {"pairs": 1})
    assert read(service)["groups"] == [group]

    assert service.client.delete(PATH).status_code == 204
    assert code_of(service.client.get(PATH)) == (404, "scan-not-found")
    assert code_of(service.client.delete(PATH)) == (404, "scan-not-found")


def test_later_uploads_are_compared(service: Service) -> None:
    first = put(service, 1)
    start(service)
    complete(service)
    second = put(service, 1, 180)
    assert eventually(lambda: len(read(service)["groups"]) == 1, 30)
    assert ids_of(read(service)["groups"][0]) == {first, second}


def test_two_collections_are_compared(service: Service) -> None:
    a, b = put(service, 1), put(service, 1, 180, "other")
    assert start(service, **{"with": "other"}).json()["with"] == "other"
    params = {"with": "other"}
    found = complete(service, **params)
    assert ids_of(found["groups"][0]) == {a, b}
    collections = {member["collection"] for member in found["groups"][0]["members"]}
    assert collections == {"default", "other"}
    assert code_of(service.client.get(PATH)) == (404, "scan-not-found")
    mirrored = service.client.get("/collections/other/duplicates", params={"with": "default"})
    assert (mirrored.json()["scan"]["collection"], mirrored.json()["scan"]["with"]) == (
        "other",
        "default",
    )
    assert service.client.delete(PATH, params=params).status_code == 204


def test_groups_and_decisions_have_pages(service: Service) -> None:
    ids = [put(service, seed, side) for seed in (1, 2) for side in (240, 180)]
    start(service)
    complete(service)
    for sort in ("size", "certainty"):
        first = read(service, limit=1, sort=sort)
        second = read(service, limit=1, sort=sort, cursor=first["next_cursor"])
        assert second["next_cursor"] is None
        groups = first["groups"] + second["groups"]
        assert {frozenset(ids_of(group)) for group in groups} == {
            frozenset(ids[:2]),
            frozenset(ids[2:]),
        }
    other = {"sort": "size", "cursor": first["next_cursor"]}
    assert code_of(service.client.get(PATH, params=other)) == (422, "invalid-cursor")
    service.client.post(DECISIONS, json={"masters": ids[:3], "decision": "keep"})
    page = service.client.get(DECISIONS, params={"limit": 2}).json()
    rest = service.client.get(DECISIONS, params={"cursor": page["next_cursor"]}).json()
    assert (len(page["decisions"]), len(rest["decisions"]), rest["next_cursor"]) == (2, 1, None)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"with": "missing"}, 404, "collection-not-found"),
        ({"with": "No!"}, 422, "invalid-collection-name"),
        ({"with": "default"}, 422, "invalid-request"),
        ({"space": "missing"}, 422, "space-not-found"),
        ({"space": "a" * 1000}, 422, "space-not-found"),
        ({"max_distance": -1}, 422, "invalid-request"),
        ({"max_distance": 2.1}, 422, "invalid-request"),
        ({"max_distance": "near"}, 422, "invalid-request"),
        ({"distance": 1}, 422, "invalid-request"),
        ([], 422, "invalid-request"),
    ],
)
def test_bad_scans_are_not_started(service: Service, body: Any, status: int, code: str) -> None:
    assert code_of(service.client.post(PATH, json=body)) == (status, code)
    assert service.stores.metadata.list_scans() == []


def test_a_scan_of_an_unknown_collection_is_refused(service: Service) -> None:
    path = "/collections/missing/duplicates"
    assert code_of(service.client.post(path, json={})) == (404, "collection-not-found")
    assert code_of(service.client.get(path)) == (404, "collection-not-found")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"sort": "name"}, "invalid-request"),
        ({"limit": 0}, "invalid-request"),
        ({"limit": 101}, "invalid-request"),
        ({"cursor": "x"}, "invalid-cursor"),
        ({"cursor": "WyJzaXplIiwgMSwgMSwgMV0"}, "invalid-cursor"),
        ({"cursor": "WyJzaXplIiwgIjEiLCAxLCAiIl0"}, "invalid-cursor"),
        ({"space": "missing"}, "space-not-found"),
        ({"with": "default"}, "invalid-request"),
        ({"width": 1}, "unknown-parameter"),
    ],
)
def test_bad_lists_are_refused(service: Service, params: Any, code: str) -> None:
    start(service)
    assert code_of(service.client.get(PATH, params=params)) == (422, code)


@pytest.mark.parametrize(
    "body",
    [
        {"masters": [NOBODY], "decision": "keep"},
        {"masters": [NOBODY, NOBODY], "decision": "keep"},
        {"masters": [str(uuid4()) for _ in range(101)], "decision": "keep"},
        {"masters": ["a", "b"], "decision": "keep"},
        {"masters": [NOBODY, str(uuid4())], "decision": "maybe"},
        {"masters": [NOBODY, str(uuid4())]},
        {"masters": None, "decision": "keep"},
        {},
    ],
)
def test_bad_decisions_are_refused(service: Service, body: Any) -> None:
    assert code_of(service.client.post(DECISIONS, json=body)) == (422, "invalid-request")
    body = {"masters": body.get("masters"), "extra": 1}
    answer = service.client.request("DELETE", DECISIONS, json=body)
    assert code_of(answer) == (422, "invalid-request")
    assert "extra" in answer.json()["detail"]


def test_decisions_about_unknown_masters_are_refused(service: Service) -> None:
    known = put(service, 1)
    body = {"masters": [known, NOBODY], "decision": "keep"}
    assert code_of(service.client.post(DECISIONS, json=body)) == (404, "master-not-found")
    removed = service.client.request("DELETE", DECISIONS, json={"masters": [known, NOBODY]})
    assert removed.json() == {"pairs": 0}
    for cursor in ("x", "WzEsIDJd", "W10"):
        answer = service.client.get(DECISIONS, params={"cursor": cursor})
        assert code_of(answer) == (422, "invalid-cursor")
    missing = service.client.get(DECISIONS, params={"collection": "missing"})
    assert code_of(missing) == (404, "collection-not-found")
