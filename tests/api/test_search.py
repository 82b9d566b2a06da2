"""Searches with a sample or a master, and comparisons, over HTTP."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image, ImageOps

from storage.records import LOOK
from tests.support.images import CAT, PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.service import Service


@pytest.fixture
def gallery(service: Service) -> dict[str, dict[str, Any]]:
    """Upload every photograph with a few attributes; return the masters by name."""
    masters = {}
    for number, name in enumerate(PHOTOGRAPHS):
        attributes = {
            "number": number,
            "animal": name in ("chelsea", "retina"),
            "camera": {"make": name[:2]},
        }
        masters[name] = service.put_master(
            encoded(photograph(name)), f"{name}.jpg", attributes=json.dumps(attributes)
        )
    return masters


def names(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["master"]["name"].removesuffix(".jpg") for hit in hits]


def test_the_same_bytes_are_the_first_hit_and_exact(
    service: Service, gallery: dict[str, Any]
) -> None:
    for name in PHOTOGRAPHS:
        hits = service.search(encoded(photograph(name)))
        assert len(hits) == len(PHOTOGRAPHS)
        assert (hits[0]["master"], hits[0]["distance"], hits[0]["score"], hits[0]["exact"]) == (
            gallery[name],
            0.0,
            100.0,
            True,
        )
        assert [hit["exact"] for hit in hits[1:]] == [False] * 4
        distances = [hit["distance"] for hit in hits]
        assert distances == sorted(distances)
        assert all(
            hit["score"] == pytest.approx(100 * (1 - hit["distance"] / 2), abs=1e-4) for hit in hits
        )


@pytest.mark.real_network
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: ImageOps.grayscale(image).convert("RGB"),
        lambda image: image.crop((30, 30, image.width - 30, image.height - 30)),
    ],
    ids=["smaller", "grey", "cropped"],
)
def test_a_changed_copy_finds_its_original(
    service: Service, gallery: dict[str, Any], change: Any
) -> None:
    for name in PHOTOGRAPHS:
        hits = service.search(encoded(change(photograph(name)), quality=60))
        assert names(hits)[0] == name
        assert not hits[0]["exact"]


@pytest.mark.real_network
def test_an_exif_rotated_copy_is_as_near_as_an_upright_one(
    service: Service, gallery: dict[str, Any]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = encoded(
        photograph("astronaut").transpose(Image.Transpose.ROTATE_270), exif=exif, quality=95
    )
    assert service.search(turned, k="1")[0]["distance"] < 0.01


def test_a_sample_is_never_stored(service: Service, gallery: dict[str, Any]) -> None:
    before = service.objects()
    service.search(encoded(part_of("coffee", 1)))
    assert service.objects() == before


def test_k_and_offset_page_through_the_same_order(
    service: Service, gallery: dict[str, Any]
) -> None:
    everything = names(service.search(CAT))
    pages = [names(service.search(CAT, k="2", offset=str(offset))) for offset in (0, 2, 4, 6)]
    assert [name for page in pages for name in page] == everything
    assert [len(page) for page in pages] == [2, 2, 1, 0]


def test_max_distance_limits_the_hits(service: Service, gallery: dict[str, Any]) -> None:
    everything = service.search(CAT)
    limit = everything[2]["distance"]
    assert service.search(CAT, max_distance=str(limit)) == everything[:3]
    assert service.search(CAT, max_distance="0") == everything[:1]


def test_a_filter_is_applied_before_k(service: Service, gallery: dict[str, Any]) -> None:
    assert set(names(service.search(CAT, filter='{"animal": true}', k="2"))) == {
        "chelsea",
        "retina",
    }
    assert names(service.search(CAT, filter='{"camera.make": "co"}')) == ["coffee"]
    assert names(service.search(CAT, filter='{"animal": 1}')) == []
    assert "chelsea" not in names(service.search(CAT, filter='{"number": {"$ne": 1}}'))


@pytest.mark.real_network
def test_a_box_searches_with_that_part_in_upright_pixels(
    service: Service, gallery: dict[str, Any]
) -> None:
    left, right = photograph("coffee").resize((400, 400)), photograph("rocket").resize((400, 400))
    both = Image.new("RGB", (800, 400))
    both.paste(left, (0, 0))
    both.paste(right, (400, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(both.transpose(Image.Transpose.ROTATE_90), exif=exif)
    for sample in (encoded(both), turned):
        assert names(service.search(sample, box="0,0,400,400"))[0] == "coffee"
        assert names(service.search(sample, box="400,0,400,400"))[0] == "rocket"


def test_a_box_of_an_exact_copy_is_not_exact(service: Service, gallery: dict[str, Any]) -> None:
    assert not any(hit["exact"] for hit in service.search(CAT, box="0,0,200,200"))


@pytest.mark.real_network
def test_a_mirrored_copy_is_found_with_mirror(service: Service, gallery: dict[str, Any]) -> None:
    flipped = encoded(ImageOps.mirror(photograph("astronaut")), quality=95)
    plain, mirrored = (
        service.search(flipped, k="1")[0],
        service.search(flipped, k="1", mirror="true")[0],
    )
    assert mirrored["distance"] < 0.01
    assert mirrored["distance"] < plain["distance"]
    hits = service.search(CAT, mirror="true")
    assert (hits[0]["exact"], hits[0]["distance"], len(hits)) == (True, 0.0, 5)
    assert len({hit["master"]["id"] for hit in hits}) == 5


@pytest.mark.real_network
def test_a_turned_copy_is_found_with_turns(service: Service, gallery: dict[str, Any]) -> None:
    turned = encoded(photograph("astronaut").transpose(Image.Transpose.ROTATE_90), quality=95)
    plain, turns = (
        service.search(turned, k="1", **fields)[0] for fields in ({}, {"turns": "true"})
    )
    assert turns["master"]["name"] == "astronaut.jpg"
    assert turns["distance"] < 0.01 < plain["distance"]
    both = encoded(ImageOps.flip(photograph("astronaut")), quality=95)
    assert service.search(both, k="1", turns="true", mirror="true")[0]["distance"] < 0.01
    hits = service.search(CAT, turns="true", mirror="true")
    assert (hits[0]["exact"], hits[0]["distance"], len(hits)) == (True, 0.0, 5)


def by_master(service: Service, master_id: str, **fields: str) -> list[dict[str, Any]]:
    response = service.client.post("/search", data={"master_id": master_id} | fields)
    assert response.status_code == 200, response.text
    hits: list[dict[str, Any]] = response.json()["hits"]
    return hits


def test_a_master_as_the_sample_gives_the_same_answer(
    service: Service, gallery: dict[str, Any]
) -> None:
    assert by_master(service, gallery["chelsea"]["id"]) == service.search(CAT)
    assert by_master(service, gallery["chelsea"]["id"], box="0,0,200,200") == service.search(
        CAT, box="0,0,200,200"
    )


def test_a_master_of_another_collection_may_be_the_sample(
    service: Service, gallery: dict[str, Any]
) -> None:
    other = service.put_master(encoded(part_of("chelsea", 1)), collection="other")
    assert names(by_master(service, other["id"], collection="default"))[0] == "chelsea"
    assert len(by_master(service, gallery["chelsea"]["id"], collection="other")) == 1


def test_a_search_stays_in_its_collection(service: Service, gallery: dict[str, Any]) -> None:
    service.put_master(CAT, collection="other")
    assert len(service.search(CAT, collection="other")) == 1
    assert len(service.search(CAT)) == 5


def test_deleted_masters_are_replaced_by_further_hits(
    service: Service, gallery: dict[str, Any]
) -> None:
    """This holds even while their vectors exist, because the worker is slower than a search."""
    service.app.state.services.worker.stop()
    service.client.delete(f"/masters/{gallery['chelsea']['id']}")
    hits = service.search(CAT, k="4")
    assert len(hits) == 4
    assert "chelsea" not in names(hits)
    version = service.stores.registry.find_active(LOOK)
    assert UUID(gallery["chelsea"]["id"]) in service.stores.vectors.fetch_vectors(
        version, [UUID(gallery["chelsea"]["id"])]
    )


def test_compare_gives_the_distance_of_two_images(
    service: Service, gallery: dict[str, Any]
) -> None:
    coffee = encoded(photograph("coffee"))
    response = service.client.post("/compare", files={"a": ("a.jpg", CAT), "b": ("b.jpg", coffee)})
    assert response.status_code == 200
    hit = next(hit for hit in service.search(CAT) if hit["master"]["name"] == "coffee.jpg")
    assert response.json()["distance"] == pytest.approx(hit["distance"], abs=1e-4)
    same = service.client.post(
        "/compare", files={"a": ("a.jpg", CAT)}, data={"b_id": gallery["chelsea"]["id"]}
    ).json()
    assert (same["distance"], same["score"], same["exact"]) == (0.0, 100.0, True)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"k": "0"}, 422, "invalid-request"),
        ({"k": "1001"}, 422, "invalid-request"),
        ({"k": "many"}, 422, "invalid-request"),
        ({"offset": "-1"}, 422, "invalid-request"),
        ({"k": "1000", "offset": "9500"}, 422, "invalid-request"),
        ({"max_distance": "2.5"}, 422, "invalid-request"),
        ({"max_distance": "nan"}, 422, "invalid-request"),
        ({"filter": "{"}, 422, "invalid-filter"),
        ({"filter": '{"a": {"$near": 1}}'}, 422, "invalid-filter"),
        ({"box": "1,2,3"}, 422, "invalid-box"),
        ({"box": "0,0,10000,10"}, 422, "invalid-box"),
        ({"box": "0,0,0,10"}, 422, "invalid-box"),
        ({"mirror": "perhaps"}, 422, "invalid-request"),
        ({"turns": "2"}, 422, "invalid-request"),
        ({"collection": "unknown"}, 404, "collection-not-found"),
        ({"collection": "Not A Name"}, 422, "invalid-collection-name"),
        ({"master_id": str(uuid4())}, 422, "invalid-request"),
    ],
)
def test_a_bad_search_is_refused_with_a_code_and_a_detail(
    service: Service, fields: dict[str, str], status: int, code: str
) -> None:
    response = service.client.post("/search", files={"sample": ("a.jpg", CAT)}, data=fields)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


def test_a_search_needs_a_sample_or_a_master(service: Service) -> None:
    assert service.client.post("/search", data={"k": "3"}).json()["code"] == "invalid-request"
    assert service.client.post("/search", data={"master_id": str(uuid4())}).status_code == 404
    assert service.client.post("/search", json={"k": 3}).json()["code"] == "invalid-request"
    assert service.client.post("/search", content=b"text").status_code == 415
    broken = service.client.post("/search", files={"sample": ("a.jpg", CAT[:500])})
    assert (broken.status_code, broken.json()["code"]) == (422, "invalid-image")


def test_an_empty_collection_gives_no_hits(service: Service) -> None:
    assert service.search(CAT) == []
