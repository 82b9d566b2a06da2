"""What the service does with images that are costly, that nobody waits for, or that come last."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from PIL import Image

from app.bootstrap import MAX_WAITING
from models.decoding.jobs import DecodedFile
from models.decoding.pool import DecodePool
from tests.support.images import CAT, encoded
from tests.support.requests import open_client
from tests.support.service import Service, eventually


@contextmanager
def decoding_held(service: Service) -> Iterator[list[str]]:
    """Hold all images that come to be decoded during the block; yield those that have begun."""
    pool = service.services.vision._decoder
    assert isinstance(pool, DecodePool)
    begun: list[str] = []
    release = threading.Event()
    run_job: Callable[..., DecodedFile] = pool._run_job

    def hold(file: Any, job: Any, turn: Any) -> DecodedFile:
        begun.append(turn.purpose.value)
        assert release.wait(30)
        return run_job(file, job, turn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_run_job", hold)
        try:
            yield begun
        finally:
            release.set()


def waiting(service: Service) -> int:
    """Return how many images wait, for their bytes or for their turn."""
    pool = service.services.vision._decoder
    assert isinstance(pool, DecodePool)
    turns = (pool._turns, pool._reading)
    return sum(len(queue) for each in turns for queue in each._small.values())


def ask(service: Service, path: str) -> socket.socket:
    url = service.client.base_url
    connection = socket.create_connection((url.host, url.port or 0))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return connection


def test_an_image_that_would_take_too_much_memory_is_refused(service: Service) -> None:
    large = encoded(Image.new("RGB", (7000, 9000)), "WEBP", quality=1, method=0)
    response = service.put(large, "large.webp")
    assert (response.status_code, response.json()["code"]) == (422, "image-too-costly")
    assert "LOOKALIKE_MEMORY_LIMIT" in response.json()["detail"]
    assert service.client.get("/masters").json()["total"] == 0


def test_work_is_dropped_if_the_client_leaves_before_it_begins(service: Service) -> None:
    path = service.put_master(CAT)["links"]["thumbnail"]
    with decoding_held(service) as begun:
        with ExitStack() as connections:
            for size in range(20, 60):
                connections.enter_context(ask(service, f"{path}?size={size}"))
            assert eventually(lambda: waiting(service) > 30)
        assert eventually(lambda: waiting(service) == 0)
        in_work = len(begun)
    assert eventually(lambda: service.client.get(path).status_code == 200)
    assert len(begun) == in_work


def test_a_search_is_dropped_too(service: Service) -> None:
    with decoding_held(service) as begun:
        threads = []
        for _ in range(20):
            threads.append(threading.Thread(target=_search_and_leave, args=(service,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert eventually(lambda: waiting(service) == 0)
    assert begun.count("search") <= service.services.settings.slots + 1


def _search_and_leave(service: Service) -> None:
    with (
        open_client(str(service.client.base_url), timeout=0.5) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post("/search", files={"sample": ("cat.jpg", CAT)})


def test_what_waits_is_refused_when_the_service_stops(service: Service) -> None:
    path = service.put_master(CAT)["links"]["thumbnail"]
    with decoding_held(service), ExitStack() as connections:
        asked = [
            connections.enter_context(ask(service, f"{path}?size={size}")) for size in range(20, 60)
        ]
        assert eventually(lambda: waiting(service) > 30)
        service.services.vision.stop()
        refused = 0
        for connection in asked:
            connection.settimeout(1)
            try:
                refused += b'"code":"stopping"' in connection.recv(4096)
            except TimeoutError:  # it had begun
                continue
        assert refused > 30


def test_thumbnails_that_wait_are_bounded(service: Service) -> None:
    path = service.put_master(CAT)["links"]["thumbnail"]
    with decoding_held(service), ExitStack() as connections:
        for size in range(20, 180):
            connections.enter_context(ask(service, f"{path}?size={size}"))
        assert eventually(lambda: waiting(service) > MAX_WAITING)
        response = service.client.get(path, params={"size": 500})
        assert (response.status_code, response.json()["code"]) == (503, "too-busy")
        assert service.client.get("/masters").status_code == 200
