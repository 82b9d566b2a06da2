"""Runs the real service over real HTTP in the process of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import fastapi.applications
import fastapi.routing
import httpx
import uvicorn
from starlette.routing import BaseRoute

from app.bootstrap import run_service
from app.container import Services
from app.given_model import GivenModel
from app.http.connections import server_config
from app.main import create_app
from app.settings import Settings
from models.embedder import Embedder
from tests.support.requests import open_client


def share_routes_and_document() -> None:
    """Let all apps of this process share built routes and OpenAPI document, which are slow to make.

    Both depend only on the routers, which are the same in every app.
    """
    generate = fastapi.applications.get_openapi
    generated: list[dict[str, Any]] = []

    def get_openapi(**options: Any) -> dict[str, Any]:
        if not generated:
            generated.append(generate(**options))
        return deepcopy(generated[0])

    fastapi.applications.get_openapi = get_openapi  # type: ignore[assignment]
    build = fastapi.routing._IncludedRouter._build_effective_context
    built: dict[tuple[int, str], Any] = {}

    def build_once(router: Any, route: BaseRoute) -> Any:
        key = id(route), router.include_context.prefix
        if key not in built:
            built[key] = build(router, route)
        return built[key]

    fastapi.routing._IncludedRouter._build_effective_context = build_once  # type: ignore[method-assign]


class _Server(uvicorn.Server):
    """A server that stops at once; uvicorn's own waits for a fifth of a second."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the header Date
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:
            await asyncio.sleep(0.005)
        await self.lifespan.shutdown()

    def stop(self) -> None:
        """End ``run``; may be called from any thread."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)


class Service:
    """A service over real HTTP in this process, with a client for it."""

    def __init__(self, app: Any, client: httpx.Client, server: uvicorn.Server) -> None:
        self.app = app
        self.client = client
        self._server = server

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def stores(self) -> Any:
        return self.services.stores

    def has_connection(self, end: socket.socket) -> bool:
        """Whether the server still has the connection whose other end this is."""
        addresses = {each.client for each in list(self._server.server_state.connections)}
        return end.getsockname() in addresses

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
    pause = 0.001
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
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
        server = _Server(server_config(app, settings, host="127.0.0.1", port=port))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert eventually(lambda: server.started or not thread.is_alive())
            assert server.started, "the service did not start"
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            with open_client(url, timeout=60, headers=headers) as client:
                yield Service(app, client, server)
        finally:
            server.stop()
            thread.join()
