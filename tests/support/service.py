"""Runs the real service over real HTTP in the process of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import fastapi.applications
import httpx
import uvicorn

from app.bootstrap import run_service
from app.main import create_app
from app.services.loaded_models import GivenModel
from app.settings import Settings
from models.embedder import Embedder


def share_openapi_document() -> None:
    """Let all apps of this process share one OpenAPI document, whose generation is slow.

    The document depends only on the routes, which are the same in every app.
    """
    generate = fastapi.applications.get_openapi
    generated: list[dict[str, Any]] = []

    def get_openapi(**options: Any) -> dict[str, Any]:
        if not generated:
            generated.append(generate(**options))
        return deepcopy(generated[0])

    fastapi.applications.get_openapi = get_openapi  # type: ignore[assignment]


class Service:
    """A service over real HTTP in this process, with a client for it."""

    def __init__(self, app: Any, client: httpx.Client) -> None:
        self.app = app
        self.client = client

    @property
    def stores(self) -> Any:
        return self.app.state.services.stores

    def put(self, content: bytes, name: str = "photograph.jpg", **fields: str) -> httpx.Response:
        return self.client.post("/masters", files={"file": (name, content)}, data=fields)

    def put_master(
        self, content: bytes, name: str = "photograph.jpg", **fields: str
    ) -> dict[str, Any]:
        response = self.put(content, name, **fields)
        assert response.status_code == 201, response.text
        master: dict[str, Any] = response.json()["results"][0]["master"]
        return master

    def search(self, content: bytes, **fields: str) -> list[dict[str, Any]]:
        response = self.client.post(
            "/search", files={"sample": ("sample.jpg", content)}, data=fields
        )
        assert response.status_code == 200, response.text
        hits: list[dict[str, Any]] = response.json()["hits"]
        return hits

    def objects(self) -> list[str]:
        return [info.key for info in self.stores.objects.list("masters")]


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Poll the check; return whether it holds within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.02)
    return check()


@contextmanager
def serving(
    settings: Settings,
    embedder: Embedder | None,
    headers: dict[str, str] | None = None,
    port: int = 0,
) -> Iterator[Service]:
    with run_service(settings, GivenModel(embedder) if embedder else None) as services:
        app = create_app(settings, services)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="error", access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert eventually(lambda: server.started or not thread.is_alive())
            assert server.started, "the service did not start"
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, timeout=60, headers=headers) as client:
                yield Service(app, client)
        finally:
            server.should_exit = True
            thread.join()
