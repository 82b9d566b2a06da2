"""Uploads that are nearly identical to a master: stored, reported or rejected."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import ImageDraw, ImageOps

from app.services import near_duplicates
from models.local_features import WholeSquare
from storage.records import LOOK
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import Service

SMALLER = encoded(photograph("chelsea").reduce(2), quality=60)
MIRRORED = encoded(ImageOps.mirror(photograph("chelsea")), "PNG")
OTHERS = [encoded(part_of("coffee", seed)) for seed in (1, 2)]


def marked(number: int) -> bytes:
    """Return a copy of the cat with a mark; each number gives other bytes."""
    image = photograph("chelsea").copy()
    ImageDraw.Draw(image).rectangle((5 * number, 5, 5 * number + 4, 9), "red")
    return encoded(image)


def near_to(response: httpx.Response) -> Any:
    """Return the near duplicates of an upload of one image that was stored."""
    return response.json()["results"][0]["near_duplicates"]


def state_of(service: Service) -> tuple[list[Any], list[str], int, Any]:
    """Return everything that an upload could leave behind."""
    version = service.stores.registry.find_active(LOOK)
    return (
        service.client.get("/masters").json()["masters"],
        service.objects(),
        service.stores.vectors.count(version),
        service.client.get("/collections").json(),
    )


def test_without_the_option_a_near_duplicate_is_stored_and_nothing_is_checked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Any] = []
    decoder = service.services.vision._decoder
    decode = decoder.decode

    def record(source: Any, job: Any, *others: Any) -> Any:
        rules.extend(job.rules)
        return decode(source, job, *others)

    monkeypatch.setattr(decoder, "decode", record)
    service.put_master(CAT)
    for fields in ({}, {"on_near_duplicate": "store"}):
        result = service.put(marked(len(fields)), **fields).json()["results"][0]
        assert (result["status"], "near_duplicates" in result) == (201, False)
    assert len(rules) == 3
    assert not [rule for rule in rules if isinstance(rule, WholeSquare)]


def test_a_report_names_the_masters_nearest_first(service: Service) -> None:
    cat, smaller = service.put_master(CAT), service.put_master(SMALLER)
    for other in OTHERS:
        service.put_master(other)
    response = service.put(marked(1), on_near_duplicate="report")
    assert response.status_code == 201
    first, second = near_to(response)
    assert {first["id"], second["id"]} == {cat["id"], smaller["id"]}
    assert 0 <= first["distance"] <= second["distance"] < 0.1
    assert min(first["common"], second["common"]) >= 15
    assert service.client.get("/masters").json()["total"] == 5


def test_a_report_without_near_duplicates_is_empty(service: Service) -> None:
    assert near_to(service.put(CAT, on_near_duplicate="report")) == []
    response = service.put(OTHERS[0], on_near_duplicate="report", near_duplicate_distance="2")
    assert near_to(response) == []


def test_a_rejected_image_leaves_nothing_behind(service: Service) -> None:
    cat = service.put_master(CAT)
    before = state_of(service)
    response = service.put(SMALLER, on_near_duplicate="reject")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["code"]) == (409, "near-duplicate")
    assert "on_near_duplicate=store" in problem["detail"]
    (found,) = problem["near_duplicates"]
    assert (found["id"], found["common"] >= 15) == (cat["id"], True)
    assert state_of(service) == before
    assert service.put(SMALLER).status_code == 201


def test_other_pictures_are_not_rejected(service: Service) -> None:
    service.put_master(CAT)
    for image in OTHERS:
        fields = {"on_near_duplicate": "reject", "near_duplicate_distance": "2"}
        assert service.put(image, **fields).status_code == 201


def test_a_mirrored_copy_is_found_within_the_distance_that_is_asked_for(service: Service) -> None:
    service.put_master(CAT)
    reject = {"on_near_duplicate": "reject"}
    assert service.put(MIRRORED, near_duplicate_distance="2", **reject).status_code == 409
    assert service.put(MIRRORED, near_duplicate_distance="0", **reject).status_code == 201


def test_another_collection_does_not_count(service: Service) -> None:
    service.put_master(CAT)
    response = service.put(SMALLER, on_near_duplicate="reject", collection="cats")
    assert response.status_code == 201


def test_the_same_bytes_are_the_same_master_whatever_is_near(service: Service) -> None:
    cat = service.put_master(CAT)
    service.put_master(SMALLER)
    for choice in ("report", "reject"):
        response = service.put(CAT, on_near_duplicate=choice)
        (result,) = response.json()["results"]
        assert (response.status_code, result["master"]["id"]) == (200, cat["id"])
        assert "near_duplicates" not in result


def test_bytes_that_were_lost_are_restored_although_another_master_is_near(
    service: Service,
) -> None:
    cat = service.put_master(CAT)
    service.put_master(SMALLER)
    assert service.stores.metadata.mark_damaged(UUID(cat["id"]))
    response = service.put(CAT, on_near_duplicate="reject")
    assert (response.status_code, response.json()["results"][0]["master"]["id"]) == (200, cat["id"])
    assert service.client.get(cat["links"]["content"]).content == CAT


def test_a_master_whose_bytes_are_lost_is_passed_over(service: Service) -> None:
    lost, kept = service.put_master(CAT), service.put_master(SMALLER)
    (key,) = [key for key in service.objects() if lost["sha256"] in key]
    service.stores.objects.delete(key)
    response = service.put(marked(1), on_near_duplicate="report")
    assert [each["id"] for each in near_to(response)] == [kept["id"]]


def test_at_most_the_ten_nearest_are_compared(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        service.put_master(marked(number))
    compared: list[bytes] = []
    count = near_duplicates.count_common_features

    def record(first: bytes, second: bytes) -> int:
        compared.append(second)
        return count(first, second)

    monkeypatch.setattr(near_duplicates, "count_common_features", record)
    assert len(near_to(service.put(CAT, on_near_duplicate="report"))) == 10
    assert len(compared) == 10


def test_each_file_of_a_request_has_its_own_near_duplicates(service: Service) -> None:
    cat = service.put_master(CAT)
    files = [("file", (f"{n}.jpg", each)) for n, each in enumerate((SMALLER, OTHERS[0], CAT))]
    response = service.client.post("/masters", files=files, data={"on_near_duplicate": "reject"})
    rejected, stored, known = response.json()["results"]
    assert (response.status_code, stored["status"], known["status"]) == (207, 201, 200)
    assert (rejected["status"], rejected["error"]["code"]) == (409, "near-duplicate")
    assert [each["id"] for each in rejected["error"]["near_duplicates"]] == [cat["id"]]


@pytest.mark.parametrize(
    "fields",
    [
        {"on_near_duplicate": "maybe"},
        {"on_near_duplicate": "report", "near_duplicate_distance": "2.1"},
        {"on_near_duplicate": "report", "near_duplicate_distance": "nan"},
        {"near_duplicate_distance": "0.5"},
    ],
)
def test_a_wrong_option_is_refused_and_stores_nothing(
    service: Service, fields: dict[str, str]
) -> None:
    response = service.put(CAT, **fields)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert service.objects() == []


def test_an_original_is_read_only_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.put_master(CAT)
    read: list[object] = []
    masters = service.services.masters
    read_verified = masters.read_verified
    monkeypatch.setattr(
        masters, "read_verified", lambda each: (read.append(each), read_verified(each))[1]
    )
    for number in (1, 2):
        response = service.put(marked(number), on_near_duplicate="reject")
        assert response.status_code == 409
    assert len(read) == 1
