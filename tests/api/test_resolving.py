"""POST /collections/{name}/duplicates/resolve: previews, confirming, streaming, and bad input."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.services import resolving
from tests.support.images import encoded, part_of
from tests.support.service import Service, eventually

SCAN = "/collections/default/duplicates"


@pytest.fixture
def ids(service: Service) -> list[str]:
    """Four masters; the second and the fourth one have more pixels."""
    found = []
    for number in range(4):
        content = encoded(part_of("coffee", number, (96 + 48 * (number % 2), 72)))
        attributes = json.dumps({"n": number, f"only{number}": True})
        found.append(service.put_master(content, f"{number}.jpg", attributes=attributes)["id"])
    return found


def resolve(service: Service, name: str = "default", **body: Any) -> httpx.Response:
    return service.client.post(f"/collections/{name}/duplicates/resolve", json=body)


def listed(service: Service) -> list[tuple[str, dict[str, Any]]]:
    masters = service.client.get("/masters").json()["masters"]
    return sorted((master["id"], master["attributes"]) for master in masters)


def test_groups_are_previewed_resolved_and_undone(
    service: Service, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "_BATCH", 2)
    before = listed(service)
    groups = [ids[:2], {"masters": ids[2:], "keep": ids[2]}]
    preview = resolve(service, groups=groups, dry_run=True).json()
    sizes = {each["id"]: each["size"] for each in service.client.get("/masters").json()["masters"]}
    assert preview == {
        "groups": 2,
        "matched": 2,
        "bytes": sizes[ids[0]] + sizes[ids[3]],
        "merged": 2,
        "skipped": 0,
        "refused": 0,
        "examples": [],
        "choices": [
            {"keep": ids[1], "delete": [ids[0]], "merged": True},
            {"keep": ids[2], "delete": [ids[3]], "merged": True},
        ],
    }
    assert listed(service) == before
    response = resolve(service, groups=groups, confirm=2)
    assert response.headers["content-type"] == "application/x-ndjson"
    progress, last = [json.loads(line) for line in response.text.splitlines()]
    result = last["result"]
    assert (progress["done"], progress["total"]) == (1, 2)
    assert progress["deletion"] == result["deletion"]
    assert {name: result[name] for name in ("groups", "kept", "deleted", "merged")} == {
        "groups": 2,
        "kept": 2,
        "deleted": 2,
        "merged": 2,
    }
    assert listed(service) == sorted(
        [
            (ids[1], {"n": 1, "only1": True, "only0": True}),
            (ids[2], {"n": 2, "only2": True, "only3": True}),
        ]
    )
    undone = service.client.post(f"/deletions/{result['deletion']}/undo").text.splitlines()[-1]
    assert json.loads(undone)["result"]["attributes_restored"] == 2
    assert listed(service) == before


def read_groups(service: Service) -> list[set[str]]:
    groups = service.client.get(SCAN).json()["groups"]
    return sorted(({member["id"] for member in group["members"]} for group in groups), key=min)


def test_all_groups_of_a_scan_are_resolved_and_come_back(service: Service) -> None:
    def put(photograph: str, side: int) -> str:
        image = part_of(photograph, 3, (320, 240)).resize((side * 4 // 3, side))
        return str(service.put_master(encoded(image, quality=90), f"{photograph}.jpg")["id"])

    ids = [put("coffee", 240), put("coffee", 180), put("astronaut", 180), put("astronaut", 240)]
    assert service.client.post(SCAN, json={"max_distance": 2}).status_code == 202
    groups = [set(ids[:2]), set(ids[2:4])]
    assert eventually(lambda: read_groups(service) == groups, 30)
    preview = resolve(service, all=True, dry_run=True).json()
    assert (preview["groups"], preview["matched"]) == (2, 2)
    result = json.loads(resolve(service, all=True, confirm=2).text.splitlines()[-1])["result"]
    assert (result["kept"], result["deleted"]) == (2, 2)
    assert [each[0] for each in listed(service)] == [ids[0], ids[3]]
    assert read_groups(service) == []
    nothing = json.loads(resolve(service, all=True, confirm=0).text)["result"]
    assert (nothing["groups"], nothing["deleted"], "deletion" in nothing) == (0, 0, False)
    service.client.post(f"/deletions/{result['deletion']}/undo")
    assert eventually(lambda: read_groups(service) == groups, 30)


def test_another_number_is_refused_with_the_new_one(service: Service, ids: list[str]) -> None:
    refused = resolve(service, groups=[ids], confirm=4)
    assert (refused.status_code, refused.json()["code"]) == (409, "count-changed")
    assert refused.json()["matched"] == 3
    assert len(listed(service)) == 4


ONE, TWO = str(uuid4()), str(uuid4())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"groups": [[ONE, TWO]]}, "not-confirmed"),
        ({"groups": [[ONE, TWO]], "confirm": None}, "not-confirmed"),
        ({"groups": [[ONE, TWO]], "confirm": "1"}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": True}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": -1}, "invalid-request"),
        ({"confirm": 1}, "invalid-groups"),
        ({"all": True, "groups": [[ONE, TWO]], "confirm": 1}, "invalid-groups"),
        ({"all": False, "confirm": 1}, "invalid-groups"),
        ({"all": "some", "confirm": 1}, "invalid-request"),
        ({"all": True, "space": "none", "confirm": 1}, "space-not-found"),
        ({"groups": [], "confirm": 0}, "invalid-request"),
        ({"groups": None, "confirm": 0}, "invalid-groups"),
        ({"groups": [[ONE]], "confirm": 0}, "invalid-request"),
        ({"groups": [[ONE, 5]], "confirm": 0}, "invalid-request"),
        ({"groups": [ONE], "confirm": 0}, "invalid-request"),
        ({"groups": [[ONE] * 101], "confirm": 0}, "invalid-request"),
        ({"groups": [[ONE, TWO]] * 1001, "confirm": 0}, "invalid-request"),
        ({"groups": [{"masters": [ONE, TWO], "kept": ONE}], "confirm": 0}, "invalid-request"),
        ({"groups": [{"masters": [ONE, TWO], "keep": "x"}], "confirm": 0}, "invalid-request"),
        ({"groups": [[ONE, ONE]], "confirm": 0}, "invalid-groups"),
        ({"groups": [[ONE, TWO], [TWO, ONE]], "dry_run": True}, "invalid-groups"),
        (
            {"groups": [{"masters": [ONE, TWO], "keep": str(uuid4())}], "confirm": 0},
            "invalid-groups",
        ),
        ({"groups": [[ONE, TWO]], "confirm": 0, "keep": ["best"]}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "keep": "size"}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "keep": ["size"] * 6}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "with": "No"}, "invalid-collection-name"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "with": 5}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "with": "default"}, "invalid-request"),
        ({"all": True, "confirm": 0, "with": "default"}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "other": "a"}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "merge": True}, "invalid-request"),
        ({"groups": [[ONE, TWO]], "confirm": 0, "merge_attributes": "so"}, "invalid-request"),
    ],
)
def test_bad_input_changes_nothing(
    service: Service, ids: list[str], body: dict[str, Any], code: str
) -> None:
    text = json.dumps(body).replace(ONE, ids[0]).replace(TWO, ids[1])
    refused = resolve(service, **json.loads(text))
    assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    assert len(listed(service)) == 4


def test_unknown_collections_are_not_found(service: Service, ids: list[str]) -> None:
    for refused in (
        resolve(service, "none", groups=[ids], dry_run=True),
        resolve(service, groups=[ids], confirm=3, **{"with": "none"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "collection-not-found")
    missing = resolve(service, all=True, dry_run=True)
    assert (missing.status_code, missing.json()["code"]) == (404, "scan-not-found")
    assert resolve(service, "No", groups=[ids], dry_run=True).status_code == 422
