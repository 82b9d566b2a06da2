"""Explanations of hits over HTTP, in numbers and as pictures."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.support.images import encoded, photograph
from tests.support.service import Service

CAT = encoded(photograph("chelsea"))


@pytest.fixture
def coffee(service: Service) -> str:
    with_cat = photograph("coffee").resize((600, 400))
    with_cat.paste(photograph("chelsea").crop((100, 30, 300, 230)), (110, 190))
    return str(service.put_master(encoded(with_cat), "coffee.jpg")["id"])


def explain(service: Service, master: str, sample: bytes = CAT, **fields: str) -> httpx.Response:
    files = {"sample": ("a.jpg", sample)}
    return service.client.post("/explain", files=files, data={"master_id": master} | fields)


@pytest.mark.real_network
def test_the_numbers_show_what_both_have(service: Service, coffee: str) -> None:
    answer = explain(service, coffee)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["method"], found["space"], found["warnings"]) == ("activation", "look", [])
    (hit,) = service.search(CAT)
    assert found["similarity"] == pytest.approx(1 - hit["distance"], abs=0.005)
    for image in (found["sample"], found["master"]):
        assert sum(map(sum, image["grid"])) == pytest.approx(found["similarity"], abs=1e-4)
    assert (found["master"]["width"], found["master"]["height"]) == (600, 400)
    assert found["master"]["region"] == [100, 0, 400, 400]
    grid = found["master"]["grid"]
    lower_left = sum(sum(row[:4]) for row in grid[3:])
    assert lower_left > 0.7 * found["similarity"]


@pytest.mark.parametrize(
    ("overlay", "size"), [("sample", (451, 300)), ("master", (600, 400)), ("both", None)]
)
def test_an_overlay_is_a_png(
    service: Service, coffee: str, overlay: str, size: tuple[int, int] | None
) -> None:
    answer = explain(service, coffee, overlay=overlay)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    drawn = Image.open(io.BytesIO(answer.content))
    drawn.load()
    if size is None:
        assert drawn.size == (512 * 2 + 8, 341)
    else:
        assert drawn.size == (512, round(512 * size[1] / size[0]))


def test_a_master_is_explained_by_another(service: Service, coffee: str) -> None:
    cat = service.put_master(CAT, "cat.jpg")["id"]
    answer = service.client.post("/explain", data={"sample_id": cat, "master_id": coffee})
    assert answer.json() == explain(service, coffee).json()
    part = explain(service, coffee, box="100,30,200,100").json()
    assert part["sample"]["region"] == [150, 30, 100, 100]


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"space": "look"}, 422, "invalid-request"),
        ({"master_id": "ID"}, 422, "invalid-request"),
        ({"sample_id": "ID"}, 422, "invalid-request"),
        ({"sample_id": "ID", "master_id": "nothing"}, 422, "invalid-request"),
        ({"sample_id": "ID", "master_id": str(uuid4())}, 404, "master-not-found"),
        ({"sample_id": str(uuid4()), "master_id": "ID"}, 404, "master-not-found"),
        ({"sample_id": "ID", "master_id": "ID", "space": "nowhere"}, 422, "space-not-found"),
        ({"sample_id": "ID", "master_id": "ID", "box": "1,2"}, 422, "invalid-box"),
        ({"sample_id": "ID", "master_id": "ID", "box": "0,0,9999,1"}, 422, "invalid-box"),
        ({"sample_id": "ID", "master_id": "ID", "overlay": "left"}, 422, "invalid-request"),
        ({"sample_id": "ID", "master_id": "ID", "overlays": "both"}, 422, "unknown-field"),
    ],
)
def test_bad_input_is_refused(
    service: Service, coffee: str, given: dict[str, Any], status: int, code: str
) -> None:
    fields = {name: coffee if value == "ID" else value for name, value in given.items()}
    answer = service.client.post("/explain", data=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_a_file_that_is_no_image_and_one_too_many_are_refused(
    service: Service, coffee: str
) -> None:
    assert explain(service, coffee, CAT[:500]).json()["code"] == "invalid-image"
    both = explain(service, coffee, sample_id=coffee)
    assert (both.status_code, both.json()["code"]) == (422, "invalid-request")
