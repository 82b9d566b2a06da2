"""The vectors of masters and of what is embedded without being stored."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from tests.support.images import encoded, part_of, photograph
from tests.support.service import Service


@pytest.fixture
def master(service: Service) -> dict[str, Any]:
    service.put_master(encoded(photograph("chelsea")), "chelsea.jpg")
    return service.put_master(encoded(photograph("coffee")), "coffee.jpg")


def embed(service: Service, **body: Any) -> list[dict[str, Any]]:
    answer = service.client.post("/embed", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["vectors"]
    return found


def test_an_image_has_the_vector_that_its_master_has(
    service: Service, master: dict[str, Any]
) -> None:
    photo = encoded(photograph("coffee"))
    before = service.client.get("/masters").json()
    answer = service.client.post("/embed", files={"sample": ("a.jpg", photo)}).json()
    (embedded,) = answer["vectors"]
    (stored,) = service.client.get(f"/masters/{master['id']}/vectors").json()["vectors"]
    assert embedded["vector"] == pytest.approx(stored["vector"], abs=1e-5)
    assert np.linalg.norm(stored["vector"]) == pytest.approx(1, abs=1e-5)
    assert (embedded["space"], embedded["understood"], embedded["warnings"]) == ("look", None, [])
    assert (stored["space"], stored["box"]) == ("look", None)
    version = service.client.get("/readyz").json()["model_version"]
    assert embedded["model_version"] == stored["model_version"] == version
    assert service.client.get("/masters").json() == before


def test_a_vector_searches_like_the_image_that_it_came_from(
    service: Service, master: dict[str, Any]
) -> None:
    photo = encoded(part_of("coffee", 0))
    answer = service.client.post("/embed", files={"sample": ("a.jpg", photo)}).json()
    query = {"examples": [{"vector": answer["vectors"][0]["vector"]}]}
    by_vector = service.client.post("/search", json=query).json()["hits"]
    by_image = service.search(photo)
    assert [hit["master"] for hit in by_vector] == [hit["master"] for hit in by_image]
    assert [hit["distance"] for hit in by_vector] == pytest.approx(
        [hit["distance"] for hit in by_image], abs=1e-5
    )


def test_several_examples_are_embedded_in_their_order(
    service: Service, master: dict[str, Any]
) -> None:
    (stored,) = service.client.get(f"/masters/{master['id']}/vectors").json()["vectors"]
    whole, part, given = embed(
        service,
        examples=[
            {"master_id": master["id"]},
            {"master_id": master["id"], "box": [0, 0, 80, 60]},
            {"vector": [2.0] * len(stored["vector"])},
        ],
    )
    assert whole["vector"] == stored["vector"]
    form = {"master_id": master["id"], "box": "0,0,80,60"}
    alone = service.client.post("/embed", data=form).json()["vectors"]
    assert part["vector"] == alone[0]["vector"] != whole["vector"]
    assert np.linalg.norm(given["vector"]) == pytest.approx(1, abs=1e-6)


def test_hits_include_what_is_asked_for(service: Service, master: dict[str, Any]) -> None:
    (stored,) = service.client.get(f"/masters/{master['id']}/vectors").json()["vectors"]
    query = {"examples": [{"master_id": master["id"]}], "k": 1}
    for include, expected in (
        ([], None),
        (["box"], [stored | {"vector": None}]),
        (["vector", "box"], [stored]),
    ):
        hits = service.client.post("/search", json=query | {"include": include}).json()["hits"]
        assert hits[0]["parts"] == expected
        form = {"master_id": master["id"], "k": "1", "include": include}
        assert service.client.post("/search", data=form).json()["hits"] == hits


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/embed", {"space": "look"}),
        ("/embed", {"text": "dog", "box": "0,0,1,1"}),
        ("/embed", {"text": "dog", "master_id": str(uuid4())}),
        ("/embed", {"master_id": str(uuid4()), "space": "nowhere"}),
        ("/embed", {"text": "dog", "k": "3"}),
        ("/embed", {"query": '{"examples": [{"text": "dog", "weight": 0.5}]}'}),
        ("/embed", {"query": '{"examples": []}'}),
        ("/search", {"text": "dog", "include": "everything"}),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    service: Service, path: str, form: dict[str, str]
) -> None:
    assert service.client.post(path, data=form).status_code == 422


def test_vectors_of_a_master_that_is_not_there(service: Service) -> None:
    answer = service.client.get(f"/masters/{uuid4()}/vectors")
    assert (answer.status_code, answer.json()["code"]) == (404, "master-not-found")
