"""Collections over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from storage.errors import StoreUnavailable
from storage.protocols import CaptureChange
from tests.support.images import CAT, encoded, part_of
from tests.support.service import Service, eventually


def listed(service: Service) -> dict[str, int]:
    return {
        found["name"]: found["masters"]
        for found in service.client.get("/collections").json()["collections"]
    }


def test_the_default_collection_exists_from_the_start(service: Service) -> None:
    assert listed(service) == {"default": 0}
    assert service.client.get("/masters").json() == {"masters": [], "next_cursor": None, "total": 0}


def test_a_collection_is_created_once(service: Service) -> None:
    response = service.client.post("/collections", json={"name": "shop-1"})
    assert (response.status_code, response.json()["name"], response.json()["masters"]) == (
        201,
        "shop-1",
        0,
    )
    again = service.client.post("/collections", json={"name": "shop-1"})
    assert (again.status_code, again.json()["code"]) == (409, "collection-exists")


def test_an_upload_creates_the_collection_it_names(service: Service) -> None:
    service.put_master(CAT, collection="new")
    assert listed(service) == {"default": 0, "new": 1}


def test_deleting_a_collection_deletes_its_masters(service: Service) -> None:
    master = service.put_master(CAT, collection="old")
    service.put_master(CAT, collection="kept")
    assert service.client.delete("/collections/old?confirm=old").status_code == 204
    assert listed(service) == {"default": 0, "kept": 1}
    assert service.client.get(f"/masters/{master['id']}").status_code == 404
    assert service.client.get("/masters", params={"collection": "old"}).status_code == 404
    assert service.client.delete("/collections/old?confirm=old").status_code == 404
    assert eventually(lambda: len(service.objects()) == 1)
    assert service.put_master(CAT, collection="old")["id"] != master["id"]


@pytest.mark.parametrize(
    ("query", "code"),
    [("", "invalid-request"), ("?confirm=", "not-confirmed"), ("?confirm=shap", "not-confirmed")],
)
def test_a_deletion_that_is_not_confirmed_deletes_nothing(
    service: Service, query: str, code: str
) -> None:
    service.put_master(CAT, collection="shop")
    refused = service.client.delete(f"/collections/shop{query}")
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert listed(service)["shop"] == 1
    assert service.search(CAT, collection="shop")[0]["exact"]


def test_emptying_a_collection_keeps_its_name(service: Service) -> None:
    service.put_master(CAT, collection="shop")
    path = "/masters?collection=shop&confirm="
    refused = service.client.delete(path + "shap")
    assert (refused.status_code, refused.json()["code"]) == (422, "not-confirmed")
    assert listed(service)["shop"] == 1
    assert service.client.delete(path + "shop").status_code == 204
    assert listed(service)["shop"] == 0
    assert eventually(lambda: service.objects() == [])


@pytest.mark.parametrize("name", ["", "UPPER", "-a", "a b", "a" * 64, "../x", "é"])
def test_bad_names_are_422(service: Service, name: str) -> None:
    response = service.client.post("/collections", json={"name": name})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-collection-name")


def test_the_default_collection_comes_back(service: Service) -> None:
    assert service.client.delete("/collections/default?confirm=default").status_code == 204
    assert service.client.get("/masters").json()["total"] == 0
    assert service.search(CAT) == []


def test_a_collection_exists_while_it_is_emptied(service: Service) -> None:
    service.put_master(CAT, collection="shop")
    with ThreadPoolExecutor(6) as pool:
        emptied = [
            pool.submit(service.client.delete, "/masters?collection=shop&confirm=shop")
            for _ in range(30)
        ]
        looked = [pool.submit(service.client.get, "/masters?collection=shop") for _ in range(60)]
    assert {future.result().status_code for future in emptied} == {204}
    assert {future.result().status_code for future in looked} == {200}


def test_attributes_are_summarised_by_key_type_and_value(service: Service) -> None:
    given: list[dict[str, object]] = [
        {"colour": "red", "price": 3, "size": {"w": 10}, "tags": ["a", "b"], "new": True},
        {"colour": "red", "price": 1.5, "tags": ["a"], "new": 1},
        {"colour": "blue", "price": "free"},
    ]
    for number, attributes in enumerate(given):
        service.put_master(
            encoded(part_of("coffee", number)), collection="shop", attributes=json.dumps(attributes)
        )
    service.put_master(CAT, collection="shop")
    answer = service.client.get("/collections/shop/attributes").json()
    found = {attribute.pop("key"): attribute for attribute in answer["attributes"]}
    assert (answer["masters"], list(found)) == (4, ["colour", "price", "new", "tags", "size.w"])
    assert found["colour"] == {
        "masters": 3,
        "types": ["string"],
        "values": [{"value": "red", "masters": 2}, {"value": "blue", "masters": 1}],
        "distinct": 2,
        "minimum": None,
        "maximum": None,
    }
    assert (found["price"]["types"], found["price"]["minimum"], found["price"]["maximum"]) == (
        ["number", "string"],
        1.5,
        3,
    )
    assert found["tags"]["values"] == [{"value": "a", "masters": 2}, {"value": "b", "masters": 1}]
    assert found["size.w"]["masters"] == 1
    assert {json.dumps(value["value"]) for value in found["new"]["values"]} == {
        "true",
        "1",
    }  # two values, not one
    for key, attribute in found.items():  # the key is spelled as in a filter
        value = attribute["values"][0]
        among = (
            {key: {"$contains": value["value"]}}
            if attribute["types"] == ["list"]
            else {key: value["value"]}
        )
        page = service.client.get(
            "/masters", params={"collection": "shop", "filter": json.dumps(among)}
        ).json()
        assert page["total"] == value["masters"]
    fewer = service.client.get("/collections/shop/attributes", params={"values": 1}).json()[
        "attributes"
    ]
    assert [len(attribute["values"]) for attribute in fewer] == [1] * 5


def test_an_empty_collection_has_no_attributes_and_a_missing_one_is_404(service: Service) -> None:
    assert service.client.get("/collections/default/attributes").json() == {
        "attributes": [],
        "fields": [],
        "masters": 0,
    }
    missing = service.client.get("/collections/nowhere/attributes")
    assert (missing.status_code, missing.json()["code"]) == (404, "collection-not-found")


def test_masters_are_counted_by_month(service: Service) -> None:
    masters = [service.put_master(CAT, attributes='{"a": 1}')]
    masters.append(service.put_master(encoded(part_of("rocket", 1))))
    captures: list[dict[str, Any]] = [{"time": 1_714_521_600_000}, {}]
    metadata = service.services.stores.metadata
    for master, capture in zip(masters, captures, strict=True):
        found = metadata.find_master(UUID(master["id"]))
        assert found is not None
        change = CaptureChange(found, capture, found.name, found.attributes)
        assert metadata.save_captures(99, [change]) == 1
    timeline = service.client.get("/collections/default/timeline").json()
    months = [{"month": "2024-05", "masters": 1}]
    assert timeline == {"months": months, "undated": 1, "unread": 0}
    some = service.client.get("/collections/default/timeline", params={"filter": '{"a": 1}'}).json()
    assert some == {"months": months, "undated": 0, "unread": 0}
    none = service.client.get("/collections/default/timeline", params={"filter": '{"a": 2}'}).json()
    assert none == {"months": [], "undated": 0, "unread": 0}
    assert service.client.get("/collections/none/timeline").status_code == 404
    bad = service.client.get("/collections/default/timeline", params={"filter": "{"})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid-filter")


def test_built_in_fields_are_summarised(service: Service) -> None:
    service.put_master(CAT)
    answer = service.client.get("/collections/default/attributes").json()
    assert answer["attributes"] == []
    fields = {field["key"]: field for field in answer["fields"]}
    assert {"name", "mime", "width", "height", "size", "created_at"} <= set(fields)
    assert fields["name"]["values"] == []
    assert fields["size"]["minimum"] == len(CAT)


def test_pending_embeddings_are_counted(service: Service) -> None:
    assert service.client.get("/collections").json()["pending"] == 0
    service.stores.vectors.ping = service.stores.vectors.upsert = lambda *_: (_ for _ in ()).throw(
        StoreUnavailable("vectors", "x")
    )
    assert service.put(CAT).status_code == 202
    assert service.client.get("/collections").json()["pending"] == 1
