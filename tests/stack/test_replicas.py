"""Two API replicas and two workers over MariaDB, SeaweedFS and Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.images import CAT, encoded, part_of
from tests.support.requests import put, result_of, search
from tests.support.service import eventually
from tests.support.stack import Stack


@pytest.fixture
def replicas(stack: Stack) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    with stack.replica() as first, stack.replica() as second:
        stack.start("worker")
        stack.start("worker")
        yield first, second


def test_an_upload_through_one_replica_is_found_through_the_other(
    replicas: tuple[httpx.Client, httpx.Client],
) -> None:
    first, second = replicas
    images = [encoded(part_of("coffee", seed)) for seed in range(8)]
    for number, image in enumerate(images):
        into, look = (first, second) if number % 2 else (second, first)
        response = put(into, image, attributes=f'{{"n": {number}}}')
        assert response.status_code == 201, response.text
        hit = search(look, image, k="1", filter=f'{{"n": {number}}}')[0]
        assert (hit["master"], hit["exact"]) == (result_of(response)["master"], True)
        assert look.get(result_of(response)["master"]["links"]["content"]).content == image
    assert first.get("/masters").json() == second.get("/masters").json()


def test_the_same_image_through_both_at_once_is_one_master(
    replicas: tuple[httpx.Client, httpx.Client],
) -> None:
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda number: put(replicas[number % 2], CAT), range(20)))
    assert sorted(response.status_code for response in responses) == [200] * 19 + [201]
    assert len({result_of(response)["master"]["id"] for response in responses}) == 1
    assert len(search(replicas[0], CAT)) == 1


def test_a_deletion_is_seen_by_both_and_carried_out_by_a_worker(
    stack: Stack, replicas: tuple[httpx.Client, httpx.Client]
) -> None:
    first, second = replicas
    master = result_of(put(first, CAT))["master"]
    assert second.delete(f"/masters/{master['id']}").status_code == 204
    assert search(first, CAT) == []
    assert first.get(f"/masters/{master['id']}").status_code == 404
    again = result_of(put(first, CAT))["master"]
    assert again["id"] != master["id"]
    assert first.delete("/masters?collection=default&confirm=default").status_code == 204
    assert eventually(lambda: put(second, CAT).status_code == 201)


def test_readiness_names_every_store(replicas: tuple[httpx.Client, httpx.Client]) -> None:
    assert replicas[0].get("/readyz").json()["checks"] == dict.fromkeys(
        ("metadata", "objects", "vectors", "model"), "ok"
    )


def test_content_is_redirected_to_the_public_s3_address(stack: Stack, tmp_path: Path) -> None:
    public = (
        "http://" + stack.environment["LOOKALIKE_OBJECTS_URL"].partition("@")[2].partition("/")[0]
    )
    with stack.replica(LOOKALIKE_PUBLIC_OBJECTS_URL=public) as client:
        content = result_of(put(client, CAT))["master"]["links"]["content"]
        answer = client.get(content, headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.headers["location"].startswith(public)) == (307, True)
        there = httpx.get(answer.headers["location"])
        assert (there.content, there.headers["content-type"]) == (CAT, "image/jpeg")
        assert "photograph.jpg" in there.headers["content-disposition"]
        assert (
            client.head(content).status_code,
            client.head(content).headers["content-length"],
        ) == (200, str(len(CAT)))
        exported = stack.run("export", str(tmp_path / "copy"), "--url", str(client.base_url))
        assert (exported.returncode, len(list((tmp_path / "copy").glob("*.jpg")))) == (0, 1), (
            exported.stderr
        )
