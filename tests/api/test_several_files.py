"""Requests that upload several files: at the same time, and fair to others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.errors import Unavailable
from tests.support.images import CAT, encoded, part_of
from tests.support.service import Service, eventually

Upload = Callable[..., Any]


def images(count: int) -> list[bytes]:
    return [encoded(part_of("coffee", seed, (160, 120))) for seed in range(count)]


def post(service: Service, contents: list[bytes], prefix: str = "") -> httpx.Response:
    files = [("file", (f"{prefix}{n}.jpg", content)) for n, content in enumerate(contents)]
    return service.client.post("/masters", files=files)


@pytest.fixture
def replace_upload(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Upload, str], Any]], None]:
    """Return a function that sets what happens instead of each upload, by the file's name."""
    ingest = service.services.ingest
    upload = ingest.upload_image

    def replace(instead: Callable[[Upload, str], Any]) -> None:
        def upload_image(file: Any, *, name: str, **fields: Any) -> Any:
            return instead(lambda: upload(file, name=name, **fields), name)

        monkeypatch.setattr(ingest, "upload_image", upload_image)

    return replace


def test_files_are_worked_on_at_the_same_time(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait_for_the_others(upload: Upload, _: str) -> Any:
        together.wait()
        return upload()

    replace_upload(wait_for_the_others)
    assert post(service, images(8)).status_code == 201


def test_results_have_the_order_of_the_files(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    last_has_ended = threading.Event()

    def end_in_reverse(upload: Upload, name: str) -> Any:
        if name == "0.jpg":
            assert last_has_ended.wait(20)
        outcome = upload()
        if name == "5.jpg":
            last_has_ended.set()
        return outcome

    replace_upload(end_in_reverse)
    results = post(service, images(6)).json()["results"]
    assert [result["master"]["name"] for result in results] == [f"{n}.jpg" for n in range(6)]


def test_the_first_of_equal_files_becomes_the_master(service: Service) -> None:
    first, *others = images(4)
    results = post(service, [first, *others, first, CAT, first, CAT]).json()["results"]
    assert [result["status"] for result in results] == [201, 201, 201, 201, 200, 201, 200, 200]
    assert results[6]["master"]["name"] == "0.jpg"


def test_one_file_that_has_to_be_sent_again_fails_no_other(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    def refuse_one(upload: Upload, name: str) -> Any:
        if name == "2.jpg":
            raise Unavailable("upload-in-progress", "Retry later.", 5)
        return upload()

    replace_upload(refuse_one)
    response = post(service, images(5))
    assert response.status_code == 207
    statuses = [result["status"] for result in response.json()["results"]]
    assert statuses == [201, 201, 503, 201, 201]


def test_an_unexpected_error_is_answered_once_the_other_files_are_stored(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    def fail_once(upload: Upload, name: str) -> Any:
        if name == "1.jpg":
            raise ZeroDivisionError
        return upload()

    replace_upload(fail_once)
    response = post(service, images(5))
    assert (response.status_code, response.json()["code"]) == (500, "internal-error")
    assert len(service.objects()) == 4


def test_a_request_with_many_files_delays_no_other(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    begun: list[str] = []
    may_end = threading.Event()

    def hold_the_many(upload: Upload, name: str) -> Any:
        begun.append(name)
        if name.startswith("many"):
            assert may_end.wait(20)
        return upload()

    replace_upload(hold_the_many)
    threads = service.app.state.file_threads.count
    contents = images(threads + 20)
    with ThreadPoolExecutor(1) as pool:
        many = pool.submit(post, service, contents, "many")
        try:
            assert eventually(lambda: len(begun) == threads + 1)  # all shared ones and its own
            assert post(service, contents[-1:], "one").status_code == 201
            assert post(service, contents[-3:], "few").status_code == 207
            assert len([name for name in begun if name.startswith("many")]) == threads + 1
        finally:
            may_end.set()
        assert many.result().status_code in (201, 207)
    assert service.client.get("/masters").json()["total"] == len(contents)


def test_requests_with_several_files_take_turns(
    service: Service, replace_upload: Callable[..., None]
) -> None:
    begun: list[str] = []
    both_have_begun = threading.Event()

    def wait_for_both(upload: Upload, name: str) -> Any:
        begun.append(name)
        assert both_have_begun.wait(20)
        return upload()

    replace_upload(wait_for_both)
    threads = service.app.state.file_threads
    contents = images(100 + threads.count)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, service, contents[:100], "first")
        assert eventually(lambda: len(begun) == threads.count + 1)
        second = pool.submit(post, service, contents[100:], "second")
        assert eventually(lambda: threads.limiter.statistics().tasks_waiting == threads.count - 1)
        both_have_begun.set()
        assert (first.result().status_code, second.result().status_code) == (201, 201)
    places = [place for place, name in enumerate(begun) if name.startswith("second")]
    assert max(places) < 0.8 * len(begun)
